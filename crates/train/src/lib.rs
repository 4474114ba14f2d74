//! Training of the bundled model, a latent diffusion model of a small world of shapes, from random weights. The
//! networks are the modules that also run the model.
//!
//! A [`Recipe`] says everything that decides the weights. A [`Training`] follows it: it trains the VAE on pictures, then the
//! UNet and the text encoder on the VAE's latents, and writes a folder in the diffusers layout. It saves its state now and
//! then, and goes on from there after it was stopped. A [`Watcher`] is told how it goes.
//!
//! A [`Trainee`] is a UNet alone, trained step by step with a frozen text encoder in either [`Space`]: latents or
//! pixels. It has the same batches, loss and optimizer, so that the two spaces can be compared.
//!
//! One decision: everything random in step `k` depends on the seed and `k` alone, so a run that was killed and resumed
//! gives the same weights as one that was not.

mod autoencoder;
mod batches;
mod checkpoint;
mod crew;
mod decoder;
mod denoiser;
mod descent;
mod draws;
mod error;
mod flat;
mod latents;
mod networks;
mod optimizer;
mod recipe;
mod space;
mod state;
mod trainee;
mod training;
mod training_set;
mod vocabulary;
mod watch;

pub use error::{Error, Result};
pub use latentrace_unet::UnetConfig;
pub use recipe::{
    AutoencoderRecipe, Crops, DecoderRecipe, DenoiserRecipe, Format, Phase, PhaseRecipe, Recipe, TextRecipe,
    TrainingKernels, Weighting,
};
pub use space::{Clean, Space, decoder_parameters, parameters};
pub use trainee::{Frozen, Trainee};
pub use training::Training;
pub use training_set::TrainingSet;
pub use vocabulary::learn;
pub use watch::{Pace, TrainingProgress, Watcher};
