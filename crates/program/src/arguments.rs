//! Arguments that several commands take.

use crate::conditioning::ConditioningArguments;
use crate::headings;
use crate::printer::{Printer, note};
use anyhow::{Result, ensure};
use clap::{Arg, Args, ValueEnum};
use latentrace::checkpoints::Family;
use latentrace::pipeline::nn::{Kernels, UnknownKernels};
use latentrace::pipeline::{
    Checkpoint, Choice, Device, Dtype, Inversion, KernelChoice, LongPrompts, Lora, Model, Options,
};
use latentrace::runs::{Cell, Fit, Kept, Sampler, bundled, fetched, open_at, parse_lora, parse_option};
use latentrace::schedulers::Reading;
use latentrace::trace::{EditRule, Rule};
use serde_json::Value;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// The model and how it is loaded, as every command that runs one takes them.
#[derive(Args, Clone, Debug)]
pub struct ModelArguments {
    /// A folder, a .safetensors file or a hub id [default: the bundled model]
    ///
    /// The checkpoint. A folder has the layout of diffusers. OWNER/NAME is the id of a model on the Hugging Face hub,
    /// which is downloaded. The bundled model draws shapes.
    #[arg(long, value_name = "MODEL", help_heading = headings::MODEL)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    embeddings: EmbeddingArguments,
    /// Change the networks by a LoRA: style.safetensors:0.8
    ///
    /// FILE is a .safetensors file, a folder with one, or a hub id. SCALE is a number, or as guidance a window or a
    /// curve of noise levels: "style.safetensors:{ weight = 0.8, sigma = [1, 15] }". With --like, a file that the
    /// picture has gets this scale.
    #[arg(long, value_name = "FILE[:SCALE]", help_heading = headings::PARTS, value_parser = parse_lora)]
    #[arg(hide_short_help = true)]
    lora: Vec<Lora>,
    /// Number format to run in [default: f32]
    ///
    /// Whatever the files hold.
    #[arg(long, value_enum, help_heading = headings::MODEL)]
    pub dtype: Option<DtypeName>,
    /// Number format of the VAE [default: that of --dtype, or f32 where the VAE of SDXL is too large for f16]
    #[arg(long, value_enum, help_heading = headings::MODEL, hide_short_help = true)]
    pub vae_dtype: Option<DtypeName>,
    /// Where to run [default: auto]
    ///
    /// With auto, on a CUDA device where there is one.
    #[arg(long, value_enum, help_heading = headings::MODEL)]
    pub device: Option<DeviceName>,
    /// Kernels of UNet and VAE, which change speed and rounding [default: of large networks the fastest]
    ///
    /// Either plain, or some of channels-last, linear-as-convolution, attention-ENGINE and fused, joined by +. An
    /// ENGINE is amx, avx512-bf16, avx512, avx2 or portable, and is for CPUs; fused is for CUDA. The fastest are
    /// measured once on a machine.
    #[arg(long, visible_alias = "path", value_name = "KERNELS", value_parser = parse_kernels)]
    #[arg(help_heading = headings::MODEL, hide_short_help = true)]
    pub kernels: Option<Kernels>,
}

/// Reads [`Kernels`].
fn parse_kernels(text: &str) -> Result<Kernels, UnknownKernels> {
    text.parse()
}

/// An option that the short help of a command shows although it hides it elsewhere.
pub fn shown(option: Arg) -> Arg {
    option.hide_short_help(false)
}

/// What of a checkpoint is used, where there is a choice.
#[derive(Args, Clone, Debug)]
pub struct ChoiceArguments {
    /// Of a model of the hub: the branch, tag or commit [default: main]
    #[arg(long, value_name = "NAME", help_heading = headings::PARTS, hide_short_help = true)]
    revision: Option<String>,
    /// Variant of the weight files, such as fp16 for diffusion_pytorch_model.fp16.safetensors
    #[arg(long, value_name = "NAME", help_heading = headings::PARTS, hide_short_help = true)]
    variant: Option<String>,
    /// Family of Stable Diffusion XL that the model is of, where its files leave it open
    #[arg(long, value_enum, help_heading = headings::PARTS, hide_short_help = true)]
    family: Option<FamilyName>,
    /// Another text encoder: a folder with its config.json, a checkpoint folder, or a hub id
    #[arg(long, value_name = "FOLDER", help_heading = headings::PARTS, hide_short_help = true)]
    text_encoder: Option<PathBuf>,
    /// Another second text encoder, of a model of Stable Diffusion XL: as --text-encoder
    #[arg(long = "text-encoder-2", value_name = "FOLDER", help_heading = headings::PARTS, hide_short_help = true)]
    text_encoder_2: Option<PathBuf>,
    /// Another UNet: a folder, a single file, or a hub id
    #[arg(long, value_name = "MODEL", help_heading = headings::PARTS, hide_short_help = true)]
    unet: Option<PathBuf>,
    /// Another VAE: a folder, a single file, or a hub id
    #[arg(long, value_name = "MODEL", help_heading = headings::PARTS, hide_short_help = true)]
    vae: Option<PathBuf>,
    /// Another tokenizer: a folder with vocab.json and merges.txt or with tokenizer.json, or a hub id
    #[arg(long, value_name = "FOLDER", help_heading = headings::PARTS, hide_short_help = true)]
    tokenizer: Option<PathBuf>,
    /// Another tokenizer of the second text encoder: as --tokenizer
    #[arg(long = "tokenizer-2", value_name = "FOLDER", help_heading = headings::PARTS, hide_short_help = true)]
    tokenizer_2: Option<PathBuf>,
    /// Of a single file: take the configuration files of this checkpoint folder
    #[arg(long, value_name = "FOLDER", help_heading = headings::PARTS, hide_short_help = true)]
    config: Option<PathBuf>,
    /// Of a single file: use the moving average (EMA) of the UNet's weights
    #[arg(long, help_heading = headings::PARTS, hide_short_help = true)]
    ema: bool,
    /// Ignore a key of the checkpoint's configuration files that is not supported
    #[arg(long, value_name = "KEY", help_heading = headings::PARTS, hide_short_help = true)]
    ignore: Vec<String>,
}

impl ChoiceArguments {
    /// The checkpoint at a place. Notes what was assumed.
    pub fn open(&self, place: &Path) -> Result<Checkpoint> {
        self.open_with(place, &EmbeddingArguments::default())
    }

    /// The checkpoint at a place, with textual inversions. Notes what was assumed.
    pub fn open_with(&self, place: &Path, embeddings: &EmbeddingArguments) -> Result<Checkpoint> {
        let checkpoint = fetched(place, &embeddings.added_to(self.over(Choice::default())), &Printer::new())?;
        checkpoint.notes.iter().for_each(note);
        Ok(checkpoint)
    }

    /// Another choice, but for what was given.
    fn over(&self, base: Choice) -> Choice {
        let given = self.clone();
        Choice {
            revision: given.revision.or(base.revision),
            variant: given.variant.or(base.variant),
            family: given.family.map(Family::from).or(base.family),
            text_encoder: given.text_encoder.or(base.text_encoder),
            text_encoder_2: given.text_encoder_2.or(base.text_encoder_2),
            unet: given.unet.or(base.unet),
            vae: given.vae.or(base.vae),
            tokenizer: given.tokenizer.or(base.tokenizer),
            tokenizer_2: given.tokenizer_2.or(base.tokenizer_2),
            config: given.config.or(base.config),
            ema: given.ema || base.ema,
            embeddings: base.embeddings,
            loras: base.loras,
            ignore: [base.ignore, given.ignore].concat(),
        }
    }
}

/// [`Family`] by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FamilyName {
    /// Sampled with guidance
    Sdxl,
    /// Sampled in few steps without guidance
    SdxlTurbo,
    /// Told an aesthetic score
    SdxlRefiner,
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Family {
        match name {
            FamilyName::Sdxl => Family::Sdxl,
            FamilyName::SdxlTurbo => Family::SdxlTurbo,
            FamilyName::SdxlRefiner => Family::SdxlRefiner,
        }
    }
}

/// [`Dtype`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DtypeName {
    F32,
    F16,
    Bf16,
}

impl From<DtypeName> for Dtype {
    fn from(name: DtypeName) -> Dtype {
        match name {
            DtypeName::F32 => Dtype::F32,
            DtypeName::F16 => Dtype::F16,
            DtypeName::Bf16 => Dtype::Bf16,
        }
    }
}

/// [`Device`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DeviceName {
    Auto,
    Cpu,
    Cuda,
}

impl ModelArguments {
    /// The folder or file of the checkpoint.
    pub fn place(&self) -> Result<PathBuf> {
        self.model.clone().map_or_else(bundled, Ok)
    }

    /// What of it is used.
    pub fn choice(&self) -> Choice {
        self.choice_over(Choice::default())
    }

    /// Another choice, but for what was given.
    fn choice_over(&self, base: Choice) -> Choice {
        let is_given = |lora: &&Lora| self.lora.iter().any(|given| given.file == lora.file);
        let kept = base.loras.iter().filter(|lora| !is_given(lora)).cloned();
        let loras = kept.chain(self.lora.clone()).collect();
        self.embeddings.added_to(Choice { loras, ..self.choice.over(base) })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let checkpoint = fetched(&self.place()?, &self.choice(), &Printer::new())?;
        checkpoint.changes()?; // a LoRA that cannot be used is an error although nothing runs
        Ok(checkpoint)
    }

    /// How it is loaded.
    pub fn options(&self) -> Options {
        self.options_over(Options::default())
    }

    /// Other options, but for what was given.
    pub fn options_over(&self, base: Options) -> Options {
        let dtype = self.dtype.map_or(base.dtype, DtypeName::into);
        let vae_dtype = self.vae_dtype.map(DtypeName::into).or(base.vae_dtype);
        let device = self.device.map_or(base.device, |name| match name {
            DeviceName::Auto => Device::Auto,
            DeviceName::Cpu => Device::Cpu,
            DeviceName::Cuda => Device::Cuda,
        });
        let kernels = self.kernels.map_or(base.kernels, KernelChoice::Exactly);
        Options { dtype, device, kernels, vae_dtype, ..base }
    }

    /// Opens the model, and warns of tensors in its files that nothing read.
    pub fn open(&self) -> Result<Model> {
        open_at(&self.place()?, &self.choice(), self.options(), &Printer::new())
    }
}

/// The textual inversions of a command that encodes text.
#[derive(Args, Clone, Debug, Default)]
pub struct EmbeddingArguments {
    /// Add the token of a textual inversion: a .safetensors file; =TOKEN gives it another name
    #[arg(long, value_name = "FILE[=TOKEN]", help_heading = headings::PARTS, value_parser = parse_inversion)]
    #[arg(hide_short_help = true)]
    embedding: Vec<Inversion>,
}

impl EmbeddingArguments {
    /// A choice with them.
    fn added_to(&self, base: Choice) -> Choice {
        Choice { embeddings: [base.embeddings, self.embedding.clone()].concat(), ..base }
    }
}

/// Reads `FILE` or `FILE=TOKEN`.
fn parse_inversion(text: &str) -> Result<Inversion, Infallible> {
    Ok(Inversion::from(text.to_string()))
}

/// How the texts are read.
#[derive(Args, Clone, Debug)]
pub struct TextArguments {
    /// What becomes of a prompt that does not fit [default: cut]
    #[arg(long, value_enum, help_heading = headings::TEXT, hide_short_help = true)]
    pub long_prompts: Option<LongName>,
    /// Read (word:1.3), ((word)) and [word] as weights of words; --weights=false does not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(help_heading = headings::TEXT, hide_short_help = true)]
    pub weights: Option<bool>,
}

/// [`LongPrompts`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LongName {
    /// Its end is cut off, and told
    Cut,
    /// It goes on in further chunks, each with its own start and end, encoded one by one
    Chunks,
}

impl From<LongName> for LongPrompts {
    fn from(name: LongName) -> LongPrompts {
        match name {
            LongName::Cut => LongPrompts::Cut,
            LongName::Chunks => LongPrompts::Chunks,
        }
    }
}

/// [`Fit`] by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FitName {
    /// Scaled until it covers the size, and its middle kept
    #[default]
    Crop,
    /// Scaled in each direction by itself
    Stretch,
}

impl From<FitName> for Fit {
    fn from(name: FitName) -> Fit {
        match name {
            FitName::Crop => Fit::Crop,
            FitName::Stretch => Fit::Stretch,
        }
    }
}

/// How rules are written, for the end of a command's help.
pub const RULES: &str = "\
Rules:
  names      those that `latentrace taps` lists; * is any part of a name, ** any parts, {a,b} a or b
  windows    @step[10:20] @eval[0] @image[0] @sigma[1:15] @branch{cond}
  words      whole words of the prompt, as red; #3 is the token at place 3, and #0 the start
  --capture  RULE | full, stats, head_mean, tokens(red, circle), down(32), topk(16),
             histogram(64), f16, q8
  --edit     RULE => zero, mean, scale(0.5), add(0.1), add(TRACE, 0.5), noise(0.1),
             replace(TRACE), skip, mask(red), reweight(red, 2)";

/// What to record and what to change.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct CaptureArguments {
    /// Keep more tensors: "unet.**.attn2.probs @step[0:50:5] | head_mean"
    ///
    /// `latentrace taps` lists the names.
    #[arg(long, value_name = "RULE", help_heading = headings::RECORDING)]
    pub capture: Vec<String>,
    /// Keep at most so much of them, such as 500MB or 2GiB; what comes after is counted and not kept
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    #[arg(help_heading = headings::RECORDING, hide_short_help = true)]
    pub budget: Option<u64>,
    /// Change tensors on the way: "unet.mid_block.out @step[10:20] => scale(0.5)"
    #[arg(long, value_name = "RULE", help_heading = headings::RECORDING)]
    pub edit: Vec<String>,
    /// Say what would be kept and how large it is, and run nothing
    #[arg(long, help_heading = headings::OUTPUT)]
    pub dry_run: bool,
}

impl CaptureArguments {
    /// What is kept besides the sampler's values.
    pub fn kept(&self) -> Result<Kept> {
        let capture = self.capture.iter().map(|text| Rule::parse(text)).collect::<Result<_, _>>()?;
        Ok(Kept { capture, budget: self.budget })
    }

    /// What is changed.
    pub fn edits(&self) -> Result<Vec<EditRule>> {
        Ok(self.edit.iter().map(|text| EditRule::parse(text)).collect::<Result<_, _>>()?)
    }
}

/// Reads the largest difference that is allowed.
pub fn parse_tolerance(text: &str) -> Result<f64> {
    let number = text.trim().parse::<f64>().unwrap_or(f64::NAN);
    ensure!(number.is_finite() && number >= 0.0, "expected a number of 0 or more, found {text}");
    Ok(number)
}

/// Reads `500MB`, `2GiB`, `1e6`.
fn parse_bytes(text: &str) -> Result<u64> {
    let text = text.trim();
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "tb" | "t" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024f64.powi(2),
        "gib" => 1024f64.powi(3),
        "tib" => 1024f64.powi(4),
        _ => f64::NAN,
    };
    let bytes = number.trim().parse::<f64>().unwrap_or(f64::NAN) * factor;
    ensure!((0.0..1e18).contains(&bytes), "expected a size such as 500MB or 2GiB, found {text}");
    Ok(bytes as u64)
}

/// What decides pictures besides the prompt.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    #[command(flatten)]
    model: ModelArguments,
    /// Seed of the first picture [default: 193]
    ///
    /// From 0 to 2^64 - 1, of which PyTorch's generator takes the lowest 32 bits. The next picture has the next seed.
    #[arg(long, help_heading = headings::SAMPLING)]
    seed: Option<u64>,
    /// Sampling steps [default: 50]
    #[arg(long, help_heading = headings::SAMPLING)]
    steps: Option<usize>,
    /// Scheduler: euler, dpm++2m, ... or a file [default: the checkpoint's]
    ///
    /// `latentrace schedule --list` lists all names. A file is a scheduler_config.json.
    #[arg(long, value_parser = Sampler::parse, help_heading = headings::SAMPLING)]
    sampler: Option<Sampler>,
    /// Replace an option of the scheduler: scheduler.use_karras_sigmas=true
    ///
    /// `latentrace schedule --explain` shows the options.
    #[arg(long, value_name = "OPTION=VALUE", value_parser = parse_option)]
    #[arg(help_heading = headings::SAMPLING)]
    set: Vec<(String, Value)>,
    /// Pixels from top to bottom [default: the checkpoint's own]
    #[arg(long, allow_negative_numbers = true, help_heading = headings::SAMPLING)]
    height: Option<i64>,
    /// Pixels from left to right [default: the checkpoint's own]
    #[arg(long, allow_negative_numbers = true, help_heading = headings::SAMPLING)]
    width: Option<i64>,
    /// Follow the mathematics where diffusers departs from it; --exact=false does not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(help_heading = headings::SAMPLING, hide_short_help = true)]
    exact: Option<bool>,
    /// What guidance leads away from [default: nothing]
    #[arg(long, allow_hyphen_values = true, help_heading = headings::TEXT)]
    negative: Option<String>,
    /// Leave out so many of the text encoder's last layers, for the prompt and the negative prompt [default: 0]
    #[arg(long, value_name = "LAYERS", help_heading = headings::TEXT, hide_short_help = true)]
    clip_skip: Option<usize>,
    #[command(flatten)]
    text: TextArguments,
    #[command(flatten)]
    conditioning: ConditioningArguments,
    /// Use the text features of a .safetensors file, as --save-features writes it, in place of both prompts
    #[arg(long, value_name = "FILE", help_heading = headings::TEXT, hide_short_help = true)]
    features: Option<PathBuf>,
    #[command(flatten)]
    capture: CaptureArguments,
}

impl Settings {
    /// The first seed where nobody names one.
    pub const SEED: u64 = 193;

    /// Another cell's settings, but for what was given.
    pub fn over(&self, base: Cell) -> Result<Cell> {
        let reading = |exact| if exact { Reading::Exact } else { Reading::Diffusers };
        let Options { dtype, device, vae_dtype, .. } = self.model.options_over(base.options());
        let base = self.conditioning.over(base);
        let choice = self.model.choice_over(base.choice());
        let edits = [base.edits, self.capture.edits()?].concat();
        // Those of another number format or device may not be there.
        let kernels = base.kernels.filter(|_| (base.dtype, base.device) == (dtype, device));
        Ok(Cell {
            negative: self.negative.clone().unwrap_or(base.negative),
            clip_skip: self.clip_skip.unwrap_or(base.clip_skip),
            long_prompts: self.text.long_prompts.map_or(base.long_prompts, LongName::into),
            weights: self.text.weights.unwrap_or(base.weights),
            features: self.features.clone().or(base.features),
            seed: self.seed.unwrap_or(base.seed),
            steps: self.steps.unwrap_or(base.steps),
            sampler: self.sampler.clone().or(base.sampler),
            scheduler: base.scheduler.into_iter().chain(self.set.iter().cloned()).collect(),
            height: self.height.or(base.height),
            width: self.width.or(base.width),
            reading: self.exact.map_or(base.reading, reading),
            edits,
            model: self.model.model.clone().or(base.model),
            dtype,
            vae_dtype,
            device,
            kernels: self.model.kernels.or(kernels),
            ..base
        }
        .with_choice(choice))
    }

    /// See [`ConditioningArguments::kept_prompt`].
    pub fn kept_prompt(&self, new: Option<&String>, cell: &Cell) -> Option<String> {
        self.conditioning.kept_prompt(new, cell)
    }

    /// Whether an empty negative prompt was given, and not what it means.
    pub fn names_no_negative(&self) -> bool {
        self.negative.as_deref() == Some("") && !self.conditioning.says_empty_negative()
    }

    /// The checkpoint folder, if it was given.
    pub fn model(&self) -> Option<&Path> {
        self.model.model.as_deref()
    }

    /// What to capture.
    pub fn capture(&self) -> &CaptureArguments {
        &self.capture
    }

    /// Keeps what another run kept, unless something else is asked for.
    pub fn keep_as(&mut self, kept: &Kept) {
        if self.capture.capture.is_empty() {
            self.capture.capture = kept.capture.iter().map(Rule::to_string).collect();
            self.capture.budget = self.capture.budget.or(kept.budget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    /// What of a checkpoint a command line names.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        choice: ChoiceArguments,
    }

    #[test]
    fn what_is_given_replaces_a_part_of_another_choice_and_the_rest_stays() {
        let parse = |arguments: &[&str]| Line::parse_from([&["line"], arguments].concat()).choice;
        let given = ["--text-encoder-2", "t", "--tokenizer-2", "k", "--family", "sdxl-turbo"];
        let all = parse(&given).over(Choice::default());
        let expected = Choice {
            text_encoder_2: Some("t".into()),
            tokenizer_2: Some("k".into()),
            family: Some(Family::SdxlTurbo),
            ..Choice::default()
        };
        assert_eq!(all, expected);
        assert_eq!(parse(&[]).over(expected.clone()), expected);
        let other = parse(&["--tokenizer-2", "x", "--text-encoder", "y"]).over(expected.clone());
        let (tokenizer_2, text_encoder) = (Some("x".into()), Some("y".into()));
        assert_eq!(other, Choice { tokenizer_2, text_encoder, ..expected });
    }

    #[test]
    fn a_family_has_the_name_that_specs_have() {
        for name in FamilyName::value_variants() {
            let value = name.to_possible_value().unwrap();
            assert_eq!(value.get_name(), Family::from(*name).to_string());
        }
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes) in [("500MB", 500_000_000), ("2GiB", 1 << 31), ("12", 12), ("1.5 kb", 1500)] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "x", "3 apples", "-1MB", "1e30"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
