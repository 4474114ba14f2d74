//! A checkpoint: its parts, their configurations and where their tensors are.

use crate::choice::Choice;
use crate::describe::describe;
use crate::embedding::Inversion;
use crate::error::{Error, Result, file};
use crate::family::{self, Family};
use crate::index::SLOTS;
use crate::input::UnetInput;
use crate::lora::Lora;
use crate::scheduler::SchedulerFile;
use crate::single::Layout;
use crate::{folder, single, weights};
use latentrace_nn::tch::{Device, Kind};
use latentrace_nn::{Config, Naming, Weights, diffusers_names};
use latentrace_text::{HiddenState, TextConfig};
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
    /// Whether no negative prompt means zeros in place of the encoded empty text: `force_zeros_for_empty_prompt` of SDXL.
    pub zeros: bool,
    /// The family that a choice names.
    pub(crate) family: Option<Family>,
    /// The `model_index.json` of a folder.
    pub(crate) index: Option<PathBuf>,
    /// What was assumed, because the files do not state it.
    pub notes: Vec<String>,
}

/// The numbers that a UNet of SDXL's kind is told of a picture, besides the pooled text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ids {
    /// Six: the original size, the top and left of the crop, and the size of the target.
    Target,
    /// Five: the original size, the top and left of the crop, and an aesthetic score. The refiner takes these.
    Score,
}

impl Ids {
    /// How many numbers there are.
    pub fn count(self) -> i64 {
        match self {
            Ids::Target => 6,
            Ids::Score => 5,
        }
    }
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

    /// The first text encoder, for what knows only one.
    pub fn text(&self) -> &TextPart {
        &self.texts[0]
    }

    /// The number of features of a token: those of all text encoders side by side.
    pub fn text_features(&self) -> i64 {
        self.texts.iter().map(|text| text.encoder.config.hidden_size).sum()
    }

    /// Which hidden state of the text encoders the UNet takes.
    pub fn state(&self) -> HiddenState {
        if self.unet.config.added.is_some() { HiddenState::LastButOne } else { HiddenState::Last }
    }

    /// The number of features of the pooled text, for a UNet that takes one. It is that of the last text encoder.
    pub fn pooled(&self) -> Option<i64> {
        self.unet.config.added.as_ref()?;
        Some(self.texts.last()?.encoder.config.projection.as_ref()?.width)
    }

    /// Which numbers the UNet takes besides the pooled text, if it takes any.
    pub fn ids(&self) -> Option<Ids> {
        match self.unet.config.added.as_ref()?.numbers(self.pooled()?) {
            Some(6) => Some(Ids::Target),
            Some(5) => Some(Ids::Score),
            _ => None,
        }
    }

    /// Whether the model was distilled to few steps without guidance, as SDXL-Turbo was. No file says so: it is what the scheduler and
    /// the size of such a checkpoint are, unless a choice names the [`Family`].
    pub fn is_distilled(&self) -> bool {
        let unet = &self.unet.config;
        match self.family {
            Some(family) => family == Family::SdxlTurbo,
            None => unet.added.is_some() && unet.sample_size == [64, 64] && self.scheduler.is_turbo(),
        }
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
        // What no negative prompt means is in model_index.json. Both text encoders may have one tokenizer.
        let index = self.index.iter().filter(|_| self.unet.config.added.is_some()).cloned();
        for path in index.chain(self.texts.iter().flat_map(TextPart::tokenizer_files)) {
            if !files.contains(&path) {
                files.push(path);
            }
        }
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

    /// The name of the tokenizer's folder in the diffusers layout: `tokenizer`, or `tokenizer_2` of `text_encoder_2`.
    pub fn tokenizer_name(&self) -> &'static str {
        match self.encoder.name {
            "text_encoder_2" => "tokenizer_2",
            _ => "tokenizer",
        }
    }
}

impl<C> Part<C> {
    /// The name of the part: `text_encoder`, `text_encoder_2`, `unet` or `vae`.
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

/// Checks that the parts of a checkpoint fit together, and that what was chosen is there to be chosen.
pub(crate) fn agree(checkpoint: &Checkpoint, choice: &Choice) -> Result<()> {
    let (unet, vae) = (&checkpoint.unet.config, &checkpoint.vae.config);
    let fail = |cause: String| Err(file(&checkpoint.place, cause));
    if unet.added.is_none() && vae.statistics.is_some() {
        return fail("the VAE has latents_mean and latents_std, which the pipelines of Stable Diffusion 1.x and 2.x do not use\nhint: with null for both in its config.json the latents are scaled as there".into());
    }
    if unet.added.is_none() && checkpoint.texts.len() > 1 {
        return fail("there are two text encoders, but the UNet takes no pooled text (addition_embed_type)\nhint: both text encoders are those of SDXL, and the UNet is of Stable Diffusion 1.x or 2.x".into());
    }
    let faults = [replaced_texts(checkpoint, choice), text_widths(checkpoint), pooled_text(checkpoint)];
    if let Some(cause) = faults.into_iter().flatten().next().or_else(|| family::fault(checkpoint)) {
        return fail(cause);
    }
    UnetInput::of(unet, vae, &checkpoint.place).map(drop)
}

/// What is wrong if a choice replaces a text encoder or a tokenizer that the checkpoint does not have.
fn replaced_texts(checkpoint: &Checkpoint, choice: &Choice) -> Option<String> {
    let has = |name: &str| checkpoint.texts.iter().any(|text| text.encoder.name() == name);
    let absent = SLOTS.into_iter().find(|slot| !has(slot.encoder) && choice.of_slot(*slot) != [None, None])?;
    let own = SLOTS.into_iter().find(|slot| has(slot.encoder))?;
    let (absent, own) = match choice.of_slot(absent) {
        [Some(_), _] => (absent.encoder, own.encoder),
        _ => (absent.tokenizer, own.tokenizer),
    };
    let option = own.replace('_', "-");
    Some(format!(
        "there is no {absent} that another could replace\nhint: this checkpoint has {own} alone, which --{option} replaces"
    ))
}

/// What is wrong if the UNet does not take the features of the text encoders.
fn text_widths(checkpoint: &Checkpoint) -> Option<String> {
    let (unet, features) = (&checkpoint.unet.config, checkpoint.text_features());
    if unet.cross_attention_dim == features {
        return None;
    }
    let widths = checkpoint.texts.iter().map(|text| text.encoder.config.hidden_size.to_string());
    let widths = widths.collect::<Vec<_>>().join(" + ");
    let returned = match checkpoint.texts.len() {
        1 => format!("the text encoder returns {widths}"),
        _ => format!("the text encoders return {widths}"),
    };
    let hint = match unet.added {
        None => "768 are those of Stable Diffusion 1.x, and 1024 those of 2.x",
        Some(_) => "768 + 1280 are those of SDXL, and 1280 those of its refiner",
    };
    Some(format!(
        "the UNet takes {} text features (cross_attention_dim), but {returned} (hidden_size)\nhint: {hint}",
        unet.cross_attention_dim
    ))
}

/// What is wrong if the UNet takes a pooled text and numbers, and the last text encoder returns none or the rest is no known count of
/// numbers.
fn pooled_text(checkpoint: &Checkpoint) -> Option<String> {
    let added = checkpoint.unet.config.added.as_ref()?;
    let last = checkpoint.texts.last().map_or("text_encoder", |text| text.encoder.name());
    if last != "text_encoder_2" {
        return Some(format!(
            "the UNet takes a pooled text (addition_embed_type), which text_encoder_2 returns, but there is only {last}\nhint: the UNet is that of SDXL; the text encoder is of another model"
        ));
    }
    let Some(pooled) = checkpoint.pooled() else {
        return Some(format!(
            "the UNet takes a pooled text (addition_embed_type), but {last} has no projection\nhint: the architectures in its config.json are CLIPTextModelWithProjection"
        ));
    };
    let (input, waves) = (added.input, added.waves);
    checkpoint.ids().is_none().then(|| {
        format!(
            "the UNet takes {input} features besides the text (projection_class_embeddings_input_dim), which are not the {pooled} of a pooled text (projection_dim of {last}) and {waves} for each of 5 or 6 numbers (addition_time_embed_dim)\nhint: {pooled} + 6 x {waves} = {} are those of SDXL, and {pooled} + 5 x {waves} = {} those of its refiner",
            pooled + 6 * waves,
            pooled + 5 * waves
        )
    })
}
