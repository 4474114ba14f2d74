//! A checkpoint, loaded into its networks.

use crate::error::{Error, Result};
use crate::kernels::KernelChoice;
use crate::network::Denoiser;
use crate::{SamplerTaps, Threads, text};
use latentrace_checkpoints::{Adapted, Checkpoint, Choice, Scale, Vectors};
use latentrace_nn::tch::{self, Kind};
use latentrace_nn::{Activation, Cuda, Kernels, Pages, SharedScale, Tap, cuda, first_cuda, if_it_fits};
use latentrace_schedulers as schedulers;
use latentrace_text::{TextEncoder, Tokenizer};
use latentrace_unet::Unet;
use latentrace_vae::Vae;
use std::path::Path;

/// A latent diffusion model: tokenizer, text encoder, UNet, VAE and scheduler configuration.
pub struct Model {
    /// The checkpoint that was loaded, with the configuration of each network.
    pub checkpoint: Checkpoint,
    /// Text to token ids.
    pub tokenizer: Tokenizer,
    /// Token ids to text features.
    pub text_encoder: TextEncoder,
    /// The denoising network. LoRAs whose scale depends on the noise level act in runs only.
    pub unet: Unet,
    /// The scales of changes of the UNet that depend on the noise level; see [`Checkpoint::changes`].
    pub(crate) varying: Vec<(SharedScale, Scale)>,
    /// For each LoRA of the checkpoint, whether it changes the text encoder.
    pub changed_texts: Vec<bool>,
    /// Latents to pixels and back.
    pub vae: Vae,
    /// The scheduler configuration of the checkpoint, read for the class that its `model_index.json` names.
    pub scheduler: schedulers::Config,
    /// The scheduler configuration as `StableDiffusionPipeline` changes it, for
    /// [`Reading::Diffusers`](schedulers::Reading::Diffusers).
    pub scheduler_in_pipeline: schedulers::Config,
    /// The taps of the sampler's values.
    pub sampler: SamplerTaps,
    /// Every tap: those of the three networks in the order of loading, then the sampler's.
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

/// The pages of files that the tensors of each network lie in. A run uses one network after the other, and only the pages of one need to be in
/// memory. To read them again from the system's cache takes about a millisecond for 20 MB.
#[derive(Default)]
pub(crate) struct PagesOfNetworks {
    pub(crate) text: Pages,
    pub(crate) unet: Pages,
    pub(crate) vae: Pages,
}

/// The pages of a network that are worth releasing, in bytes.
const WORTH: usize = 64 << 20;

impl PagesOfNetworks {
    /// Releases the pages of networks that are done for now, if they are many.
    pub(crate) fn release(networks: &[&Pages]) {
        networks.iter().filter(|pages| pages.bytes() >= WORTH).for_each(|pages| pages.release());
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
        let scheduler_in_pipeline = scheduler.in_pipeline()?;
        let mut tokenizer = text::own(&checkpoint)?;
        checkpoint.notes.extend(padding(&checkpoint, &tokenizer));
        let vectors = checkpoint.vectors()?;
        let (clip, unet, vae) = (&checkpoint.text_encoder, &checkpoint.unet, &checkpoint.vae);
        let Adapted { text_encoder: of_text, unet: of_unet, varying, of_text: changed_texts, notes } =
            checkpoint.changes()?;
        let text_weights = clip.weights(kind, device)?.with_changes(of_text);
        let mut text_encoder = TextEncoder::load(&text_weights, &clip.config)?;
        for Vectors { token, table } in &vectors {
            let first = tokenizer.add(token, table.size()[0] as usize)?;
            text_encoder.add(first.into(), table);
        }
        let (kernels, note) = options.kernels.on(&unet.config, kind, device)?;
        checkpoint.notes.extend(note);
        if options.device == Device::Auto {
            checkpoint.notes.extend(cuda().unusable().map(|why| format!("runs on the CPU: {why}")));
        }
        let unet_weights = unet.weights(kind, device)?.with_kernels(kernels).with_changes(of_unet);
        let vae_weights = vae.weights(kind, device)?.with_kernels(kernels);
        let mut model = Model {
            tokenizer,
            text_encoder,
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
        let [text, unet, vae] = [&text_weights, &unet_weights, &vae_weights].map(|weights| weights.pages());
        model.pages = PagesOfNetworks { text, unet, vae };
        text_weights.check_changes()?;
        unet_weights.check_changes()?;
        for (part, weights) in [("text_encoder", &text_weights), ("unet", &unet_weights), ("vae", &vae_weights)] {
            model.taps.extend(weights.taps());
            model.unread.extend(weights.unread().into_iter().map(|name| format!("{part}: {name}")));
        }
        model.taps.extend(model.sampler.all().into_iter().cloned());
        model.checkpoint.notes.extend(notes);
        Ok(model)
    }
}

impl Model {
    /// The UNet as runs call it.
    pub(crate) fn denoiser(&self) -> Denoiser<'_> {
        Denoiser { unet: &self.unet, varying: &self.varying }
    }
}

/// A note where a text encoder of Stable Diffusion 2.x is given another padding than it was trained with. OpenCLIP pads
/// with the id 0, and folders that were copied together from 1.x files pad with the end token.
fn padding(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Option<String> {
    let is_open_clip = checkpoint.text_encoder.config.hidden_act == Activation::Gelu;
    let (id, place) = (tokenizer.padding(), checkpoint.tokenizer.display());
    let token = tokenizer.token(id.into()).unwrap_or_default();
    (is_open_clip && id != 0).then(|| {
        format!(
            "{place}: prompts are padded with {token}, the id {id}, but text encoders of Stable Diffusion 2.x were trained with the id 0\nhint: \"pad_token\": \"!\" in special_tokens_map.json and tokenizer_config.json"
        )
    })
}
