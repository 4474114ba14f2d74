//! `model_index.json`: the class of a pipeline and of each of its parts.

use crate::error::{Error, Result, file, read};
use crate::input::UnetInput;
use crate::kind::{PIPELINES, family};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The file that every folder in the diffusers layout has.
pub(crate) const INDEX: &str = "model_index.json";

/// The content of a `model_index.json`.
pub(crate) struct Index {
    path: PathBuf,
    json: Value,
}

/// The content of a `model_index.json` of Stable Diffusion, with this class of scheduler and a UNet that takes `input`.
pub(crate) fn of_pipeline(scheduler: &str, input: UnetInput) -> Value {
    let class = match input {
        UnetInput::Sample => "StableDiffusionPipeline",
        UnetInput::Inpainting => "StableDiffusionInpaintPipeline",
    };
    json!({
        "_class_name": class, "_diffusers_version": "0.42.1",
        "feature_extractor": [null, null], "safety_checker": [null, null], "requires_safety_checker": false,
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    })
}

/// The parts that are run, and the class that each must be of.
const PARTS: &[(&str, &[&str])] = &[
    ("unet", &["UNet2DConditionModel"]),
    ("vae", &["AutoencoderKL"]),
    ("text_encoder", &["CLIPTextModel"]),
    ("tokenizer", &["CLIPTokenizer", "CLIPTokenizerFast"]),
];

impl Index {
    pub(crate) fn read(folder: &Path) -> Result<Index> {
        let path = folder.join(INDEX);
        let json: Value = serde_json::from_str(&read(&path)?).map_err(|error| file(&path, error))?;
        if !json.is_object() {
            return Err(file(&path, format!("expected a JSON object, found {json}")));
        }
        Ok(Index { path, json })
    }

    /// Checks that the pipeline and its parts are of classes that can be run. Returns what is worth saying.
    pub(crate) fn check(&self) -> Result<Vec<String>> {
        let class = self.json["_class_name"].as_str();
        if let Some((class, family)) = class.and_then(|class| Some((class, family(class)?))) {
            return Err(self.refused(class, family));
        }
        for (part, classes) in PARTS {
            match self.class(part) {
                Some(class) if classes.contains(&class) => {}
                Some(class) => return Err(self.refused(class, family(class).unwrap_or("this class"))),
                None => {
                    let hint = "hint: Stable Diffusion has unet, vae, text_encoder and tokenizer";
                    let found = match &self.json[*part] {
                        Value::Null => "there is none".into(),
                        other => format!("found {other}"),
                    };
                    return Err(file(&self.path, format!("{part}: expected [library, class], {found}\n{hint}")));
                }
            }
        }
        let known = class.is_none_or(|class| PIPELINES.contains(&class));
        let note = || {
            let class = class.unwrap_or_default();
            format!(
                "{}: {class} is not known; its parts are those of Stable Diffusion and are run so",
                self.path.display()
            )
        };
        Ok(if known { Vec::new() } else { vec![note()] })
    }

    /// The class of a part, which is written as `["diffusers", "PNDMScheduler"]`.
    pub(crate) fn class(&self, part: &str) -> Option<&str> {
        self.json[part][1].as_str()
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn refused(&self, class: &str, family: &'static str) -> Error {
        Error::Family { file: self.path.display().to_string(), class: class.into(), family }
    }
}
