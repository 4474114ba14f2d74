//! The blocks of each resolution: down blocks, middle block, up blocks.

use crate::UnetConfig;
use crate::transformer::Transformer;
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Downsample, Padding, Pass, ResnetBlock, ResnetShape, Result, Tap, Upsample, Weights};

/// What every block of a forward pass is conditioned on.
pub(crate) struct Conditions {
    /// The activated time embedding, `[batch or 1, 4 * width]`.
    pub(crate) time: Tensor,
    /// The text, `[batch, tokens, features]`.
    pub(crate) text: Tensor,
}

/// A residual block and, at some resolutions, a transformer.
struct Layer {
    resnet: ResnetBlock,
    attention: Option<Transformer>,
}

/// A block's channels, its heads, and, if it attends to the text, the transformer blocks of each layer.
#[derive(Clone, Copy)]
struct Place<'a> {
    outputs: i64,
    heads: i64,
    depths: Option<&'a [i64]>,
}

impl Layer {
    fn load(weights: &Weights, config: &UnetConfig, index: usize, inputs: i64, place: Place) -> Result<Layer> {
        let attention = |depths: &[i64]| {
            let weights = weights.at("attentions").at(index);
            Transformer::load(&weights, config, (place.outputs, place.heads), depths[index])
        };
        Ok(Layer {
            resnet: resnet(&weights.at("resnets").at(index), config, inputs, place.outputs)?,
            attention: place.depths.map(attention).transpose()?,
        })
    }

    fn forward(&self, pass: &mut Pass, x: &Tensor, conditions: &Conditions) -> Tensor {
        let x = self.resnet.forward(pass, x, Some(&conditions.time));
        match &self.attention {
            Some(attention) => attention.forward(pass, &x, &conditions.text),
            None => x,
        }
    }
}

fn resnet(weights: &Weights, config: &UnetConfig, inputs: i64, outputs: i64) -> Result<ResnetBlock> {
    let time = Some(4 * config.block_out_channels[0]);
    ResnetBlock::load(
        weights,
        ResnetShape { inputs, outputs, time, groups: config.norm_num_groups, eps: config.norm_eps },
    )
}

/// `DownBlock2D` and `CrossAttnDownBlock2D`.
pub(crate) struct DownBlock {
    layers: Vec<Layer>,
    downsampler: Option<Downsample>,
    out: Tap,
}

impl DownBlock {
    pub(crate) fn load(weights: &Weights, config: &UnetConfig, index: usize) -> Result<DownBlock> {
        let channels = &config.block_out_channels;
        let (inputs, outputs) = (channels[index.saturating_sub(1)], channels[index]);
        let depths = config.down_attends[index].then(|| config.transformers.down[index].as_slice());
        let place = Place { outputs, heads: config.heads[index], depths };
        let width = |layer| if layer == 0 { inputs } else { outputs };
        let halves = index + 1 < channels.len();
        Ok(DownBlock {
            layers: (0..config.layers_per_block[index] as usize)
                .map(|layer| Layer::load(weights, config, layer, width(layer), place))
                .collect::<Result<_>>()?,
            downsampler: halves
                .then(|| Downsample::load(&weights.at("downsamplers.0"), outputs, Padding::Around))
                .transpose()?,
            out: weights.tap("out"),
        })
    }

    /// The channels of each tensor that this block pushes on the stack of skip connections.
    pub(crate) fn skips(config: &UnetConfig, index: usize) -> Vec<i64> {
        let halves = usize::from(index + 1 < config.block_out_channels.len());
        vec![config.block_out_channels[index]; config.layers_per_block[index] as usize + halves]
    }

    /// Pushes the output of every layer on `skips`; the last is the output of the block.
    pub(crate) fn forward(
        &self,
        pass: &mut Pass,
        x: Tensor,
        conditions: &Conditions,
        skips: &mut Vec<Tensor>,
    ) -> Tensor {
        let mut x = x;
        for layer in &self.layers {
            x = layer.forward(pass, &x, conditions);
            skips.push(x.shallow_clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(pass, &x);
            skips.push(x.shallow_clone());
        }
        pass.tap(&self.out, x)
    }
}

/// `UNetMidBlock2DCrossAttn`.
pub(crate) struct MidBlock {
    first: ResnetBlock,
    attention: Transformer,
    second: ResnetBlock,
    out: Tap,
}

impl MidBlock {
    pub(crate) fn load(weights: &Weights, config: &UnetConfig) -> Result<MidBlock> {
        let last = config.block_out_channels.len() - 1;
        let (channels, heads) = (config.block_out_channels[last], config.heads[last]);
        let attention = weights.at("attentions.0");
        Ok(MidBlock {
            first: resnet(&weights.at("resnets.0"), config, channels, channels)?,
            attention: Transformer::load(&attention, config, (channels, heads), config.transformers.middle)?,
            second: resnet(&weights.at("resnets.1"), config, channels, channels)?,
            out: weights.residual_tap("out"),
        })
    }

    pub(crate) fn forward(&self, pass: &mut Pass, x: &Tensor, conditions: &Conditions) -> Tensor {
        let h = self.first.forward(pass, x, Some(&conditions.time));
        let h = self.attention.forward(pass, &h, &conditions.text);
        let h = self.second.forward(pass, &h, Some(&conditions.time));
        pass.tap_residual(&self.out, h, || x.shallow_clone())
    }
}

/// `UpBlock2D` and `CrossAttnUpBlock2D`; `index` counts from the coarsest.
pub(crate) struct UpBlock {
    layers: Vec<Layer>,
    upsampler: Option<Upsample>,
    /// Of each layer, its skip connection.
    skips: Vec<Tap>,
    out: Tap,
}

impl UpBlock {
    /// Reads the block, taking the channels of its skip connections from the end of `skips`.
    pub(crate) fn load(weights: &Weights, config: &UnetConfig, index: usize, skips: &mut Vec<i64>) -> Result<UpBlock> {
        let blocks = config.block_out_channels.len();
        let mirrored = blocks - 1 - index;
        let outputs = config.block_out_channels[mirrored];
        let depths = config.up_attends[index].then(|| config.transformers.up[index].as_slice());
        let place = Place { outputs, heads: config.heads[mirrored], depths };
        let mut inputs = config.block_out_channels[(mirrored + 1).min(blocks - 1)];
        let mut layers = Vec::new();
        for layer in 0..=config.layers_per_block[mirrored] as usize {
            let skip = skips.pop().unwrap_or_default();
            layers.push(Layer::load(weights, config, layer, inputs + skip, place)?);
            inputs = outputs;
        }
        let doubles = index + 1 < blocks;
        Ok(UpBlock {
            skips: (0..layers.len()).map(|layer| weights.at("resnets").at(layer).tap("skip")).collect(),
            layers,
            upsampler: doubles.then(|| Upsample::load(&weights.at("upsamplers.0"), outputs)).transpose()?,
            out: weights.tap("out"),
        })
    }

    /// Pops a tensor of `skips` for every layer, and upsamples to the size of the next tensor in `skips`.
    pub(crate) fn forward(
        &self,
        pass: &mut Pass,
        x: Tensor,
        conditions: &Conditions,
        skips: &mut Vec<Tensor>,
    ) -> Tensor {
        let mut x = x;
        for (layer, tap) in self.layers.iter().zip(&self.skips) {
            if let Some(skip) = skips.pop() {
                let skip = pass.tap(tap, skip);
                x = Tensor::cat(&[x, skip], 1); // [batch, inputs + skip, height, width]
            }
            x = layer.forward(pass, &x, conditions);
        }
        let x = match (&self.upsampler, skips.last().map(Tensor::size).as_deref()) {
            (Some(upsampler), Some(&[_, _, height, width])) => upsampler.forward(pass, &x, height, width),
            _ => x,
        };
        pass.tap(&self.out, x)
    }
}
