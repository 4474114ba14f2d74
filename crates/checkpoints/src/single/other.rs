//! A VAE or a UNet that is named by itself, beside a checkpoint.

use super::layout::Layout;
use super::names::{UNET, VAE};
use super::original::what;
use crate::checkpoint::Part;
use crate::choice::Choice;
use crate::error::{Result, file};
use crate::folder::{inside, part};
use crate::weights::checked;
use latentrace_nn::{Config, Header};
use std::path::Path;

/// The name of the UNet's first convolution, below a prefix.
pub(super) const FIRST: &str = "input_blocks.0.0.weight";

/// The configuration of a UNet that takes as many channels as its first convolution: an inpainting model takes nine.
pub(super) fn taking(config: Config, header: &Header, first: &str) -> Config {
    match header.tensors.get(first).map(|tensor| tensor.shape.as_slice()) {
        Some([_, channels, _, _]) => config.with("in_channels", (*channels).into()),
        _ => config,
    }
}

/// A VAE that is named by itself: a folder, or a single file of either naming with the configuration of the checkpoint.
pub(crate) fn other_vae(
    other: &Path,
    config: impl FnOnce() -> Result<Config>,
    choice: &Choice,
) -> Result<Part<Config>> {
    if !other.is_file() {
        return part(&inside(other, "vae"), "vae", choice);
    }
    let path = checked(other.to_path_buf())?;
    let (header, config) = (Header::read(&path)?, config()?);
    let blocks = config.sizes("block_out_channels")?.len();
    let has = |prefix: &str| header.tensors.keys().any(|name| name.starts_with(prefix));
    let layout = match () {
        () if has("first_stage_model.decoder.up.") => Layout::Vae { prefix: VAE, blocks },
        () if has("decoder.up.") => Layout::Vae { prefix: "", blocks },
        () if has("decoder.up_blocks.") => Layout::Diffusers,
        () => return Err(file(&path, format!("not a VAE, but {}", what(&header)))),
    };
    Ok(Part::single("vae", config, &path, layout))
}

/// A UNet that is named by itself: a folder, or a single file of either naming with the configuration of the checkpoint.
pub(crate) fn other_unet(
    other: &Path,
    config: impl FnOnce() -> Result<Config>,
    choice: &Choice,
) -> Result<Part<Config>> {
    if !other.is_file() {
        return part(&inside(other, "unet"), "unet", choice);
    }
    let path = checked(other.to_path_buf())?;
    let (header, config) = (Header::read(&path)?, config()?);
    let layers = config.size("layers_per_block", Some(2))? as usize;
    let has = |prefix: &str| header.tensors.keys().any(|name| name.starts_with(prefix));
    let (layout, first) = match () {
        () if has(UNET) => (Layout::Unet { prefix: UNET, layers }, format!("{UNET}{FIRST}")),
        () if has("input_blocks.") => (Layout::Unet { prefix: "", layers }, FIRST.to_owned()),
        () if has("down_blocks.") => (Layout::Diffusers, "conv_in.weight".to_owned()),
        () => return Err(file(&path, format!("not a UNet, but {}", what(&header)))),
    };
    Ok(Part::single("unet", taking(config, &header, &first), &path, layout))
}
