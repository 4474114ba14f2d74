//! What of a checkpoint is used.

use crate::embedding::Inversion;
use crate::family::Family;
use crate::index::{SECOND, Slot};
use crate::lora::Lora;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What of a checkpoint is used, where there is a choice. The default is what diffusers loads by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Choice {
    /// Of a model of the hub: the branch, tag or commit. Defaults to `main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The variant of the weight files: `fp16` for `diffusion_pytorch_model.fp16.safetensors`. A part that has no file
    /// of this variant is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The family, where the files leave it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Another text encoder: a folder with its `config.json`, or a checkpoint folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<PathBuf>,
    /// Another second text encoder, of a model of Stable Diffusion XL: a folder with its `config.json`, or a checkpoint folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder_2: Option<PathBuf>,
    /// Another UNet: a folder with its `config.json`, a checkpoint folder, or a single file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unet: Option<PathBuf>,
    /// Another VAE: a folder with its `config.json`, a checkpoint folder, or a single file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae: Option<PathBuf>,
    /// Another tokenizer: a folder with `vocab.json` and `merges.txt`, or with `tokenizer.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Another tokenizer of the second text encoder: a folder with `vocab.json` and `merges.txt`, or with `tokenizer.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_2: Option<PathBuf>,
    /// For a single file: a folder in the diffusers layout whose configuration files are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// For a single file with two sets of UNet weights: use the moving average (EMA).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ema: bool,
    /// Textual inversions, whose tokens are added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<Inversion>,
    /// LoRAs that change the networks, in the order of application.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<Lora>,
    /// Keys of configuration files that are ignored although they are not supported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

impl Choice {
    /// The same choice with other paths of files and folders.
    ///
    /// # Errors
    /// Those of `path`.
    pub fn map_paths<E>(self, path: impl Fn(PathBuf) -> Result<PathBuf, E>) -> Result<Choice, E> {
        let part = |part: Option<PathBuf>| part.map(&path).transpose();
        let embedding = |of: Inversion| Ok(Inversion { file: path(of.file)?, ..of });
        let lora = |of: Lora| Ok(Lora { file: path(of.file)?, ..of });
        Ok(Choice {
            text_encoder: part(self.text_encoder)?,
            text_encoder_2: part(self.text_encoder_2)?,
            unet: part(self.unet)?,
            vae: part(self.vae)?,
            tokenizer: part(self.tokenizer)?,
            tokenizer_2: part(self.tokenizer_2)?,
            config: part(self.config)?,
            embeddings: self.embeddings.into_iter().map(embedding).collect::<Result<_, E>>()?,
            loras: self.loras.into_iter().map(lora).collect::<Result<_, E>>()?,
            ..self
        })
    }

    /// The text encoder and the tokenizer that are named in place of those of a slot.
    pub(crate) fn of_slot(&self, slot: Slot) -> [Option<&Path>; 2] {
        let named = if slot == SECOND {
            [&self.text_encoder_2, &self.tokenizer_2]
        } else {
            [&self.text_encoder, &self.tokenizer]
        };
        named.map(|path| path.as_deref())
    }
}
