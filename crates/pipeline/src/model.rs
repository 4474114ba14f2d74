//! A checkpoint, loaded into its networks.

use crate::error::{Error, Result};
use crate::kernels::KernelChoice;
use crate::network::Denoiser;
use crate::{SamplerTaps, Threads, text};
use latentrace_checkpoints::{Adapted, Checkpoint, Choice, Scale, TextPart, Vectors};
use latentrace_nn::tch::{self, Kind};
use latentrace_nn::{
    Activation, Changes, Cuda, Kernels, Pages, SharedScale, Tap, Weights, cuda, first_cuda, if_it_fits,
};
use latentrace_schedulers as schedulers;
use latentrace_text::{TextEncoder, Tokenizer};
use latentrace_unet::Unet;
use latentrace_vae::Vae;
use std::collections::BTreeMap;
use std::path::Path;

/// A latent diffusion model: text encoders with their tokenizers, UNet, VAE and scheduler configuration.
pub struct Model {
    /// The checkpoint that was loaded, with the configuration of each network.
    pub checkpoint: Checkpoint,
    /// The text encoders, in the order of the checkpoint: one, or two whose features stand side by side. There is at least one.
    pub texts: Vec<TextModel>,
    /// The denoising network. LoRAs whose scale depends on the noise level act in runs only.
    pub unet: Unet,
    /// The scales of changes of the UNet that depend on the noise level; see [`Checkpoint::changes`].
    pub(crate) varying: Vec<(SharedScale, Scale)>,
    /// For each LoRA of the checkpoint, whether it changes a text encoder.
    pub changed_texts: Vec<bool>,
    /// Latents to pixels and back.
    pub vae: Vae,
    /// The scheduler configuration of the checkpoint, read for the class that its `model_index.json` names.
    pub scheduler: schedulers::Config,
    /// The scheduler configuration as the pipeline of diffusers for this model changes it, for
    /// [`Reading::Diffusers`](schedulers::Reading::Diffusers).
    pub scheduler_in_pipeline: schedulers::Config,
    /// The taps of the sampler's values.
    pub sampler: SamplerTaps,
    /// Every tap: those of the text encoders, the UNet and the VAE, then the sampler's.
    pub taps: Vec<Tap>,
    /// The tensors in the checkpoint's files that no network has read, as `part: name`.
    pub unread: Vec<String>,
    /// The device that the networks run on.
    pub device: tch::Device,
    /// The kernels that UNet and VAE run on.
    pub kernels: Kernels,
    /// The pages of files that their tensors lie in.
    pub(crate) pages: PagesOfNetworks,
    /// How many CPU threads they run on. Each call of the model sets libtorch's number of threads, and restores it at the
    /// end: for a number that you set yourself, use [`Threads::AsSet`].
    pub threads: Threads,
}

/// A text encoder of a model, with its tokenizer.
pub struct TextModel {
    /// The part of the checkpoint: `text_encoder` or `text_encoder_2`. The names of its taps begin so.
    pub name: &'static str,
    /// Text to token ids.
    pub tokenizer: Tokenizer,
    /// Token ids to text features.
    pub encoder: TextEncoder,
}

/// The pages of files that the tensors of each network lie in. A run uses one network after the other, and only the pages of one need to be in
/// memory. To read them again from the system's cache takes about a millisecond for 20 MB.
#[derive(Default)]
pub(crate) struct PagesOfNetworks {
    /// Those of each text encoder.
    pub(crate) texts: Vec<Pages>,
    pub(crate) unet: Pages,
    pub(crate) vae: Pages,
}

/// The pages of a network that are worth releasing, in bytes.
const WORTH: usize = 64 << 20;

impl PagesOfNetworks {
    /// Releases the pages of networks that are done for now, if they are many.
    pub(crate) fn release<'a>(networks: impl IntoIterator<Item = &'a Pages>) {
        networks.into_iter().filter(|pages| pages.bytes() >= WORTH).for_each(Pages::release);
    }
}

/// How a checkpoint is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The number format of the networks.
    pub dtype: Dtype,
    /// The device of the networks.
    pub device: Device,
    /// Whether every request will name its own sampler. Then a checkpoint whose scheduler class is not supported can be
    /// loaded all the same.
    pub another_sampler: bool,
    /// The kernels of UNet and VAE.
    pub kernels: KernelChoice,
    /// The number format of the VAE. By default it is that of the other networks; but f32 for a VAE of SDXL whose config has
    /// `force_upcast`, because its numbers are too large for f16. diffusers decodes in f32 only where the others run in f16.
    pub vae_dtype: Option<Dtype>,
}

impl Options {
    /// The number format of the VAE of a checkpoint.
    pub(crate) fn vae_kind(&self, checkpoint: &Checkpoint) -> Kind {
        let is_upcast = checkpoint.unet.config.added.is_some() && checkpoint.vae.config.force_upcast;
        self.vae_dtype.unwrap_or(if is_upcast { Dtype::F32 } else { self.dtype }).kind()
    }
}

/// The number format that the networks run in. The files may hold another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 5 of them the exponent. Slow on a CPU.
    F16,
    /// 16 bits, 8 of them the exponent.
    Bf16,
}

/// The device that the networks run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The first CUDA device, or the CPU if there is none.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device.
    Cuda,
}

impl Dtype {
    /// libtorch's name of it.
    pub fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::Bf16 => Kind::BFloat16,
        }
    }

    /// The number format that libtorch calls so; `None` if networks run in no such.
    pub(crate) fn of(kind: Kind) -> Option<Dtype> {
        [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().find(|dtype| dtype.kind() == kind)
    }
}

impl Device {
    /// The device of this machine.
    ///
    /// # Errors
    /// There is no CUDA device.
    pub fn find(self) -> Result<tch::Device> {
        let absent = || {
            let found = match cuda() {
                Cuda::Absent => "cuda, but this libtorch is built without CUDA".into(),
                Cuda::Broken { path, cause } => format!("cuda, but {} cannot be opened: {cause}", path.display()),
                Cuda::Open(_) => {
                    let why = cuda().unusable().unwrap_or_else(|| "there is no CUDA device".into());
                    format!("cuda, but {why}")
                }
            };
            Error::Range { field: "device", expected: "cpu, or a machine with CUDA".into(), found }
        };
        match self {
            Device::Cpu => Ok(tch::Device::Cpu),
            Device::Auto => Ok(first_cuda().unwrap_or(tch::Device::Cpu)),
            Device::Cuda => first_cuda().ok_or_else(absent),
        }
    }
}

impl Model {
    /// Opens a checkpoint, see [`Checkpoint::open`], and loads it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Model::load`].
    pub fn open(place: &Path, options: Options) -> Result<Model> {
        Model::load(Checkpoint::open(place, &Choice::default())?, options)
    }

    /// Loads the networks of a checkpoint.
    ///
    /// # Errors
    /// A file is missing or malformed, a tensor does not have the shape that the configuration gives it, the
    /// scheduler or device is not supported, or there is not enough memory.
    pub fn load(checkpoint: Checkpoint, options: Options) -> Result<Model> {
        if_it_fits(|| Model::load_if_it_fits(checkpoint, options))?
    }

    fn load_if_it_fits(mut checkpoint: Checkpoint, options: Options) -> Result<Model> {
        let (kind, device) = (options.dtype.kind(), options.device.find()?);
        let scheduler = match options.another_sampler {
            true => checkpoint.scheduler.read_for_another()?,
            false => checkpoint.scheduler.read()?,
        };
        let scheduler_in_pipeline = scheduler.in_pipeline_of(checkpoint.scheduler.pipeline)?;
        let tokenizers: Vec<Tokenizer> = checkpoint.texts.iter().map(text::own).collect::<Result<_>>()?;
        let tokenized = checkpoint.texts.iter().zip(&tokenizers);
        checkpoint.notes.extend(tokenized.filter_map(|(part, tokenizer)| padding(part, tokenizer)));
        let vectors = checkpoint.vectors()?;
        checkpoint.notes.extend(text::unknown_to_some(&checkpoint, &vectors));
        let (unet, vae) = (&checkpoint.unet, &checkpoint.vae);
        let Adapted { texts: of_texts, unet: of_unet, varying, of_text: changed_texts, notes } =
            checkpoint.changes()?;
        let (texts, text_weights) = load_texts(&checkpoint, tokenizers, (of_texts, vectors), (kind, device))?;
        let (kernels, note) = options.kernels.on(&unet.config, kind, device)?;
        checkpoint.notes.extend(note);
        if options.device == Device::Auto {
            checkpoint.notes.extend(cuda().unusable().map(|why| format!("runs on the CPU: {why}")));
        }
        let unet_weights = unet.weights(kind, device)?.with_kernels(kernels).with_changes(of_unet);
        let vae_kind = options.vae_kind(&checkpoint);
        let vae_kernels = if vae_kind == kind { kernels } else { Kernels::of(vae_kind, device) };
        let vae_weights = vae.weights(vae_kind, device)?.with_kernels(vae_kernels);
        let mut model = Model {
            texts,
            unet: Unet::load(&unet_weights, &unet.config)?,
            varying,
            changed_texts,
            vae: Vae::load(&vae_weights, &vae.config)?,
            scheduler,
            scheduler_in_pipeline,
            sampler: SamplerTaps::new(),
            taps: Vec::new(),
            unread: Vec::new(),
            device,
            kernels,
            pages: PagesOfNetworks::default(),
            threads: Threads::of_environment(),
            checkpoint,
        };
        let texts = text_weights.iter().map(Weights::pages).collect();
        model.pages = PagesOfNetworks { texts, unet: unet_weights.pages(), vae: vae_weights.pages() };
        text_weights.iter().try_for_each(Weights::check_changes)?;
        unet_weights.check_changes()?;
        let texts = model.texts.iter().map(|text| text.name).zip(&text_weights);
        for (part, weights) in texts.chain([("unet", &unet_weights), ("vae", &vae_weights)]) {
            model.taps.extend(weights.taps());
            model.unread.extend(weights.unread().into_iter().map(|name| format!("{part}: {name}")));
        }
        model.taps.extend(model.sampler.all().into_iter().cloned());
        model.checkpoint.notes.extend(notes);
        Ok(model)
    }
}

impl Model {
    /// The first text encoder with its tokenizer, for what knows only one.
    pub fn text(&self) -> &TextModel {
        &self.texts[0]
    }

    /// The tokenizer of the first text encoder, for what knows only one.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.text().tokenizer
    }

    /// The UNet as runs call it.
    pub(crate) fn denoiser(&self) -> Denoiser<'_> {
        Denoiser { unet: &self.unet, varying: &self.varying }
    }
}

/// Loads the text encoders of a checkpoint, each with its own tokenizer of `tokenizers`, the changes of LoRAs by the names of parts, and
/// its vectors of textual inversions. Returns their weights too.
fn load_texts(
    checkpoint: &Checkpoint,
    tokenizers: Vec<Tokenizer>,
    (mut changes, vectors): (BTreeMap<&'static str, Changes>, Vec<Vectors>),
    (kind, device): (Kind, tch::Device),
) -> Result<(Vec<TextModel>, Vec<Weights>)> {
    let (mut texts, mut all_weights) = (Vec::new(), Vec::new());
    for (TextPart { encoder: part, .. }, mut tokenizer) in checkpoint.texts.iter().zip(tokenizers) {
        let weights = part.weights(kind, device)?.with_changes(changes.remove(part.name()).unwrap_or_default());
        let mut encoder = TextEncoder::load(&weights, &part.config)?;
        for Vectors { token, table, .. } in vectors.iter().filter(|vectors| vectors.part == part.name()) {
            let first = tokenizer.add(token, table.size()[0] as usize)?;
            encoder.add(first.into(), table);
        }
        texts.push(TextModel { name: part.name(), tokenizer, encoder });
        all_weights.push(weights);
    }
    Ok((texts, all_weights))
}

/// A note where a text encoder is given another padding than it was trained with. OpenCLIP pads with the id 0 and CLIP with the end
/// token, and people copy folders together.
fn padding(part: &TextPart, tokenizer: &Tokenizer) -> Option<String> {
    let is_open_clip = part.encoder.config.hidden_act == Activation::Gelu;
    let (id, place) = (tokenizer.padding(), part.tokenizer.display());
    let token = |id: u32| tokenizer.token(id.into()).unwrap_or_default();
    let trained_with = if is_open_clip { 0 } else { tokenizer.end() };
    let whose = match (is_open_clip, part.encoder.name()) {
        (true, "text_encoder_2") => "the second text encoder of SDXL was",
        (true, _) => "text encoders of Stable Diffusion 2.x were",
        (false, _) => "text encoders of Stable Diffusion 1.x and the first of SDXL were",
    };
    (id != trained_with).then(|| {
        let padded = token(id);
        let hint = token(trained_with);
        format!(
            "{place}: prompts are padded with {padded}, the id {id}, but {whose} trained with the id {trained_with}\nhint: \"pad_token\": \"{hint}\" in special_tokens_map.json and tokenizer_config.json"
        )
    })
}
