//! Checkpoints with random weights, of published architectures: to try a loader or to measure speed without a download.

use crate::error::{Result, file};
use crate::index::{INDEX, of_pipeline};
use crate::input::UnetInput;
use latentrace_nn::tch::{Device, Kind, no_grad};
use latentrace_nn::{Config, Lazy, Weights, create_safetensors, replace};
use latentrace_text::{TextConfig, TextEncoder, Vocabulary};
use latentrace_unet::{Unet, UnetConfig};
use latentrace_vae::{Vae, VaeConfig};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// A published architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Stable Diffusion 1.x.
    Sd1,
    /// Stable Diffusion 2.1 for 768 pixels, which predicts v.
    Sd2,
    /// Stable Diffusion 2.1 base for 512 pixels, which predicts noise.
    Sd2Base,
}

/// A checkpoint with random weights.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    /// The architecture.
    pub architecture: Architecture,
    /// What the UNet takes.
    pub input: UnetInput,
    /// The share of the published widths, above 0 and at most 1. Widths are rounded to what the layers need.
    pub width: f64,
    /// The number format of the files.
    pub kind: Kind,
    /// The seed of the weights.
    pub seed: u64,
}

impl Synthetic {
    /// Writes a folder in the diffusers layout. `to` must not exist. Needs little more memory than the largest tensor.
    /// The tokenizer knows bytes and no words.
    ///
    /// # Errors
    /// `to` exists or cannot be written.
    pub fn write(&self, to: &Path) -> Result<()> {
        crate::whole::folder(to, &["text_encoder", "unet", "vae", "scheduler", "tokenizer"], |at| {
            let known = self.configs();
            for part in ["text_encoder", "unet", "vae"] {
                replace(&at.join(part).join("config.json"), format!("{:#}\n", known[part]).as_bytes())?;
            }
            let scheduler = &known["scheduler"];
            replace(&at.join("scheduler/scheduler_config.json"), format!("{scheduler:#}\n").as_bytes())?;
            let index = of_pipeline(scheduler["_class_name"].as_str().unwrap_or("PNDMScheduler"), self.input);
            replace(&at.join(INDEX), format!("{index:#}\n").as_bytes())?;
            let padding = if self.architecture == Architecture::Sd1 { "<|endoftext|>" } else { "!" };
            Vocabulary::of(Vec::new())
                .write(&at.join("tokenizer"), LENGTH, padding)
                .map_err(|error| file(to, error))?;
            let config = |part: &str| Config::parse(part, &known[part].to_string());
            let (text, unet, vae) = (
                TextConfig::read(&config("text_encoder")?)?,
                UnetConfig::read(&config("unet")?)?,
                VaeConfig::read(&config("vae")?)?,
            );
            self.weights(&at.join("text_encoder/model.safetensors"), "text_encoder", |weights| {
                TextEncoder::load(weights, &text).map(drop)
            })?;
            self.weights(&at.join("unet/diffusion_pytorch_model.safetensors"), "unet", |weights| {
                Unet::load(weights, &unet).map(drop)
            })?;
            self.weights(&at.join("vae/diffusion_pytorch_model.safetensors"), "vae", |weights| {
                Vae::load(weights, &vae).map(drop)
            })
        })
    }

    /// Writes the weights of one network: each tensor is drawn when it is written, from the seed and its name.
    fn weights(&self, path: &Path, part: &str, load: impl Fn(&Weights) -> latentrace_nn::Result<()>) -> Result<()> {
        let (listing, asked) = Weights::asked(part, Kind::Float);
        no_grad(|| load(&listing))?;
        let lazy = |(name, (shape, init)): (String, (Vec<i64>, latentrace_nn::Init))| {
            let (wide, drawn, Synthetic { kind, seed, .. }) = (shape.clone(), name.clone(), *self);
            let make = move || {
                let weights = Weights::random("synthetic", seed, kind, Device::Cpu);
                weights.tensor(&drawn, &wide, init).unwrap_or_else(|_| unreachable!("a random source has every tensor"))
            };
            (name, Lazy { kind, shape, make: Box::new(make) })
        };
        let tensors = asked.take().into_iter().map(lazy).collect();
        Ok(create_safetensors(path, tensors, HashMap::from([("format".into(), "pt".into())]))?)
    }

    /// The configurations, with scaled widths.
    fn configs(&self) -> Value {
        let mut known: Value = match self.architecture {
            Architecture::Sd1 => crate::single::SD1.clone(),
            Architecture::Sd2 | Architecture::Sd2Base => crate::single::SD2.clone(),
        };
        if self.architecture == Architecture::Sd2Base {
            crate::single::as_base(&mut known);
        }
        if self.width < 1.0 {
            self.narrow(&mut known);
        }
        let latents = known["vae"]["latent_channels"].as_i64().unwrap_or(4);
        known["unet"]["in_channels"] = self.input.channels(latents).into();
        known
    }

    fn narrow(&self, known: &mut Value) {
        // Multiples of 16 for the UNet and the VAE, so that 8 groups of a norm and 8 heads fit; of 64 for the text.
        let scaled = |width: i64, step: i64| (((width as f64 * self.width) / step as f64).round() as i64).max(1) * step;
        let (unet, vae) = (scaled(320, 16), scaled(128, 16));
        let text = scaled(known["text_encoder"]["hidden_size"].as_i64().unwrap_or(768), 64);
        known["unet"]["block_out_channels"] = json!([unet, 2 * unet, 4 * unet, 4 * unet]);
        known["unet"]["cross_attention_dim"] = text.into();
        known["vae"]["block_out_channels"] = json!([vae, 2 * vae, 4 * vae, 4 * vae]);
        for part in ["unet", "vae"] {
            known[part]["norm_num_groups"] = 8.into();
        }
        if self.architecture != Architecture::Sd1 {
            known["unet"]["attention_head_dim"] = json!([1, 2, 4, 4]);
        }
        known["text_encoder"]["hidden_size"] = text.into();
        known["text_encoder"]["intermediate_size"] = (4 * text).into();
        known["text_encoder"]["num_attention_heads"] = (text / 64).into();
    }
}

/// The number of tokens of a prompt.
const LENGTH: usize = 77;
