//! `vae/config.json`.

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
    /// Whether the middle blocks have an attention layer.
    pub mid_block_add_attention: bool,
    /// Whether a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1x1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
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
        Ok(read)
    }

    /// How many pixels a latent pixel is high and wide.
    pub fn factor(&self) -> i64 {
        1 << (self.block_out_channels.len() - 1)
    }
}

const READ: &[&str] = &[
    "in_channels",
    "out_channels",
    "latent_channels",
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "scaling_factor",
    "mid_block_add_attention",
    "use_quant_conv",
    "use_post_quant_conv",
    "down_block_types",
    "up_block_types",
];

/// Keys that have no effect on a forward pass, and keys of which only some values are implemented.
const OTHERS: &[Supported] = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("sample_size", &[]),
    ("force_upcast", &[]),
    ("shift_factor", &["null"]),
    ("latents_mean", &["null"]),
    ("latents_std", &["null"]),
];
