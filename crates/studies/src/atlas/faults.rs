//! The faults of diffusers that the diffusers reading reproduces, each with a run that shows its effect.

/// A fault of diffusers that the diffusers reading reproduces, and what the exact reading does instead.
pub struct Fault {
    /// The samplers that have it.
    pub of: &'static str,
    /// What diffusers does.
    pub fault: &'static str,
    /// What the exact reading does.
    pub mended: &'static str,
    /// A run that shows the effect, if there is one.
    pub shown: Option<Shown>,
}

/// A run, and what is measured of it.
pub struct Shown {
    /// The short name of the sampler.
    pub sampler: &'static str,
    /// The options besides Stable Diffusion's schedule, as JSON.
    pub options: &'static str,
    /// The number of sampling steps.
    pub steps: usize,
    /// The strength, if the run starts from an image.
    pub strength: Option<f64>,
    /// What is measured.
    pub measure: Quantity,
}

/// What is measured of a run.
#[derive(Clone, Copy)]
pub enum Quantity {
    /// The distance from its result to the end of the exact flow of its first sample.
    Error,
    /// The distance from its results to the quantiles of the data.
    Miss,
    /// The error down to sigma 1/4, without that of the last step.
    Strays,
    /// The distance from an inverted image to the end of the exact flow.
    Inversion,
    /// The variance of its results over that of the data.
    Variance,
    /// The variance of its first sample over that of the level.
    StartVariance,
    /// The weight of the noise in its first sample, over sigma.
    StartNoise,
    /// The sigma of its first level.
    StartSigma,
    /// The number of draws of noise, with the first one.
    Draws,
    /// The time of the second call.
    MiddleTime,
}

/// Stable Diffusion's schedule. The spacing is the default of the class.
pub const BASE: &str = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": false,
    "skip_prk_steps": true, "steps_offset": 1, "set_alpha_to_one": true}"#;

const fn shown(sampler: &'static str, options: &'static str, steps: usize, measure: Quantity) -> Option<Shown> {
    Some(Shown { sampler, options, steps, strength: None, measure })
}

const fn from_image(
    sampler: &'static str,
    options: &'static str,
    steps: usize,
    strength: f64,
    measure: Quantity,
) -> Option<Shown> {
    Some(Shown { sampler, options, steps, strength: Some(strength), measure })
}

/// The faults, sorted by class. Those of most classes come first.
pub const FAULTS: [Fault; 40] = [
    Fault {
        of: "all",
        fault: "the schedule is kept in single precision",
        mended: "double precision",
        shown: shown("euler", "{}", 20, Quantity::StartSigma),
    },
    Fault {
        of: "all",
        fault: "a strength is truncated to whole steps",
        mended: "starts exactly at the strength: the nearest level is moved there",
        shown: from_image("euler", "{}", 10, 0.37, Quantity::StartSigma),
    },
    Fault {
        of: "all but DPM-Solver, DEIS, UniPC and SA-Solver",
        fault: "one step with `linspace` starts at time 0, where there is hardly any noise",
        mended: "starts at the last time",
        shown: shown("euler", "{}", 1, Quantity::StartSigma),
    },
    Fault {
        of: "all",
        fault: "between two training times a level is linear in sigma, and the time of a sigma linear in its logarithm",
        mended: "both linear in log sigma, so each is the inverse of the other",
        shown: None,
    },
    Fault {
        of: "all",
        fault: "sums are in single precision: with `squaredcos_cap_v2`, whose sigmas go up to 2e4, latents are rounded by up to 5.4 (ancestral DPM2) and 3.0 (Heun), by 0.02 to 0.2 in the others, and on Stable Diffusion's schedule by 1e-5 to 3e-5 (20 steps, outputs drawn at random). No reading reproduces that: plans are in double precision",
        mended: "the same",
        shown: None,
    },
    Fault {
        of: "LMS, Euler, Heun, DPM2, their ancestral variants, DPM++ SDE",
        fault: "with `linspace` and `trailing` the first sample has the variance sigma²",
        mended: "sigma² + 1, as the network expects",
        shown: shown("euler", r#"{"timestep_spacing": "trailing"}"#, 20, Quantity::StartVariance),
    },
    Fault {
        of: "solvers that count in whole times",
        fault: "times of Karras and similar sigmas are rounded or truncated, which has no effect here",
        mended: "not rounded",
        shown: shown("dpm++2m", r#"{"use_karras_sigmas": true}"#, 40, Quantity::Error),
    },
    Fault {
        of: "Euler, Euler-ancestral, DPM-Solver, UniPC",
        fault: "schedules rescaled to zero SNR end at sigma 4096",
        mended: "end at 2²⁴, as for the others",
        shown: shown(
            "euler",
            r#"{"rescale_betas_zero_snr": true, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}"#,
            20,
            Quantity::StartSigma,
        ),
    },
    Fault {
        of: "DDPM",
        fault: "draws a last noise of weight 1e-10 if the last time is above 0",
        mended: "draws only the noise that it uses",
        shown: shown("ddpm", "{}", 20, Quantity::Draws),
    },
    Fault {
        of: "DDPM",
        fault: "`fixed_large_log` is the square root of a negative number (an error)",
        mended: "the intended variance, `fixed_large`",
        shown: shown("ddpm", r#"{"variance_type": "fixed_large_log"}"#, 50, Quantity::Variance),
    },
    Fault {
        of: "DDIM",
        fault: "steps down by `T / steps` instead of following its list of times",
        mended: "each step ends on the next time of the list",
        shown: shown("ddim", r#"{"timestep_spacing": "linspace"}"#, 60, Quantity::Error),
    },
    Fault {
        of: "DDIM",
        fault: "leaves the noise of time 0 in the image unless `set_alpha_to_one`",
        mended: "always ends without noise",
        shown: shown("ddim", r#"{"set_alpha_to_one": false}"#, 250, Quantity::Error),
    },
    Fault {
        of: "DDIM",
        fault: "clips the estimate but not the noise, unless a caller passes `use_clipped_model_output` (no pipeline does)",
        mended: "clips both",
        shown: None,
    },
    Fault {
        of: "DDIM inverse",
        fault: "gives the network the time of the next level, which has no effect here",
        mended: "the time of the sample's own level",
        shown: shown("ddim_inverse", "{}", 100, Quantity::Inversion),
    },
    Fault {
        of: "PNDM",
        fault: "steps down by `T / steps` instead of following its list of times",
        mended: "each step ends on the next time of the list",
        shown: shown("pndm", r#"{"timestep_spacing": "linspace"}"#, 60, Quantity::Error),
    },
    Fault {
        of: "PNDM",
        fault: "averages raw velocities of different noise levels, then converts the average",
        mended: "converts each output at its own level",
        shown: shown("pndm", r#"{"prediction_type": "v_prediction"}"#, 50, Quantity::Error),
    },
    Fault {
        of: "PNDM",
        fault: "leaves the noise of time 0 in the image unless `set_alpha_to_one`",
        mended: "always ends without noise",
        shown: shown("pndm", r#"{"set_alpha_to_one": false}"#, 250, Quantity::Error),
    },
    Fault {
        of: "PNDM",
        fault: "from an image drops the second call of its first step, and stays one level off",
        mended: "makes both calls",
        shown: from_image("pndm", "{}", 50, 0.5, Quantity::Error),
    },
    Fault {
        of: "PNDM",
        fault: "its Runge-Kutta start overruns its list from an image",
        mended: "as many such steps as there are",
        shown: from_image("pndm", r#"{"skip_prk_steps": false}"#, 50, 0.5, Quantity::Error),
    },
    Fault {
        of: "PNDM",
        fault: "its Runge-Kutta start fails below 4 steps",
        mended: "as many such steps as there are",
        shown: shown("pndm", r#"{"skip_prk_steps": false}"#, 3, Quantity::Error),
    },
    Fault {
        of: "IPNDM",
        fault: "uses its own levels and times, from pure noise and time 1 to 0, instead of those of the training, and drops the first output; `trained_betas` are its levels",
        mended: "the levels of the schedule, each step from the network's estimate",
        shown: shown("ipndm", r#"{"prediction_type": "v_prediction"}"#, 20, Quantity::Miss),
    },
    Fault {
        of: "IPNDM",
        fault: "treats every output as a velocity (other `prediction_type`s are an error)",
        mended: "uses `prediction_type`",
        shown: shown("ipndm", "{}", 20, Quantity::Miss),
    },
    Fault {
        of: "IPNDM",
        fault: "cannot start from an image (an error)",
        mended: "starts from one like the others",
        shown: from_image("ipndm", r#"{"prediction_type": "v_prediction"}"#, 40, 0.5, Quantity::Error),
    },
    Fault {
        of: "LMS",
        fault: "from an image uses the weights of a history that it does not have",
        mended: "the order grows with the history",
        shown: from_image("lms", "{}", 50, 0.5, Quantity::Error),
    },
    Fault {
        of: "Euler",
        fault: "with `s_churn` adds noise after the network's call, so the network does not see it",
        mended: "adds it before, as in the paper",
        shown: shown("euler", r#"{"s_churn": 20}"#, 50, Quantity::Variance),
    },
    Fault {
        of: "Euler",
        fault: "`log_linear` interpolation has one sigma too many, gives the network times of other levels, and never reaches the end",
        mended: "each level has its time, and the last step ends without noise",
        shown: shown("euler", r#"{"interpolation_type": "log_linear"}"#, 20, Quantity::Error),
    },
    Fault {
        of: "Euler-ancestral, DDIM, SA-Solver, DPM-Solver",
        fault: "draw noise of weight zero",
        mended: "draw only the noise that they use",
        shown: shown("euler_a", "{}", 20, Quantity::Draws),
    },
    Fault {
        of: "Euler-ancestral, ancestral DPM2, DPM++ SDE",
        fault: "compute the level that a step goes down to as the difference of two variances in single precision, which loses most digits in a long step; ancestral DPM2 calls its midpoint at another time",
        mended: "compute it as a product, which loses none",
        shown: shown(
            "dpm2_a",
            r#"{"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace"}"#,
            10,
            Quantity::MiddleTime,
        ),
    },
    Fault {
        of: "DPM-Solver",
        fault: "the third order has half of the correct weight for its second difference, so it is of second order",
        mended: "the weights of the polynomial, which are better from about 40 steps on: see the third order at few steps",
        shown: shown("dpm++3m", r#"{"use_exponential_sigmas": true}"#, 200, Quantity::Strays),
    },
    Fault {
        of: "DPM-Solver",
        fault: "with noise (`sde-dpmsolver++`) the third order has a wrong sign too",
        mended: "the correct sign",
        shown: shown("dpm++3m_sde", "{}", 200, Quantity::Variance),
    },
    Fault {
        of: "DPM-Solver",
        fault: "the third order of `sde-dpmsolver` is missing (an error)",
        mended: "supported",
        shown: shown(
            "dpm_multistep",
            r#"{"algorithm_type": "sde-dpmsolver", "solver_order": 3, "final_sigmas_type": "sigma_min"}"#,
            50,
            Quantity::Variance,
        ),
    },
    Fault {
        of: "DPM-Solver",
        fault: "`dpmsolver` cannot end without noise (an error)",
        mended: "ends in a step of first order",
        shown: shown(
            "dpm_multistep",
            r#"{"algorithm_type": "dpmsolver", "use_karras_sigmas": true}"#,
            40,
            Quantity::Error,
        ),
    },
    Fault {
        of: "DEIS, SA-Solver, TCD",
        fault: "leave the noise of time 0 in the image, after a step of zero length with Karras and similar sigmas",
        mended: "end without noise; DEIS follows its polynomial down to the noise of time 0 and its newest slope from there, and SA-Solver's order falls",
        shown: shown("deis", r#"{"use_karras_sigmas": true}"#, 40, Quantity::Error),
    },
    Fault {
        of: "DPM-Solver, UniPC",
        fault: "with `sigma_min`, Karras and similar sigmas reach the smallest before the last step, which has zero length",
        mended: "reach it at the end of the last step",
        shown: shown("dpm_solver_2m", r#"{"use_karras_sigmas": true}"#, 20, Quantity::Error),
    },
    Fault {
        of: "TCD",
        fault: "steps down to a time that is truncated to an integer",
        mended: "steps down to the time that `eta` defines",
        shown: shown("tcd", "{}", 4, Quantity::Variance),
    },
    Fault {
        of: "UniPC",
        fault: "steps to zero noise at a high order, which is infinite",
        mended: "uses first order there",
        shown: shown("unipc", r#"{"lower_order_final": false}"#, 20, Quantity::Error),
    },
    Fault {
        of: "UniPC without `predict_x0`, TCD",
        fault: "ignore thresholding",
        mended: "apply it to the estimate",
        shown: None,
    },
    Fault {
        of: "SA-Solver",
        fault: "from an image adds the noise of the rounded time",
        mended: "adds the noise of the exact level",
        shown: from_image("sa_solver", r#"{"use_karras_sigmas": true}"#, 20, 0.4, Quantity::StartNoise),
    },
    Fault {
        of: "DPM2, ancestral DPM2, DPM++ SDE",
        fault: "with a mask, give the known picture at the middle of a step the noise of the step's end",
        mended: "the noise of the middle, as everywhere",
        shown: None,
    },
    Fault {
        of: "PNDM",
        fault: "from an image with a mask, gives the known picture the noise of another level than its sample has",
        mended: "the noise of the sample",
        shown: None,
    },
];
