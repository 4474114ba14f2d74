//! One picture of an experiment, with all its settings.

use crate::init_image::Fit;
use crate::sampler::{self, Sampler};
use anyhow::{Result, bail, ensure};
use latentrace_pipeline::checkpoints::Family;
use latentrace_pipeline::nn::Kernels;
use latentrace_pipeline::schedulers::Reading;
use latentrace_pipeline::{
    Checkpoint, Choice, Device, Dtype, EmptyNegative, Features, Guidance, Inversion, KernelChoice, LongPrompts, Lora,
    MicroConditions, Model, Options, Prepared, Request, Scale, Size, Start, TextOptions,
};
use latentrace_trace::EditRule;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Everything that decides a picture's pixels, in the fields of a spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cell {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt: the text of the unconditional branch.
    pub negative: String,
    /// The prompt of the second text encoder, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_2: Option<String>,
    /// The negative prompt of the second text encoder, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_2: Option<String>,
    /// What no negative prompt means: `model`, `zeros` or `text`.
    #[serde(skip_serializing_if = "is_default")]
    pub empty_negative: EmptyNegative,
    /// The height and width that SDXL is told the picture had. Defaults to the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_size: Option<[i64; 2]>,
    /// The top and left of the crop that SDXL is told of. Defaults to 0, 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<[i64; 2]>,
    /// The height and width that SDXL is told the picture is to have. Defaults to the run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_size: Option<[i64; 2]>,
    /// `original_size` for the negative prompt. Defaults to that of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_original_size: Option<[i64; 2]>,
    /// `crop` for the negative prompt. Defaults to that of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_crop: Option<[i64; 2]>,
    /// `target_size` for the negative prompt. Defaults to that of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_target_size: Option<[i64; 2]>,
    /// The aesthetic score that the refiner of SDXL is told. Defaults to 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aesthetic_score: Option<f64>,
    /// The aesthetic score for the negative prompt. Defaults to 2.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_aesthetic_score: Option<f64>,
    /// How many of the text encoder's last layers are left out, for both texts.
    #[serde(skip_serializing_if = "is_default")]
    pub clip_skip: usize,
    /// What becomes of a text that does not fit: `cut` or `chunks`.
    #[serde(skip_serializing_if = "is_default")]
    pub long_prompts: LongPrompts,
    /// Whether `(word:1.3)` is a weight of a word, in both texts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub weights: bool,
    /// A file of text features that are used in place of both texts, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<PathBuf>,
    /// The seed of all noise: an integer, or an integer in a string, because TOML's integers end before 2^64.
    #[serde(deserialize_with = "seed")]
    pub seed: u64,
    /// The number of sampling steps.
    pub steps: usize,
    /// The guidance weight, `w` in `u + w (c - u)`: a number, or a function of the noise level.
    pub guidance: Guidance,
    /// The scheduler: a name or a config. Defaults to the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// Options that replace those of the scheduler, as in `from_config(.., use_karras_sigmas=True)`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scheduler: BTreeMap<String, Value>,
    /// The `timestep_spacing`: leading, trailing, linspace or ays. Defaults to the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<String>,
    /// The picture that the run starts from, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// The mask of that picture, if only a part of it is made anew: what is white.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<PathBuf>,
    /// The share of the steps that a run from a picture takes, above 0 and at most 1. Defaults to [`STRENGTH`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// How the picture and its mask are scaled to the run's size.
    #[serde(skip_serializing_if = "is_default")]
    pub fit: Fit,
    /// The height in pixels. Defaults to the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,
    /// The width in pixels. Defaults to the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    /// Whether the scheduler reproduces diffusers, faults included.
    pub reading: Reading,
    /// Edits of tensors, such as `unet.mid_block.out @step[10:20] => scale(0.5)`, applied in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<EditRule>,
    /// The checkpoint: a folder, a single file, or the id of a model on the hub. Defaults to the bundled model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The branch, tag or commit of a model on the hub. Defaults to `main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The variant of the weight files, such as `fp16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The family of Stable Diffusion XL that the model is of, where its files leave it open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// A text encoder that replaces the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<PathBuf>,
    /// A second text encoder that replaces the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_encoder_2: Option<PathBuf>,
    /// A UNet that replaces the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unet: Option<PathBuf>,
    /// A VAE that replaces the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae: Option<PathBuf>,
    /// A tokenizer that replaces the checkpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// A tokenizer that replaces that of the checkpoint's second text encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_2: Option<PathBuf>,
    /// The folder of the configuration files of a single file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Whether the moving average of a single file's weights is used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ema: bool,
    /// Textual inversions, whose tokens are added: `FILE`, or `FILE=TOKEN`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<Inversion>,
    /// LoRAs that change the networks: `FILE`, `FILE:SCALE`, or a table with `file`, `scale` and `text_encoder`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<Lora>,
    /// Keys of the checkpoint's configuration files that are ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// The number format of the networks.
    pub dtype: Dtype,
    /// The number format of the VAE. Defaults to `dtype`, or to f32 for a VAE of SDXL that is too large for f16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae_dtype: Option<Dtype>,
    /// The device of the networks.
    pub device: Device,
    /// The kernels of UNet and VAE, such as `plain`. Defaults to the fastest on the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<Kernels>,
}

/// Reads a seed. TOML's integers end at 2^63 - 1, so a larger seed is a string there.
fn seed<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    struct Seed;

    impl Visitor<'_> for Seed {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "a seed from 0 to {} (in quotes above {})", u64::MAX, i64::MAX)
        }

        fn visit_u64<E: de::Error>(self, seed: u64) -> Result<u64, E> {
            Ok(seed)
        }

        fn visit_i64<E: de::Error>(self, seed: i64) -> Result<u64, E> {
            u64::try_from(seed).map_err(|_| E::invalid_value(Unexpected::Signed(seed), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
            text.trim().parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    from.deserialize_any(Seed)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The default strength of a run from a picture, as in diffusers.
pub const STRENGTH: f64 = 0.8;

/// The fields whose value is two numbers of a picture: height and width, or top and left.
pub const PAIRS: [&str; 6] =
    ["original_size", "crop", "target_size", "negative_original_size", "negative_crop", "negative_target_size"];

/// The names of a cell's fields.
pub const FIELDS: [&str; 50] = [
    "prompt",
    "negative",
    "prompt_2",
    "negative_2",
    "empty_negative",
    "original_size",
    "crop",
    "target_size",
    "negative_original_size",
    "negative_crop",
    "negative_target_size",
    "aesthetic_score",
    "negative_aesthetic_score",
    "clip_skip",
    "long_prompts",
    "weights",
    "features",
    "seed",
    "steps",
    "guidance",
    "sampler",
    "scheduler",
    "spacing",
    "image",
    "mask",
    "strength",
    "fit",
    "height",
    "width",
    "reading",
    "edits",
    "model",
    "revision",
    "variant",
    "family",
    "text_encoder",
    "text_encoder_2",
    "unet",
    "vae",
    "tokenizer",
    "tokenizer_2",
    "config",
    "ema",
    "embeddings",
    "loras",
    "ignore",
    "dtype",
    "vae_dtype",
    "device",
    "kernels",
];

impl Default for Cell {
    /// The cell of an empty spec.
    fn default() -> Cell {
        Cell {
            prompt: String::new(),
            negative: String::new(),
            prompt_2: None,
            negative_2: None,
            empty_negative: EmptyNegative::default(),
            original_size: None,
            crop: None,
            target_size: None,
            negative_original_size: None,
            negative_crop: None,
            negative_target_size: None,
            aesthetic_score: None,
            negative_aesthetic_score: None,
            clip_skip: 0,
            long_prompts: LongPrompts::default(),
            weights: false,
            features: None,
            seed: 0,
            steps: 50,
            guidance: Guidance::Constant(7.5),
            sampler: None,
            scheduler: BTreeMap::new(),
            spacing: None,
            image: None,
            mask: None,
            strength: None,
            fit: Fit::default(),
            height: None,
            width: None,
            reading: Reading::Diffusers,
            edits: Vec::new(),
            model: None,
            revision: None,
            variant: None,
            family: None,
            text_encoder: None,
            text_encoder_2: None,
            unet: None,
            vae: None,
            tokenizer: None,
            tokenizer_2: None,
            config: None,
            ema: false,
            embeddings: Vec::new(),
            loras: Vec::new(),
            ignore: Vec::new(),
            dtype: Dtype::default(),
            vae_dtype: None,
            device: Device::default(),
            kernels: None,
        }
    }
}

impl Cell {
    /// The folder, file or hub id of the cell's checkpoint.
    ///
    /// # Errors
    /// The cell uses the bundled model, and its folder cannot be found.
    pub fn place(&self) -> Result<PathBuf> {
        self.model.clone().map_or_else(crate::home::bundled, Ok)
    }

    /// What of the checkpoint the cell uses.
    pub fn choice(&self) -> Choice {
        Choice {
            revision: self.revision.clone(),
            variant: self.variant.clone(),
            family: self.family,
            text_encoder: self.text_encoder.clone(),
            text_encoder_2: self.text_encoder_2.clone(),
            unet: self.unet.clone(),
            vae: self.vae.clone(),
            tokenizer: self.tokenizer.clone(),
            tokenizer_2: self.tokenizer_2.clone(),
            config: self.config.clone(),
            ema: self.ema,
            embeddings: self.embeddings.clone(),
            loras: self.loras.clone(),
            ignore: self.ignore.clone(),
        }
    }

    /// The cell with another choice.
    pub fn with_choice(self, choice: Choice) -> Cell {
        let Choice { revision, variant, family, config, ema, embeddings, loras, ignore, .. } = choice;
        let Choice { text_encoder, text_encoder_2, unet, vae, tokenizer, tokenizer_2, .. } = choice;
        let parts = Cell { text_encoder, text_encoder_2, unet, vae, tokenizer, tokenizer_2, ..self };
        Cell { revision, variant, family, config, ema, embeddings, loras, ignore, ..parts }
    }

    /// The checkpoint of the cell.
    ///
    /// # Errors
    /// See [`checkpoint`](crate::checkpoint).
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        crate::models::checkpoint(&self.place()?, &self.choice())
    }

    /// The options that the cell's model is loaded with.
    pub fn options(&self) -> Options {
        let kernels = self.kernels.map_or(KernelChoice::Fastest, KernelChoice::Exactly);
        let another_sampler = self.sampler.is_some();
        Options { dtype: self.dtype, device: self.device, another_sampler, kernels, vae_dtype: self.vae_dtype }
    }

    /// How the cell's texts are read and encoded.
    pub fn text(&self) -> TextOptions {
        TextOptions { clip_skip: self.clip_skip, long_prompts: self.long_prompts, weights: self.weights }
    }

    /// The cell with the guidance weight of its checkpoint, for settings that name none: 1 for a distilled model, and the cell's
    /// own for others.
    pub fn with_own_guidance(self, checkpoint: &Checkpoint) -> Cell {
        match checkpoint.is_distilled() {
            true => Cell { guidance: Guidance::Constant(1.0), ..self },
            false => self,
        }
    }

    /// The cell with its empty negative prompt as a text, for settings that name an empty one and do not say what it means. In
    /// diffusers `negative_prompt=""` is a text, where `None` means zeros for SDXL. Nothing changes for a checkpoint without zeros.
    pub fn with_empty_text(self, checkpoint: &Checkpoint) -> Cell {
        match checkpoint.zeros && self.negative.is_empty() && self.empty_negative == EmptyNegative::Model {
            true => Cell { empty_negative: EmptyNegative::Text, ..self },
            false => self,
        }
    }

    /// What the cell tells SDXL of its picture.
    pub fn micro(&self) -> MicroConditions {
        MicroConditions {
            original_size: self.original_size,
            crop: self.crop,
            target_size: self.target_size,
            negative_original_size: self.negative_original_size,
            negative_crop: self.negative_crop,
            negative_target_size: self.negative_target_size,
            aesthetic_score: self.aesthetic_score,
            negative_aesthetic_score: self.negative_aesthetic_score,
        }
    }

    /// The cell as a request to its model. Checks the size, the guidance and the text options, but not the number of steps.
    ///
    /// # Errors
    /// The sampler, an option of it, the size or the guidance is not valid.
    pub fn request(&self, model: &Model) -> Result<Request> {
        let own = model.request(&self.prompt, self.seed);
        let own_scheduler = match self.reading {
            Reading::Diffusers => &model.scheduler_in_pipeline,
            Reading::Exact => &model.scheduler,
        };
        ensure!(
            self.spacing.is_none() || !self.scheduler.contains_key("timestep_spacing"),
            "spacing and scheduler.timestep_spacing say the same\nhint: give one of them"
        );
        let spacing = self.spacing.as_ref().map(|name| ("timestep_spacing".to_string(), Value::from(name.as_str())));
        let options = spacing.into_iter().chain(self.scheduler.clone());
        let scheduler = sampler::configured(own_scheduler, self.sampler.as_ref(), options)?;
        let size = Size { height: self.height.unwrap_or(own.size.height), width: self.width.unwrap_or(own.size.width) };
        let request = Request {
            negative: self.negative.clone(),
            prompt_2: self.prompt_2.clone(),
            negative_2: self.negative_2.clone(),
            empty_negative: self.empty_negative,
            micro: self.micro(),
            steps: self.steps,
            guidance: self.guidance.clone(),
            reading: self.reading,
            text: self.text(),
            features: self.features.as_deref().map(Features::open).transpose()?,
            scheduler,
            size,
            ..own
        };
        model.check_fields(&request)?;
        Ok(request)
    }

    /// Checks, plans and tokenizes a request of this cell.
    ///
    /// # Errors
    /// The scheduler cannot sample this number of steps from this start.
    pub(crate) fn prepare(&self, model: &Model, request: Request, start: Start) -> Result<Prepared> {
        model.prepare(request.clone(), start).map_err(|error| by_steps(&request, error))
    }

    /// The strength of a run from a picture; `None` if the run starts from noise.
    pub fn picture_strength(&self) -> Option<f64> {
        self.image.as_ref().map(|_| self.strength.unwrap_or(STRENGTH))
    }

    /// Checks that a mask has a picture.
    ///
    /// # Errors
    /// It has none.
    pub fn check_mask(&self) -> Result<()> {
        if let (Some(mask), None) = (&self.mask, &self.image) {
            bail!("mask: {} is a mask without a picture\nhint: image names the picture that it is for", mask.display());
        }
        Ok(())
    }

    /// Checks that the strength is in its range.
    ///
    /// # Errors
    /// It is not.
    pub fn check_strength(&self) -> Result<()> {
        if let Some(strength) = self.strength {
            ensure!(
                strength > 0.0 && strength <= 1.0,
                "strength: expected a number above 0 and at most 1, found {strength}"
            );
        }
        Ok(())
    }

    /// The value of a field as tables have it; `None` if it is not set, or an empty text. Numbers have all their digits.
    pub fn written(&self, field: &str) -> Option<String> {
        match (field, &self.sampler) {
            ("guidance", _) => return Some(self.guidance.to_string()),
            ("sampler", Some(sampler)) => return Some(sampler.to_string()),
            _ => (),
        }
        let value = match field.strip_prefix(sampler::PREFIX) {
            Some(option) => self.scheduler.get(option).cloned(),
            None => serde_json::to_value(self).ok().and_then(|cell| cell.get(field).cloned()),
        };
        value.map(|value| plain(&value)).filter(|text| !text.is_empty())
    }

    /// The value of a field, as labels show it.
    pub fn value(&self, field: &str) -> String {
        match self.written(field) {
            Some(text) => text,
            None => match field {
                "fit" => "crop".into(),
                "ema" | "weights" => "false".into(),
                "clip_skip" => "0".into(),
                "long_prompts" => "cut".into(),
                "prompt_2" | "negative_2" => "that of the first".into(),
                "crop" => "[0, 0]".into(),
                "original_size" | "target_size" => "the run's own".into(),
                "negative_original_size" | "negative_crop" | "negative_target_size" => "the prompt's own".into(),
                "aesthetic_score" => "6".into(),
                "negative_aesthetic_score" => "2.5".into(),
                "revision" => "main".into(),
                "prompt" | "negative" | "image" | "mask" | "edits" | "strength" | "ignore" | "embeddings" | "loras"
                | "features" => "none".into(),
                _ => "the model's own".into(),
            },
        }
    }
}

/// A value as text: 4.0 as 4, and all digits of a seed.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            float.map_or_else(|| number.to_string(), |float| float.to_string())
        }
        // Two numbers of a picture, as a spec writes them: height and width, or top and left.
        Value::Array(pair) if pair.len() == 2 && pair.iter().all(Value::is_i64) => {
            format!("[{}, {}]", pair[0], pair[1])
        }
        other => other.to_string(),
    }
}

/// Adds to a scheduler's error the nearest smaller number of steps that works, if there is one. The error itself speaks
/// of the scheduler's times and coefficients.
fn by_steps(request: &Request, error: latentrace_pipeline::Error) -> anyhow::Error {
    let text = error.to_string();
    let works = |steps: &usize| request.scheduler.plan(*steps, request.reading).is_ok();
    let is_of_steps = matches!(error, latentrace_pipeline::Error::Schedule(_))
        && !text.starts_with("steps: ")
        && !works(&request.steps);
    match (1..request.steps).rev().take(NEAR).find(works).filter(|_| is_of_steps) {
        Some(fewer) => anyhow::Error::from(error)
            .context(format!("steps: {} cannot be sampled by this scheduler, and {fewer} can", request.steps)),
        None => error.into(),
    }
}

/// How many smaller numbers of steps are tried.
const NEAR: usize = 16;

/// Parses the guidance of a command line: `7.5`, or a table as in a spec, `{ weight = 8, sigma = [0.3, 5] }`.
///
/// # Errors
/// The text is neither. The range of the weight is not checked: see [`Weight::problem`](latentrace_pipeline::Weight::problem).
pub fn parse_guidance(text: &str) -> Result<Guidance> {
    #[derive(Deserialize)]
    struct Named {
        guidance: Guidance,
    }
    // TOML has the numbers "nan" and "inf"; they are refused later.
    let named: Named = toml::from_str(&format!("guidance = {text}"))
        .map_err(|_| anyhow::anyhow!("expected a number or {{ weight = 8, sigma = [0.3, 5] }}, found {text}"))?;
    Ok(named.guidance)
}

/// Parses a LoRA of a command line: `FILE`, `FILE:0.8`, or with a table as in a spec,
/// `FILE:{ weight = 0.8, sigma = [1, 15] }`.
///
/// # Errors
/// What follows the colon is a table, but not that of a scale, or the scale is not finite.
pub fn parse_lora(text: &str) -> Result<Lora> {
    #[derive(Deserialize)]
    struct Named {
        scale: Scale,
    }
    let lora = match text.find(":{").or_else(|| text.find(": {")) {
        Some(at) => {
            let (file, scale) = (&text[..at], &text[at + 1..]);
            let named: Named = toml::from_str(&format!("scale = {scale}")).map_err(|_| {
                anyhow::anyhow!("expected FILE:0.8, FILE:{{ weight = 0.8, sigma = [1, 15] }} or FILE:{{ sigma = [15, 1], weight = [0, 1] }}, found {text}")
            })?;
            Lora::new(file, named.scale)
        }
        None if std::path::Path::new(text).exists() => Lora::new(text, 1.0),
        None => Lora::from(text.to_string()),
    };
    lora.check()?;
    Ok(lora)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_fields_is_complete() {
        let full = r#"{"sampler":"lms","scheduler":{"order":2},"spacing":"trailing","image":"x.png","mask":"m.png","strength":0.5,"fit":"stretch","height":64,"width":64,"edits":["** => zero"],"model":"x","revision":"main","variant":"fp16","family":"sdxl-turbo","text_encoder":"t","text_encoder_2":"t2","unet":"u","vae":"v","tokenizer":"k","tokenizer_2":"k2","config":"c","ema":true,"clip_skip":1,"long_prompts":"chunks","weights":true,"features":"f","embeddings":["e.safetensors=<e>"],"loras":["l.safetensors:0.5"],"ignore":["decay"],"kernels":"plain","prompt_2":"p","negative_2":"n","empty_negative":"zeros","original_size":[1,2],"crop":[0,1],"target_size":[1,2],"negative_original_size":[1,2],"negative_crop":[0,1],"negative_target_size":[1,2],"aesthetic_score":7,"negative_aesthetic_score":2,"vae_dtype":"f32"}"#;
        let cell: Cell = serde_json::from_str(full).unwrap();
        let value = serde_json::to_value(&cell).unwrap();
        let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut fields = FIELDS;
        names.sort_unstable();
        fields.sort_unstable();
        assert_eq!(names, fields);
        assert_eq!((cell.value("guidance"), cell.value("sampler")), ("7.5".into(), "lms".into()));
        assert_eq!(
            (cell.value("family"), Cell::default().value("family")),
            ("sdxl-turbo".into(), "the model's own".into())
        );
        assert_eq!(Cell::default().with_choice(cell.choice()).choice(), cell.choice(), "no part of a choice is lost");
        assert_eq!([cell.value("scheduler.order"), cell.value("scheduler.rho")], ["2", "the model's own"]);
    }

    #[test]
    fn all_seeds_of_64_bits_are_read_back_exactly() {
        for seed in [0, (1 << 53) + 1, i64::MAX as u64, 1 << 63, u64::MAX] {
            let number: Cell = serde_json::from_str(&format!(r#"{{"seed": {seed}}}"#)).unwrap();
            let text: Cell = serde_json::from_str(&format!(r#"{{"seed": "{seed}"}}"#)).unwrap();
            assert_eq!((number.seed, text.seed, number.value("seed")), (seed, seed, seed.to_string()));
            let kept: Cell = serde_json::from_value(serde_json::to_value(&number).unwrap()).unwrap();
            assert_eq!(kept.seed, seed);
        }
        for bad in ["-1", "1.5", "18446744073709551616", "\"18446744073709551616\"", "\"two\"", "\"-1\""] {
            let error = serde_json::from_str::<Cell>(&format!(r#"{{"seed": {bad}}}"#)).unwrap_err().to_string();
            assert!(error.contains("a seed from 0 to 18446744073709551615"), "{bad}: {error}");
        }
    }
}
