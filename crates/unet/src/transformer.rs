//! The transformer between pixels and text (`Transformer2DModel`).

use crate::UnetConfig;
use latentrace_nn::tch::Tensor;
use latentrace_nn::{
    Attends, Attention, AttentionShape, Conv2d, GatedGelu, GroupNorm, LayerNorm, Linear, Pass, Result, Tap, Weights,
};

/// Norm, projection, transformer blocks over the pixels, projection; with a residual connection around all of them.
pub(crate) struct Transformer {
    norm: GroupNorm,
    proj_in: Projection,
    blocks: Vec<TransformerBlock>,
    proj_out: Projection,
    taps: OuterTaps,
}

struct OuterTaps {
    norm: Tap,
    proj_in: Tap,
    proj_out: Tap,
    out: Tap,
}

impl Transformer {
    /// Reads a transformer of so many blocks.
    pub(crate) fn load(
        weights: &Weights,
        config: &UnetConfig,
        (channels, heads): (i64, i64),
        depth: i64,
    ) -> Result<Transformer> {
        let blocks = weights.at("transformer_blocks");
        let block = |index| TransformerBlock::load(&blocks.at(index), config, channels, heads);
        let projection = |name: &str| Projection::load(&weights.at(name), channels, config.use_linear_projection);
        Ok(Transformer {
            norm: GroupNorm::load(&weights.at("norm"), channels, config.norm_num_groups, 1e-6)?,
            proj_in: projection("proj_in")?,
            blocks: (0..depth).map(block).collect::<Result<_>>()?,
            proj_out: projection("proj_out")?,
            taps: OuterTaps {
                norm: weights.tap("norm"),
                proj_in: weights.tap("proj_in"),
                proj_out: weights.tap("proj_out"),
                out: weights.residual_tap("out"),
            },
        })
    }

    /// `x` `[batch, channels, height, width]` and text `[batch, tokens, features]`.
    pub(crate) fn forward(&self, pass: &mut Pass, x: &Tensor, text: &Tensor) -> Tensor {
        let size = x.size();
        let normed = pass.tap(&self.taps.norm, self.norm.forward(x));
        pass.set_grid(Some([size[2], size[3]]));
        let h = pass.tap(&self.taps.proj_in, self.proj_in.forward(&pixels(&normed), &size)); // [batch, pixels, channels]
        let h = self.blocks.iter().fold(h, |h, block| block.forward(pass, h, text));
        let h = pass.tap(&self.taps.proj_out, self.proj_out.forward(&h, &size));
        pass.set_grid(None);
        pass.tap_residual(&self.taps.out, x + h.transpose(1, 2).reshape(&size), || x.shallow_clone())
    }
}

/// `[batch, channels, height, width]` to `[batch, pixels, channels]`.
fn pixels(x: &Tensor) -> Tensor {
    x.flatten(2, 3).transpose(1, 2)
}

/// A linear map of each pixel. SD 1.x stores it as a 1x1 convolution, SD 2.x as a linear layer.
enum Projection {
    Convolution(Conv2d),
    Linear(Linear),
}

impl Projection {
    fn load(weights: &Weights, channels: i64, linear: bool) -> Result<Projection> {
        Ok(match linear {
            true => Projection::Linear(Linear::load(weights, channels, channels, true)?),
            false => Projection::Convolution(Conv2d::load(weights, channels, channels, 1)?),
        })
    }

    /// `[batch, pixels, channels]`, shape kept; `size` is the picture's.
    fn forward(&self, x: &Tensor, size: &[i64]) -> Tensor {
        match self {
            Projection::Linear(linear) => linear.forward(x),
            Projection::Convolution(conv) => pixels(&conv.forward(&x.transpose(1, 2).reshape(size))),
        }
    }
}

/// Self-attention, cross-attention to the text, and a feed-forward layer (`BasicTransformerBlock`).
struct TransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
    taps: InnerTaps,
}

struct InnerTaps {
    norm1: Tap,
    norm2: Tap,
    norm3: Tap,
    out: Tap,
}

impl TransformerBlock {
    fn load(weights: &Weights, config: &UnetConfig, width: i64, heads: i64) -> Result<TransformerBlock> {
        let norm = |name: &str| LayerNorm::load(&weights.at(name), width, 1e-5);
        let attention = |name: &str, context, attends| {
            let shape = AttentionShape {
                width,
                context,
                attends,
                heads,
                bias: false,
                causal: false,
                upcast: config.upcast_attention,
                names: AttentionShape::DIFFUSERS,
            };
            Attention::load(&weights.at(name), shape)
        };
        Ok(TransformerBlock {
            norm1: norm("norm1")?,
            attn1: attention("attn1", width, Attends::Itself)?,
            norm2: norm("norm2")?,
            attn2: attention("attn2", config.cross_attention_dim, Attends::Text)?,
            norm3: norm("norm3")?,
            ff: FeedForward::load(&weights.at("ff"), width)?,
            taps: InnerTaps {
                norm1: weights.tap("norm1"),
                norm2: weights.tap("norm2"),
                norm3: weights.tap("norm3"),
                out: weights.residual_tap("out"),
            },
        })
    }

    fn forward(&self, pass: &mut Pass, x: Tensor, text: &Tensor) -> Tensor {
        let h = pass.tap(&self.taps.norm1, self.norm1.forward(&x));
        let (y, h) = self.norm2.of_sum(&x, &self.attn1.forward(pass, &h, &h));
        let h = pass.tap(&self.taps.norm2, h);
        let (y, h) = self.norm3.of_sum(&y, &self.attn2.forward(pass, &h, text));
        let h = pass.tap(&self.taps.norm3, h);
        let y = y + self.ff.forward(pass, &h);
        pass.tap_residual(&self.taps.out, y, || x.shallow_clone())
    }
}

/// The feed-forward layer: a gated activation, `(x W) * gelu(x V)` (GEGLU, Shazeer 2020), then a linear layer.
struct FeedForward {
    proj: Linear,
    activation: GatedGelu,
    linear: Linear,
    gated: Tap,
    out: Tap,
}

impl FeedForward {
    fn load(weights: &Weights, width: i64) -> Result<FeedForward> {
        let inner = 4 * width;
        Ok(FeedForward {
            proj: Linear::load(&weights.at("net.0.proj"), width, 2 * inner, true)?,
            activation: GatedGelu::load(weights),
            linear: Linear::load(&weights.at("net.2"), inner, width, true)?,
            gated: weights.at("net.0").tap("out"),
            out: weights.residual_tap("out"),
        })
    }

    fn forward(&self, pass: &mut Pass, x: &Tensor) -> Tensor {
        let gated = self.activation.forward(&self.proj.forward(x)); // [batch, pixels, 4 * width]
        let gated = pass.tap(&self.gated, gated);
        pass.tap_residual(&self.out, self.linear.forward(&gated), || x.zeros_like())
    }
}
