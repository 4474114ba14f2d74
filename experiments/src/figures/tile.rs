//! Latents as a picture of a figure.

use anyhow::Result;
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::{Error, Model};
use latentrace_plot::Tile;
use latentrace_runs::pixels;

/// Latents `[1, 4, height, width]` at unit variance as a cell of a figure; an empty one that says so where the decoder makes
/// NaN or infinity of them.
pub(crate) fn tile(model: &Model, latents: &Tensor, caption: String) -> Result<Tile> {
    match model.decode(&latents.to_device(model.device), &mut Pass::silent()) {
        Ok(picture) => Ok(Tile::new(pixels(&picture), caption)),
        Err(Error::NotFinite { .. }) => Ok(Tile::missing(format!("{caption}, not finite"))),
        Err(error) => Err(error.into()),
    }
}
