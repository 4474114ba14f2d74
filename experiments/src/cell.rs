//! One picture of an experiment, fully said.

use crate::init_image::{self, Fit};
use crate::sampler::{self, Sampler};
use anyhow::{Result, ensure};
use latentrace_pipeline::{Device, Dtype, Guidance, Model, Options, Picture, Request, Size};
use latentrace_schedulers::Reading;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that decides a picture's pixels, in the words of a spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cell {
    /// What to show.
    pub prompt: String,
    /// What guidance leads away from.
    pub negative: String,
    /// The seed of every draw.
    pub seed: u64,
    /// Sampling steps.
    pub steps: usize,
    /// `w` in `u + w (c - u)`: a number, or one for each noise level.
    pub guidance: Guidance,
    /// A scheduler by its name or its config; the checkpoint's own without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// Options of the scheduler in place of its own, as `from_config(.., use_karras_sigmas=True)` takes them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scheduler: BTreeMap<String, Value>,
    /// How the steps are spread over the training times: leading, trailing, linspace or ays; the checkpoint's own without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<String>,
    /// A picture to start from, PNG or JPEG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// How much of the picture is made anew, above 0 and at most 1; [`STRENGTH`] without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// How the picture is brought to size.
    #[serde(skip_serializing_if = "is_default")]
    pub fit: Fit,
    /// Pixels from top to bottom; the checkpoint's own without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,
    /// Pixels from left to right; the checkpoint's own without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    /// Whether diffusers' quirks are reproduced.
    pub reading: Reading,
    /// Interventions, such as `unet.mid_block.out @step[10:20] => scale(0.5)`, made in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<String>,
    /// A checkpoint folder; the bundled model without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The number format to run in.
    pub dtype: Dtype,
    /// Where to run.
    pub device: Device,
}

fn is_default(fit: &Fit) -> bool {
    *fit == Fit::default()
}

/// How much of a picture is made anew where nobody says: the reference's default.
pub const STRENGTH: f64 = 0.8;

/// The names of a cell's fields.
pub const FIELDS: [&str; 18] = [
    "prompt",
    "negative",
    "seed",
    "steps",
    "guidance",
    "sampler",
    "scheduler",
    "spacing",
    "image",
    "strength",
    "fit",
    "height",
    "width",
    "reading",
    "edits",
    "model",
    "dtype",
    "device",
];

impl Default for Cell {
    /// What a spec means that says nothing.
    fn default() -> Cell {
        Cell {
            prompt: String::new(),
            negative: String::new(),
            seed: 0,
            steps: 50,
            guidance: Guidance::Constant(7.5),
            sampler: None,
            scheduler: BTreeMap::new(),
            spacing: None,
            image: None,
            strength: None,
            fit: Fit::default(),
            height: None,
            width: None,
            reading: Reading::Diffusers,
            edits: Vec::new(),
            model: None,
            dtype: Dtype::default(),
            device: Device::default(),
        }
    }
}

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
        let own_scheduler = match self.reading {
            Reading::Diffusers => &model.scheduler_in_pipeline,
            Reading::Exact => &model.scheduler,
        };
        let spacing = self.spacing.as_ref().map(|name| ("timestep_spacing".to_string(), Value::from(name.as_str())));
        let options = spacing.into_iter().chain(self.scheduler.clone());
        let scheduler = sampler::configured(own_scheduler, self.sampler.as_ref(), options)?;
        let size = Size { height: self.height.unwrap_or(own.size.height), width: self.width.unwrap_or(own.size.width) };
        let request = Request {
            negative: self.negative.clone(),
            steps: self.steps,
            guidance: self.guidance.clone(),
            reading: self.reading,
            scheduler,
            size,
            ..own
        };
        model.check(&request)?;
        Ok(request)
    }

    /// How much of the picture that the run starts from is made anew; nothing where it starts from noise.
    pub fn picture_strength(&self) -> Option<f64> {
        self.image.as_ref().map(|_| self.strength.unwrap_or(STRENGTH))
    }

    /// The picture that the run starts from, brought to size.
    pub fn picture(&self, size: Size) -> Result<Option<Picture>> {
        self.image.as_ref().map(|path| init_image::open(path, size, self.fit)).transpose()
    }

    /// The value of a field as a label shows it.
    pub fn value(&self, field: &str) -> String {
        match (field, &self.sampler) {
            ("guidance", _) => return self.guidance.to_string(),
            ("sampler", Some(sampler)) => return sampler.to_string(),
            _ => (),
        }
        let value = match field.strip_prefix(sampler::PREFIX) {
            Some(option) => self.scheduler.get(option).cloned(),
            None => serde_json::to_value(self).ok().and_then(|cell| cell.get(field).cloned()),
        };
        match value {
            Some(Value::String(text)) if text.is_empty() => "none".into(),
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => {
                let float = number.as_f64().filter(|_| number.is_f64()); // 4.0 is shown as 4, and a long seed in full
                float.map_or_else(|| number.to_string(), |float| float.to_string())
            }
            Some(other) => other.to_string(),
            None => "the model's own".into(),
        }
    }
}

/// Guidance as a command line has it: `7.5`, or a table as in a spec, `{ weight = 8, sigma = [0.3, 5] }`.
pub fn parse_guidance(text: &str) -> Result<Guidance> {
    #[derive(Deserialize)]
    struct Named {
        guidance: Guidance,
    }
    // "nan" and "inf" are numbers of TOML, and refused where the range is held.
    let named: Named = toml::from_str(&format!("guidance = {text}"))
        .map_err(|_| anyhow::anyhow!("expected a number or {{ weight = 8, sigma = [0.3, 5] }}, found {text}"))?;
    Ok(named.guidance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_fields_is_the_fields() {
        let full = r#"{"sampler":"lms","scheduler":{"order":2},"spacing":"trailing","image":"x.png","strength":0.5,"fit":"stretch","height":64,"width":64,"edits":["** => zero"],"model":"x"}"#;
        let cell: Cell = serde_json::from_str(full).unwrap();
        let value = serde_json::to_value(&cell).unwrap();
        let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut fields = FIELDS;
        names.sort_unstable();
        fields.sort_unstable();
        assert_eq!(names, fields);
        assert_eq!((cell.value("guidance"), cell.value("sampler")), ("7.5".into(), "lms".into()));
        assert_eq!([cell.value("scheduler.order"), cell.value("scheduler.rho")], ["2", "the model's own"]);
    }
}
