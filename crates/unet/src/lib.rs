//! The network that denoises latents (`UNet2DConditionModel`; Ronneberger et al. 2015, Rombach et al. 2022).
//!
//! Two types, in order of use: [`UnetConfig`] reads `unet/config.json`, and [`Unet`] predicts the noise, the velocity
//! or the sample from `[batch, 4, height, width]` latents, a timestep and a [`Condition`]: `[batch, tokens, width]` text embeddings
//! and, for SDXL (Podell et al. 2023), a pooled text and numbers.
//!
//! A block is one type, with or without attention and with or without a change of resolution: the four block classes of
//! Stable Diffusion differ in nothing else.

mod added;
mod block;
mod config;
mod depths;
mod time;
mod transformer;
mod unet;

pub use added::{Added, AddedConfig};
pub use config::UnetConfig;
pub use depths::Depths;
pub use unet::{Condition, Unet};
