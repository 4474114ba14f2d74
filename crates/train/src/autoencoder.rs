//! Training of the VAE.

use crate::crew::{Parts, Share, Start, shares};
use crate::descent::Descent;
use crate::draws::Draws;
use crate::error::Result;
use crate::networks::Networks;
use crate::optimizer::Optimizer;
use crate::recipe::{Phase, Recipe};
use crate::watch::Watcher;
use crate::{Training, TrainingSet, checkpoint, vocabulary};
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Pass, Variables, Weights, seeded};
use latentrace_vae::Vae;
use std::collections::BTreeMap;

/// A trained autoencoder.
pub(crate) struct Autoencoder {
    /// Its weights, by `vae/name`.
    pub(crate) weights: BTreeMap<String, Tensor>,
}

/// Trains the VAE on pictures. The loss is the [`difference`] of the decoded picture, and the Kullback-Leibler divergence of the
/// latents from a standard normal (Kingma and Welling 2013, equation 10). A training that begins with a checkpoint has its VAE.
pub(crate) fn autoencoder(
    training: &Training,
    pictures: &TrainingSet,
    watcher: &mut dyn Watcher,
) -> Result<Autoencoder> {
    let &Training { recipe, start, folder, device, pace } = training;
    if let Some(start) = start {
        return Ok(Autoencoder { weights: checkpoint::read(start, "vae")? });
    }
    let mut optimizer = Optimizer::new(named(&load(recipe, device)?.1));
    let starts = shares(recipe.threads, device).into_iter().map(|parts| -> Start<'_> {
        Box::new(move || {
            let (vae, variables) = load(recipe, device)?;
            Ok(Box::new(Drawn { recipe: recipe.clone(), vae, variables, pictures, parts }))
        })
    });
    let descent = Descent { recipe, phase: Phase::Autoencoder, folder, pace };
    descent.run(&mut optimizer, starts.collect(), watcher, &mut |_, _| Ok(()))?;
    Ok(Autoencoder { weights: optimizer.averages() })
}

pub(crate) fn load(recipe: &Recipe, device: Device) -> Result<(Vae, Variables)> {
    let (weights, variables) = Weights::trainable("vae", recipe.seed, device);
    let vae = Vae::load(&weights, &Networks::of(recipe, vocabulary::SPECIALS)?.vae)?;
    Ok((vae, variables))
}

pub(crate) fn named(variables: &Variables) -> Vec<(String, Tensor)> {
    variables.named().into_iter().map(|(name, tensor)| (format!("vae/{name}"), tensor)).collect()
}

/// A share of every batch of drawn pictures.
struct Drawn<'a> {
    recipe: Recipe,
    vae: Vae,
    variables: Variables,
    pictures: &'a TrainingSet,
    parts: Parts,
}

impl Drawn<'_> {
    /// The pictures of one part of a batch, and the noise of their latents.
    fn part(&self, step: u64, part: usize) -> [Tensor; 2] {
        let of = &self.recipe.autoencoder;
        let mut stream = Draws::Batch.stream(self.recipe.seed, step, part);
        let size = of.training.batch / self.recipe.threads;
        let picture = if step < of.crops.steps {
            let count = (size * (self.recipe.side / of.crops.side).pow(2)).max(1);
            self.pictures.crops(&mut stream, count, of.crops.side)
        } else {
            self.pictures.drawn(&mut stream, size)
        };
        let noise = noise_beside(&picture, &self.recipe, stream.bits());
        [picture, noise]
    }
}

/// Standard normal noise of the size of the latents of pictures `[batch, 3, height, width]`, .
pub(crate) fn noise_beside(picture: &Tensor, recipe: &Recipe, seed: u64) -> Tensor {
    let (size, halvings) = (picture.size(), recipe.autoencoder.channels.len() - 1);
    let latents = [size[0], recipe.autoencoder.latent_channels, size[2] >> halvings, size[3] >> halvings];
    seeded(seed, || Tensor::randn(latents, (Kind::Float, Device::Cpu)))
}

/// Tensors of parts of a batch, each with those of all parts, one after another.
pub(crate) fn joined<const N: usize>(parts: impl Iterator<Item = [Tensor; N]>) -> Vec<Tensor> {
    let parts: Vec<[Tensor; N]> = parts.collect();
    (0..N).map(|tensor| Tensor::cat(&parts.iter().map(|part| &part[tensor]).collect::<Vec<_>>(), 0)).collect()
}

impl Share for Drawn<'_> {
    fn variables(&self) -> Vec<(String, Tensor)> {
        named(&self.variables)
    }

    fn batch(&self, step: u64) -> Result<Vec<Tensor>> {
        Ok(joined(self.parts.clone().map(|part| self.part(step, part))))
    }

    fn loss(&self, batch: &[Tensor]) -> Tensor {
        let (of, [picture, noise]) = (&self.recipe.autoencoder, [&batch[0], &batch[1]]);
        let posterior = self.vae.encode(&mut Pass::silent(), picture);
        let back = self.vae.decode(&mut Pass::silent(), &posterior.sample(noise));
        let (mean, log_variance) = (&posterior.mean, &posterior.log_variance);
        let divergence = (mean.square() + log_variance.exp() - 1.0 - log_variance).mean(Kind::Float) * 0.5;
        difference(&back, picture, of.edges) + divergence * of.divergence
    }
}

/// The loss of a decoded picture: the mean absolute and mean squared error, and, with the weight `edges`, the mean absolute error
/// of differences between neighbouring pixels, which a soft edge has in full.
pub(crate) fn difference(back: &Tensor, picture: &Tensor, edges: f64) -> Tensor {
    let error = back - picture;
    error.abs().mean(Kind::Float) + error.square().mean(Kind::Float) + edges * steps(&error)
}

/// The mean absolute difference between neighbours in a row, plus that in a column, of `[batch, channels, height, width]`.
fn steps(picture: &Tensor) -> Tensor {
    let along = |axis| picture.diff::<Tensor>(1, axis, None, None).abs().mean(Kind::Float);
    along(3) + along(2)
}
