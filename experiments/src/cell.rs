//! One picture of an experiment, fully said.

use anyhow::{Context, Result, ensure};
use latentrace_pipeline::{Device, Dtype, Model, Options, Request, Size};
use latentrace_schedulers::Reading;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that decides a picture's pixels, in the words of a spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// What to show.
    #[serde(default)]
    pub prompt: String,
    /// What guidance leads away from.
    #[serde(default)]
    pub negative: String,
    /// The seed of every draw.
    #[serde(default)]
    pub seed: u64,
    /// Sampling steps.
    #[serde(default = "steps")]
    pub steps: usize,
    /// `w` in `u + w (c - u)`.
    #[serde(default = "guidance")]
    pub guidance: f64,
    /// A scheduler class; the checkpoint's own without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// Pixels from top to bottom; the checkpoint's own without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,
    /// Pixels from left to right; the checkpoint's own without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    /// Whether diffusers' quirks are reproduced.
    #[serde(default = "reading")]
    pub reading: Reading,
    /// Interventions, such as `unet.mid_block.out @step[10:20] => scale(0.5)`, made in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<String>,
    /// A checkpoint folder; the bundled model without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The number format to run in.
    #[serde(default)]
    pub dtype: Dtype,
    /// Where to run.
    #[serde(default)]
    pub device: Device,
}

fn steps() -> usize {
    50
}

fn guidance() -> f64 {
    7.5
}

fn reading() -> Reading {
    Reading::Diffusers
}

/// The names of a cell's fields.
pub const FIELDS: [&str; 13] = [
    "prompt", "negative", "seed", "steps", "guidance", "sampler", "height", "width", "reading", "edits", "model",
    "dtype", "device",
];

impl Cell {
    /// The folder of the cell's model.
    pub fn folder(&self) -> Result<PathBuf> {
        self.model.clone().map_or_else(crate::models::bundled, Ok)
    }

    /// How the cell's model is loaded.
    pub fn options(&self) -> Options {
        Options { dtype: self.dtype, device: self.device }
    }

    /// The cell as a request to its model, checked.
    pub fn request(&self, model: &Model) -> Result<Request> {
        ensure!(self.seed <= i64::MAX as u64, "seed: expected 0 to {}, found {}", i64::MAX, self.seed);
        let own = model.request(&self.prompt, self.seed);
        let scheduler = match &self.sampler {
            Some(name) => own.scheduler.with_class(name).context("sampler")?,
            None => own.scheduler,
        };
        let size = Size { height: self.height.unwrap_or(own.size.height), width: self.width.unwrap_or(own.size.width) };
        let request = Request {
            negative: self.negative.clone(),
            steps: self.steps,
            guidance: self.guidance,
            reading: self.reading,
            scheduler,
            size,
            ..own
        };
        model.check(&request)?;
        Ok(request)
    }

    /// The value of a field as a label shows it.
    pub fn value(&self, field: &str) -> String {
        let value = serde_json::to_value(self).ok().and_then(|cell| cell.get(field).cloned());
        match value {
            Some(serde_json::Value::String(text)) => text,
            Some(serde_json::Value::Number(number)) => {
                let float = number.as_f64().filter(|_| number.is_f64()); // 4.0 is shown as 4, and a long seed in full
                float.map_or_else(|| number.to_string(), |float| float.to_string())
            }
            Some(other) => other.to_string(),
            None => "the model's own".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_fields_is_the_fields() {
        let full = r#"{"sampler":"lms","height":64,"width":64,"edits":["** => zero"],"model":"x"}"#;
        let cell: Cell = serde_json::from_str(full).unwrap();
        let value = serde_json::to_value(&cell).unwrap();
        let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut fields = FIELDS;
        names.sort_unstable();
        fields.sort_unstable();
        assert_eq!(names, fields);
        assert_eq!((cell.value("guidance"), cell.value("sampler")), ("7.5".into(), "lms".into()));
    }
}
