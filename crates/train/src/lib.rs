//! Training of the bundled model: a latent diffusion model of a small world of shapes, from nothing, with the same
//! modules that run it.
//!
//! Two calls, in order: [`autoencoder`] trains the VAE on pictures, [`denoiser`] trains the UNet and the text encoder
//! on the VAE's latents; and [`checkpoint::write`] turns what they leave into a folder in the diffusers layout. Each
//! keeps its whole state in a folder and goes on from there when it was stopped.
//!
//! One decision: everything random in step `k` comes from the seed and `k`, so a run that was killed and resumed is the
//! same run.

mod autoencoder;
pub mod checkpoint;
mod denoiser;
mod descent;
mod error;
mod optimizer;
mod pictures;
mod recipe;
mod vocabulary;

pub use autoencoder::autoencoder;
pub use denoiser::denoiser;
pub use error::{Error, Result};
pub use pictures::Pictures;
pub use recipe::{Phase, Recipe, Report};
pub use vocabulary::Vocabulary;
