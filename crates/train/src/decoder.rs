//! Training of the VAE's decoder by itself.

use crate::autoencoder::{Autoencoder, difference, joined, load, named, noise_beside};
use crate::crew::{Parts, Share, Start, shares};
use crate::descent::Descent;
use crate::draws::Draws;
use crate::error::Result;
use crate::optimizer::Optimizer;
use crate::recipe::{DecoderRecipe, Phase, Recipe};
use crate::watch::Watcher;
use crate::{Training, TrainingSet, checkpoint};
use latentrace_nn::Pass;
use latentrace_nn::tch::{Device, Tensor, no_grad};
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
    let &Training { recipe, folder, device, pace, .. } = training;
    let Some(of) = &recipe.decoder else { return Ok(autoencoder) };
    let weights = autoencoder.weights;
    let mut optimizer = Optimizer::new(trained(&trainable(recipe, &weights, device)?.1));
    let starts = shares(recipe.threads, device).into_iter().map(|parts| -> Start<'_> {
        let weights = weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Box::new(move || {
            let (vae, variables) = trainable(recipe, &weights, device)?;
            let (of, noise) = (of.clone(), of.noise / scaling_factor);
            Ok(Box::new(Encoded { recipe: recipe.clone(), of, vae, variables, noise, pictures, parts }))
        })
    });
    let descent = Descent { recipe, phase: Phase::Decoder, folder, pace };
    descent.run(&mut optimizer, starts.collect(), watcher, &mut |_, _| Ok(()))?;
    let mut weights = weights;
    weights.extend(optimizer.averages());
    Ok(Autoencoder { weights })
}

/// A VAE with these weights, and all its variables by `vae/name`.
fn trainable(
    recipe: &Recipe,
    weights: &BTreeMap<String, Tensor>,
    device: Device,
) -> Result<(Vae, Vec<(String, Tensor)>)> {
    let (vae, variables) = load(recipe, device)?;
    let mut variables = named(&variables);
    checkpoint::set(&mut variables, weights)?;
    Ok((vae, variables))
}

/// The variables that the decoder's training changes.
fn trained(variables: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let is_decoder = |name: &str| ["vae/decoder.", "vae/post_quant_conv."].iter().any(|part| name.starts_with(part));
    let own = variables.iter().filter(|(name, _)| is_decoder(name));
    own.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

/// A share of every batch of pictures, whose latents get noise.
struct Encoded<'a> {
    recipe: Recipe,
    of: DecoderRecipe,
    vae: Vae,
    variables: Vec<(String, Tensor)>,
    /// The deviation of the noise of latents.
    noise: f64,
    pictures: &'a TrainingSet,
    parts: Parts,
}

impl Share for Encoded<'_> {
    fn variables(&self) -> Vec<(String, Tensor)> {
        trained(&self.variables)
    }

    fn batch(&self, step: u64) -> Result<Vec<Tensor>> {
        let size = self.of.training.batch / self.recipe.threads;
        let part = |part| {
            let mut stream = Draws::Decoder.stream(self.recipe.seed, step, part);
            let picture = self.pictures.drawn(&mut stream, size);
            let noise = noise_beside(&picture, &self.recipe, stream.bits());
            [picture, noise]
        };
        Ok(joined(self.parts.clone().map(part)))
    }

    fn loss(&self, batch: &[Tensor]) -> Tensor {
        let [picture, noise] = [&batch[0], &batch[1]];
        let latents = no_grad(|| self.vae.encode(&mut Pass::silent(), picture).mean + noise * self.noise);
        let back = self.vae.decode(&mut Pass::silent(), &latents);
        difference(&back, picture, self.recipe.autoencoder.edges)
    }
}
