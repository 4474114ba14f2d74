//! The latents of all pictures of a training, kept in a file, because a resumed training would encode them again.

use crate::autoencoder::{Autoencoder, load, named};
use crate::crew::shares;
use crate::error::Result;
use crate::recipe::{Phase, Recipe};
use crate::space::encoded;
use crate::state::{self, State};
use crate::{Clean, TrainingSet, checkpoint};
use latentrace_nn::hold_threads;
use latentrace_nn::tch::{Device, Tensor};
use latentrace_vae::Vae;
use std::collections::BTreeMap;
use std::path::Path;

/// The latents, scaled to unit variance, and the factor. From the file in `folder`, if it is of this VAE.
pub(crate) fn normalised<'a>(
    recipe: &Recipe,
    pictures: &'a TrainingSet,
    autoencoder: &Autoencoder,
    folder: &Path,
    device: Device,
) -> Result<(Clean<'a>, f64)> {
    let path = folder.join("latents.safetensors");
    let side = (recipe.side >> (recipe.autoencoder.channels.len() - 1)) as i64;
    let shape = [pictures.scenes.len() as i64, recipe.autoencoder.latent_channels, side, side];
    let latents = match kept(recipe, &path, &shape)? {
        Some(latents) => latents,
        None => {
            let latents = parallel(recipe, pictures, autoencoder, device)?;
            state::write(&path, &[("latents", &latents)], recipe.autoencoder.training.steps, Some(&recipe.json()))?;
            latents
        }
    };
    let scale = 1.0 / latents.std(false).double_value(&[]);
    Ok((Clean::of(pictures, latents * scale, Device::Cpu), scale))
}

/// The latents in the file; `None` if there is none, or it is of another VAE.
fn kept(recipe: &Recipe, path: &Path, shape: &[i64]) -> Result<Option<Tensor>> {
    let Some(state) = State::read(path)? else { return Ok(None) };
    let same = state.recipe.as_ref().is_some_and(|saved| {
        recipe.check_state(Phase::Autoencoder, saved, state.step, path).is_ok()
            && state.step == recipe.autoencoder.training.steps
    });
    if same { state.tensor("latents", shape).map(Some) } else { Ok(None) }
}

/// Encodes all pictures, each thread a part of them.
fn parallel(recipe: &Recipe, pictures: &TrainingSet, autoencoder: &Autoencoder, device: Device) -> Result<Tensor> {
    let count = pictures.scenes.len();
    let share = count.div_ceil(shares(recipe.threads, device).len());
    let parts: Vec<Result<Tensor>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .step_by(share)
            .map(|from| {
                let weights =
                    autoencoder.weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
                scope.spawn(move || {
                    let _one = hold_threads(1);
                    let vae = again(recipe, &weights, device)?;
                    let numbers: Vec<usize> = (from..(from + share).min(count)).collect();
                    Ok(encoded(pictures, &numbers, &vae, device).to_device(Device::Cpu))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(crate::Error::Thread))).collect()
    });
    let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&parts, 0))
}

/// The VAE of these weights, for this thread.
fn again(recipe: &Recipe, weights: &BTreeMap<String, Tensor>, device: Device) -> Result<Vae> {
    let (vae, variables) = load(recipe, device)?;
    checkpoint::set(&mut named(&variables), weights)?;
    Ok(vae)
}
