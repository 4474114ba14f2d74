//! The options that each class reads, with their defaults in diffusers 0.42.

use crate::error::{nearest, shown};
use crate::{Class, Error};
use serde_json::{Value, json};

/// An option that a class reads.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) default: Value,
    /// Whether it is in diffusers: in the class's config, or as an argument of one of its methods.
    pub(crate) in_diffusers: bool,
}

/// Sigmas that every class can be given here, and few in diffusers.
const SPREADS: [&str; 3] = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"];

/// Levels that every class can be given here, where diffusers has not the same for it.
fn levels() -> Vec<(&'static str, Value)> {
    let own = vec![
        ("timesteps", Value::Null),
        ("sigmas", Value::Null),
        ("use_polyexponential_sigmas", json!(false)),
        ("use_vp_sigmas", json!(false)),
        ("rho", Value::Null),
        ("vp_beta_d", Value::Null),
        ("vp_beta_min", Value::Null),
        ("vp_eps_s", Value::Null),
    ];
    [own, spreads()].concat()
}

/// Options of schedulers for flow-matching and EDM networks. A config that a newer class saved holds them, and they mean
/// nothing while `use_flow_sigmas` is off.
const FOREIGN: [&str; 14] = [
    "flow_shift",
    "use_dynamic_shifting",
    "time_shift_type",
    "shift_terminal",
    "shift",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "invert_sigmas",
    "stochastic_sampling",
    "sigma_data",
    "sigma_schedule",
    "rho",
];

/// What a config says of how the network was trained, whatever samples it.
pub(crate) const TRAINING: [&str; 7] = [
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
];

/// Holds that a class has an option.
pub(crate) fn known_to(class: Class, key: &str) -> Result<(), Error> {
    let known: Vec<&str> = class.options().into_iter().map(|known| known.name).collect();
    match known.contains(&key) {
        true => Ok(()),
        false => Err(Error::Key { field: key.chars().take(60).collect(), class, nearest: nearest(key, known) }),
    }
}

/// Holds that a key of a file is an option of some class, though perhaps not of the one that reads the file. Keys that
/// begin with `_` are the file's own, and the first files have two that are gone.
pub(crate) fn known_to_some_class(key: &str, value: &Value) -> Result<(), Error> {
    match (key, value) {
        ("tensor_format", _) | ("predict_epsilon", Value::Bool(true)) => return Ok(()),
        ("predict_epsilon", found) => {
            let reason = "is how the first files said it; \"prediction_type\": \"sample\" is what it means";
            return Err(Error::Unsupported { field: "predict_epsilon", found: shown(found), reason });
        }
        _ => (),
    }
    let options: Vec<&str> = Class::ALL.into_iter().flat_map(Class::options).map(|known| known.name).collect();
    match key.starts_with('_') || FOREIGN.contains(&key) || options.contains(&key) {
        true => Ok(()),
        false => Err(Error::Unknown { field: key.chars().take(60).collect(), nearest: nearest(key, options) }),
    }
}

impl Class {
    /// The names of the options that the class reads.
    pub fn option_names(self) -> impl Iterator<Item = &'static str> {
        self.options().into_iter().map(|known| known.name)
    }

    /// Every option that the class reads.
    pub(crate) fn options(self) -> Vec<Known> {
        let theirs = self.own_options();
        let mut options: Vec<Known> =
            theirs.into_iter().map(|(name, default)| Known { name, default, in_diffusers: true }).collect();
        for (name, default) in levels().into_iter().chain(self.only_ours()) {
            if options.iter().all(|known| known.name != name) {
                options.push(Known { name, default, in_diffusers: false });
            }
        }
        options
    }

    /// The options of the class in diffusers.
    fn own_options(self) -> Vec<(&'static str, Value)> {
        let mut options = self.schedule_options();
        options.extend(match self {
            Class::Ddpm => {
                let mut options = vec![("variance_type", json!("fixed_small")), ("timesteps", Value::Null)];
                options.extend(clip(true));
                options.extend(threshold());
                options
            }
            Class::Ddim => {
                let mut options = vec![("set_alpha_to_one", json!(true)), ("eta", json!(0.0))];
                options.extend(clip(true));
                options.extend(threshold());
                options
            }
            Class::DdimInverse => {
                let mut options = vec![("set_alpha_to_one", json!(true))];
                options.extend(clip(true));
                options
            }
            Class::Pndm => vec![("skip_prk_steps", json!(false)), ("set_alpha_to_one", json!(false))],
            Class::Ipndm | Class::Dpm2sAncestral | Class::DpmFast => Vec::new(),
            Class::Lms => [spreads(), vec![("order", json!(4))]].concat(),
            Class::Euler => [spreads(), euler()].concat(),
            Class::EulerAncestral => Vec::new(),
            Class::Heun => [spreads(), clip(false), vec![("timesteps", Value::Null)]].concat(),
            Class::Dpm2 | Class::Dpm2Ancestral => spreads(),
            Class::DpmSde => [spreads(), vec![("noise_sampler_seed", Value::Null)]].concat(),
            Class::DpmMultistep => [spreads(), threshold(), multistep()].concat(),
            Class::DpmSinglestep => [spreads(), threshold(), singlestep()].concat(),
            Class::Deis => [spreads(), threshold(), deis()].concat(),
            Class::UniPc => [spreads(), threshold(), unipc()].concat(),
            Class::SaSolver => [spreads(), threshold(), sa_solver()].concat(),
            Class::Lcm => [distilled(), clip(false), threshold()].concat(),
            Class::Tcd => [distilled(), clip(false), threshold(), vec![("eta", json!(0.3))]].concat(),
        });
        options
    }

    /// What is told about the training, and how the steps are laid.
    fn schedule_options(self) -> Vec<(&'static str, Value)> {
        let (start, end, schedule) = match self {
            Class::Heun | Class::Dpm2 | Class::Dpm2Ancestral | Class::DpmSde => (0.00085, 0.012, "linear"),
            Class::Lcm | Class::Tcd | Class::Ipndm | Class::Dpm2sAncestral | Class::DpmFast => {
                (0.00085, 0.012, "scaled_linear")
            }
            _ => (0.0001, 0.02, "linear"),
        };
        let spacing = match self {
            Class::Ddpm | Class::Ddim | Class::DdimInverse | Class::Pndm | Class::Lcm | Class::Tcd => "leading",
            _ => "linspace",
        };
        let mut options = vec![
            ("num_train_timesteps", json!(1000)),
            ("beta_start", json!(start)),
            ("beta_end", json!(end)),
            ("beta_schedule", json!(schedule)),
            ("trained_betas", Value::Null),
            ("prediction_type", json!("epsilon")),
        ];
        if self != Class::DpmSinglestep {
            options.extend([("timestep_spacing", json!(spacing)), ("steps_offset", json!(0))]);
        }
        if self.can_rescale() {
            options.push(("rescale_betas_zero_snr", json!(false)));
        }
        options
    }

    fn can_rescale(self) -> bool {
        use Class::{Ddim, DdimInverse, Ddpm, DpmMultistep, Euler, EulerAncestral, Lcm, Tcd, UniPc};
        matches!(self, Ddpm | Ddim | DdimInverse | Euler | EulerAncestral | DpmMultistep | UniPc | Lcm | Tcd)
    }

    /// The options that nothing in diffusers answers to.
    fn only_ours(self) -> Vec<(&'static str, Value)> {
        match self {
            Class::EulerAncestral | Class::Dpm2Ancestral | Class::DpmMultistep => fresh(1.0),
            Class::Dpm2sAncestral | Class::DpmSde => [fresh(1.0), vec![("r", json!(0.5))]].concat(),
            Class::DpmFast => [fresh(0.0), vec![("final_sigmas_type", json!("sigma_min"))]].concat(),
            Class::Heun | Class::Dpm2 => churn(),
            Class::DpmSinglestep => {
                let spacing = vec![("timestep_spacing", json!("linspace")), ("steps_offset", json!(0))];
                [spacing, fresh(1.0)].concat()
            }
            Class::Ipndm => vec![("order", json!(4))],
            Class::SaSolver => vec![("tau", Value::Null)],
            _ => Vec::new(),
        }
    }
}

fn clip(is_on: bool) -> Vec<(&'static str, Value)> {
    vec![("clip_sample", json!(is_on)), ("clip_sample_range", json!(1.0))]
}

fn threshold() -> Vec<(&'static str, Value)> {
    vec![("thresholding", json!(false)), ("dynamic_thresholding_ratio", json!(0.995)), ("sample_max_value", json!(1.0))]
}

/// Sigmas between two ends, and the ends. Most classes in diffusers that have the first look for the others in the config,
/// although few have them as arguments.
fn spreads() -> Vec<(&'static str, Value)> {
    let ends = [("sigma_min", Value::Null), ("sigma_max", Value::Null)];
    SPREADS.map(|name| (name, json!(false))).into_iter().chain(ends).collect()
}

/// Noise put in and taken away again (arXiv 2206.00364, algorithm 2). `s_tmax` null is no limit.
fn churn() -> Vec<(&'static str, Value)> {
    vec![("s_churn", json!(0.0)), ("s_tmin", json!(0.0)), ("s_tmax", Value::Null), ("s_noise", json!(1.0))]
}

/// Fresh noise after a step: how much of the SDE's, and its deviation.
fn fresh(eta: f64) -> Vec<(&'static str, Value)> {
    vec![("eta", json!(eta)), ("s_noise", json!(1.0))]
}

fn euler() -> Vec<(&'static str, Value)> {
    let own = vec![
        ("interpolation_type", json!("linear")),
        ("timestep_type", json!("discrete")),
        ("final_sigmas_type", json!("zero")),
        ("timesteps", Value::Null),
        ("sigmas", Value::Null),
    ];
    [own, churn()].concat()
}

/// What is shared by the multistep and the singlestep DPM-Solver.
fn dpm_solver(lower_order_final: bool) -> Vec<(&'static str, Value)> {
    let own = vec![
        ("solver_order", json!(2)),
        ("algorithm_type", json!("dpmsolver++")),
        ("solver_type", json!("midpoint")),
        ("lower_order_final", json!(lower_order_final)),
        ("final_sigmas_type", json!("zero")),
        ("lambda_min_clipped", Value::Null),
        ("variance_type", Value::Null),
        ("timesteps", Value::Null),
    ];
    [own, flow()].concat()
}

fn multistep() -> Vec<(&'static str, Value)> {
    [dpm_solver(true), vec![("euler_at_final", json!(false)), ("use_lu_lambdas", json!(false))]].concat()
}

fn singlestep() -> Vec<(&'static str, Value)> {
    dpm_solver(false)
}

fn deis() -> Vec<(&'static str, Value)> {
    let own = vec![
        ("solver_order", json!(2)),
        ("algorithm_type", json!("deis")),
        ("solver_type", json!("logrho")),
        ("lower_order_final", json!(true)),
    ];
    [own, flow()].concat()
}

fn unipc() -> Vec<(&'static str, Value)> {
    let own = vec![
        ("solver_order", json!(2)),
        ("predict_x0", json!(true)),
        ("solver_type", json!("bh2")),
        ("lower_order_final", json!(true)),
        ("disable_corrector", json!([])),
        ("solver_p", Value::Null),
        ("final_sigmas_type", json!("zero")),
    ];
    [own, flow()].concat()
}

fn sa_solver() -> Vec<(&'static str, Value)> {
    let own = vec![
        ("predictor_order", json!(2)),
        ("corrector_order", json!(2)),
        ("tau_func", Value::Null),
        ("algorithm_type", json!("data_prediction")),
        ("lower_order_final", json!(true)),
        ("lambda_min_clipped", Value::Null),
        ("variance_type", Value::Null),
    ];
    [own, flow()].concat()
}

fn distilled() -> Vec<(&'static str, Value)> {
    vec![
        ("original_inference_steps", json!(50)),
        ("timestep_scaling", json!(10.0)),
        ("set_alpha_to_one", json!(true)),
        ("timesteps", Value::Null),
    ]
}

/// What is for flow-matching networks, and so has to be off here.
fn flow() -> Vec<(&'static str, Value)> {
    vec![("use_flow_sigmas", json!(false))]
}
