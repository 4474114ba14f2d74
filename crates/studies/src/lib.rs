//! Studies made with the other crates of Latentrace: diffusion on latents compared with diffusion on pixels, how well
//! pictures match their captions, how a training goes, and the atlas of the samplers.

pub mod adherence;
pub mod article;
pub mod atlas;
pub mod latent_vs_pixel;
pub mod stability;
pub mod training;
