//! Training of the bundled model, a latent diffusion model of a small world of shapes, from random weights. The
//! networks are the modules that also run the model.
//!
//! Two calls, in order: [`autoencoder`] trains the VAE on pictures, [`denoiser`] trains the UNet and the text encoder
//! on the VAE's latents; then [`checkpoint::write`] writes a folder in the diffusers layout. Each training saves its
//! state in a folder, and resumes from there after it was stopped.
//!
//! A [`Trainee`] is a UNet alone, trained step by step with a frozen text encoder in either [`Space`]: latents or
//! pixels. It has the same batches, loss and optimizer, so that the two spaces can be compared.
//!
//! One decision: everything random in step `k` depends on the seed and `k` alone, so a run that was killed and resumed
//! gives the same weights as one that was not.

mod autoencoder;
mod batches;
pub mod checkpoint;
mod denoiser;
mod descent;
mod error;
mod optimizer;
mod recipe;
mod space;
mod trainee;
mod training_set;
mod vocabulary;

pub use autoencoder::autoencoder;
pub use denoiser::denoiser;
pub use error::{Error, Result};
pub use recipe::{PhaseRecipe, Recipe, TrainingProgress};
pub use space::{Clean, Space, decoder_parameters};
pub use trainee::{Frozen, Trainee};
pub use training_set::TrainingSet;
pub use vocabulary::learn;
