//! The values of the options of a config, and their origins.

use super::known::Known;
use crate::Error;
use crate::error::shown;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The config file.
    File,
    /// The default of the class.
    Default,
    /// The short name of the sampler: `dpm++3m` is a class and an order.
    Name,
    /// The pipeline: see [`Config::in_pipeline`](crate::Config::in_pipeline).
    Pipeline,
    /// [`Config::with`](crate::Config::with).
    Override,
}

/// A pipeline of diffusers that changes the scheduler it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pipeline {
    /// `StableDiffusionPipeline`, its image-to-image form and its inpainting.
    #[default]
    StableDiffusion,
    /// `StableDiffusionXLPipeline` with the same.
    StableDiffusionXl,
}

/// The values of options by origin, other than defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Values {
    pub(crate) file: Map<String, Value>,
    /// Whether [`Config::resolved`](crate::Config::resolved) wrote the file, with options that diffusers does not read.
    pub(crate) is_resolved: bool,
    /// The options that the short name of the sampler sets.
    pub(crate) name: Map<String, Value>,
    /// The pipeline of diffusers and the options that it sets, if there is one.
    pub(crate) pipeline: Option<(Pipeline, Map<String, Value>)>,
    pub(crate) overrides: Map<String, Value>,
}

impl Values {
    /// A value and its origin. Options in the list `_use_default_values` of a file count as absent, as in diffusers. Options that
    /// diffusers does not read from a file for this class are not read here either, but can be overridden.
    pub(crate) fn of<'a>(&'a self, known: &'a Known) -> (&'a Value, Origin) {
        let pipeline = self.pipeline.as_ref().and_then(|(_, values)| values.get(known.name));
        match (self.overrides.get(known.name), self.name.get(known.name), pipeline) {
            (Some(value), ..) => (value, Origin::Override),
            (None, Some(value), _) => (value, Origin::Name),
            (None, None, Some(value)) => (value, Origin::Pipeline),
            (None, None, None) => self.of_class(known),
        }
    }

    /// The value in the file if the class reads it, otherwise the default.
    pub(crate) fn of_class<'a>(&'a self, known: &'a Known) -> (&'a Value, Origin) {
        match self.in_file(known.name) {
            Some(value) if known.in_diffusers || self.is_resolved => (value, Origin::File),
            _ => (&known.default, Origin::Default),
        }
    }

    /// The value in the file, unless the file lists it among its defaults.
    pub(crate) fn in_file(&self, name: &str) -> Option<&Value> {
        let unset = self.file.get("_use_default_values").and_then(Value::as_array);
        self.file.get(name).filter(|_| !unset.is_some_and(|names| names.iter().any(|unset| unset == name)))
    }
}

/// Parses the text of a config.
pub(crate) fn object(text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_infinities(text))) {
        Ok(Value::Object(file)) => Ok(file),
        Ok(other) => Err(Error::Json { found: shown(&other) }),
        Err(error) => Err(Error::Json { found: error.to_string() }),
    }
}

/// Python writes infinities and NaN into JSON, which has neither. They are read as strings.
fn without_infinities(text: &str) -> String {
    let mut parts: Vec<String> = text.split('"').map(str::to_owned).collect();
    let outside = parts.iter_mut().step_by(2);
    for part in outside {
        for (word, quoted) in [("-Infinity", "\"\u{1}\""), ("Infinity", "\"Infinity\""), ("NaN", "\"NaN\"")] {
            *part = part.replace(word, quoted);
        }
        *part = part.replace('\u{1}', "-Infinity");
    }
    parts.join("\"")
}
