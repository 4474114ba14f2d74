//! A scheduler config as diffusers writes it, with the origin of every value.

use crate::class::named;
use crate::error::shown;
use crate::levels::Layout;
use crate::options::{
    Known, Options, Origin, Pipeline, Reader, TRAINING, Values, known_to, known_to_some_class, object,
};
use crate::{Class, Error, Level, Prediction, Reading, Schedule};
use serde_json::{Map, Value};
use std::fmt;

/// A scheduler class with its options.
///
/// A value in the file is kept when another class reads the file. An absent value is the default of the class that reads it. So
/// the `scheduler_config.json` of Stable Diffusion 1.4, which has no `timestep_spacing`, gives `leading` to PNDM and `linspace` to
/// LMS, as `from_config` does in diffusers. [`Config::values`] returns where each value comes from.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) class: Class,
    pub(crate) values: Values,
    /// The values, checked and typed.
    pub(crate) options: Options,
    /// The schedule of the exact reading.
    pub(crate) schedule: Schedule,
}

/// Everything else in a config follows from its class and values.
impl PartialEq for Config {
    fn eq(&self, other: &Config) -> bool {
        self.class == other.class && self.values == other.values
    }
}

impl Config {
    /// Reads a `scheduler_config.json` for the class that it names. Keys that only other classes read are allowed, as in
    /// diffusers; see [`Config::ignored`]. A key that no class reads is an error; diffusers uses a default instead.
    pub fn from_json(text: &str) -> Result<Config, Error> {
        Config::from_file(object(text)?)
    }

    fn from_file(file: Map<String, Value>) -> Result<Config, Error> {
        match file.get("_class_name") {
            Some(Value::String(name)) => Config::build_named(&name.clone(), file, Map::new()),
            Some(found) => Err(Error::Class { found: shown(found), nearest: None }),
            None => Err(Error::NoClass),
        }
    }

    /// Reads a `scheduler_config.json` for the class of `name`, whatever class it names.
    pub fn from_json_as(text: &str, name: &str) -> Result<Config, Error> {
        Config::build_named(name, object(text)?, Map::new())
    }

    /// Reads what [`Config::resolved`] wrote.
    pub fn from_resolved(resolved: &Value) -> Result<Config, Error> {
        let Value::Object(all) = resolved else { return Err(Error::Json { found: shown(resolved) }) };
        let (class, _) = named(all.get("_class_name").and_then(Value::as_str).ok_or(Error::NoClass)?)?;
        all.keys().filter(|key| !key.starts_with('_')).try_for_each(|key| known_to(class, key))?;
        Config::build(class, Values { file: all.clone(), is_resolved: true, ..Values::default() })
    }

    /// Reads another file for the class that it names. Options of the training (betas, times, prediction) that are not in that file
    /// are kept from this config, because they belong to the network; the others belong to the sampler.
    pub fn with_file(&self, text: &str) -> Result<Config, Error> {
        let mut file = object(text)?;
        let unchosen = file.get("_use_default_values").and_then(Value::as_array).cloned().unwrap_or_default();
        let says = |file: &Map<String, Value>, key: &str| file.contains_key(key) && !unchosen.contains(&key.into());
        let says_betas = TRAINING.iter().any(|key| key.starts_with("beta_") && says(&file, key));
        for (key, value, _) in self.values().filter(|(key, ..)| TRAINING.contains(key)) {
            // `trained_betas` would take precedence over the betas in the file.
            if !(says(&file, key) || key == "trained_betas" && says_betas) {
                file.insert(key.into(), value);
            }
        }
        let unchosen = unchosen.into_iter().filter(|name| !TRAINING.iter().any(|key| name == key)).collect();
        file.insert("_use_default_values".into(), Value::Array(unchosen));
        let config = Config::from_file(file)?;
        match &self.values.pipeline {
            Some((pipeline, _)) => config.in_pipeline_of(*pipeline),
            None => Ok(config),
        }
    }

    /// The same file and overrides read by another class, as `from_config` does in diffusers. For a config
    /// [in a pipeline](Config::in_pipeline) it is `from_config(pipeline.scheduler.config)`.
    pub fn with_class(&self, name: &str) -> Result<Config, Error> {
        let other = Config::build_named(name, self.values.file.clone(), self.values.overrides.clone())?;
        let Some((pipeline, before)) = &self.values.pipeline else { return Ok(other) };
        // Values of the file stay as the pipeline changed them. diffusers lists the defaults of the first class as such, and the
        // other class uses its own.
        let kept = before.iter().filter(|(key, _)| self.values.in_file(key).is_some());
        let kept: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        other.piped(*pipeline, kept)
    }

    /// [`Config::in_pipeline_of`] Stable Diffusion.
    pub fn in_pipeline(&self) -> Result<Config, Error> {
        self.in_pipeline_of(Pipeline::StableDiffusion)
    }

    /// The config as a pipeline of diffusers 0.42 runs it. Values that are [set](Config::with) stay, like the arguments of
    /// `from_config`.
    ///
    /// In each, `eta` is 0 for [`Class::Tcd`], whose default is 0.3. In [`Pipeline::StableDiffusion`] `steps_offset` is 1 and
    /// `clip_sample` is false whatever the file says, with a warning for each; the pipelines of SDXL leave both.
    ///
    /// This is for [`Reading::Diffusers`]. The exact reading follows the file.
    pub fn in_pipeline_of(&self, pipeline: Pipeline) -> Result<Config, Error> {
        let mut set = Map::new();
        if pipeline == Pipeline::StableDiffusion {
            if self.read_anywhere("steps_offset").is_some_and(|offset| offset != 1) {
                set.insert("steps_offset".into(), 1.into());
            }
            if self.read_anywhere("clip_sample") == Some(Value::Bool(true)) {
                set.insert("clip_sample".into(), false.into());
            }
        }
        self.piped(pipeline, set)
    }

    /// The options that have another value in the pipeline than the class by itself would have: the option, the value of the class
    /// and that of the pipeline.
    pub fn set_by_pipeline(&self) -> Vec<(&'static str, Value, Value)> {
        let known = self.class.options();
        let changed = known.iter().filter_map(|known| match self.values.of(known) {
            (value, Origin::Pipeline) => Some((known.name, self.values.of_class(known).0.clone(), value.clone())),
            _ => None,
        });
        changed.filter(|(_, own, value)| own != value).collect()
    }

    /// The config in a pipeline that sets these values, and passes `eta` 0 to each step.
    fn piped(&self, pipeline: Pipeline, mut set: Map<String, Value>) -> Result<Config, Error> {
        let takes_eta = |known: &Known| known.name == "eta" && known.in_diffusers && known.default != 0.0;
        if self.class.options().iter().any(takes_eta) && self.values.in_file("eta").is_none() {
            set.insert("eta".into(), 0.0.into());
        }
        Config::build(self.class, Values { pipeline: Some((pipeline, set)), ..self.values.clone() })
    }

    /// The value of an option in the scheduler's `config` in diffusers, which has every key of the file.
    fn read_anywhere(&self, name: &str) -> Option<Value> {
        let default = || self.class.options().into_iter().find(|known| known.name == name && known.in_diffusers);
        self.values.in_file(name).cloned().or_else(|| default().map(|known| known.default))
    }

    /// The config with one value replaced; `null` restores the default of `trained_betas`, `timesteps` and `sigmas`.
    ///
    /// `order` (1 to 4, LMS and IPNDM), `timesteps` and `sigmas` (falling lists), `eta` and `s_churn` are options here. In
    /// diffusers they are arguments of methods, if it has them.
    pub fn with(&self, key: &str, value: impl Into<Value>) -> Result<Config, Error> {
        self.with_all([(key, value.into())])
    }

    /// The config with several values replaced together, in any order: for values that are only valid together, such as
    /// `use_karras_sigmas` and `rho`.
    pub fn with_all<K: AsRef<str>>(&self, options: impl IntoIterator<Item = (K, Value)>) -> Result<Config, Error> {
        let mut values = self.values.clone();
        for (key, value) in options {
            known_to(self.class, key.as_ref())?;
            values.overrides.insert(key.as_ref().to_owned(), value);
        }
        Config::build(self.class, values)
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What the network was trained to predict.
    pub fn prediction(&self) -> Prediction {
        self.options.prediction
    }

    /// Every option that the class reads, with its value and its origin.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, Value, Origin)> + '_ {
        self.class.options().into_iter().map(|known| {
            let (value, origin) = self.values.of(&known);
            (known.name, value.clone(), origin)
        })
    }

    /// Every option with its value, wherever it comes from, as JSON that [`Config::from_resolved`] reads again.
    ///
    /// Read as a `scheduler_config.json`, it would lose the options that diffusers does not have: those are not read from files.
    pub fn resolved(&self) -> Value {
        let class = ("_class_name".to_owned(), Value::String(self.class.to_string()));
        let values = self.values().map(|(name, value, _)| (name.to_owned(), value));
        Value::Object(std::iter::once(class).chain(values).collect())
    }

    /// The keys of the file that the class does not read.
    pub fn ignored(&self) -> impl Iterator<Item = &str> {
        let known = self.class.options();
        let read =
            move |key: &str| key.starts_with('_') || known.iter().any(|known| known.in_diffusers && known.name == key);
        self.values.file.keys().map(String::as_str).filter(move |key| !read(key))
    }

    /// The training noise schedule in double precision.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The training noise schedule of a reading: in single precision for [`Reading::Diffusers`].
    ///
    /// # Errors
    /// Single precision cannot hold it.
    pub fn schedule_in(&self, reading: Reading) -> Result<Schedule, Error> {
        self.options.schedule(&self.layout(reading))
    }

    /// The levels of a run of `steps` in the exact reading, then [`Level::CLEAN`].
    pub fn levels(&self, steps: usize) -> Result<Vec<Level>, Error> {
        self.options.grid.levels(&self.schedule, steps, &self.layout(Reading::Exact))
    }

    /// How a reading computes levels.
    pub(crate) fn layout(&self, reading: Reading) -> Layout {
        self.class.scheduler().layout(reading)
    }

    fn build_named(name: &str, file: Map<String, Value>, overrides: Map<String, Value>) -> Result<Config, Error> {
        let (class, preset) = named(name)?;
        let name = preset.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Config::build(class, Values { file, name, overrides, ..Values::default() })
    }

    fn build(class: Class, values: Values) -> Result<Config, Error> {
        let known = class.options();
        let read = Reader { known: &known, values: &values };
        for (key, value) in values.file.iter().filter(|(key, _)| !read.has(key)) {
            known_to_some_class(key, value)?;
        }
        let options = Options::read(class, &read)?;
        let layout = |reading| class.scheduler().layout(reading);
        options.schedule(&layout(Reading::Diffusers))?;
        let schedule = options.schedule(&layout(Reading::Exact))?;
        Ok(Config { class, values, options, schedule })
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
