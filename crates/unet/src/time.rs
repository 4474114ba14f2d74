//! The time embedding.

use crate::UnetConfig;
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Linear, Pass, Result, Tap, Weights};

/// Sines and cosines of the timestep, and an MLP on them (`Timesteps` and `TimestepEmbedding`).
pub(crate) struct TimeEmbedding {
    frequencies: Tensor,
    cosines_first: bool,
    linear_1: Linear,
    linear_2: Linear,
    kind: Kind,
    waves: Tap,
    out: Tap,
}

impl TimeEmbedding {
    pub(crate) fn load(weights: &Weights, config: &UnetConfig) -> Result<TimeEmbedding> {
        let width = config.block_out_channels[0];
        Ok(TimeEmbedding {
            frequencies: weights.place(frequencies(width / 2, config.freq_shift)),
            cosines_first: config.flip_sin_to_cos,
            linear_1: Linear::load(&weights.at("linear_1"), width, 4 * width, true)?,
            linear_2: Linear::load(&weights.at("linear_2"), 4 * width, 4 * width, true)?,
            kind: weights.kind(),
            waves: weights.tap("waves"),
            out: weights.tap("out"),
        })
    }

    /// Timesteps `[batch or 1]` to `[batch or 1, 4 * width]`.
    pub(crate) fn forward(&self, pass: &mut Pass, times: &Tensor) -> Tensor {
        let angles = times.to_kind(Kind::Float).unsqueeze(1) * &self.frequencies; // [batch or 1, width / 2]
        let (first, second) =
            if self.cosines_first { (angles.cos(), angles.sin()) } else { (angles.sin(), angles.cos()) };
        let waves = pass.tap(&self.waves, Tensor::cat(&[first, second], 1).to_kind(self.kind));
        pass.tap(&self.out, self.linear_2.forward(&self.linear_1.forward(&waves).silu()))
    }
}

/// `10000^(-i / (count - shift))` for `i` in `0..count` (Vaswani et al. 2017, section 3.5), in f32 as the networks
/// were trained.
fn frequencies(count: i64, shift: f64) -> Tensor {
    let exponents = Tensor::arange(count, (Kind::Float, Device::Cpu)) * -(10000f64.ln());
    (exponents / (count as f64 - shift)).exp()
}
