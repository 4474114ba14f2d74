//! `model_index.json`: the class of a pipeline and of each of its parts.

use crate::checkpoint::{Checkpoint, Ids, TextPart};
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

/// What a `model_index.json` says of a checkpoint.
pub(crate) struct Pipeline {
    /// The class of the scheduler.
    pub(crate) scheduler: String,
    /// What the UNet takes at each call.
    pub(crate) input: UnetInput,
    /// The text encoders, each with whether it has a projection.
    pub(crate) texts: Vec<(Slot, bool)>,
    /// Which numbers the UNet takes besides a pooled text, if it takes any.
    pub(crate) ids: Option<Ids>,
    /// Whether no negative prompt means zeros.
    pub(crate) zeros: bool,
}

impl Pipeline {
    /// The content of the file.
    pub(crate) fn index(&self) -> Value {
        let mut index = self.of_sd();
        for slot in SLOTS {
            let entries = match self.texts.iter().find(|(text, _)| *text == slot) {
                Some((_, projects)) => {
                    let class = if *projects { PROJECTS } else { "CLIPTextModel" };
                    [(slot.encoder, class), (slot.tokenizer, "CLIPTokenizer")]
                        .map(|(name, class)| (name, json!(["transformers", class])))
                }
                None if slot == SECOND => continue,
                None => [slot.encoder, slot.tokenizer].map(|name| (name, json!([null, null]))),
            };
            entries.into_iter().for_each(|(name, entry)| index[name] = entry);
        }
        if let Some(ids) = self.ids {
            self.of_sdxl(ids, &mut index);
        }
        index
    }

    /// What pipelines of Stable Diffusion 1.x and 2.x have.
    fn of_sd(&self) -> Value {
        let class = match self.input {
            UnetInput::Sample => "StableDiffusionPipeline",
            UnetInput::Inpainting => "StableDiffusionInpaintPipeline",
        };
        json!({
            "_class_name": class, "_diffusers_version": "0.42.1",
            "feature_extractor": [null, null], "safety_checker": [null, null], "requires_safety_checker": false,
            "scheduler": ["diffusers", self.scheduler],
            "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        })
    }

    /// Changes it to what pipelines of SDXL have.
    fn of_sdxl(&self, ids: Ids, index: &mut Value) {
        index["_class_name"] = match (self.input, ids) {
            (UnetInput::Inpainting, _) => "StableDiffusionXLInpaintPipeline",
            (UnetInput::Sample, Ids::Score) => "StableDiffusionXLImg2ImgPipeline",
            (UnetInput::Sample, Ids::Target) => "StableDiffusionXLPipeline",
        }
        .into();
        index["force_zeros_for_empty_prompt"] = self.zeros.into();
        if ids == Ids::Score {
            index["requires_aesthetics_score"] = true.into();
        }
        // They have no safety checker.
        if let Some(entries) = index.as_object_mut() {
            entries.retain(|name, _| !name.contains("safety_checker"));
        }
    }
}

/// The content of the `model_index.json` of a checkpoint that is written as a folder.
pub(crate) fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Value> {
    let slot = |name: &str| SLOTS.into_iter().find(|slot| slot.encoder == name);
    let text = |text: &TextPart| Some((slot(text.encoder.name())?, text.encoder.config.projection.is_some()));
    let pipeline = Pipeline {
        scheduler: checkpoint.scheduler.class_name()?,
        input: checkpoint.input(),
        texts: checkpoint.texts.iter().filter_map(text).collect(),
        ids: checkpoint.ids(),
        zeros: checkpoint.zeros,
    };
    Ok(pipeline.index())
}

/// A text encoder with its tokenizer: the names of their entries and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) encoder: &'static str,
    pub(crate) tokenizer: &'static str,
}

/// The only text encoder of Stable Diffusion 1.x and 2.x, the first of SDXL.
pub(crate) const FIRST: Slot = Slot { encoder: "text_encoder", tokenizer: "tokenizer" };
/// The second text encoder of SDXL, and the only one of its refiner.
pub(crate) const SECOND: Slot = Slot { encoder: "text_encoder_2", tokenizer: "tokenizer_2" };
/// The text encoders that a checkpoint may have, in the order of their features.
pub(crate) const SLOTS: [Slot; 2] = [FIRST, SECOND];

/// The class of a text encoder with a projection.
pub(crate) const PROJECTS: &str = "CLIPTextModelWithProjection";

const NETWORKS: &[(&str, &[&str])] = &[("unet", &["UNet2DConditionModel"]), ("vae", &["AutoencoderKL"])];
const TEXT_ENCODERS: &[&str] = &["CLIPTextModel", PROJECTS];
const TOKENIZERS: &[&str] = &["CLIPTokenizer", "CLIPTokenizerFast"];

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
        let known = class.is_none_or(|class| PIPELINES.contains(&class));
        if let Some((class, family)) = class.filter(|_| !known).and_then(|class| Some((class, family(class)?))) {
            return Err(self.refused(class, family));
        }
        NETWORKS.iter().try_for_each(|(part, classes)| self.check_part(part, classes))?;
        for slot in self.needed_texts() {
            self.check_part(slot.encoder, TEXT_ENCODERS)?;
            self.check_part(slot.tokenizer, TOKENIZERS)?;
        }
        let note = || {
            let class = class.unwrap_or_default();
            format!(
                "{}: {class} is not known; its parts are those of Stable Diffusion and are run so",
                self.path.display()
            )
        };
        Ok(if known { Vec::new() } else { vec![note()] })
    }

    /// Checks that a part is there and of one of these classes.
    fn check_part(&self, part: &str, classes: &[&str]) -> Result<()> {
        match self.class(part) {
            Some(class) if classes.contains(&class) => Ok(()),
            Some(class) => Err(self.refused(class, family(class).unwrap_or("this class"))),
            None => {
                let hint = match part.ends_with("_2") {
                    true => {
                        "hint: Stable Diffusion XL has unet, vae, text_encoder_2 and tokenizer_2, and all but its refiner text_encoder and tokenizer too"
                    }
                    false => "hint: Stable Diffusion has unet, vae, text_encoder and tokenizer",
                };
                let found = match &self.json[part] {
                    Value::Null => "there is none".into(),
                    other => format!("found {other}"),
                };
                Err(file(&self.path, format!("{part}: expected [library, class], {found}\n{hint}")))
            }
        }
    }

    /// The text encoders that are there: an entry that is not null.
    pub(crate) fn texts(&self) -> Vec<Slot> {
        let is_there = |slot: &Slot| {
            let entry = &self.json[slot.encoder];
            !entry.is_null() && *entry != json!([null, null])
        };
        SLOTS.into_iter().filter(is_there).collect()
    }

    /// The text encoders that must be of a known class: those that are there, and the one that there must be.
    fn needed_texts(&self) -> Vec<Slot> {
        let is_xl = self.json["_class_name"].as_str().is_some_and(|class| class.starts_with("StableDiffusionXL"));
        let needed = if is_xl { SECOND } else { FIRST };
        let mut texts = self.texts();
        if texts.is_empty() || is_xl && !texts.contains(&SECOND) {
            texts.push(needed);
        }
        texts
    }

    /// Whether no negative prompt means zeros, for a pipeline of SDXL: as in diffusers it does where the file does not say.
    pub(crate) fn zeros(&self) -> Result<bool> {
        let key = "force_zeros_for_empty_prompt";
        match self.json.get(key) {
            None => Ok(true),
            Some(Value::Null) => Ok(false), // as Python takes it
            Some(Value::Bool(zeros)) => Ok(*zeros),
            Some(other) => Err(file(&self.path, format!("{key}: expected true or false, found {other}"))),
        }
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
