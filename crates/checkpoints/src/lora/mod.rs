//! LoRA: files of low-rank changes of a network's layers (Hu et al. 2021, arXiv 2106.09685).
//!
//! A LoRA whose scale is constant is merged into the weights when they are loaded. One whose scale depends on the noise
//! level is computed beside the layers of the UNet.

mod alpha;
mod file;
mod key;
mod other;
mod targets;

pub(crate) use alpha::{CONFIG, WEIGHTS};
pub(crate) use file::{IN_FOLDER, chosen};

use crate::checkpoint::Checkpoint;
use crate::error::{Result, file as wrong};
use latentrace_files::counted;
use latentrace_nn::{Applied, Changes, LowRank, SharedScale};
use latentrace_schedulers::{Weight, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use targets::{Network, Targets};

/// The scale of a LoRA, as a function of the noise level. 0 is no change.
pub type Scale = Weight<0>;

/// A LoRA as it is asked for: `FILE`, `FILE:SCALE`, or a table with a file and scales.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Lora {
    /// The file; or a folder with `pytorch_lora_weights.safetensors`, `adapter_model.safetensors`, or one file alone.
    pub file: PathBuf,
    /// The scale.
    pub scale: Scale,
    /// The scale of the text encoders' layers. Defaults to `scale`, and where that depends on the noise level to its
    /// largest weight, because the text encoders run once, before the first call.
    pub text_encoder: Option<f64>,
}

/// [`Lora`] in a file of settings.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"FILE\", \"FILE:0.8\" or { file = \"FILE\", scale = 0.8 }, where a scale is a number, { weight = 0.8, sigma = [0.3, 5] } or { sigma = [15, 1], weight = [0, 1] }"
)]
enum Written {
    Text(String),
    Table(Table),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    file: PathBuf,
    #[serde(default = "whole")]
    scale: Scale,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text_encoder: Option<f64>,
}

fn whole() -> Scale {
    Scale::Constant(1.0)
}

impl Lora {
    /// A LoRA in a file, at a scale.
    pub fn new(file: impl Into<PathBuf>, scale: impl Into<Scale>) -> Lora {
        Lora { file: file.into(), scale: scale.into(), text_encoder: None }
    }

    /// The scale of the text encoders' layers.
    pub fn text_scale(&self) -> f64 {
        let largest = || match &self.scale {
            Scale::Constant(scale) => *scale,
            Scale::Window(Window { weight, outside, .. }) => farthest(&[*weight, *outside]),
            Scale::Curve(curve) => farthest(&curve.weight),
        };
        self.text_encoder.unwrap_or_else(largest)
    }

    /// The same LoRA by its file, if it is named by the folder of the file.
    pub fn in_folder(self) -> Lora {
        Lora { file: file::place(&self.file), ..self }
    }

    /// The files that the change depends on.
    pub fn files(&self) -> Vec<PathBuf> {
        let file = file::place(&self.file);
        let config = alpha::config_file(&file);
        std::iter::once(file).chain(config).collect()
    }

    /// Checks that the scales are finite at every noise level.
    ///
    /// # Errors
    /// One of them is not.
    pub fn check(&self) -> Result<()> {
        let of_text = self.text_encoder.map(Scale::Constant);
        for scale in std::iter::once(&self.scale).chain(&of_text) {
            if let Some(expected) = scale.problem() {
                return Err(wrong(&self.file, format!("scale of this LoRA: expected {expected}, found {scale}")));
            }
        }
        Ok(())
    }
}

/// The weight that is farthest from 0.
fn farthest(weights: &[f64]) -> f64 {
    weights.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default()
}

impl From<String> for Lora {
    /// What follows the last `:` is the scale, if it is a number. So a path may have a `:` too.
    fn from(text: String) -> Lora {
        match text.rsplit_once(':').and_then(|(file, scale)| Some((file, scale.trim().parse::<f64>().ok()?))) {
            Some((file, scale)) => Lora::new(file, scale),
            None => Lora::new(text, 1.0),
        }
    }
}

impl From<Written> for Lora {
    fn from(written: Written) -> Lora {
        match written {
            Written::Text(text) => text.into(),
            Written::Table(Table { file, scale, text_encoder }) => Lora { file, scale, text_encoder },
        }
    }
}

impl From<Lora> for Written {
    fn from(lora: Lora) -> Written {
        match lora {
            Lora { file, scale: Scale::Constant(scale), text_encoder: None } => {
                Written::Text(format!("{}:{scale}", file.display()))
            }
            Lora { file, scale, text_encoder } => Written::Table(Table { file, scale, text_encoder }),
        }
    }
}

impl fmt::Display for Lora {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.scale)?;
        self.text_encoder.map_or(Ok(()), |scale| write!(f, " (text encoder {scale})"))
    }
}

impl Eq for Lora {}

impl Hash for Lora {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.file.hash(state);
        self.to_string().hash(state);
    }
}

/// The changes of a checkpoint's networks.
#[derive(Default)]
pub struct Adapted {
    /// Those of each text encoder that is changed, by the name of its part.
    pub texts: BTreeMap<&'static str, Changes>,
    /// Those of the UNet.
    pub unet: Changes,
    /// The scales that depend on the noise level, each to be set before a call of the UNet.
    pub varying: Vec<(SharedScale, Scale)>,
    /// For each LoRA, whether it has changes of a text encoder.
    pub of_text: Vec<bool>,
    /// What was changed, a line for each LoRA.
    pub notes: Vec<String>,
}

impl Checkpoint {
    /// The changes that the checkpoint's LoRAs make.
    ///
    /// # Errors
    /// A file cannot be read, is not a LoRA of a supported kind, or changes layers that the networks do not have.
    pub fn changes(&self) -> Result<Adapted> {
        let mut adapted = Adapted::default();
        if self.loras.is_empty() {
            return Ok(adapted);
        }
        let targets = Targets::of(self)?;
        for lora in &self.loras {
            lora.check()?;
            let (found, note) = file::read(&lora.file, &targets)?;
            adapted.notes.extend(note);
            adapted.add(lora, found, self.texts.len());
        }
        Ok(adapted)
    }
}

impl Adapted {
    /// Adds the changes of a LoRA of a checkpoint with so many text encoders.
    fn add(&mut self, lora: &Lora, found: Vec<file::Found>, texts: usize) {
        let of_text = found.iter().any(|change| change.network != Network::Unet);
        let ranks = found.iter().map(|change| change.change.down.size()[0]);
        let ranks = match (ranks.clone().min().unwrap_or_default(), ranks.max().unwrap_or_default()) {
            (low, high) if low == high => format!("rank {low}"),
            (low, high) => format!("ranks {low} to {high}"),
        };
        self.of_text.push(of_text);
        let (file, layers) = (lora.file.display(), layers(&found, texts));
        let mut note = format!("{file}: a LoRA of {ranks} changes {layers}, at the scale {}", lora.scale);
        let text_scale = lora.text_scale();
        if of_text && lora.scale != Scale::Constant(text_scale) {
            let they = if texts == 1 { "text encoder, which has" } else { "text encoders, which have" };
            note += &format!("; those of the {they} no noise level, at {text_scale}");
        }
        self.notes.push(note);
        let unet = match &lora.scale {
            Scale::Constant(scale) => Applied::Merged(*scale),
            varying => {
                let shared = SharedScale::default();
                self.varying.push((shared.clone(), varying.clone()));
                Applied::Beside(shared)
            }
        };
        for file::Found { network, layer, change } in found {
            match network {
                Network::Unet => push(&mut self.unet, layer, change, unet.clone()),
                Network::Text(part) => {
                    push(self.texts.entry(part).or_default(), layer, change, Applied::Merged(text_scale));
                }
            }
        }
    }
}

/// How many layers of each network are changed, in words. The UNet is named first; of several text encoders each has its name.
fn layers(found: &[file::Found], texts: usize) -> String {
    let mut counts = BTreeMap::<Network, usize>::new();
    found.iter().for_each(|change| *counts.entry(change.network).or_default() += 1);
    let unet = counts.remove_entry(&Network::Unet);
    let mut words: Vec<String> = Vec::new();
    for (network, count) in unet.into_iter().chain(counts) {
        let count = if words.is_empty() { counted(count, "layer") } else { count.to_string() };
        words.push(match network {
            Network::Unet => format!("{count} of the UNet"),
            Network::Text(_) if texts == 1 => format!("{count} of the text encoder"),
            Network::Text(part) => format!("{count} of {part}"),
        });
    }
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => String::new(),
    }
}

/// Adds a change of a layer. One that is merged at the scale 0 is none.
fn push(changes: &mut Changes, layer: String, change: LowRank, how: Applied) {
    if !matches!(how, Applied::Merged(0.0)) {
        changes.entry(layer).or_default().push((change, how));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_follows_its_file() {
        for (text, path, scale) in [
            ("a/style.safetensors", "a/style.safetensors", 1.0),
            ("style.safetensors:0.8", "style.safetensors", 0.8),
            ("a:b/style.safetensors:-1", "a:b/style.safetensors", -1.0),
            ("a:b/style.safetensors", "a:b/style.safetensors", 1.0),
        ] {
            assert_eq!(Lora::from(text.to_string()), Lora::new(path, scale), "{text}");
        }
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        for text in [
            r#""style.safetensors:0.5""#,
            r#"{"file":"style.safetensors","scale":{"weight":0.8,"sigma":[0.3,5.0],"outside":0.0}}"#,
            r#"{"file":"style.safetensors","scale":{"sigma":[15.0,1.0],"weight":[0.0,1.0]},"text_encoder":0.5}"#,
        ] {
            let read: Lora = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        let whole: Lora = serde_json::from_str(r#"{"file":"style.safetensors"}"#).unwrap();
        assert_eq!(whole, Lora::new("style.safetensors", 1.0));
        let error = serde_json::from_str::<Lora>(r#"{"scale": 1}"#).unwrap_err().to_string();
        assert!(error.contains("file = \"FILE\""), "{error}");
    }

    #[test]
    fn the_text_encoder_has_the_largest_scale() {
        let of = |text: &str| serde_json::from_str::<Lora>(text).unwrap().text_scale();
        assert_eq!(of(r#""a:0.5""#), 0.5);
        assert_eq!(of(r#"{"file":"a","scale":{"weight":0.8,"sigma":[1,5]}}"#), 0.8);
        assert_eq!(of(r#"{"file":"a","scale":{"weight":0,"sigma":[1,5],"outside":1}}"#), 1.0);
        assert_eq!(of(r#"{"file":"a","scale":{"weight":[0,-2,1],"sigma":[1,5,9]}}"#), -2.0);
        assert_eq!(of(r#"{"file":"a","scale":{"weight":[0,-2,1],"sigma":[1,5,9]},"text_encoder":0}"#), 0.0);
        assert!(Lora::new("a", f64::NAN).check().is_err());
    }
}
