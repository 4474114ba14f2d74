//! The variational autoencoder between pixels and latents (`AutoencoderKL`, Kingma and Welling 2013 by way of
//! Rombach et al. 2022).
//!
//! Three types, in order of use: [`VaeConfig`] reads `vae/config.json`; [`Vae`] encodes `[batch, 3, height, width]`
//! in -1..1 to a [`Posterior`], a normal distribution over latents, and decodes latents back. Latents here are those
//! of the VAE; [`VaeConfig::normalised`] makes those of the UNet from them.

mod block;
mod config;
mod vae;

pub use config::{Statistics, VaeConfig};
pub use vae::{Posterior, Vae};
