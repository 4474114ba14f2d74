//! Training of the VAE.

use crate::checkpoint::VAE;
use crate::descent::descend;
use crate::error::Result;
use crate::optimizer::Optimizer;
use crate::{Recipe, TrainingProgress, TrainingSet};
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Config, Pass, Weights, seeded};
use latentrace_vae::{Vae, VaeConfig};
use std::collections::BTreeMap;
use std::path::Path;

/// A trained autoencoder.
pub struct Autoencoder {
    /// The network with its trained weights.
    pub vae: Vae,
    /// Its weights, by `vae/name`.
    pub weights: BTreeMap<String, Tensor>,
}

const PHASE: &str = "autoencoder";

/// Trains the VAE on pictures. The loss is the mean absolute error plus the mean squared error of the decoded picture,
/// and the Kullback-Leibler divergence of the latents from a standard normal (Kingma and Welling 2013, equation 10).
/// Resumes from the state in `folder`, if there is one.
///
/// # Errors
/// If the state cannot be read or written, or the loss is no longer finite.
pub fn autoencoder(
    recipe: &Recipe,
    pictures: &TrainingSet,
    folder: &Path,
    device: Device,
    report: impl FnMut(TrainingProgress),
) -> Result<Autoencoder> {
    let phase = &recipe.autoencoder;
    let config = VaeConfig::read(&Config::parse("vae/config.json", &VAE.to_string())?)?;
    let (weights, variables) = Weights::trainable("vae", recipe.seed, device);
    let vae = Vae::load(&weights, &config)?;
    let mut optimizer = Optimizer::new(&[("vae", &variables)]);
    let state = folder.join("autoencoder.safetensors");
    descend(PHASE, phase, &mut optimizer, &state, report, |step| Ok(loss(recipe, &vae, pictures, step, device)))?;
    optimizer.settle();
    Ok(Autoencoder { vae, weights: optimizer.averages() })
}

fn loss(recipe: &Recipe, vae: &Vae, pictures: &TrainingSet, step: u64, device: Device) -> Tensor {
    let batch = recipe.autoencoder.batch as i64;
    let options = (Kind::Float, Device::Cpu);
    let (numbers, noise) = seeded(recipe.seed ^ (step << 20), || {
        let numbers = Tensor::randint(pictures.scenes.len() as i64, [batch], (Kind::Int64, Device::Cpu));
        (numbers, Tensor::randn([batch, 4, 8, 8], options).to_device(device))
    });
    let picture = pictures.batch(&numbers, device);
    let posterior = vae.encode(&mut Pass::silent(), &picture);
    let back = vae.decode(&mut Pass::silent(), &posterior.sample(&noise));
    let difference = back - picture;
    let reconstruction = difference.abs().mean(Kind::Float) + difference.square().mean(Kind::Float);
    let (mean, log_variance) = (&posterior.mean, &posterior.log_variance);
    let divergence = (mean.square() + log_variance.exp() - 1.0 - log_variance).mean(Kind::Float) * 0.5;
    reconstruction + divergence * recipe.divergence
}
