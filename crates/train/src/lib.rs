//! Training of the bundled model: a latent diffusion model of a small world of shapes, from nothing, with the same
//! modules that run it.
//!
//! Two calls, in order: [`autoencoder`] trains the VAE on pictures, [`denoiser`] trains the UNet and the text encoder
//! on the VAE's latents; and [`checkpoint::write`] turns what they leave into a folder in the diffusers layout. Each
//! keeps its whole state in a folder and goes on from there when it was stopped.
//!
//! Beside them, a [`Trainee`] is a UNet alone, trained a step at a time under a frozen text encoder in either [`Space`]:
//! latents or pixels. It has the same batches, loss and optimizer, so that the two spaces can be compared.
//!
//! One decision: everything random in step `k` comes from the seed and `k`, so a run that was killed and resumed is the
//! same run.

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
pub use recipe::{PhaseRecipe, Progress, Recipe};
pub use space::{Clean, Space, decoder_parameters};
pub use trainee::{Frozen, Trainee};
pub use training_set::TrainingSet;
pub use vocabulary::Vocabulary;
