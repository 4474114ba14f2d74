//! The space in which a denoiser works: the latents of a VAE, or pixels.

use crate::TrainingSet;
use crate::error::Result;
use latentrace_nn::tch::{Device, Tensor, no_grad};
use latentrace_nn::{Config, Pass, Weights};
use latentrace_unet::{Unet, UnetConfig};
use latentrace_vae::{Vae, VaeConfig};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The space in which a denoiser works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// The latents of the bundled VAE, an eighth of the picture's height and width.
    Latents,
    /// The pixels of the picture, in -1..1.
    Pixels,
}

/// `unet/config.json` of the denoiser of latents of 8x8.
static UNET: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.42.1", "act_fn": "silu",
        "block_out_channels": [48, 96], "layers_per_block": 1, "norm_num_groups": 16, "norm_eps": 1e-5,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "attention_head_dim": [3, 6], "cross_attention_dim": 96, "use_linear_projection": true,
        "center_input_sample": false, "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0,
        "in_channels": 4, "out_channels": 4, "mid_block_scale_factor": 1, "sample_size": 8,
    })
});

/// `unet/config.json` of the denoiser of pixels. It has as many parameters as the one of latents, within 2 %.
///
/// Self-attention and cross-attention are only at feature maps of at most 16x16 positions. With the 4096 positions of a
/// 64x64 map, attention would cost more than everything else, and no published model does that. So this UNet has two
/// more levels than the UNet of latents, which brings the coarsest map to the 8x8 of the latents. The fine levels are
/// narrow, because each of their channels costs up to 64 times as much. Widths and depth are chosen so that the numbers
/// of parameters agree.
static PIXEL_UNET: LazyLock<Value> = LazyLock::new(|| {
    let mut config = UNET.clone();
    config["block_out_channels"] = json!([32, 48, 64, 80]);
    config["attention_head_dim"] = json!([2, 3, 4, 5]);
    config["down_block_types"] = json!(["DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]);
    config["up_block_types"] = json!(["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"]);
    config["in_channels"] = json!(3);
    config["out_channels"] = json!(3);
    config["sample_size"] = json!(64);
    config
});

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

    /// The denoiser's configuration.
    ///
    /// # Errors
    /// If the configuration is invalid. It is part of this crate, so tests would find that.
    pub fn unet(self) -> Result<UnetConfig> {
        let config = match self {
            Space::Latents => &UNET,
            Space::Pixels => &PIXEL_UNET,
        };
        Ok(UnetConfig::read(&Config::parse("unet/config.json", &config.to_string())?)?)
    }

    /// The shape of one sample: channels, height, width.
    ///
    /// # Errors
    /// As [`Space::unet`].
    pub fn shape(self) -> Result<[i64; 3]> {
        let config = self.unet()?;
        let [height, width] = config.sample_size;
        Ok([config.in_channels, height, width])
    }

    /// The number of parameters of the denoiser.
    ///
    /// # Errors
    /// As [`Space::unet`].
    pub fn parameters(self) -> Result<usize> {
        let (weights, variables) = Weights::trainable("unet", 0, Device::Cpu);
        Unet::load(&weights, &self.unet()?)?;
        Ok(variables.count())
    }
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
mod tests {
    use super::*;

    #[test]
    fn both_denoisers_have_the_same_number_of_parameters_within_two_per_cent() {
        let [latents, pixels] = Space::BOTH.map(|space| space.parameters().unwrap() as f64);
        let apart = (pixels - latents).abs() / latents;
        assert!(apart < 0.02, "{latents} and {pixels}, {:.2} % apart", 100.0 * apart);
    }

    #[test]
    fn the_denoiser_of_pixels_attends_only_where_the_map_has_at_most_16_by_16_places() {
        let config = Space::Pixels.unet().unwrap();
        for (level, attends) in config.down_attends.iter().enumerate() {
            assert_eq!(*attends, config.sample_size[0] >> level <= 16, "level {level}");
        }
        assert!(config.down_attends.iter().eq(config.up_attends.iter().rev()));
    }
}
