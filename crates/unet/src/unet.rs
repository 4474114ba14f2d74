//! The whole network.

use crate::UnetConfig;
use crate::added::{Added, AddedEmbedding};
use crate::block::{Conditions, DownBlock, MidBlock, UpBlock};
use crate::time::TimeEmbedding;
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Conv2d, GroupNorm, Kernels, Pass, Replay, Result, Tap, Weights};

/// The denoising network.
pub struct Unet {
    conv_in: Conv2d,
    time_embedding: TimeEmbedding,
    added: Option<AddedEmbedding>,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    taps: Taps,
    /// Every tap of the network.
    all_taps: Vec<Tap>,
    /// `None` if the scale of a low-rank change may differ from call to call.
    replay: Option<Replay>,
    /// Channels at the highest resolution.
    finest: i64,
    kernels: Kernels,
    kind: Kind,
    device: Device,
}

/// What a forward pass is conditioned on besides the time.
#[derive(Clone, Copy, Debug)]
pub struct Condition<'a> {
    /// The text, `[batch, tokens, features]`.
    pub text: &'a Tensor,
    /// What is added to the time embedding, of a network that takes it (see [`UnetConfig::added`]). Without it such a network has the
    /// time alone; another network does not read it.
    pub added: Option<Added<'a>>,
}

impl<'a> From<&'a Tensor> for Condition<'a> {
    fn from(text: &'a Tensor) -> Condition<'a> {
        Condition { text, added: None }
    }
}

struct Taps {
    sample: Tap,
    conv_in: Tap,
    conv_norm_out: Tap,
    out: Tap,
}

impl Unet {
    /// Reads the network.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, config: &UnetConfig) -> Result<Unet> {
        let blocks = config.block_out_channels.len();
        let finest = config.block_out_channels[0];
        let mut skips = vec![finest];
        skips.extend((0..blocks).flat_map(|index| DownBlock::skips(config, index)));
        let mut unet = Unet {
            conv_in: Conv2d::load(&weights.at("conv_in"), config.in_channels, finest, 3)?,
            time_embedding: TimeEmbedding::load(&weights.at("time_embedding"), config)?,
            added: config.added.as_ref().map(|added| AddedEmbedding::load(weights, config, added)).transpose()?,
            down_blocks: (0..blocks)
                .map(|index| DownBlock::load(&weights.at("down_blocks").at(index), config, index))
                .collect::<Result<_>>()?,
            mid_block: MidBlock::load(&weights.at("mid_block"), config)?,
            up_blocks: (0..blocks)
                .map(|index| UpBlock::load(&weights.at("up_blocks").at(index), config, index, &mut skips))
                .collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::load(
                &weights.at("conv_norm_out"),
                finest,
                config.norm_num_groups,
                config.norm_eps,
            )?,
            conv_out: Conv2d::load(&weights.at("conv_out"), finest, config.out_channels, 3)?,
            taps: Taps {
                sample: weights.tap("sample"),
                conv_in: weights.tap("conv_in"),
                conv_norm_out: weights.tap("conv_norm_out"),
                out: weights.tap("out"),
            },
            all_taps: Vec::new(),
            replay: (!weights.varies()).then(Replay::default),
            finest,
            kernels: weights.kernels(),
            kind: weights.kind(),
            device: weights.device(),
        };
        unet.all_taps = weights.taps();
        Ok(unet)
    }

    /// The prediction of the network, `[batch, 4, height, width]`, for latents of that shape at unit variance,
    /// timesteps `[batch]` or `[1]`, and a condition: a [`Condition`], or the text `[batch, tokens, features]` alone. Input and output
    /// are in the number format of the network, see [`Unet::kind`].
    ///
    /// On a CPU a large network computes more than two rows two at a time, unless a probe wants a tensor of its inside. So with more
    /// than two rows watching may change rounding.
    pub fn forward<'a>(
        &self,
        pass: &mut Pass,
        sample: &Tensor,
        times: &Tensor,
        condition: impl Into<Condition<'a>>,
    ) -> Tensor {
        let inputs = Inputs::of(sample, times, condition.into());
        if self.all_taps.iter().any(|tap| pass.wants(tap)) {
            return self.compute(pass, &inputs);
        }
        let size = sample.size(); // [batch, channels, height, width]
        let bytes = size[2..].iter().product::<i64>() * self.finest * self.kind.elt_size_in_bytes() as i64;
        let most = self.kernels.rows_at_once(self.device, bytes);
        if size[0] <= most {
            return self.unwatched(&inputs);
        }
        let firsts = (0..size[0]).step_by(most as usize);
        let parts = firsts.map(|first| self.unwatched(&inputs.rows(first, most.min(size[0] - first))));
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    }

    /// The prediction where nothing inside the network is watched.
    fn unwatched(&self, inputs: &Inputs) -> Tensor {
        let compute = |inputs: &Inputs| self.compute(&mut Pass::silent(), inputs);
        match &self.replay {
            Some(replay) => replay.run(&inputs.tensors(), |tensors| compute(&Inputs::from_tensors(tensors))),
            None => compute(inputs),
        }
    }

    fn compute(&self, pass: &mut Pass, inputs: &Inputs) -> Tensor {
        let sample = pass.tap(&self.taps.sample, inputs.sample.shallow_clone());
        let time = self.time_embedding.forward(pass, &inputs.times);
        let time = match (&self.added, &inputs.added) {
            (Some(embedding), Some([pooled, ids])) => time + embedding.forward(pass, Added { pooled, ids }),
            _ => time,
        }; // [batch or 1, 4 * width]
        let conditions = Conditions { time: time.silu(), text: inputs.text.shallow_clone() };
        let mut x = pass.tap(&self.taps.conv_in, self.conv_in.forward(&sample));
        let mut skips = vec![x.shallow_clone()];
        for block in &self.down_blocks {
            x = block.forward(pass, x, &conditions, &mut skips);
        }
        x = self.mid_block.forward(pass, &x, &conditions);
        for block in &self.up_blocks {
            x = block.forward(pass, x, &conditions, &mut skips);
        }
        let h = self.conv_norm_out.then_silu(pass, &self.taps.conv_norm_out, &x);
        pass.tap(&self.taps.out, self.conv_out.forward(&h).contiguous())
    }

    /// The number format that the network runs in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The device that the network is on.
    pub fn device(&self) -> Device {
        self.device
    }
}

/// What a forward pass takes.
struct Inputs {
    sample: Tensor,
    times: Tensor,
    text: Tensor,
    /// The pooled text and the numbers.
    added: Option<[Tensor; 2]>,
}

impl Inputs {
    fn of(sample: &Tensor, times: &Tensor, Condition { text, added }: Condition) -> Inputs {
        Inputs {
            sample: sample.shallow_clone(),
            times: times.shallow_clone(),
            text: text.shallow_clone(),
            added: added.map(|added| [added.pooled.shallow_clone(), added.ids.shallow_clone()]),
        }
    }

    /// Its tensors, in an order that [`Inputs::from_tensors`] reads.
    fn tensors(&self) -> Vec<&Tensor> {
        [&self.sample, &self.times, &self.text].into_iter().chain(self.added.iter().flatten()).collect()
    }

    fn from_tensors(tensors: &[Tensor]) -> Inputs {
        let of = |index: usize| tensors[index].shallow_clone();
        Inputs { sample: of(0), times: of(1), text: of(2), added: (tensors.len() > 3).then(|| [of(3), of(4)]) }
    }

    /// Some of its rows. Of a tensor that all rows share, the one that there is.
    fn rows(&self, first: i64, count: i64) -> Inputs {
        let part = |of: &&Tensor| if of.size()[0] == 1 { of.shallow_clone() } else { of.narrow(0, first, count) };
        Inputs::from_tensors(&self.tensors().iter().map(part).collect::<Vec<_>>())
    }
}
