//! A whole training.

use crate::error::{Result, file};
use crate::watch::{Pace, Watcher};
use crate::{Recipe, TrainingSet, autoencoder::autoencoder, checkpoint, decoder::decoder, denoiser::denoiser, learn};
use latentrace_nn::{fixed_order_on_cuda, tch::Device};
use std::path::Path;

/// A training by a recipe, with its state in a folder.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// What decides the weights.
    pub recipe: &'a Recipe,
    /// The checkpoint with whose weights the training begins, if the recipe says that it begins with some
    /// ([`Recipe::start`]). Its VAE is taken as it is.
    pub start: Option<&'a Path>,
    /// The folder of the state, from which a stopped training goes on.
    pub folder: &'a Path,
    /// Where to compute.
    pub device: Device,
    /// How often to tell and save.
    pub pace: Pace,
}

/// The number of captions that the vocabulary is learned from: all words are in the first few.
const CAPTIONS: u64 = 4000;

impl Training<'_> {
    /// Trains, from the saved state if there is one, and writes the checkpoint to the folder `output`.
    ///
    /// # Errors
    /// If the state is of another recipe, a file cannot be read or written, the loss is no longer finite, or the watcher
    /// has an error. The state that was saved last is still there then.
    pub fn run(&self, output: &Path, watcher: &mut dyn Watcher) -> Result<()> {
        std::fs::create_dir_all(self.folder).map_err(|error| file(self.folder, error))?;
        let Recipe { seed, pictures, side, .. } = *self.recipe;
        let vocabulary = learn(seed, CAPTIONS)?;
        let mut pictures = TrainingSet::new(seed, pictures, side);
        if self.device != Device::Cpu {
            fixed_order_on_cuda();
            pictures = pictures.kept();
        }
        let autoencoder = autoencoder(self, &pictures, watcher)?;
        let denoiser = denoiser(self, &pictures, &autoencoder, &vocabulary, watcher)?;
        let autoencoder = decoder(self, &pictures, autoencoder, denoiser.scaling_factor, watcher)?;
        checkpoint::write(output, self.recipe, &vocabulary, &autoencoder, &denoiser)
    }
}
