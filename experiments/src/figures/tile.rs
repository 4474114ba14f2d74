//! Latents decoded for a figure.

use anyhow::Result;
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::{Error, Model};
use latentrace_plot::Tile;
use latentrace_runs::pixels;

/// Decodes latents `[1, 4, height, width]` at unit variance for a figure. If the picture is not finite, the tile is
/// empty, and its caption says so.
pub(crate) fn tile(model: &Model, latents: &Tensor, caption: String) -> Result<Tile> {
    match model.decode(&latents.to_device(model.device), &mut Pass::silent()) {
        Ok(picture) => Ok(Tile::new(pixels(&picture), caption)),
        Err(Error::NotFinite { .. }) => Ok(Tile::missing(format!("{caption}, not finite"))),
        Err(error) => Err(error.into()),
    }
}
