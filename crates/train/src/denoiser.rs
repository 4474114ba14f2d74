//! Training of the UNet together with the text encoder.

use crate::autoencoder::Autoencoder;
use crate::batches::Batches;
use crate::checkpoint::{SCHEDULER, text_config};
use crate::descent::descend;
use crate::error::Result;
use crate::optimizer::Optimizer;
use crate::{Clean, Recipe, Space, TrainingProgress, TrainingSet};
use latentrace_nn::tch::{Device, Tensor};
use latentrace_nn::{Config, Pass, Weights};
use latentrace_text::Vocabulary;
use latentrace_text::{TextConfig, TextEncoder};
use latentrace_unet::Unet;
use std::collections::BTreeMap;
use std::path::Path;

/// A trained denoiser.
pub struct Denoiser {
    /// The weights of both networks, by `unet/name` and `text_encoder/name`.
    pub weights: BTreeMap<String, Tensor>,
    /// The factor by which the VAE's latents are multiplied.
    pub scaling_factor: f64,
}

const PHASE: &str = "denoiser";

/// Trains UNet and text encoder together to predict the velocity `sqrt(a) eps - sqrt(1 - a) x0` (Salimans and Ho 2022)
/// of noisy latents, with captions of random detail. At high noise the velocity is nearly the picture itself: there
/// position and background are decided, and a network that predicts noise learns almost nothing. Resumes from the state
/// in `folder`, if there is one.
///
/// # Errors
/// If the state cannot be read or written, or the loss is no longer finite.
pub fn denoiser(
    recipe: &Recipe,
    pictures: &TrainingSet,
    autoencoder: &Autoencoder,
    vocabulary: &Vocabulary,
    folder: &Path,
    device: Device,
    report: impl FnMut(TrainingProgress),
) -> Result<Denoiser> {
    let phase = &recipe.denoiser;
    let (unet_weights, unet_variables) = Weights::trainable("unet", recipe.seed, device);
    let (text_weights, text_variables) = Weights::trainable("text_encoder", recipe.seed, device);
    let text = Config::parse("text_encoder/config.json", &text_config(vocabulary.len()).to_string())?;
    let networks = Networks {
        unet: Unet::load(&unet_weights, &Space::Latents.unet()?)?,
        text: TextEncoder::load(&text_weights, &TextConfig::read(&text)?)?,
    };
    let mut optimizer = Optimizer::new(&[("unet", &unet_variables), ("text_encoder", &text_variables)]);
    let state = folder.join("denoiser.safetensors");
    let tokenizer = crate::vocabulary::tokenizer(vocabulary, &folder.join("tokenizer"))?;
    let (clean, scaling_factor) = Clean::normalised(pictures, &autoencoder.vae, device);
    let scheduler = latentrace_schedulers::Config::from_json(&SCHEDULER.to_string())?;
    let mut batches = Batches::new(&clean, &tokenizer, &scheduler);
    descend(PHASE, phase, &mut optimizer, &state, report, |step| {
        let batch = batches.batch(recipe.seed, step, phase.batch)?;
        let text = networks.text.forward(&mut Pass::silent(), &batch.ids);
        Ok(batch.loss(&networks.unet, &text))
    })?;
    Ok(Denoiser { weights: optimizer.averages(), scaling_factor })
}

struct Networks {
    unet: Unet,
    text: TextEncoder,
}
