//! Studies of our own, which use the bench as anyone may: diffusion on latents against pixels, how much of a caption is
//! seen, and the atlas of the samplers.

pub mod adherence;
pub mod atlas;
pub mod latent_vs_pixel;
