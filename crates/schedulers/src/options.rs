//! A config's values, checked and typed.

use crate::ddpm::Variance;
use crate::error::{nearest, shown};
use crate::plan::Limit;
use crate::schedule::Betas;
use crate::{Class, Error, Prediction, Reading, Schedule, Sigmas, Spacing};
use serde_json::Value;

/// What a config says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) betas: Betas,
    pub(crate) len: usize,
    pub(crate) zero_snr: bool,
    pub(crate) prediction: Prediction,
    pub(crate) spacing: Spacing,
    pub(crate) sampler: Sampler,
}

/// What it says about the sampler alone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sampler {
    Ddpm { variance: Variance, undefined: bool, limit: Option<Limit>, timesteps: Option<Vec<usize>> },
    Pndm { warm_up: bool, to_clean: bool },
    Lms { order: usize, sigmas: Sigmas },
}

/// The most training times that a config may ask for.
const MOST_TIMES: usize = 100_000;

impl Options {
    /// Reads a class's options out of their values.
    pub(crate) fn read(class: Class, value: &dyn Fn(&str) -> Value) -> Result<Options, Error> {
        let read = Reader { value };
        let len = read.integer("num_train_timesteps", 2, MOST_TIMES)?;
        let predictions =
            [("epsilon", Prediction::Epsilon), ("v_prediction", Prediction::Velocity), ("sample", Prediction::Sample)];
        let known = if class == Class::Pndm { 2 } else { 3 };
        let offset = read.integer("steps_offset", 0, len - 1)?;
        let spacings = [
            ("leading", Spacing::Leading { offset }),
            ("linspace", Spacing::Linspace),
            ("trailing", Spacing::Trailing),
        ];
        Ok(Options {
            betas: read.betas(class, len)?,
            len,
            zero_snr: class == Class::Ddpm && read.flag("rescale_betas_zero_snr")?,
            prediction: read.choice("prediction_type", &predictions[..known])?,
            spacing: read.choice("timestep_spacing", &spacings)?,
            sampler: match class {
                Class::Ddpm => read.ddpm(len)?,
                Class::Pndm => {
                    Sampler::Pndm { warm_up: !read.flag("skip_prk_steps")?, to_clean: read.flag("set_alpha_to_one")? }
                }
                Class::Lms => Sampler::Lms { order: read.integer("order", 1, 4)?, sigmas: read.sigmas()? },
            },
        })
    }

    /// The training noise schedule.
    pub(crate) fn schedule(&self, reading: Reading) -> Result<Schedule, Error> {
        Schedule::new(&self.betas, self.len, self.zero_snr, reading)
    }
}

/// Typed access to values by name.
struct Reader<'a> {
    value: &'a dyn Fn(&str) -> Value,
}

impl Reader<'_> {
    fn betas(&self, class: Class, len: usize) -> Result<Betas, Error> {
        let end = |name| self.number(name, f64::MIN_POSITIVE, 1.0 - f64::EPSILON, "a number above 0 and below 1");
        let (start, end) = (end("beta_start")?, end("beta_end")?);
        let kinds = [
            ("linear", Betas::Linear { start, end }),
            ("scaled_linear", Betas::ScaledLinear { start, end }),
            ("squaredcos_cap_v2", Betas::SquaredCosine),
            ("sigmoid", Betas::Sigmoid { start, end }),
            ("laplace", Betas::Laplace),
        ];
        let known = if class == Class::Ddpm { kinds.len() } else { 3 };
        let named = self.choice("beta_schedule", &kinds[..known])?;
        match self.list("trained_betas", Value::as_f64, "null or a list of numbers")? {
            None => Ok(named),
            Some(betas) if betas.len() == len => Ok(Betas::Trained(betas)),
            Some(betas) => Err(Error::Value {
                field: "trained_betas".into(),
                expected: format!("{len} numbers, as num_train_timesteps says"),
                found: format!("{} numbers", betas.len()),
            }),
        }
    }

    fn ddpm(&self, len: usize) -> Result<Sampler, Error> {
        const LEARNED: &str = "needs a network that puts out its own variance, and latent diffusion networks do not";
        let types = [
            ("fixed_small", Ok((Variance::Small, false))),
            ("fixed_small_log", Ok((Variance::Small, false))),
            ("fixed_large", Ok((Variance::Large, false))),
            ("fixed_large_log", Ok((Variance::Large, true))),
            ("learned", Err("learned")),
            ("learned_range", Err("learned_range")),
        ];
        let (variance, undefined) = self.choice("variance_type", &types)?.map_err(|found| Error::Unsupported {
            field: "variance_type",
            found: found.into(),
            reason: LEARNED,
        })?;
        let range = self.number("clip_sample_range", f64::MIN_POSITIVE, f64::MAX, "a number above 0")?;
        let ratio = self.number("dynamic_thresholding_ratio", 0.0, 1.0, "a number in 0..=1")?;
        let max = self.number("sample_max_value", 1.0, f64::MAX, "a number not below 1")?;
        let limit = match (self.flag("thresholding")?, self.flag("clip_sample")?) {
            (true, _) => Some(Limit::Dynamic { ratio, max }),
            (false, true) => Some(Limit::Clamp { range }),
            (false, false) => None,
        };
        Ok(Sampler::Ddpm { variance, undefined, limit, timesteps: self.timesteps(len)? })
    }

    fn timesteps(&self, len: usize) -> Result<Option<Vec<usize>>, Error> {
        let expected = format!("null or a falling list of whole numbers in 0..={}", len - 1);
        let time = |value: &Value| value.as_u64().map(|time| time as usize).filter(|time| *time < len);
        match self.list("timesteps", time, &expected)? {
            Some(times) if times.is_empty() || times.windows(2).any(|pair| pair[0] <= pair[1]) => {
                Err(wrong("timesteps", &expected, &(self.value)("timesteps")))
            }
            times => Ok(times),
        }
    }

    fn sigmas(&self) -> Result<Sigmas, Error> {
        let kinds = [
            ("use_karras_sigmas", Sigmas::Karras { rho: 7.0 }),
            ("use_exponential_sigmas", Sigmas::Exponential),
            ("use_beta_sigmas", Sigmas::Beta { shape: 0.6 }),
        ];
        let mut chosen = None;
        for (name, sigmas) in kinds {
            match (self.flag(name)?, chosen) {
                (true, None) => chosen = Some((name, sigmas)),
                (true, Some((first, _))) => return Err(Error::Both { first, second: name }),
                (false, _) => (),
            }
        }
        Ok(chosen.map_or(Sigmas::Times, |(_, sigmas)| sigmas))
    }

    fn number(&self, name: &str, least: f64, most: f64, expected: &str) -> Result<f64, Error> {
        let value = (self.value)(name);
        value.as_f64().filter(|number| (least..=most).contains(number)).ok_or_else(|| wrong(name, expected, &value))
    }

    fn integer(&self, name: &str, least: usize, most: usize) -> Result<usize, Error> {
        let value = (self.value)(name);
        let number = value.as_u64().map(|number| number as usize).filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| wrong(name, &format!("a whole number in {least}..={most}"), &value))
    }

    /// A truth value; `null` is false, as in Python.
    fn flag(&self, name: &str) -> Result<bool, Error> {
        match (self.value)(name) {
            Value::Bool(flag) => Ok(flag),
            Value::Null => Ok(false),
            value => Err(wrong(name, "true or false", &value)),
        }
    }

    fn list<T>(&self, name: &str, read: impl Fn(&Value) -> Option<T>, expected: &str) -> Result<Option<Vec<T>>, Error> {
        match (self.value)(name) {
            Value::Null => Ok(None),
            Value::Array(items) if items.len() <= MOST_TIMES => {
                let items = items.iter().map(|item| read(item).ok_or_else(|| wrong(name, expected, item)));
                items.collect::<Result<_, _>>().map(Some)
            }
            value => Err(wrong(name, expected, &value)),
        }
    }

    fn choice<T: Clone>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, Error> {
        let value = (self.value)(name);
        let word = value.as_str().unwrap_or_default();
        let chosen = choices.iter().find(|(choice, _)| *choice == word).map(|(_, meaning)| meaning.clone());
        let names = || choices.iter().map(|(choice, _)| *choice);
        chosen.ok_or_else(|| Error::Choice {
            field: name.into(),
            found: shown(&value),
            allowed: names().collect::<Vec<_>>().join(", "),
            nearest: nearest(word, names()),
        })
    }
}

fn wrong(field: &str, expected: &str, found: &Value) -> Error {
    Error::Value { field: field.into(), expected: expected.into(), found: shown(found) }
}

impl Sampler {
    /// What cannot be run under a reading.
    pub(crate) fn check(&self, reading: Reading) -> Result<(), Error> {
        const REASON: &str =
            "is the square root of a negative number in diffusers; the exact reading takes it as fixed_large";
        match self {
            Sampler::Ddpm { undefined: true, .. } if reading == Reading::Diffusers => {
                Err(Error::Unsupported { field: "variance_type", found: "fixed_large_log".into(), reason: REASON })
            }
            _ => Ok(()),
        }
    }
}
