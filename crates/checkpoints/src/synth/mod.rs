//! Checkpoints with random weights, of published architectures: to try a loader or to measure speed without a download.

use crate::checkpoint::Ids;
use crate::error::{Result, file};
use crate::index::{INDEX, Pipeline, SECOND, SLOTS, Slot};
use crate::input::UnetInput;
use latentrace_nn::tch::{Device, Kind, no_grad};
use latentrace_nn::{Config, Lazy, Weights, create_safetensors, replace};
use latentrace_text::{TextConfig, TextEncoder, Vocabulary};
use latentrace_unet::{Unet, UnetConfig};
use latentrace_vae::{Vae, VaeConfig};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

mod configs;

/// A published architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Stable Diffusion 1.x.
    Sd1,
    /// Stable Diffusion 2.1 for 768 pixels, which predicts v.
    Sd2,
    /// Stable Diffusion 2.1 base for 512 pixels, which predicts noise.
    Sd2Base,
    /// Stable Diffusion XL, for 1024 pixels, with two text encoders.
    Sdxl,
    /// SDXL-Turbo: SDXL for 512 pixels and few steps without guidance.
    SdxlTurbo,
    /// The refiner of SDXL, with the second text encoder alone.
    SdxlRefiner,
}

impl Architecture {
    /// The token that a tokenizer pads prompts with.
    fn padding(self, slot: Slot) -> &'static str {
        match self {
            Architecture::Sd2 | Architecture::Sd2Base => "!",
            _ if slot == SECOND => "!",
            _ => "<|endoftext|>",
        }
    }
}

/// A checkpoint with random weights.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    /// The architecture.
    pub architecture: Architecture,
    /// What the UNet takes.
    pub input: UnetInput,
    /// The share of the published widths, above 0 and at most 1. Widths are rounded to what the layers need. Below 1,
    /// models of SDXL have fewer layers too.
    pub width: f64,
    /// The number format of the files.
    pub kind: Kind,
    /// The seed of the weights.
    pub seed: u64,
}

impl Synthetic {
    /// Writes a folder in the diffusers layout. `to` must not exist. Needs little more memory than the largest tensor.
    /// The tokenizers know bytes and no words.
    ///
    /// # Errors
    /// `to` exists or cannot be written.
    pub fn write(&self, to: &Path) -> Result<()> {
        let known = self.configs();
        let texts: Vec<Slot> = SLOTS.into_iter().filter(|slot| known[slot.encoder].is_object()).collect();
        let of_texts = texts.iter().flat_map(|slot| [slot.encoder, slot.tokenizer]);
        let parts: Vec<&str> = of_texts.chain(["unet", "vae", "scheduler"]).collect();
        crate::whole::folder(to, &parts, |at| {
            for part in texts.iter().map(|slot| slot.encoder).chain(["unet", "vae"]) {
                replace(&at.join(part).join("config.json"), format!("{:#}\n", known[part]).as_bytes())?;
            }
            let scheduler = &known["scheduler"];
            replace(&at.join("scheduler/scheduler_config.json"), format!("{scheduler:#}\n").as_bytes())?;
            for slot in &texts {
                Vocabulary::of(Vec::new())
                    .write(&at.join(slot.tokenizer), LENGTH, self.architecture.padding(*slot))
                    .map_err(|error| file(to, error))?;
            }
            self.networks(at, &texts, &known)
        })
    }

    /// Writes the weights of the parts, and the index that names them.
    fn networks(&self, at: &Path, texts: &[Slot], known: &Value) -> Result<()> {
        let config = |part: &str| Config::parse(part, &known[part].to_string());
        let mut indexed = Vec::new();
        for slot in texts {
            let text = TextConfig::read(&config(slot.encoder)?)?;
            indexed.push((*slot, text.projection.is_some()));
            self.weights(&at.join(slot.encoder).join("model.safetensors"), slot.encoder, |weights| {
                TextEncoder::load(weights, &text).map(drop)
            })?;
        }
        let (unet, vae) = (UnetConfig::read(&config("unet")?)?, VaeConfig::read(&config("vae")?)?);
        self.weights(&at.join("unet/diffusion_pytorch_model.safetensors"), "unet", |weights| {
            Unet::load(weights, &unet).map(drop)
        })?;
        self.weights(&at.join("vae/diffusion_pytorch_model.safetensors"), "vae", |weights| {
            Vae::load(weights, &vae).map(drop)
        })?;
        let ids = self.architecture.ids();
        let scheduler = known["scheduler"]["_class_name"].as_str().unwrap_or("PNDMScheduler").to_owned();
        // The refiner is for pictures that the base has begun, and its negative prompt is encoded.
        let pipeline = Pipeline { scheduler, input: self.input, texts: indexed, ids, zeros: ids == Some(Ids::Target) };
        Ok(replace(&at.join(INDEX), format!("{:#}\n", pipeline.index()).as_bytes())?)
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
}

/// The number of tokens of a prompt.
const LENGTH: usize = 77;
