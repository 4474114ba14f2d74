//! The time embedding.

use crate::UnetConfig;
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Linear, Pass, Result, Tap, Weights};

/// Sines and cosines of the timestep, and an MLP on them (`Timesteps` and `TimestepEmbedding`).
pub(crate) struct TimeEmbedding {
    waves: Waves,
    linear_1: Linear,
    linear_2: Linear,
    taps: Taps,
}

struct Taps {
    waves: Tap,
    out: Tap,
}

/// Sines and cosines of numbers, computed in f32.
pub(crate) struct Waves {
    frequencies: Tensor,
    cosines_first: bool,
    kind: Kind,
}

impl Waves {
    /// So many of each number.
    pub(crate) fn new(weights: &Weights, config: &UnetConfig, count: i64) -> Waves {
        Waves {
            frequencies: weights.place(frequencies(count / 2, config.freq_shift)),
            cosines_first: config.flip_sin_to_cos,
            kind: weights.kind(),
        }
    }

    /// Numbers of any shape to one more axis, in the number format of the network.
    pub(crate) fn of(&self, numbers: &Tensor) -> Tensor {
        let angles = numbers.to_kind(Kind::Float).unsqueeze(-1) * &self.frequencies; // [.., count / 2]
        let (first, second) =
            if self.cosines_first { (angles.cos(), angles.sin()) } else { (angles.sin(), angles.cos()) };
        Tensor::cat(&[first, second], -1).to_kind(self.kind)
    }
}

impl TimeEmbedding {
    pub(crate) fn load(weights: &Weights, config: &UnetConfig) -> Result<TimeEmbedding> {
        let width = config.block_out_channels[0];
        Ok(TimeEmbedding {
            waves: Waves::new(weights, config, width),
            linear_1: Linear::load(&weights.at("linear_1"), width, 4 * width, true)?,
            linear_2: Linear::load(&weights.at("linear_2"), 4 * width, 4 * width, true)?,
            taps: Taps { waves: weights.tap("waves"), out: weights.tap("out") },
        })
    }

    /// Timesteps `[batch or 1]` to `[batch or 1, 4 * width]`.
    pub(crate) fn forward(&self, pass: &mut Pass, times: &Tensor) -> Tensor {
        let waves = pass.tap(&self.taps.waves, self.waves.of(times)); // [batch or 1, width]
        pass.tap(&self.taps.out, self.linear_2.forward(&self.linear_1.forward(&waves).silu()))
    }
}

/// `10000^(-i / (count - shift))` for `i` in `0..count` (Vaswani et al. 2017, section 3.5), in f32 as the networks
/// were trained.
fn frequencies(count: i64, shift: f64) -> Tensor {
    let exponents = Tensor::arange(count, (Kind::Float, Device::Cpu)) * -(10000f64.ln());
    (exponents / (count as f64 - shift)).exp()
}
