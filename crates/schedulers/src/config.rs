//! A scheduler config as diffusers writes it, with the origin of every value, and the plans it
//! gives.

use crate::class::class_of;
use crate::error::{nearest, shown};
use crate::options::{Options, Sampler};
use crate::tape::Tape;
use crate::{Class, Error, Level, Plan, Prediction, Reading, Schedule, Spacing, Val, ddpm, lms, pndm, pndm_diffusers};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// A scheduler class with its options.
///
/// A file's value stays with its name when another class reads it, and an absent one takes the
/// default of the class that reads. So the `scheduler_config.json` of Stable Diffusion 1.4, which
/// does not name a `timestep_spacing`, gives PNDM `leading` and LMS `linspace`, as `from_config`
/// does in diffusers; [`Config::values`] tells which came from where.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    class: Class,
    file: Map<String, Value>,
    overrides: Map<String, Value>,
    options: Options,
    schedule: Schedule,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The config file.
    File,
    /// The class, because the file does not say.
    Default,
    /// [`Config::with`].
    Override,
}

impl Config {
    /// Reads a `scheduler_config.json` for the class it names. Keys that the class does not read
    /// are allowed, as diffusers allows them; see [`Config::ignored`].
    pub fn from_json(text: &str) -> Result<Config, Error> {
        let file = object(text)?;
        match file.get("_class_name") {
            Some(Value::String(name)) => Config::build(class_of(name)?, file, Map::new()),
            found => Err(Error::Class { found: found.map_or("no _class_name".into(), shown), nearest: None }),
        }
    }

    /// Reads a `scheduler_config.json`, whatever class it names or not, for the class of `name`.
    pub fn from_json_as(text: &str, name: &str) -> Result<Config, Error> {
        Config::build(class_of(name)?, object(text)?, Map::new())
    }

    /// The same file and overrides read by another class, as `from_config` does in diffusers.
    pub fn with_class(&self, name: &str) -> Result<Config, Error> {
        Config::build(class_of(name)?, self.file.clone(), self.overrides.clone())
    }

    /// The config with one value replaced; `null` takes the class's default for `trained_betas`
    /// and `timesteps`.
    ///
    /// `order` (1 to 4, LMS) and `timesteps` (a falling list, DDPM) are options here, and
    /// arguments in diffusers.
    pub fn with(&self, key: &str, value: impl Into<Value>) -> Result<Config, Error> {
        let known: Vec<&str> = self.class.defaults().into_iter().map(|(name, _)| name).collect();
        if !known.contains(&key) {
            let field = key.chars().take(60).collect();
            return Err(Error::Key { field, class: self.class, nearest: nearest(key, known) });
        }
        let mut overrides = self.overrides.clone();
        overrides.insert(key.to_owned(), value.into());
        Config::build(self.class, self.file.clone(), overrides)
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What the network was trained to put out.
    pub fn prediction(&self) -> Prediction {
        self.options.prediction
    }

    /// Every option that the class reads, with its value and where that comes from.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, Value, Origin)> + '_ {
        self.class.defaults().into_iter().map(|(name, default)| {
            let (value, origin) = value_of(name, &default, &self.file, &self.overrides);
            (name, value.clone(), origin)
        })
    }

    /// The keys of the file that the class does not read.
    pub fn ignored(&self) -> impl Iterator<Item = &str> {
        let known = self.class.defaults();
        let read = move |key: &str| key.starts_with('_') || known.iter().any(|(name, _)| *name == key);
        self.file.keys().map(String::as_str).filter(move |key| !read(key))
    }

    /// The training noise schedule in double precision.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The levels of so many steps in double precision, then [`Level::CLEAN`].
    pub fn levels(&self, steps: usize) -> Result<Vec<Level>, Error> {
        self.levels_on(&self.schedule, steps, Reading::Exact)
    }

    /// The plan from noise to latents.
    pub fn plan(&self, steps: usize, reading: Reading) -> Result<Plan, Error> {
        self.build_plan(steps, 0, reading)
    }

    /// The plan from an image: the last `strength` of the steps, from
    /// [`Op::Given`](crate::Op::Given) noised to the level of the first of them. With 1, the image
    /// still shows through as much as the first level lets it.
    pub fn plan_from_image(&self, steps: usize, strength: f64, reading: Reading) -> Result<Plan, Error> {
        let taken = (steps as f64 * strength) as usize;
        match strength <= 1.0 && taken > 0 {
            true => self.build_plan(steps, taken, reading),
            false => Err(Error::Strength { found: strength, steps }),
        }
    }

    /// The plan from a sample `x = x₀ + sigma·noise` at some level, [`Op::Given`](crate::Op::Given), through those
    /// levels of so many steps that lie below it. Multistep samplers begin without a history. There
    /// is nothing like it in diffusers, so this is always [`Reading::Exact`].
    pub fn plan_from_sample(&self, steps: usize, from: Level) -> Result<Plan, Error> {
        let below = self.levels(steps)?.into_iter().filter(|level| level.sigma < from.sigma);
        let levels: Vec<Level> = std::iter::once(from).chain(below).collect();
        let mut tape = self.tape();
        let sample = tape.given();
        let last = self.walk(&mut tape, sample, &levels, 0, Reading::Exact);
        tape.finish(last, Level::CLEAN)
    }

    fn tape(&self) -> Tape {
        let limit = if let Sampler::Ddpm { limit, .. } = self.options.sampler { limit } else { None };
        Tape::new(self.options.prediction, limit)
    }

    /// Walks `levels[begin..]` down from `x`.
    fn walk(&self, tape: &mut Tape, x: Val, levels: &[Level], begin: usize, reading: Reading) -> Val {
        match self.options.sampler {
            Sampler::Pndm { warm_up, .. } => pndm::pndm(tape, x, &levels[begin..], &self.schedule, warm_up),
            Sampler::Ddpm { variance, .. } => ddpm::ddpm(tape, x, &levels[begin..], variance, reading),
            Sampler::Lms { order, .. } => lms::lms(tape, x, levels, begin, order, reading),
        }
    }

    /// `taken` is the number of steps from an image, 0 for all of them from noise.
    fn build_plan(&self, steps: usize, taken: usize, reading: Reading) -> Result<Plan, Error> {
        self.options.sampler.check(reading)?;
        let schedule = self.options.schedule(reading)?;
        let levels = self.levels_on(&schedule, steps, reading)?;
        let begin = if taken == 0 { 0 } else { steps - taken };
        let mut tape = self.tape();
        let start = |tape: &mut Tape, level| self.start(tape, level, taken > 0, reading);
        let (last, end) = match self.options.sampler {
            Sampler::Pndm { warm_up, to_clean } if reading == Reading::Diffusers => {
                let end = if to_clean { Level::CLEAN } else { schedule.level(0.0) };
                let list: Vec<f64> = levels[..steps].iter().map(|level| level.t).collect();
                let times = pndm_diffusers::Times::new(&list, schedule.len(), warm_up)?;
                let x = start(&mut tape, schedule.level(times.calls[begin] as f64));
                pndm_diffusers::pndm(&mut tape, x, &times, begin, &schedule, end)?
            }
            _ => {
                let x = start(&mut tape, levels[begin]);
                (self.walk(&mut tape, x, &levels, begin, reading), Level::CLEAN)
            }
        };
        tape.finish(last, end)
    }

    /// The first sample: the image with noise added, or noise alone.
    fn start(&self, tape: &mut Tape, level: Level, from_image: bool, reading: Reading) -> Val {
        if from_image {
            let (image, noise) = (tape.given(), tape.noise());
            return tape.sum(image + noise * level.sigma);
        }
        let bare = !matches!(self.options.spacing, Spacing::Leading { .. });
        let deviation = match self.options.sampler {
            Sampler::Lms { .. } if reading == Reading::Diffusers && bare => level.sigma,
            _ => 1.0 / level.input_scale(),
        };
        let noise = tape.noise();
        tape.sum(noise * deviation)
    }

    fn levels_on(&self, schedule: &Schedule, steps: usize, reading: Reading) -> Result<Vec<Level>, Error> {
        let Options { len, spacing, sampler, .. } = &self.options;
        if steps == 0 || steps > *len {
            return Err(Error::Steps { expected: format!("1 to {len}, the training times"), found: steps });
        }
        let times: Vec<f64> = match sampler {
            Sampler::Ddpm { timesteps: Some(times), .. } if times.len() != steps => {
                return Err(Error::Steps {
                    expected: format!("{}, the length of timesteps", times.len()),
                    found: steps,
                });
            }
            Sampler::Ddpm { timesteps: Some(times), .. } => times.iter().map(|&time| time as f64).collect(),
            Sampler::Lms { .. } => spacing.times(*len, steps, false, reading)?,
            _ => spacing.times(*len, steps, true, reading)?,
        };
        // LMS in diffusers holds later times at the last level; the others fail.
        let held = matches!(sampler, Sampler::Lms { .. }) && reading == Reading::Diffusers;
        if let Some(&time) = times.iter().find(|&&time| time > (len - 1) as f64 && !held) {
            return Err(Error::Time { time: time as i64, len: *len });
        }
        let mut levels: Vec<Level> = times.into_iter().map(|t| schedule.level(t)).collect();
        if let Sampler::Lms { sigmas, .. } = sampler {
            levels = sigmas.spread(schedule, levels, reading);
        }
        levels.push(Level::CLEAN);
        Ok(levels)
    }

    fn build(class: Class, file: Map<String, Value>, overrides: Map<String, Value>) -> Result<Config, Error> {
        let defaults = class.defaults();
        let value = |name: &str| {
            let default =
                defaults.iter().find(|(known, _)| *known == name).map_or(&Value::Null, |(_, default)| default);
            value_of(name, default, &file, &overrides).0.clone()
        };
        let options = Options::read(class, &value)?;
        options.schedule(Reading::Diffusers)?;
        let schedule = options.schedule(Reading::Exact)?;
        Ok(Config { class, file, overrides, options, schedule })
    }
}

/// The class, then one option a line with its origin.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        for (name, value, origin) in self.values() {
            let origin = format!("{origin:?}").to_lowercase();
            write!(f, "\n  {name:<28} {:<20} {origin}", shown(&value))?;
        }
        Ok(())
    }
}

fn object(text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(text) {
        Ok(Value::Object(file)) => Ok(file),
        Ok(other) => Err(Error::Json { found: shown(&other) }),
        Err(error) => Err(Error::Json { found: error.to_string() }),
    }
}

/// A value and its origin. A file may list names under `_use_default_values`; diffusers reads
/// those as absent.
fn value_of<'a>(
    name: &str,
    default: &'a Value,
    file: &'a Map<String, Value>,
    overrides: &'a Map<String, Value>,
) -> (&'a Value, Origin) {
    let unset = file.get("_use_default_values").and_then(Value::as_array);
    let unset = unset.is_some_and(|names| names.iter().any(|unset| unset == name));
    match (overrides.get(name), file.get(name)) {
        (Some(value), _) => (value, Origin::Override),
        (None, Some(value)) if !unset => (value, Origin::File),
        _ => (default, Origin::Default),
    }
}
