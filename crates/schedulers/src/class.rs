//! The scheduler classes, and the options that each of them reads.

use crate::Error;
use crate::error::nearest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// A scheduler class of diffusers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// `DDPMScheduler`: ancestral sampling (arXiv 2006.11239).
    Ddpm,
    /// `PNDMScheduler`: pseudo linear multistep (arXiv 2202.09778).
    Pndm,
    /// `LMSDiscreteScheduler`: linear multistep on the probability-flow ODE.
    Lms,
}

/// The class of a short name (`ddpm`, `pndm`, `lms`) or of its name in diffusers.
pub fn class_of(name: &str) -> Result<Class, Error> {
    let known = Class::ALL.into_iter().find(|class| class.name() == name || class.to_string() == name);
    known.ok_or_else(|| {
        let long = Class::ALL.map(|class| class.to_string());
        let names = Class::ALL.iter().map(|class| class.name()).chain(long.iter().map(String::as_str));
        Error::Class { found: name.chars().take(60).collect(), nearest: nearest(name, names) }
    })
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 3] = [Class::Ddpm, Class::Pndm, Class::Lms];

    pub(crate) const NAMES: &str = "ddpm (DDPMScheduler), pndm (PNDMScheduler) or lms (LMSDiscreteScheduler)";

    /// The short name, as a user types it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Ddpm => "ddpm",
            Class::Pndm => "pndm",
            Class::Lms => "lms",
        }
    }

    /// The options that the class reads, with their defaults in diffusers.
    ///
    /// `order` (LMS) and `timesteps` (DDPM) are arguments of methods there.
    pub(crate) fn defaults(self) -> Vec<(&'static str, Value)> {
        let spacing = if self == Class::Lms { "linspace" } else { "leading" };
        let mut options = vec![
            ("num_train_timesteps", json!(1000)),
            ("beta_start", json!(0.0001)),
            ("beta_end", json!(0.02)),
            ("beta_schedule", json!("linear")),
            ("trained_betas", Value::Null),
            ("prediction_type", json!("epsilon")),
            ("timestep_spacing", json!(spacing)),
            ("steps_offset", json!(0)),
        ];
        options.extend(match self {
            Class::Ddpm => vec![
                ("variance_type", json!("fixed_small")),
                ("clip_sample", json!(true)),
                ("clip_sample_range", json!(1.0)),
                ("thresholding", json!(false)),
                ("dynamic_thresholding_ratio", json!(0.995)),
                ("sample_max_value", json!(1.0)),
                ("rescale_betas_zero_snr", json!(false)),
                ("timesteps", Value::Null),
            ],
            Class::Pndm => vec![("skip_prk_steps", json!(false)), ("set_alpha_to_one", json!(false))],
            Class::Lms => vec![
                ("use_karras_sigmas", json!(false)),
                ("use_exponential_sigmas", json!(false)),
                ("use_beta_sigmas", json!(false)),
                ("order", json!(4)),
            ],
        });
        options
    }
}

/// The name in diffusers.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Ddpm => "DDPMScheduler",
            Class::Pndm => "PNDMScheduler",
            Class::Lms => "LMSDiscreteScheduler",
        })
    }
}
