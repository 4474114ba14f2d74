//! Groups of options that several classes read, with their defaults, and readers of the groups.

use super::scheduler::Literal::{Flag, Null, Number, Whole, Word};
use super::scheduler::Setting;
use crate::Error;
use crate::levels::Spacing;
use crate::options::Reader;
use crate::samplers::{Churn, Draws, Ending, Fresh};

/// What the network was trained on, whatever samples it.
pub(super) const fn training(beta_start: f64, beta_end: f64, beta_schedule: &'static str) -> [Setting; 6] {
    [
        ("num_train_timesteps", Whole(1000)),
        ("beta_start", Number(beta_start)),
        ("beta_end", Number(beta_end)),
        ("beta_schedule", Word(beta_schedule)),
        ("trained_betas", Null),
        ("prediction_type", Word("epsilon")),
    ]
}

/// The default training of DDPM (arXiv 2006.11239), which most classes have.
pub(super) const DDPM_TRAINING: [Setting; 6] = training(0.0001, 0.02, "linear");

/// The default training of Stable Diffusion.
pub(super) const STABLE_DIFFUSION_TRAINING: [Setting; 6] = training(0.00085, 0.012, "scaled_linear");

/// The betas of Stable Diffusion on a schedule that it does not have: the default of four classes.
pub(super) const MIXED_TRAINING: [Setting; 6] = training(0.00085, 0.012, "linear");

/// The spacing of the steps over the training times.
pub(super) const fn spacing(default: &'static str) -> [Setting; 2] {
    [("timestep_spacing", Word(default)), ("steps_offset", Whole(0))]
}

pub(super) const RESCALE: [Setting; 1] = [("rescale_betas_zero_snr", Flag(false))];

pub(super) const fn clip(is_on: bool) -> [Setting; 2] {
    [("clip_sample", Flag(is_on)), ("clip_sample_range", Number(1.0))]
}

pub(super) const THRESHOLD: [Setting; 3] =
    [("thresholding", Flag(false)), ("dynamic_thresholding_ratio", Number(0.995)), ("sample_max_value", Number(1.0))];

/// Sigmas that are not those of the times, and their ends. Most classes of diffusers that have the first three look for the
/// ends in the config, although few have them as arguments.
pub(crate) const SIGMAS: [Setting; 5] = [
    ("use_karras_sigmas", Flag(false)),
    ("use_exponential_sigmas", Flag(false)),
    ("use_beta_sigmas", Flag(false)),
    ("sigma_min", Null),
    ("sigma_max", Null),
];

/// Levels that every class can have here, even if diffusers has none of these options for it.
pub(crate) const LEVELS: [&[Setting]; 2] = [
    &[
        ("timesteps", Null),
        ("sigmas", Null),
        ("use_polyexponential_sigmas", Flag(false)),
        ("use_vp_sigmas", Flag(false)),
        ("rho", Null),
        ("vp_beta_d", Null),
        ("vp_beta_min", Null),
        ("vp_eps_s", Null),
    ],
    &SIGMAS,
];

pub(super) const TIMESTEPS: [Setting; 1] = [("timesteps", Null)];

/// Noise added before a step and removed by it (arXiv 2206.00364, algorithm 2). `s_tmax` null is no limit.
pub(super) const CHURN: [Setting; 4] =
    [("s_churn", Number(0.0)), ("s_tmin", Number(0.0)), ("s_tmax", Null), ("s_noise", Number(1.0))];

/// Fresh noise after a step: its share of the SDE's, and its deviation.
pub(super) const fn fresh(eta: f64) -> [Setting; 2] {
    [("eta", Number(eta)), ("s_noise", Number(1.0))]
}

/// For flow-matching networks: it must be off here.
pub(super) const FLOW: [Setting; 1] = [("use_flow_sigmas", Flag(false))];

/// The searched times of arXiv 2404.14507, which pipelines of diffusers pass and its classes do not know.
pub(super) const AYS: &[(&str, &str)] = &[("timestep_spacing", "ays")];

/// Beta schedules that only DDPM has in diffusers.
pub(super) const DDPM_BETAS: &[(&str, &str)] = &[("beta_schedule", "sigmoid"), ("beta_schedule", "laplace")];

/// The beta schedule that only Heun has in diffusers.
pub(super) const HEUN_BETAS: &[(&str, &str)] = &[("beta_schedule", "exp")];

/// Networks that predict the clean sample.
pub(super) const SAMPLE_PREDICTION: &[(&str, &str)] = &[("prediction_type", "sample")];

const LEARNED: &str = "needs a network that predicts its own variance, and latent diffusion networks do not";

/// The spacings that most classes read.
pub(super) fn read_spacing(read: &Reader, len: usize) -> Result<Spacing, Error> {
    let offset = read.integer("steps_offset", 0, len - 1)?;
    let spacings = [
        ("leading", Spacing::Leading { offset }),
        ("linspace", Spacing::Linspace),
        ("trailing", Spacing::Trailing),
        ("ays", Spacing::AlignYourSteps),
    ];
    read.choice("timestep_spacing", &spacings)
}

/// The spacing of networks that were distilled: some of the times of the distillation.
pub(super) fn read_distilled_spacing(read: &Reader, len: usize) -> Result<Spacing, Error> {
    let original = read.integer("original_inference_steps", 1, len)?;
    Ok(Spacing::Distilled { original })
}

pub(super) fn read_eta(read: &Reader) -> Result<f64, Error> {
    read.number("eta", 0.0, 1.0, "a number in 0..=1")
}

pub(super) fn read_deviation(read: &Reader) -> Result<f64, Error> {
    read.number("s_noise", 0.0, f64::MAX, "a number not below 0")
}

/// The fresh noise of an ancestral sampler.
pub(super) fn read_fresh(read: &Reader) -> Result<Fresh, Error> {
    Ok(Fresh { share: read_eta(read)?, deviation: read_deviation(read)?, draws: Draws::Used })
}

pub(super) fn read_churn(read: &Reader) -> Result<Churn, Error> {
    let least = |name| read.number(name, 0.0, f64::MAX, "a number not below 0");
    let most = read.number_or_null("s_tmax", 0.0, "a number not below 0, or null for no limit")?;
    Ok(Churn {
        amount: least("s_churn")?,
        within: (least("s_tmin")?, most.unwrap_or(f64::INFINITY)),
        noise: read_deviation(read)?,
    })
}

/// Where the second of two stages is, as a share of the step.
pub(super) fn read_middle(read: &Reader) -> Result<f64, Error> {
    read.number("r", f64::MIN_POSITIVE, 1.0, "a number above 0 and at most 1")
}

pub(super) fn read_timestep_scaling(read: &Reader) -> Result<f64, Error> {
    read.number("timestep_scaling", f64::MIN_POSITIVE, 1e9, "a number above 0")
}

/// When a multistep solver goes back to lower orders; a class without `euler_at_final` has it off.
pub(super) fn read_ending(read: &Reader) -> Result<Ending, Error> {
    Ok(Ending { falls: read.flag("lower_order_final")?, with_euler: read.flag("euler_at_final")? })
}

/// Checks that the sigmas of flow-matching networks are off.
pub(super) fn refuse_flow(read: &Reader) -> Result<(), Error> {
    read.must_be_off("use_flow_sigmas", "is for flow-matching networks, whose samples are not x₀ + sigma·noise")
}

/// Checks that no variance is to be read from the network. A variance of DDPM, which saves it in its file, has no meaning for other
/// classes.
pub(super) fn refuse_learned_variance(read: &Reader) -> Result<(), Error> {
    match read.value("variance_type").as_str() {
        Some(found @ ("learned" | "learned_range")) => Err(learned_variance(found)),
        _ => Ok(()),
    }
}

/// The error of a variance that is to be read from the network.
pub(super) fn learned_variance(found: &str) -> Error {
    Error::Unsupported { field: "variance_type", found: found.into(), reason: LEARNED }
}
