//! Which kernels are the fastest on this CPU, by measuring.

use crate::{
    Attends, Attention, AttentionShape, Engine, GatedGelu, Kernels, Layout, Linear, Linears, Pass, ResnetBlock,
    ResnetShape, Result, Weights,
};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor, no_grad};

/// Another kernel is chosen if it takes less than this share of the time of the one before. Less than that is noise.
const FASTER: f64 = 0.95;
/// How often each kernel is measured; the shortest time counts.
const TIMES: usize = 3;

/// The fastest kernels for a large network in a number format on this CPU, with as many threads as libtorch has. They
/// are measured on one layer of Stable Diffusion's UNet at its largest resolution, which takes a few seconds.
///
/// # Errors
/// The layer cannot be made.
pub fn fastest(kind: Kind) -> Result<Kernels> {
    let mut best = Candidate::measured(Kernels::PLAIN, kind)?;
    best = best.or(Kernels { layout: Layout::ChannelsLast, ..best.kernels }, kind)?;
    best = best.or(Kernels { linear: Linears::Convolution, ..best.kernels }, kind)?;
    for engine in Engine::ALL.into_iter().filter(|engine| *engine != Engine::Portable && engine.computes(kind)) {
        best = best.or(Kernels { attention: Some(engine), ..best.kernels }, kind)?;
    }
    Ok(best.kernels)
}

/// Kernels, and how long the layer takes with them.
#[derive(Clone, Copy)]
struct Candidate {
    kernels: Kernels,
    time: Duration,
}

impl Candidate {
    fn measured(kernels: Kernels, kind: Kind) -> Result<Candidate> {
        let layer = Layer::load(kernels, kind)?;
        let time = (0..=TIMES).map(|_| layer.time()).skip(1).min().unwrap_or_default(); // the first compiles and allocates
        Ok(Candidate { kernels, time })
    }

    /// The faster of this and another.
    fn or(self, kernels: Kernels, kind: Kind) -> Result<Candidate> {
        let other = Candidate::measured(kernels, kind)?;
        Ok(if other.time.as_secs_f64() < FASTER * self.time.as_secs_f64() { other } else { self })
    }
}

/// A residual block, and attention and feed-forward layer over its pixels.
struct Layer {
    resnet: ResnetBlock,
    attention: Attention,
    proj: Linear,
    activation: GatedGelu,
    linear: Linear,
    x: Tensor,
}

/// Channels of the layer, and the side of its picture in pixels.
const CHANNELS: i64 = 320;
const SIDE: i64 = 64;

impl Layer {
    fn load(kernels: Kernels, kind: Kind) -> Result<Layer> {
        let weights = Weights::random("probe", 1, kind, Device::Cpu).with_kernels(kernels);
        let shape = ResnetShape { inputs: CHANNELS, outputs: CHANNELS, time: None, groups: 32, eps: 1e-5 };
        let heads = AttentionShape {
            width: CHANNELS,
            context: CHANNELS,
            attends: Attends::Itself,
            heads: 8,
            bias: false,
            causal: false,
            upcast: false,
            names: AttentionShape::DIFFUSERS,
        };
        let inner = 4 * CHANNELS;
        Ok(Layer {
            resnet: ResnetBlock::load(&weights.at("resnet"), shape)?,
            attention: Attention::load(&weights.at("attention"), heads)?,
            proj: Linear::load(&weights.at("proj"), CHANNELS, 2 * inner, true)?,
            activation: GatedGelu::load(&weights),
            linear: Linear::load(&weights.at("linear"), inner, CHANNELS, true)?,
            x: kernels.placed(Tensor::ones([1, CHANNELS, SIDE, SIDE], (kind, Device::Cpu))),
        })
    }

    fn time(&self) -> Duration {
        let began = Instant::now();
        drop(no_grad(|| {
            let pass = &mut Pass::silent();
            let h = self.resnet.forward(pass, &self.x, None);
            let rows = h.flatten(2, 3).transpose(1, 2); // [1, pixels, channels]
            let rows = self.attention.forward(pass, &rows, &rows);
            let rows = self.linear.forward(&self.activation.forward(&self.proj.forward(&rows)));
            h + rows.transpose(1, 2).reshape([1, CHANNELS, SIDE, SIDE])
        }));
        began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_available_here() {
        let kernels = fastest(Kind::BFloat16).unwrap();
        assert_eq!(kernels.available(Kind::BFloat16, Device::Cpu), kernels);
    }
}
