//! Training of the UNet together with the text encoder.

use crate::autoencoder::{Autoencoder, joined};
use crate::batches::{Batch, Batches};
use crate::checkpoint;
use crate::crew::{Parts, Share, Start, shares};
use crate::descent::Descent;
use crate::error::Result;
use crate::networks::Networks;
use crate::optimizer::Optimizer;
use crate::recipe::{Phase, Recipe};
use crate::watch::Watcher;
use crate::{Training, TrainingSet, latents};
use latentrace_nn::tch::{Device, Tensor};
use latentrace_nn::{Pass, Variables, Weights};
use latentrace_text::{TextEncoder, Vocabulary};
use latentrace_unet::Unet;
use std::collections::BTreeMap;

/// A trained denoiser.
pub(crate) struct Denoiser {
    /// The weights of both networks, by `unet/name` and `text_encoder/name`.
    pub(crate) weights: BTreeMap<String, Tensor>,
    /// The factor by which the VAE's latents are multiplied.
    pub(crate) scaling_factor: f64,
}

/// Trains UNet and text encoder together to predict the velocity `sqrt(a) eps - sqrt(1 - a) x0` (Salimans and Ho 2022)
/// of noisy latents, with captions of random detail. At high noise the velocity is nearly the picture itself: there
/// position and background are decided, and a network that predicts noise learns almost nothing. The watcher gets
/// checkpoints in the folder `latest`.
pub(crate) fn denoiser(
    training: &Training,
    pictures: &TrainingSet,
    autoencoder: &Autoencoder,
    vocabulary: &Vocabulary,
    watcher: &mut dyn Watcher,
) -> Result<Denoiser> {
    let &Training { recipe, start, folder, device, pace } = training;
    let tokenizer = crate::vocabulary::tokenizer(vocabulary, &folder.join("tokenizer"))?;
    let (clean, scaling_factor) = latents::normalised(recipe, pictures, autoencoder, folder, device)?;
    let scheduler = recipe.noise()?;
    let two = Two::load(recipe, vocabulary.len(), device)?;
    if let Some(start) = start {
        let mut weights = checkpoint::read(start, "unet")?;
        weights.extend(checkpoint::read(start, "text_encoder")?);
        checkpoint::set(&mut two.named(), &weights)?;
    }
    let mut optimizer = Optimizer::new(two.named());
    let (size, weighting, tokens) =
        (recipe.denoiser.training.batch / recipe.threads, recipe.denoiser.weighting, vocabulary.len());
    let starts = shares(recipe.threads, device).into_iter().map(|parts| -> Start<'_> {
        let (clean, tokenizer, scheduler) = (clean.again(), &tokenizer, &scheduler);
        Box::new(move || {
            let batches = Batches::new(clean, tokenizer, scheduler, weighting, recipe.seed);
            Ok(Box::new(Captioned { two: Two::load(recipe, tokens, device)?, batches, parts, size }))
        })
    });
    let latest = folder.join("latest");
    let mut look = |optimizer: &Optimizer, watcher: &mut dyn Watcher| {
        let denoiser = Denoiser { weights: optimizer.averages(), scaling_factor };
        checkpoint::write(&latest, recipe, vocabulary, autoencoder, &denoiser)?;
        watcher.checkpoint(optimizer.step, &latest)
    };
    let descent = Descent { recipe, phase: Phase::Denoiser, folder, pace };
    descent.run(&mut optimizer, starts.collect(), watcher, &mut look)?;
    Ok(Denoiser { weights: optimizer.averages(), scaling_factor })
}

/// The two networks, and their variables.
struct Two {
    unet: Unet,
    text: TextEncoder,
    variables: [(&'static str, Variables); 2],
}

impl Two {
    fn load(recipe: &Recipe, tokens: usize, device: Device) -> Result<Two> {
        let networks = Networks::of(recipe, tokens)?;
        let (unet, unet_variables) = Weights::trainable("unet", recipe.seed, device);
        let (text, text_variables) = Weights::trainable("text_encoder", recipe.seed, device);
        Ok(Two {
            unet: Unet::load(&unet, &networks.unet)?,
            text: TextEncoder::load(&text, &networks.text)?,
            variables: [("unet", unet_variables), ("text_encoder", text_variables)],
        })
    }

    fn named(&self) -> Vec<(String, Tensor)> {
        let of = |(part, variables): &(&'static str, Variables)| {
            let part = *part;
            variables.named().into_iter().map(move |(name, tensor)| (format!("{part}/{name}"), tensor))
        };
        self.variables.iter().flat_map(of).collect()
    }
}

/// A share of every batch of noisy latents with captions.
struct Captioned<'a> {
    two: Two,
    batches: Batches<'a>,
    parts: Parts,
    size: usize,
}

impl Share for Captioned<'_> {
    fn variables(&self) -> Vec<(String, Tensor)> {
        self.two.named()
    }

    fn batch(&self, step: u64) -> Result<Vec<Tensor>> {
        let part = |part| Ok(self.batches.part(step, part, self.size)?.into_tensors());
        Ok(joined(self.parts.clone().map(part).collect::<Result<Vec<_>>>()?.into_iter()))
    }

    fn loss(&self, batch: &[Tensor]) -> Tensor {
        let batch = Batch::of(batch);
        let text = self.two.text.forward(&mut Pass::silent(), &batch.ids);
        batch.loss(&self.two.unet, &text)
    }
}
