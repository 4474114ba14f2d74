//! The blocks of the encoder and the decoder.

use crate::VaeConfig;
use latentrace_nn::tch::Tensor;
use latentrace_nn::{
    Attends, Attention, AttentionShape, Downsample, GroupNorm, Padding, Pass, ResnetBlock, ResnetShape, Result, Tap,
    Upsample, Weights,
};

/// The epsilon of every norm in the VAE.
pub(crate) const EPS: f64 = 1e-6;

pub(crate) fn resnet(weights: &Weights, config: &VaeConfig, inputs: i64, outputs: i64) -> Result<ResnetBlock> {
    let shape = ResnetShape { inputs, outputs, time: None, groups: config.norm_num_groups, eps: EPS };
    ResnetBlock::load(weights, shape)
}

/// The resnets of one resolution; the first changes the number of channels.
fn resnets(weights: &Weights, config: &VaeConfig, inputs: i64, outputs: i64, count: i64) -> Result<Vec<ResnetBlock>> {
    let width = |index| if index == 0 { inputs } else { outputs };
    (0..count).map(|index| resnet(&weights.at("resnets").at(index), config, width(index), outputs)).collect()
}

/// `DownEncoderBlock2D`.
pub(crate) struct DownBlock {
    resnets: Vec<ResnetBlock>,
    downsampler: Option<Downsample>,
    out: Tap,
}

impl DownBlock {
    pub(crate) fn load(weights: &Weights, config: &VaeConfig, index: usize) -> Result<DownBlock> {
        let channels = &config.block_out_channels;
        let (inputs, outputs) = (channels[index.saturating_sub(1)], channels[index]);
        let halves = index + 1 < channels.len();
        Ok(DownBlock {
            resnets: resnets(weights, config, inputs, outputs, config.layers_per_block)?,
            downsampler: halves
                .then(|| Downsample::load(&weights.at("downsamplers.0"), outputs, Padding::After))
                .transpose()?,
            out: weights.tap("out"),
        })
    }

    pub(crate) fn forward(&self, pass: &mut Pass, x: Tensor) -> Tensor {
        let x = self.resnets.iter().fold(x, |x, resnet| resnet.forward(pass, &x, None));
        let x =
            self.downsampler.as_ref().map_or_else(|| x.shallow_clone(), |downsampler| downsampler.forward(pass, &x));
        pass.tap(&self.out, x)
    }
}

/// `UpDecoderBlock2D`; `index` counts from the coarsest.
pub(crate) struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsampler: Option<Upsample>,
    out: Tap,
}

impl UpBlock {
    pub(crate) fn load(weights: &Weights, config: &VaeConfig, index: usize) -> Result<UpBlock> {
        let channels: Vec<i64> = config.block_out_channels.iter().rev().copied().collect();
        let (inputs, outputs) = (channels[index.saturating_sub(1)], channels[index]);
        let doubles = index + 1 < channels.len();
        Ok(UpBlock {
            resnets: resnets(weights, config, inputs, outputs, config.layers_per_block + 1)?,
            upsampler: doubles.then(|| Upsample::load(&weights.at("upsamplers.0"), outputs)).transpose()?,
            out: weights.tap("out"),
        })
    }

    pub(crate) fn forward(&self, pass: &mut Pass, x: Tensor) -> Tensor {
        let x = self.resnets.iter().fold(x, |x, resnet| resnet.forward(pass, &x, None));
        let x = match (&self.upsampler, x.size().as_slice()) {
            (Some(upsampler), &[_, _, height, width]) => upsampler.forward(pass, &x, 2 * height, 2 * width),
            _ => x,
        };
        pass.tap(&self.out, x)
    }
}

/// `UNetMidBlock2D`: resnet, attention over all pixels, resnet.
pub(crate) struct MidBlock {
    first: ResnetBlock,
    attention: Option<PixelAttention>,
    second: ResnetBlock,
    out: Tap,
}

impl MidBlock {
    pub(crate) fn load(weights: &Weights, config: &VaeConfig, channels: i64) -> Result<MidBlock> {
        Ok(MidBlock {
            first: resnet(&weights.at("resnets.0"), config, channels, channels)?,
            attention: config
                .mid_block_add_attention
                .then(|| PixelAttention::load(&weights.at("attentions.0"), channels, config.norm_num_groups))
                .transpose()?,
            second: resnet(&weights.at("resnets.1"), config, channels, channels)?,
            out: weights.tap("out"),
        })
    }

    pub(crate) fn forward(&self, pass: &mut Pass, x: Tensor) -> Tensor {
        let mut x = self.first.forward(pass, &x, None);
        if let Some(attention) = &self.attention {
            x = attention.forward(pass, x);
        }
        let x = self.second.forward(pass, &x, None);
        pass.tap(&self.out, x)
    }
}

/// Attention of one head over the pixels, with its own norm and a residual connection.
struct PixelAttention {
    group_norm: GroupNorm,
    attention: Attention,
    norm: Tap,
    sum: Tap,
}

impl PixelAttention {
    fn load(weights: &Weights, channels: i64, groups: i64) -> Result<PixelAttention> {
        let shape = AttentionShape {
            width: channels,
            context: channels,
            attends: Attends::Itself,
            heads: 1,
            bias: true,
            causal: false,
            upcast: false,
            names: AttentionShape::DIFFUSERS,
        };
        Ok(PixelAttention {
            group_norm: GroupNorm::load(&weights.at("group_norm"), channels, groups, EPS)?,
            attention: Attention::load(weights, shape)?,
            norm: weights.tap("group_norm"),
            sum: weights.residual_tap("sum"),
        })
    }

    fn forward(&self, pass: &mut Pass, x: Tensor) -> Tensor {
        let size = x.size();
        let normed = pass.tap(&self.norm, self.group_norm.forward(&x));
        let pixels = normed.flatten(2, 3).transpose(1, 2); // [batch, pixels, channels]
        pass.set_grid(Some([size[2], size[3]]));
        let out = self.attention.forward(pass, &pixels, &pixels);
        pass.set_grid(None);
        pass.tap_residual(&self.sum, &x + out.transpose(1, 2).reshape(size), || x.shallow_clone())
    }
}
