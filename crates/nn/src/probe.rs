//! Which kernels are the fastest on this CPU, by measuring.

use crate::{
    Attends, Attention, AttentionShape, Engine, GatedGelu, Kernels, Layout, Linear, Linears, Pass, ResnetBlock,
    ResnetShape, Result, Weights,
};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor, no_grad};

/// Other kernels are chosen if they take less than this share of the time of those before. Less than that is noise.
const FASTER: f64 = 0.95;
/// How often kernels are measured in turn with those before; the shortest time of each counts, since other work on the machine
/// only ever adds to it.
const TURNS: usize = 4;

/// The fastest kernels for a number format.
#[derive(Clone, Copy, Debug)]
pub struct Fastest {
    /// The kernels.
    pub kernels: Kernels,
    /// The time of a layer as a share of its time in f32 by libtorch's own kernels.
    pub against_f32: f64,
    /// How long the measurement took.
    pub took: Duration,
}

/// The fastest kernels for a large network in a number format on this CPU, with as many threads as libtorch has. They
/// are measured on one layer of Stable Diffusion's UNet at its largest resolution, which takes a few seconds.
///
/// # Errors
/// The layer cannot be made.
pub fn fastest(kind: Kind) -> Result<Fastest> {
    let began = Instant::now();
    let mut best = Layer::load(Kernels::PLAIN, kind)?;
    best = best.or(|kernels| Kernels { layout: Layout::ChannelsLast, ..kernels })?;
    best = best.or(|kernels| Kernels { linear: Linears::Convolution, ..kernels })?;
    for engine in Engine::ALL.into_iter().filter(|engine| *engine != Engine::Portable && engine.computes(kind)) {
        best = best.or(|kernels| Kernels { attention: Some(engine), ..kernels })?;
        if best.kernels.attention.is_some() {
            break; // they are in the order of their speed
        }
    }
    let [time, of_f32] = in_turn([&best, &Layer::load(Kernels::PLAIN, Kind::Float)?]);
    Ok(Fastest { kernels: best.kernels, against_f32: time / of_f32, took: began.elapsed() })
}

/// The shortest times of two layers in seconds, measured in turn.
fn in_turn(layers: [&Layer; 2]) -> [f64; 2] {
    let _ = layers.map(Layer::time); // the first time compiles and allocates
    let turns = (0..TURNS).map(|_| layers.map(|layer| layer.time().as_secs_f64()));
    turns.reduce(|[a, b], [c, d]| [a.min(c), b.min(d)]).unwrap_or([1.0; 2])
}

/// A residual block, and attention and feed-forward layer over its pixels.
struct Layer {
    kernels: Kernels,
    kind: Kind,
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
            kernels,
            kind,
            resnet: ResnetBlock::load(&weights.at("resnet"), shape)?,
            attention: Attention::load(&weights.at("attention"), heads)?,
            proj: Linear::load(&weights.at("proj"), CHANNELS, 2 * inner, true)?,
            activation: GatedGelu::load(&weights),
            linear: Linear::load(&weights.at("linear"), inner, CHANNELS, true)?,
            x: kernels.placed(Tensor::ones([1, CHANNELS, SIDE, SIDE], (kind, Device::Cpu))),
        })
    }

    /// The faster of this layer and one with other kernels.
    fn or(self, other: impl FnOnce(Kernels) -> Kernels) -> Result<Layer> {
        let other = Layer::load(other(self.kernels), self.kind)?;
        let [own, others] = in_turn([&self, &other]);
        Ok(if others < FASTER * own { other } else { self })
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
        let Fastest { kernels, against_f32, .. } = fastest(Kind::BFloat16).unwrap();
        assert!(against_f32 > 0.0 && against_f32.is_finite());
        assert_eq!(kernels.available(Kind::BFloat16, Device::Cpu), kernels);
    }
}
