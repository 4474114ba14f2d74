//! The options that a class reads.

use crate::Error;
use crate::diffusers::{Class, LEVELS, Setting};
use crate::error::{nearest, shown};
use serde_json::Value;

/// An option that a class reads.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) default: Value,
    /// Whether it is in diffusers: in the config of the class, or an argument of one of its methods.
    pub(crate) in_diffusers: bool,
}

/// Options of schedulers for flow-matching and EDM networks. A config that a newer class saved has them, and they have
/// no effect while `use_flow_sigmas` is off.
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

/// The options that describe how the network was trained, whatever samples it.
pub(crate) const TRAINING: [&str; 7] = [
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
];

/// Checks that a class has an option.
pub(crate) fn known_to(class: Class, key: &str) -> Result<(), Error> {
    let known: Vec<&str> = class.options().into_iter().map(|known| known.name).collect();
    match known.contains(&key) {
        true => Ok(()),
        false => Err(Error::Key { field: key.chars().take(60).collect(), class, nearest: nearest(key, known) }),
    }
}

/// Checks that a key of a file is an option of some class, perhaps not of the one that reads the file. Keys that begin with `_`
/// are about the file itself, and the first files have two keys that no longer exist.
pub(crate) fn known_to_some_class(key: &str, value: &Value) -> Result<(), Error> {
    match (key, value) {
        ("tensor_format", _) | ("predict_epsilon", Value::Bool(true)) => return Ok(()),
        ("predict_epsilon", found) => {
            let reason = "is the old form of \"prediction_type\": \"sample\", which works";
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

    /// Every option that the class reads: those of diffusers, then levels, then the others that are only here.
    pub(crate) fn options(self) -> Vec<Known> {
        let scheduler = self.scheduler();
        let known = |(name, default): Setting, in_diffusers| Known { name, default: default.into(), in_diffusers };
        let mut options: Vec<Known> =
            scheduler.options.iter().copied().flatten().map(|setting| known(*setting, true)).collect();
        for setting in LEVELS.iter().chain(scheduler.only_exact).copied().flatten() {
            if options.iter().all(|known| known.name != setting.0) {
                options.push(known(*setting, false));
            }
        }
        options
    }
}
