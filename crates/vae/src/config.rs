//! `vae/config.json`.

use latentrace_nn::tch::Tensor;
use latentrace_nn::{Config, Result, Supported};

/// The values of `vae/config.json` that matter for a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels of a picture.
    pub in_channels: i64,
    /// Channels of a decoded picture.
    pub out_channels: i64,
    /// Channels of the latents.
    pub latent_channels: i64,
    /// Channels at each resolution, finest first.
    pub block_out_channels: Vec<i64>,
    /// Resnets at each resolution of the encoder; the decoder has one more.
    pub layers_per_block: i64,
    /// Groups of the norms.
    pub norm_num_groups: i64,
    /// The factor from the VAE's latents to those of the UNet.
    pub scaling_factor: f64,
    /// What the latents are normalised by before that factor, if by anything.
    pub statistics: Option<Statistics>,
    /// Whether its numbers do not fit into f16, so that SDXL's pipelines run it in f32.
    pub force_upcast: bool,
    /// Whether the middle blocks have an attention layer.
    pub mid_block_add_attention: bool,
    /// Whether a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1x1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
}

/// `latents_mean` and `latents_std`: the mean and the standard deviation of each channel of the latents.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The means.
    pub mean: Vec<f64>,
    /// The standard deviations, all above 0.
    pub deviation: Vec<f64>,
}

impl VaeConfig {
    /// Reads the configuration, with the defaults of diffusers' `AutoencoderKL`.
    ///
    /// # Errors
    /// A value is not supported.
    pub fn read(config: &Config) -> Result<VaeConfig> {
        config.check(READ, OTHERS)?;
        let read = VaeConfig {
            in_channels: config.size("in_channels", Some(3))?,
            out_channels: config.size("out_channels", Some(3))?,
            latent_channels: config.size("latent_channels", Some(4))?,
            block_out_channels: config.sizes("block_out_channels")?,
            layers_per_block: config.size("layers_per_block", Some(1))?,
            norm_num_groups: config.size("norm_num_groups", Some(32))?,
            scaling_factor: config.number("scaling_factor", 0.18215)?,
            statistics: statistics(config)?,
            force_upcast: config.flag("force_upcast", true)?,
            mid_block_add_attention: config.flag("mid_block_add_attention", true)?,
            use_quant_conv: config.flag("use_quant_conv", true)?,
            use_post_quant_conv: config.flag("use_post_quant_conv", true)?,
        };
        let blocks = read.block_out_channels.len();
        for (key, kind) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
            let types = config.words(key)?;
            if types.len() != blocks || types.iter().any(|name| name != kind) {
                return Err(
                    config.unsupported(key, &format!("{blocks} times {kind}, one for each of block_out_channels"))
                );
            }
        }
        if read.block_out_channels.iter().any(|channels| channels % read.norm_num_groups != 0) {
            return Err(config.unsupported("norm_num_groups", "a divisor of every number in block_out_channels"));
        }
        if read.scaling_factor <= 0.0 {
            return Err(config.unsupported("scaling_factor", "a number above 0"));
        }
        let channels = |statistics: &Statistics| statistics.mean.len() as i64;
        if read.statistics.as_ref().is_some_and(|statistics| channels(statistics) != read.latent_channels) {
            return Err(
                config.unsupported(MEAN, &format!("{} numbers, one for each of latent_channels", read.latent_channels))
            );
        }
        Ok(read)
    }

    /// The VAE's latents as the UNet takes them, `[batch, channels, height, width]`.
    pub fn normalised(&self, latents: &Tensor) -> Tensor {
        match &self.statistics {
            None => latents * self.scaling_factor,
            Some(Statistics { mean, deviation }) => {
                (latents - of_channels(mean, latents)) * self.scaling_factor / of_channels(deviation, latents)
            }
        }
    }

    /// The UNet's latents as the VAE takes them: the inverse of [`VaeConfig::normalised`].
    pub fn restored(&self, latents: &Tensor) -> Tensor {
        match &self.statistics {
            None => latents / self.scaling_factor,
            Some(Statistics { mean, deviation }) => {
                latents * of_channels(deviation, latents) / self.scaling_factor + of_channels(mean, latents)
            }
        }
    }

    /// How many pixels a latent pixel is high and wide.
    pub fn factor(&self) -> i64 {
        1 << (self.block_out_channels.len() - 1)
    }
}

const MEAN: &str = "latents_mean";
const DEVIATION: &str = "latents_std";

/// The means and standard deviations, both or none.
fn statistics(config: &Config) -> Result<Option<Statistics>> {
    let numbers = |key: &str| -> Result<Option<Vec<f64>>> {
        let Some(value) = config.value(key) else { return Ok(None) };
        let list =
            value.as_array().and_then(|list| list.iter().map(|number| number.as_f64()).collect::<Option<Vec<_>>>());
        list.map(Some).ok_or_else(|| config.unsupported(key, "null, or a list of numbers"))
    };
    match (numbers(MEAN)?, numbers(DEVIATION)?) {
        (None, None) => Ok(None),
        (Some(mean), Some(deviation)) if mean.len() == deviation.len() && deviation.iter().all(|each| *each > 0.0) => {
            Ok(Some(Statistics { mean, deviation }))
        }
        _ => Err(config.unsupported(DEVIATION, "numbers above 0, as many as latents_mean has")),
    }
}

/// Numbers of channels as `[1, channels, 1, 1]`, on the device and in the number format of latents.
fn of_channels(numbers: &[f64], latents: &Tensor) -> Tensor {
    let numbers = Tensor::from_slice(numbers).view([1, -1, 1, 1]).to_device(latents.device());
    numbers.to_kind(latents.kind())
}

const READ: &[&str] = &[
    "in_channels",
    "out_channels",
    "latent_channels",
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "scaling_factor",
    "force_upcast",
    "latents_mean",
    "latents_std",
    "mid_block_add_attention",
    "use_quant_conv",
    "use_post_quant_conv",
    "down_block_types",
    "up_block_types",
];

/// Keys that have no effect on a forward pass, and keys of which only some values are implemented.
const OTHERS: &[Supported] =
    &[("act_fn", &["\"silu\"", "\"swish\""]), ("sample_size", &[]), ("shift_factor", &["null"])];
