//! What the UNet of a checkpoint takes.

use crate::error::{Result, file};
use latentrace_unet::UnetConfig;
use latentrace_vae::VaeConfig;
use std::path::Path;

/// What a UNet takes at each call, besides the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnetInput {
    /// The sample, `[images, 4, height, width]`.
    Sample,
    /// The sample, the mask and the latents of the picture without its masked part, `[images, 4 + 1 + 4, height, width]`: an
    /// inpainting model.
    Inpainting,
}

impl UnetInput {
    /// How many channels such a UNet takes, for latents of so many.
    pub fn channels(self, latents: i64) -> i64 {
        match self {
            UnetInput::Sample => latents,
            UnetInput::Inpainting => 2 * latents + 1,
        }
    }

    /// What the UNet of a checkpoint takes, by its number of channels.
    ///
    /// # Errors
    /// It takes something else.
    pub(crate) fn of(unet: &UnetConfig, vae: &VaeConfig, place: &Path) -> Result<UnetInput> {
        let (found, latents) = (unet.in_channels, vae.latent_channels);
        let known = [UnetInput::Sample, UnetInput::Inpainting].into_iter();
        if let Some(input) = known.into_iter().find(|input| input.channels(latents) == found) {
            return Ok(input);
        }
        let hint = match found - latents {
            4 => {
                "this is an instruct-pix2pix model or an upscaler, which takes a picture beside the latents; neither is supported"
            }
            1 => "this is a depth model, which takes a depth map beside the latents; it is not supported",
            _ => "a UNet that takes more than the latents, and the mask and picture of inpainting, is not supported",
        };
        Err(file(
            place,
            format!(
                "the UNet takes {found} channels (in_channels), but the VAE returns {latents} (latent_channels)\nhint: {hint}"
            ),
        ))
    }
}
