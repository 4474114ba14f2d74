//! A checkpoint folder in the diffusers layout, read into its networks.

use crate::SamplerTaps;
use crate::error::{Error, Result, file};
use latentrace_nn::tch::{self, Kind};
use latentrace_nn::{Config, Cuda, Tap, Weights, cuda, first_cuda};
use latentrace_schedulers as schedulers;
use latentrace_text::{TextConfig, TextEncoder, Tokenizer};
use latentrace_unet::{Unet, UnetConfig};
use latentrace_vae::{Vae, VaeConfig};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A latent diffusion model: tokenizer, text encoder, UNet, VAE and scheduler configuration.
pub struct Model {
    /// The folder.
    pub folder: PathBuf,
    /// Text to token ids.
    pub tokenizer: Tokenizer,
    /// Token ids to text features.
    pub text_encoder: TextEncoder,
    /// The denoising network.
    pub unet: Unet,
    /// The UNet's configuration.
    pub unet_config: UnetConfig,
    /// Latents to pixels and back.
    pub vae: Vae,
    /// The VAE's configuration.
    pub vae_config: VaeConfig,
    /// The scheduler configuration of the folder, read for the class that its `model_index.json` names.
    pub scheduler: schedulers::Config,
    /// The scheduler configuration as `StableDiffusionPipeline` changes it, for
    /// [`Reading::Diffusers`](schedulers::Reading::Diffusers).
    pub scheduler_in_pipeline: schedulers::Config,
    /// The taps of the sampler's values.
    pub sampler: SamplerTaps,
    /// Every tap: those of the three networks in the order of loading, then the sampler's.
    pub taps: Vec<Tap>,
    /// The tensors in the folder's files that no network has read, as `part: name`.
    pub unread: Vec<String>,
    /// The device that the networks run on.
    pub device: tch::Device,
}

/// How a checkpoint is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The number format of the networks.
    pub dtype: Dtype,
    /// The device of the networks.
    pub device: Device,
}

/// The number format that the networks run in. The files may hold another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
    pub(crate) fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::Bf16 => Kind::BFloat16,
        }
    }
}

impl Device {
    fn find(self) -> Result<tch::Device> {
        let absent = || {
            let found = match cuda() {
                Cuda::Absent => "cuda, but this libtorch is built without CUDA".into(),
                Cuda::Broken { path, cause } => format!("cuda, but {} cannot be opened: {cause}", path.display()),
                Cuda::Open(_) => "cuda, but there is no CUDA device".into(),
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
    /// Reads a checkpoint folder.
    ///
    /// # Errors
    /// A file is missing or malformed, a tensor does not have the shape that the configuration gives it, or a
    /// configuration value is not supported.
    pub fn open(folder: &Path, options: Options) -> Result<Model> {
        let Parts { text: text_config, unet: unet_config, vae: vae_config } = Parts::read(folder)?;
        let (kind, device) = (options.dtype.kind(), options.device.find()?);
        let scheduler = Model::scheduler(folder)?;
        let scheduler_in_pipeline = in_pipeline(folder, &scheduler)?;
        let length = usize::try_from(text_config.max_position_embeddings).unwrap_or(usize::MAX);
        let tokenizer = Tokenizer::open(&folder.join("tokenizer"), length)?;
        let open = |part: &str, stem: &str| {
            Weights::open(part, &weight_files(folder, part, stem)?, kind, device).map_err(Error::from)
        };
        let text = open("text_encoder", "model")?;
        let unet = open("unet", "diffusion_pytorch_model")?;
        let vae = open("vae", "diffusion_pytorch_model")?;
        let mut model = Model {
            folder: folder.to_path_buf(),
            tokenizer,
            text_encoder: TextEncoder::load(&text, &text_config)?,
            unet: Unet::load(&unet, &unet_config)?,
            vae: Vae::load(&vae, &vae_config)?,
            unet_config,
            vae_config,
            scheduler,
            scheduler_in_pipeline,
            sampler: SamplerTaps::new(),
            taps: Vec::new(),
            unread: Vec::new(),
            device,
        };
        for (part, weights) in [("text_encoder", &text), ("unet", &unet), ("vae", &vae)] {
            model.taps.extend(weights.taps());
            model.unread.extend(weights.unread().into_iter().map(|name| format!("{part}: {name}")));
        }
        model.taps.extend(model.sampler.all().into_iter().cloned());
        Ok(model)
    }

    /// Reads the scheduler configuration of a checkpoint folder. As in diffusers, the class is the one that
    /// `model_index.json` names; if it names none, the class is the one in the scheduler's own file.
    ///
    /// # Errors
    /// A file is missing or malformed, or a value is not supported.
    pub fn scheduler(folder: &Path) -> Result<schedulers::Config> {
        let path = scheduler_file(folder);
        let text = read(&path)?;
        let config = match class_of_index(folder)? {
            Some(class) => schedulers::Config::from_json_as(&text, &class),
            None => schedulers::Config::from_json(&text),
        };
        config.map_err(|cause| match cause {
            schedulers::Error::Class { .. } if class_of_index(folder).is_ok_and(|class| class.is_some()) => {
                let file = folder.join(INDEX).display().to_string();
                Error::SchedulerFile { file, cause }
            }
            cause => Error::SchedulerFile { file: path.display().to_string(), cause },
        })
    }

    /// The configuration and weight files of a checkpoint folder: all files that its output depends on.
    ///
    /// # Errors
    /// A weight file is missing.
    pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> =
            ["text_encoder", "unet", "vae"].map(|part| folder.join(part).join("config.json")).into();
        files.push(scheduler_file(folder));
        if index_decides(folder)? {
            files.push(folder.join(INDEX));
        }
        for name in ["vocab.json", "merges.txt", "tokenizer.json", "special_tokens_map.json", "tokenizer_config.json"] {
            files.extend(Some(folder.join("tokenizer").join(name)).filter(|path| path.is_file()));
        }
        files.extend(weight_files(folder, "text_encoder", "model")?);
        files.extend(weight_files(folder, "unet", "diffusion_pytorch_model")?);
        files.extend(weight_files(folder, "vae", "diffusion_pytorch_model")?);
        Ok(files)
    }
}

/// The configurations of a checkpoint's networks, checked to fit together.
pub(crate) struct Parts {
    pub(crate) text: TextConfig,
    pub(crate) unet: UnetConfig,
    pub(crate) vae: VaeConfig,
}

impl Parts {
    pub(crate) fn read(folder: &Path) -> Result<Parts> {
        if !folder.join(INDEX).is_file() {
            let hint = "hint: a checkpoint is a folder in the diffusers layout, with unet, vae, text_encoder, tokenizer and scheduler";
            let what = match folder {
                _ if folder.is_dir() => "no model_index.json in this folder",
                _ if folder.exists() => "a file, not a folder",
                _ => "no such folder",
            };
            return Err(file(folder, format!("{what}\n{hint}")));
        }
        let text = TextConfig::read(&config(folder, "text_encoder")?)?;
        let unet = UnetConfig::read(&config(folder, "unet")?)?;
        let vae = VaeConfig::read(&config(folder, "vae")?)?;
        agree(folder, &text, &unet, &vae)?;
        Ok(Parts { text, unet, vae })
    }
}

fn config(folder: &Path, part: &str) -> Result<Config> {
    let path = folder.join(part).join("config.json");
    let text = read(&path)?;
    Ok(Config::parse(&path.display().to_string(), &text)?)
}

/// The file that every checkpoint folder has. It names the class of each part.
const INDEX: &str = "model_index.json";

fn scheduler_file(folder: &Path) -> PathBuf {
    folder.join("scheduler/scheduler_config.json")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => file(path, "no such file"),
        _ => file(path, error),
    })
}

/// The scheduler's class in `model_index.json`, which is written as `["diffusers", "PNDMScheduler"]`.
fn class_of_index(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(INDEX);
    if !path.is_file() {
        return Ok(None); // a folder with a scheduler alone
    }
    let index: serde_json::Value = serde_json::from_str(&read(&path)?).map_err(|error| file(&path, error))?;
    Ok(index["scheduler"][1].as_str().map(str::to_owned))
}

/// Whether `model_index.json` names a class for the scheduler other than the one in the scheduler's own file.
fn index_decides(folder: &Path) -> Result<bool> {
    let path = scheduler_file(folder);
    let own = schedulers::Config::from_json(&read(&path)?).ok().map(|config| config.class().to_string());
    Ok(class_of_index(folder)?.is_some_and(|class| own != Some(class)))
}

fn in_pipeline(folder: &Path, scheduler: &schedulers::Config) -> Result<schedulers::Config> {
    let file = || scheduler_file(folder).display().to_string();
    scheduler.in_pipeline().map_err(|cause| Error::SchedulerFile { file: file(), cause })
}

/// Checks that the parts of a checkpoint fit together.
fn agree(folder: &Path, text: &TextConfig, unet: &UnetConfig, vae: &VaeConfig) -> Result<()> {
    if unet.cross_attention_dim != text.hidden_size {
        let cause = format!(
            "the UNet takes {} text features (cross_attention_dim), but the text encoder returns {} (hidden_size)",
            unet.cross_attention_dim, text.hidden_size
        );
        return Err(file(folder, cause));
    }
    if unet.in_channels != vae.latent_channels {
        let cause = format!(
            "the UNet takes {} channels (in_channels), but the VAE returns {} (latent_channels)\nhint: 9 is an inpainting model and 8 an instruction model; neither is supported",
            unet.in_channels, vae.latent_channels
        );
        return Err(file(folder, cause));
    }
    Ok(())
}

/// The weight files of a part: one file, or the shards that an index lists. The fp16 variant is used only if there is
/// no f32 file.
fn weight_files(folder: &Path, part: &str, stem: &str) -> Result<Vec<PathBuf>> {
    let folder = folder.join(part);
    for variant in ["", ".fp16"] {
        let whole = folder.join(format!("{stem}{variant}.safetensors"));
        if whole.is_file() {
            return Ok(vec![whole]);
        }
        let index = folder.join(format!("{stem}.safetensors.index{variant}.json"));
        if index.is_file() {
            return shards(&index);
        }
    }
    let whole = folder.join(format!("{stem}.safetensors"));
    let pickled = ["bin", "ckpt", "pt"].iter().any(|ending| {
        folder.join(format!("pytorch_model.{ending}")).is_file() || folder.join(format!("{stem}.{ending}")).is_file()
    });
    let hint = match pickled {
        true => {
            "\nhint: there is a pickled file in this folder; Latentrace does not load pickles, so convert it to safetensors"
        }
        false => "",
    };
    Err(file(&whole, format!("no such file{hint}")))
}

fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let text = read(index)?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| file(index, error))?;
    let map = json["weight_map"].as_object().ok_or_else(|| file(index, "no weight_map"))?;
    let mut names: Vec<&str> = map.values().filter_map(|name| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if let Some(outside) = names.iter().find(|name| name.contains(['/', '\\'])) {
        return Err(file(index, format!("{outside}: a shard must be in the folder of its index")));
    }
    let folder = index.parent().unwrap_or(Path::new("."));
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}
