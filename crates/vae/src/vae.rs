//! The encoder, the decoder, and the distribution between them.

use crate::VaeConfig;
use crate::block::{DownBlock, EPS, MidBlock, UpBlock};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Conv2d, GroupNorm, Pass, Result, Tap, Weights};

/// The autoencoder.
pub struct Vae {
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    moments: Tap,
    latents: Tap,
    kind: Kind,
}

impl Vae {
    /// Reads encoder and decoder.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, config: &VaeConfig) -> Result<Vae> {
        let latent = config.latent_channels;
        let pointwise = |name: &str, channels| Conv2d::load(&weights.at(name), channels, channels, 1);
        Ok(Vae {
            encoder: Encoder::load(&weights.at("encoder"), config)?,
            quant_conv: config.use_quant_conv.then(|| pointwise("quant_conv", 2 * latent)).transpose()?,
            post_quant_conv: config.use_post_quant_conv.then(|| pointwise("post_quant_conv", latent)).transpose()?,
            decoder: Decoder::load(&weights.at("decoder"), config)?,
            moments: weights.at("encoder").tap("moments"),
            latents: weights.at("decoder").tap("latents"),
            kind: weights.kind(),
        })
    }

    /// A picture `[batch, 3, height, width]` in -1..1 to a distribution over `[batch, 4, height / 8, width / 8]`.
    pub fn encode(&self, pass: &mut Pass, picture: &Tensor) -> Posterior {
        Posterior::of(&self.moments(pass, picture))
    }

    /// The output of the encoder for a picture `[batch, 3, height, width]` in -1..1: means, then logarithms of
    /// variances on the channels' axis, `[batch, 8, height / 8, width / 8]`.
    pub fn moments(&self, pass: &mut Pass, picture: &Tensor) -> Tensor {
        let h = self.encoder.forward(pass, picture);
        let moments = self.quant_conv.as_ref().map_or_else(|| h.shallow_clone(), |conv| conv.forward(&h));
        pass.tap(&self.moments, moments)
    }

    /// Latents `[batch, 4, height, width]` to a picture `[batch, 3, 8 height, 8 width]`, about -1..1.
    pub fn decode(&self, pass: &mut Pass, latents: &Tensor) -> Tensor {
        let h = pass.tap(&self.latents, latents.shallow_clone());
        let h = self.post_quant_conv.as_ref().map_or_else(|| h.shallow_clone(), |conv| conv.forward(&h));
        self.decoder.forward(pass, h)
    }

    /// The number format that the network runs in.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// A normal distribution over latents, independent in each number.
pub struct Posterior {
    /// The mean.
    pub mean: Tensor,
    /// The logarithm of the variance.
    pub log_variance: Tensor,
}

impl Posterior {
    /// The distribution of the encoder's [`Vae::moments`].
    pub fn of(moments: &Tensor) -> Posterior {
        let halves = moments.chunk(2, 1);
        // The clamp keeps the standard deviation between 3e-7 and 2e4 (Rombach et al. 2022, as trained).
        Posterior { mean: halves[0].shallow_clone(), log_variance: halves[1].clamp(-30.0, 20.0) }
    }

    /// The latents for standard normal `noise` of the same shape: `mean + std * noise`.
    pub fn sample(&self, noise: &Tensor) -> Tensor {
        &self.mean + (&self.log_variance * 0.5).exp() * noise
    }
}

struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    taps: Taps,
}

/// The taps that encoder and decoder have in common.
struct Taps {
    conv_in: Tap,
    conv_norm_out: Tap,
    out: Tap,
}

impl Taps {
    fn of(weights: &Weights) -> Taps {
        Taps { conv_in: weights.tap("conv_in"), conv_norm_out: weights.tap("conv_norm_out"), out: weights.tap("out") }
    }
}

impl Encoder {
    fn load(weights: &Weights, config: &VaeConfig) -> Result<Encoder> {
        let channels = &config.block_out_channels;
        let (finest, coarsest) = (channels[0], channels[channels.len() - 1]);
        Ok(Encoder {
            conv_in: Conv2d::load(&weights.at("conv_in"), config.in_channels, finest, 3)?,
            down_blocks: (0..channels.len())
                .map(|index| DownBlock::load(&weights.at("down_blocks").at(index), config, index))
                .collect::<Result<_>>()?,
            mid_block: MidBlock::load(&weights.at("mid_block"), config, coarsest)?,
            conv_norm_out: GroupNorm::load(&weights.at("conv_norm_out"), coarsest, config.norm_num_groups, EPS)?,
            conv_out: Conv2d::load(&weights.at("conv_out"), coarsest, 2 * config.latent_channels, 3)?,
            taps: Taps::of(weights),
        })
    }

    fn forward(&self, pass: &mut Pass, picture: &Tensor) -> Tensor {
        let x = pass.tap(&self.taps.conv_in, self.conv_in.forward(picture));
        let x = self.down_blocks.iter().fold(x, |x, block| block.forward(pass, x));
        let x = self.mid_block.forward(pass, x);
        let out = self.conv_norm_out.then_convolved(pass, &self.taps.conv_norm_out, &x, &self.conv_out);
        pass.tap(&self.taps.out, out.contiguous())
    }
}

struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    taps: Taps,
}

impl Decoder {
    fn load(weights: &Weights, config: &VaeConfig) -> Result<Decoder> {
        let channels = &config.block_out_channels;
        let (finest, coarsest) = (channels[0], channels[channels.len() - 1]);
        Ok(Decoder {
            conv_in: Conv2d::load(&weights.at("conv_in"), config.latent_channels, coarsest, 3)?,
            mid_block: MidBlock::load(&weights.at("mid_block"), config, coarsest)?,
            up_blocks: (0..channels.len())
                .map(|index| UpBlock::load(&weights.at("up_blocks").at(index), config, index))
                .collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::load(&weights.at("conv_norm_out"), finest, config.norm_num_groups, EPS)?,
            conv_out: Conv2d::load(&weights.at("conv_out"), finest, config.out_channels, 3)?,
            taps: Taps::of(weights),
        })
    }

    fn forward(&self, pass: &mut Pass, latents: Tensor) -> Tensor {
        let x = pass.tap(&self.taps.conv_in, self.conv_in.forward(&latents));
        let x = self.mid_block.forward(pass, x);
        let x = self.up_blocks.iter().fold(x, |x, block| block.forward(pass, x));
        let out = self.conv_norm_out.then_convolved(pass, &self.taps.conv_norm_out, &x, &self.conv_out);
        pass.tap(&self.taps.out, out.contiguous())
    }
}
