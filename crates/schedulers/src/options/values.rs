//! The values of a config's options, and where each comes from.

use super::known::Known;
use crate::Error;
use crate::error::shown;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The config file.
    File,
    /// The class, because the file does not say.
    Default,
    /// The sampler's short name: `dpm++3m` is a class and an order.
    Name,
    /// What `StableDiffusionPipeline` sets, see [`Config::in_pipeline`](crate::Config::in_pipeline).
    Pipeline,
    /// [`Config::with`](crate::Config::with).
    Override,
}

/// Where an option's value may come from, besides the class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Values {
    pub(crate) file: Map<String, Value>,
    /// Whether the file is what [`Config::resolved`](crate::Config::resolved) wrote, and says more than diffusers reads.
    pub(crate) is_resolved: bool,
    /// What the sampler's short name sets.
    pub(crate) name: Map<String, Value>,
    /// What the pipeline of diffusers sets; none where the class is by itself.
    pub(crate) pipeline: Option<Map<String, Value>>,
    pub(crate) overrides: Map<String, Value>,
}

impl Values {
    /// A value and its origin. A file may list names under `_use_default_values`; diffusers reads those as absent. What
    /// diffusers does not read in a file for this class is not read here either, but it can be overridden.
    pub(crate) fn of<'a>(&'a self, known: &'a Known) -> (&'a Value, Origin) {
        let pipeline = self.pipeline.as_ref().and_then(|values| values.get(known.name));
        match (self.overrides.get(known.name), self.name.get(known.name), pipeline) {
            (Some(value), ..) => (value, Origin::Override),
            (None, Some(value), _) => (value, Origin::Name),
            (None, None, Some(value)) => (value, Origin::Pipeline),
            (None, None, None) => self.of_class(known),
        }
    }

    /// The value that the class takes from the file, or its default.
    pub(crate) fn of_class<'a>(&'a self, known: &'a Known) -> (&'a Value, Origin) {
        match self.in_file(known.name) {
            Some(value) if known.in_diffusers || self.is_resolved => (value, Origin::File),
            _ => (&known.default, Origin::Default),
        }
    }

    /// What the file says, unless it lists the name among its defaults.
    pub(crate) fn in_file(&self, name: &str) -> Option<&Value> {
        let unset = self.file.get("_use_default_values").and_then(Value::as_array);
        self.file.get(name).filter(|_| !unset.is_some_and(|names| names.iter().any(|unset| unset == name)))
    }
}

/// The object of a config's text.
pub(crate) fn object(text: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_infinities(text))) {
        Ok(Value::Object(file)) => Ok(file),
        Ok(other) => Err(Error::Json { found: shown(&other) }),
        Err(error) => Err(Error::Json { found: error.to_string() }),
    }
}

/// Python writes infinities and NaN into JSON, which has none of them. They are read as the strings of those names.
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
