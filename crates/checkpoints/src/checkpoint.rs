//! A checkpoint: its parts, their configurations and where their tensors are.

use crate::choice::Choice;
use crate::describe::describe;
use crate::embedding::Inversion;
use crate::error::{Error, Result, file};
use crate::input::UnetInput;
use crate::lora::Lora;
use crate::scheduler::SchedulerFile;
use crate::single::Layout;
use crate::{folder, single, weights};
use latentrace_nn::tch::{Device, Kind};
use latentrace_nn::{Config, Naming, Weights, diffusers_names};
use latentrace_text::TextConfig;
use latentrace_unet::UnetConfig;
use latentrace_vae::VaeConfig;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A checkpoint of a latent diffusion model: the configuration of each part, and where its weights are.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(crate) place: PathBuf,
    /// The text encoders: one, or two whose features stand side by side. There is at least one.
    pub texts: Vec<TextPart>,
    /// The denoising network.
    pub unet: Part<UnetConfig>,
    /// The autoencoder.
    pub vae: Part<VaeConfig>,
    /// The textual inversions that are added; see [`Checkpoint::vectors`].
    pub embeddings: Vec<Inversion>,
    /// The LoRAs that change the networks; see [`Checkpoint::changes`].
    pub loras: Vec<Lora>,
    /// The scheduler's configuration.
    pub scheduler: SchedulerFile,
    /// What was assumed, because the files do not state it.
    pub notes: Vec<String>,
}

/// A text encoder of a checkpoint, with its tokenizer.
#[derive(Clone, Debug)]
pub struct TextPart {
    /// The text encoder.
    pub encoder: Part<TextConfig>,
    /// The tokenizer's folder.
    pub tokenizer: PathBuf,
    /// The padding token, if it is not the one that the tokenizer's files name.
    pub padding: Option<String>,
}

/// One network of a checkpoint.
#[derive(Clone, Debug)]
pub struct Part<C> {
    pub(crate) name: &'static str,
    /// The configuration.
    pub config: C,
    /// The configuration file's content.
    pub json: Value,
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) place: Place,
}

/// Where the tensors of a part are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a folder of their own, with the names that modules read.
    Folder { folder: PathBuf, stem: &'static str, variant: Option<String> },
    /// In a single file, with the names of the original repository.
    Single { file: PathBuf, layout: Layout },
}

impl Checkpoint {
    /// Opens a checkpoint: a folder in the diffusers layout, a folder of the hub's cache, or a single file. Reads
    /// configuration files and, of a single file, the header.
    ///
    /// # Errors
    /// The path is not a checkpoint, its family or a configuration value is not supported, or its parts do not fit
    /// together.
    pub fn open(place: &Path, choice: &Choice) -> Result<Checkpoint> {
        let is_safetensors = place.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
        match place {
            _ if place.is_dir() => folder::open(place, choice),
            _ if place.is_file() && is_safetensors => single::open(place, choice),
            _ => Err(Error::NotACheckpoint(describe(place))),
        }
    }

    /// The folder or file that was opened. For a folder of the hub's cache, that of the snapshot.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The first text encoder, for what knows only one: LoRAs, textual inversions, single files.
    pub fn text(&self) -> &TextPart {
        &self.texts[0]
    }

    /// The number of features of a token: those of all text encoders side by side.
    pub fn text_features(&self) -> i64 {
        self.texts.iter().map(|text| text.encoder.config.hidden_size).sum()
    }

    /// What the UNet takes. [`Checkpoint::open`] has checked that it is known.
    pub fn input(&self) -> UnetInput {
        let (unet, vae) = (&self.unet.config, &self.vae.config);
        UnetInput::of(unet, vae, &self.place).unwrap_or(UnetInput::Sample)
    }

    /// All files that the output of this checkpoint depends on.
    ///
    /// # Errors
    /// A weight file is missing.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let texts = self.texts.iter().map(|text| &text.encoder);
        let configs = texts.clone().map(|encoder| &encoder.config_file);
        let configs = configs.chain([&self.unet.config_file, &self.vae.config_file]);
        let mut files: Vec<PathBuf> = configs.flatten().cloned().collect();
        files.extend(self.scheduler.files());
        files.extend(self.texts.iter().flat_map(TextPart::tokenizer_files));
        files.extend(self.embeddings.iter().map(|inversion| inversion.file.clone()));
        files.extend(self.loras.iter().flat_map(Lora::files));
        for weights in texts.map(Part::files).chain([self.unet.files(), self.vae.files()]) {
            for path in weights? {
                if !files.contains(&path) {
                    files.push(path); // the parts of a single file share it
                }
            }
        }
        Ok(files)
    }
}

impl TextPart {
    /// The files of the tokenizer that are there.
    fn tokenizer_files(&self) -> impl Iterator<Item = PathBuf> {
        let files = latentrace_text::FILES.iter().map(|name| self.tokenizer.join(name));
        files.filter(|path| path.is_file())
    }

    /// The name of the tokenizer's folder in the diffusers layout.
    pub(crate) fn tokenizer_name(&self) -> &'static str {
        match self.encoder.name {
            "text_encoder_2" => "tokenizer_2",
            _ => "tokenizer",
        }
    }
}

impl<C> Part<C> {
    /// The name of the part: `text_encoder`, `unet` or `vae`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The weight files.
    ///
    /// # Errors
    /// One of them is missing; the error says what lies there instead.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        match &self.place {
            Place::Folder { folder, stem, variant } => weights::find(folder, stem, variant.as_deref()),
            Place::Single { file, .. } => Ok(vec![file.clone()]),
        }
    }

    /// The weights, from which the network's modules read their tensors.
    ///
    /// # Errors
    /// A file is missing, cannot be opened or is incomplete.
    pub fn weights(&self, kind: Kind, device: Device) -> Result<Weights> {
        self.with_naming(|files, naming| Ok(Weights::open_named(self.name, files, naming, kind, device)?))
    }

    /// Calls `open` with the weight files and the naming of their tensors.
    pub(crate) fn with_naming<T>(&self, open: impl FnOnce(&[PathBuf], Naming) -> Result<T>) -> Result<T> {
        let files = self.files()?;
        match &self.place {
            Place::Folder { .. } => open(&files, &diffusers_names),
            Place::Single { layout, .. } => open(&files, &|stored| layout.names(stored)),
        }
    }

    /// The part with its configuration read into a network's own type.
    pub(crate) fn configured<D>(self, read: impl FnOnce(&C) -> latentrace_nn::Result<D>) -> Result<Part<D>> {
        let Part { name, config, json, config_file, place } = self;
        Ok(Part { name, config: read(&config)?, json, config_file, place })
    }
}

impl<C> Part<C> {
    /// A note if there are only the files of a variant that nobody named.
    pub(crate) fn fallback(&self) -> Option<String> {
        let Place::Folder { folder, variant: None, .. } = &self.place else { return None };
        let is_fallback = self.files().is_ok_and(|files| weights::are_fallback(&files));
        is_fallback
            .then(|| format!("{}: there are no f32 weights, so those of the variant fp16 are used", folder.display()))
    }
}

impl Part<Config> {
    /// A part of a single file.
    pub(crate) fn single(name: &'static str, config: Config, file: &Path, layout: Layout) -> Part<Config> {
        Part {
            name,
            json: config.json(),
            config,
            config_file: None,
            place: Place::Single { file: file.into(), layout },
        }
    }
}

/// Checks that the parts of a checkpoint fit together.
pub(crate) fn agree(checkpoint: &Checkpoint) -> Result<()> {
    let (unet, vae, features) = (&checkpoint.unet.config, &checkpoint.vae.config, checkpoint.text_features());
    let fail = |cause: String| Err(file(&checkpoint.place, cause));
    if unet.added.is_some() {
        return fail("the UNet takes a pooled text and sizes (addition_embed_type), as that of SDXL does, which cannot be run yet".into());
    }
    if vae.statistics.is_some() {
        return fail("the VAE has latents_mean and latents_std, which the pipelines of Stable Diffusion 1.x and 2.x do not use\nhint: with null for both in its config.json the latents are scaled as there".into());
    }
    if unet.cross_attention_dim != features {
        return fail(format!(
            "the UNet takes {} text features (cross_attention_dim), but the text encoder returns {features} (hidden_size)\nhint: 768 are those of Stable Diffusion 1.x, and 1024 those of 2.x",
            unet.cross_attention_dim
        ));
    }
    UnetInput::of(unet, vae, &checkpoint.place).map(drop)
}
