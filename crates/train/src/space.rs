//! The space in which a denoiser works: the latents of a VAE, or pixels.

use crate::TrainingSet;
use crate::error::{Error, Result};
use latentrace_nn::tch::{Device, Tensor, no_grad};
use latentrace_nn::{Pass, Weights};
use latentrace_unet::{Depths, Unet, UnetConfig};
use latentrace_vae::{Vae, VaeConfig};

/// The space in which a denoiser works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// The latents of the bundled VAE, an eighth of the picture's height and width.
    Latents,
    /// The pixels of the picture, in -1..1.
    Pixels,
}

/// Channels of a denoiser of latents, and of the denoiser of pixels that has as many parameters, within 2 %. Each is at the
/// resolutions from fine to coarse.
///
/// A denoiser of pixels has as many levels as bring its coarsest map to the finest of the latents. Self-attention and
/// cross-attention are only at maps of at most 16x16 positions: with the 4096 positions of a 64x64 map, attention would cost
/// more than everything else, and no published model does that. The fine levels are narrow, because each of their
/// channels costs up to 64 times as much.
const CHANNELS: [([i64; 2], [i64; 4]); 3] = [
    ([48, 96], [32, 48, 64, 80]),   // latents of 8x8, pictures of 64x64
    ([64, 128], [16, 48, 80, 128]), // latents of 16x16, pictures of 128x128
    ([80, 160], [16, 48, 112, 160]),
];

/// The largest map of pixels that attends, in positions of a side.
const ATTENDS: i64 = 16;

impl Space {
    /// Both spaces, in the order of every table.
    pub const BOTH: [Space; 2] = [Space::Latents, Space::Pixels];

    /// The name of the space.
    pub fn name(self) -> &'static str {
        match self {
            Space::Latents => "latents",
            Space::Pixels => "pixels",
        }
    }

    /// The configuration of this space's denoiser, where that of the latents has the configuration `latents`, and a latent
    /// pixel is `factor` pixels high and wide.
    ///
    /// # Errors
    /// If no denoiser of pixels is known that has as many parameters as that of the latents.
    pub fn unet(self, latents: &UnetConfig, factor: i64) -> Result<UnetConfig> {
        if self == Space::Latents {
            return Ok(latents.clone());
        }
        let channels = &latents.block_out_channels;
        let known = CHANNELS.iter().find(|(beside, _)| beside == channels.as_slice());
        let (_, channels) = known.ok_or_else(|| Error::Pixels { channels: channels.clone() })?;
        let [height, width] = latents.sample_size.map(|side| side * factor);
        let layers_per_block = vec![latents.layers_per_block[0]; channels.len()];
        let down_attends: Vec<bool> = (0..channels.len()).map(|level| height >> level <= ATTENDS).collect();
        Ok(UnetConfig {
            in_channels: 3,
            out_channels: 3,
            sample_size: [height, width],
            heads: channels.iter().map(|channels| channels / 16).collect(),
            transformers: Depths::all(latents.transformers.middle, &layers_per_block),
            layers_per_block,
            up_attends: down_attends.iter().rev().copied().collect(),
            down_attends,
            block_out_channels: channels.to_vec(),
            ..latents.clone()
        })
    }
}

/// The number of parameters of a denoiser.
///
/// # Errors
/// If no UNet can be built from the configuration.
pub fn parameters(config: &UnetConfig) -> Result<usize> {
    let (weights, variables) = Weights::trainable("unet", 0, Device::Cpu);
    Unet::load(&weights, config)?;
    Ok(variables.count())
}

/// The number of parameters of a VAE's decoder, which turns latents into a picture.
///
/// # Errors
/// If no VAE can be built from the configuration.
pub fn decoder_parameters(config: &VaeConfig) -> Result<usize> {
    let (weights, variables) = Weights::trainable("vae", 0, Device::Cpu);
    Vae::load(&weights, config)?;
    let decodes = |name: &str| name.starts_with("decoder.") || name.starts_with("post_quant_conv.");
    Ok(variables.named().iter().filter(|(name, _)| decodes(name)).map(|(_, tensor)| tensor.numel()).sum())
}

/// The clean samples of all pictures, in one of the spaces.
pub struct Clean<'a> {
    pub(crate) pictures: &'a TrainingSet,
    /// `[pictures, channels, height, width]`; `None` if the samples are the pixels.
    latents: Option<Tensor>,
    device: Device,
}

impl<'a> Clean<'a> {
    /// The pixels of the pictures.
    pub fn pixels(pictures: &'a TrainingSet, device: Device) -> Clean<'a> {
        Clean { pictures, latents: None, device }
    }

    /// The latents of `vae`, times `scale`. All pictures are encoded now, because the VAE is no longer trained.
    pub fn latents(pictures: &'a TrainingSet, vae: &Vae, scale: f64, device: Device) -> Clean<'a> {
        let all: Vec<usize> = (0..pictures.scenes.len()).collect();
        Clean::of(pictures, encoded(pictures, &all, vae, device) * scale, device)
    }

    /// These latents, which are scaled already.
    pub(crate) fn of(pictures: &'a TrainingSet, latents: Tensor, device: Device) -> Clean<'a> {
        Clean { pictures, latents: Some(latents), device }
    }

    /// The same samples, for another thread.
    pub(crate) fn again(&self) -> Clean<'a> {
        let latents = self.latents.as_ref().map(Tensor::shallow_clone);
        Clean { pictures: self.pictures, latents, device: self.device }
    }

    /// The space of the samples.
    pub fn space(&self) -> Space {
        if self.latents.is_some() { Space::Latents } else { Space::Pixels }
    }

    /// The samples with these indices, `[batch, channels, height, width]`.
    pub(crate) fn batch(&self, numbers: &[usize]) -> Tensor {
        match &self.latents {
            Some(latents) => {
                let numbers: Vec<i64> = numbers.iter().map(|&number| number as i64).collect();
                latents.index_select(0, &Tensor::from_slice(&numbers).to_device(self.device))
            }
            None => self.pictures.batch(numbers, self.device),
        }
    }

    pub(crate) fn device(&self) -> Device {
        self.device
    }
}

/// The latents of the pictures with these indices. These are the means of the posterior, whose variance is small.
pub(crate) fn encoded(pictures: &TrainingSet, numbers: &[usize], vae: &Vae, device: Device) -> Tensor {
    no_grad(|| {
        let encode = |chunk: &[usize]| vae.encode(&mut Pass::silent(), &pictures.batch(chunk, device)).mean;
        Tensor::cat(&numbers.chunks(16).map(encode).collect::<Vec<_>>(), 0)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Recipe, networks::Networks};

    /// The UNets of latents that have one of pixels beside them.
    pub(crate) fn unets() -> Vec<UnetConfig> {
        let mut recipe = Recipe::shapes().unwrap();
        CHANNELS
            .iter()
            .zip([64, 128, 128])
            .map(|((channels, _), side)| {
                recipe.denoiser.channels = channels.to_vec();
                recipe.denoiser.heads = channels.map(|channels| channels / 16).to_vec();
                recipe.side = side;
                Networks::of(&recipe, 600).unwrap().unet
            })
            .collect()
    }

    #[test]
    fn both_denoisers_have_the_same_number_of_parameters_within_two_per_cent() {
        for latents in unets() {
            let [latents, pixels] =
                Space::BOTH.map(|space| parameters(&space.unet(&latents, 8).unwrap()).unwrap() as f64);
            let apart = (pixels - latents).abs() / latents;
            assert!(apart < 0.02, "{latents} and {pixels}, {:.2} % apart", 100.0 * apart);
        }
    }

    #[test]
    fn the_denoiser_of_pixels_attends_only_where_the_map_has_at_most_16_by_16_places() {
        for latents in unets() {
            let config = Space::Pixels.unet(&latents, 8).unwrap();
            for (level, attends) in config.down_attends.iter().enumerate() {
                assert_eq!(*attends, config.sample_size[0] >> level <= 16, "level {level}");
            }
            assert!(config.down_attends.iter().eq(config.up_attends.iter().rev()));
            assert_eq!(config.sample_size[0] >> (config.block_out_channels.len() - 1), latents.sample_size[0]);
        }
    }

    #[test]
    fn the_bundled_recipe_has_a_denoiser_of_pixels_beside_it() {
        let networks = Networks::of(&Recipe::shapes().unwrap(), 600).unwrap();
        Space::Pixels.unet(&networks.unet, networks.vae.factor()).unwrap();
        let other = UnetConfig { block_out_channels: vec![32, 32], ..networks.unet };
        let error = Space::Pixels.unet(&other, 8).unwrap_err().to_string();
        assert!(error.contains("[32, 32]"), "{error}");
    }
}
