//! Training of the VAE's decoder by itself.

use crate::autoencoder::{Autoencoder, difference, load, named};
use crate::crew::{Part, Start};
use crate::descent::Descent;
use crate::draws::Draws;
use crate::error::Result;
use crate::optimizer::Optimizer;
use crate::recipe::{DecoderRecipe, Phase, Recipe};
use crate::watch::Watcher;
use crate::{Training, TrainingSet};
use latentrace_nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace_nn::{Pass, seeded};
use latentrace_vae::Vae;
use std::collections::BTreeMap;

/// Trains the decoder of a VAE further, if the recipe says so: its latents, and so the UNet, stay what they are (as the decoders
/// that were published after Stable Diffusion 1.4). It learns to decode latents that are as far off as sampled ones.
pub(crate) fn decoder(
    training: &Training,
    pictures: &TrainingSet,
    autoencoder: Autoencoder,
    scaling_factor: f64,
    watcher: &mut dyn Watcher,
) -> Result<Autoencoder> {
    let &Training { recipe, folder, device, pace } = training;
    let Some(of) = &recipe.decoder else { return Ok(autoencoder) };
    let weights: Vec<(String, Tensor)> = autoencoder.weights.into_iter().collect();
    let mut optimizer = Optimizer::new(trained(&trainable(recipe, &weights, device)?.1));
    let starts = (0..recipe.threads).map(|part| -> Start<'_> {
        let weights: Vec<(String, Tensor)> =
            weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Box::new(move || {
            let (vae, variables) = trainable(recipe, &weights, device)?;
            let (of, noise) = (of.clone(), of.noise / scaling_factor);
            Ok(Box::new(Encoded { recipe: recipe.clone(), of, vae, variables, noise, pictures, part, device }))
        })
    });
    let descent = Descent { recipe, phase: Phase::Decoder, folder, pace };
    descent.run(&mut optimizer, starts.collect(), watcher, &mut |_, _| Ok(()))?;
    let mut weights: BTreeMap<String, Tensor> = weights.into_iter().collect();
    weights.extend(optimizer.averages());
    Ok(Autoencoder { weights })
}

/// A VAE with these weights, and all its variables by `vae/name`.
fn trainable(recipe: &Recipe, weights: &[(String, Tensor)], device: Device) -> Result<(Vae, Vec<(String, Tensor)>)> {
    let (vae, variables) = load(recipe, device)?;
    let mut variables = named(&variables);
    no_grad(|| {
        for (name, variable) in &mut variables {
            if let Some((_, trained)) = weights.iter().find(|(known, _)| known == name) {
                variable.copy_(trained);
            }
        }
    });
    Ok((vae, variables))
}

/// The variables that the decoder's training changes.
fn trained(variables: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let is_decoder = |name: &str| ["vae/decoder.", "vae/post_quant_conv."].iter().any(|part| name.starts_with(part));
    let own = variables.iter().filter(|(name, _)| is_decoder(name));
    own.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

/// A part of every batch of pictures, encoded and with noise.
struct Encoded<'a> {
    recipe: Recipe,
    of: DecoderRecipe,
    vae: Vae,
    variables: Vec<(String, Tensor)>,
    /// The deviation of the noise of latents.
    noise: f64,
    pictures: &'a TrainingSet,
    part: usize,
    device: Device,
}

impl Part for Encoded<'_> {
    fn variables(&self) -> Vec<(String, Tensor)> {
        trained(&self.variables)
    }

    fn loss(&mut self, step: u64) -> Result<Tensor> {
        let mut stream = Draws::Decoder.stream(self.recipe.seed, step, self.part);
        let size = self.of.training.batch / self.recipe.threads;
        let picture = self.pictures.drawn(&mut stream, size, self.device);
        let posterior = no_grad(|| self.vae.encode(&mut Pass::silent(), &picture));
        let noise = seeded(stream.bits(), || Tensor::randn(posterior.mean.size(), (Kind::Float, Device::Cpu)));
        let latents = no_grad(|| &posterior.mean + noise.to_device(self.device) * self.noise);
        let back = self.vae.decode(&mut Pass::silent(), &latents);
        Ok(difference(&back, &picture, self.recipe.autoencoder.edges))
    }
}
