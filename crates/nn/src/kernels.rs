//! Which kernels compute the layers. No other file of a network asks for a device or a number format.

use crate::cpu::Engine;
use crate::cuda::Fused;
use crate::shapes::is_shape_only;
use crate::strips::Strips;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use tch::{Device, Kind, Tensor};

/// The kernels that a network's layers use. They are chosen when its weights are opened. All give the same numbers up to
/// rounding, and each always the same bits.
///
/// They are written as the words for what is not libtorch's default, joined by `+`: `channels-last+linear-as-convolution`.
/// The default itself is `plain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Kernels {
    /// How pictures lie in memory.
    pub layout: Layout,
    /// What computes linear layers.
    pub linear: Linears,
    /// What computes attention: our own kernel for these instructions of the CPU, or libtorch.
    pub attention: Option<Engine>,
    /// What computes norms, activations and sums.
    pub passes: Passes,
}

/// How the axes of a picture `[batch, channels, height, width]` lie in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The pixels of a channel next to each other (NCHW).
    #[default]
    Planar,
    /// The channels of a pixel next to each other (NHWC).
    ChannelsLast,
}

/// What computes linear layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Linears {
    /// A matrix product.
    #[default]
    Product,
    /// A convolution with a kernel of one pixel. For f32 on some CPUs, libtorch's convolution is twice as fast.
    Convolution,
}

/// What computes norms, activations and sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Passes {
    /// libtorch, an operation at a time.
    #[default]
    Separate,
    /// Our own kernels, which do the work of several operations (`cuda/fused.cu`). On CUDA, in 16-bit formats.
    Fused,
}

impl Kernels {
    /// libtorch's defaults.
    pub const PLAIN: Kernels =
        Kernels { layout: Layout::Planar, linear: Linears::Product, attention: None, passes: Passes::Separate };

    /// The kernels for a number format on a device, without measuring.
    pub fn of(kind: Kind, device: Device) -> Kernels {
        match device {
            Device::Cuda(_) if Fused::of(kind, device).is_some() => {
                Kernels { layout: Layout::ChannelsLast, passes: Passes::Fused, ..Kernels::PLAIN }
            }
            _ => Kernels::PLAIN,
        }
    }

    /// These, without what is not there: instructions that the CPU lacks, a device that is not CUDA.
    pub fn available(self, kind: Kind, device: Device) -> Kernels {
        let attention = self.attention.filter(|engine| device == Device::Cpu && engine.computes(kind));
        let passes = if Fused::of(kind, device).is_some() { self.passes } else { Passes::Separate };
        Kernels { attention, passes, ..self }
    }

    /// How many rows of a batch are best computed at a time by a network whose largest activation has so many bytes a row.
    ///
    /// On the CPU a large batch gains nothing: the activations of a row do not fit into the caches as it is, and those of many
    /// take more memory. A pair of rows is the batch of a run by itself.
    pub fn rows_at_once(self, device: Device, bytes: i64) -> i64 {
        if device == Device::Cpu && bytes >= LARGE_ROW { 2 } else { i64::MAX }
    }

    /// What can be written besides `plain`.
    pub fn words() -> String {
        let engines = Engine::ALL.map(Engine::name).join(", ");
        format!(
            "some of {CHANNELS_LAST}, {LINEAR_AS_CONVOLUTION}, {ATTENTION}ENGINE (one of {engines}; on CPUs) and {FUSED} (on CUDA), each once, joined by +"
        )
    }

    fn fused(self, x: &Tensor) -> Option<&'static Fused> {
        match self.passes {
            Passes::Fused if !x.requires_grad() => Fused::of(x.kind(), x.device()),
            Passes::Fused | Passes::Separate => None,
        }
    }

    /// Whether the bias of a convolution is better added by the next operation.
    pub(crate) fn leaves_bias(self, convolution: &Convolution) -> bool {
        self.passes == Passes::Fused && !convolution.is_pointwise()
    }

    /// The weight of a convolution `[outputs, inputs, height, width]` as these kernels read it.
    pub(crate) fn placed(self, weight: Tensor) -> Tensor {
        match self.layout {
            Layout::ChannelsLast if !is_shape_only(&weight) => channels_last(&weight),
            Layout::ChannelsLast | Layout::Planar => weight,
        }
    }

    /// A convolution of `x` `[batch, channels, height, width]`.
    pub(crate) fn convolution(self, x: &Tensor, how: &Convolution, bias: Option<&Tensor>) -> Tensor {
        let Convolution { weight, stride, padding } = how;
        if self.passes == Passes::Fused && how.is_pointwise() {
            // A product for each pixel, to which the bias is added on the way.
            let weight = weight.squeeze_dim(3).squeeze_dim(2); // [outputs, inputs]
            return x.permute([0, 2, 3, 1]).linear(&weight, bias).permute([0, 3, 1, 2]);
        }
        x.conv2d(weight, bias, [*stride; 2], [*padding; 2], [1, 1], 1)
    }

    /// The strips in which a layer from `x` `[batch, channels, ..]` to pictures `[outputs, height, width]` is computed. `None` if
    /// it is computed at once. It depends on shapes, the number format and the device alone, so that the same run always has the
    /// same bits.
    pub(crate) fn strips(self, x: &Tensor, output: [i64; 3]) -> Option<Strips> {
        const MIB: i64 = 1 << 20;
        if is_shape_only(x) || x.requires_grad() {
            return None;
        }
        // From the first number of bytes on in strips of the second. On a CPU, decoding 512 by 512 pixels is the first to gain: no
        // layer of a UNet of Stable Diffusion has such pictures below 1024 by 1024 pixels. A GPU computes few rows slowly.
        let bytes = match x.device() {
            Device::Cpu => [64 * MIB, 16 * MIB],
            _ => [1024 * MIB, 128 * MIB],
        };
        Strips::of(x, output, bytes)
    }

    /// [`Kernels::convolution`] of rows of a picture that have the rows around them already, `[1, channels, rows, width]`.
    pub(crate) fn convolution_of_rows(self, x: &Tensor, how: &Convolution, bias: Option<&Tensor>) -> Tensor {
        let Convolution { weight, stride, padding } = how;
        x.conv2d(weight, bias, [*stride; 2], [0, *padding], [1, 1], 1)
    }

    /// `x A^T + b` over the last axis of `x`.
    pub(crate) fn linear(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let size = x.size();
        match (self.linear, &size[..]) {
            (Linears::Convolution, [batch, rows, inputs]) => {
                // [batch, inputs, rows, 1], channels last, without a copy if the rows are one after another
                let picture = x.reshape([*batch, *rows, 1, *inputs]).permute([0, 3, 1, 2]);
                let kernel = weight.unsqueeze(-1).unsqueeze(-1);
                let y = picture.conv2d(&kernel, bias, [1, 1], [0, 0], [1, 1], 1);
                y.permute([0, 2, 3, 1]).reshape([*batch, *rows, -1])
            }
            _ => x.linear(weight, bias),
        }
    }

    /// Attention by a fused kernel: `q` `[batch, heads, pixels, features]` to `k` and `v`
    /// `[batch, heads, tokens, features]`, with scale `1 / sqrt(features)`.
    pub(crate) fn attention(self, [q, k, v]: [&Tensor; 3], causal: bool) -> Tensor {
        let own = self.attention.filter(|_| !causal).and_then(|engine| engine.attention_if_faster(q, k, v));
        own.unwrap_or_else(|| Tensor::scaled_dot_product_attention::<Tensor>(q, k, v, None, 0.0, causal, None, false))
    }

    /// Group normalisation, with SiLU if asked for.
    pub(crate) fn group_norm(self, of: &Pending, how: &Grouping) -> Tensor {
        if let Some(normed) = self.fused(&of.x).and_then(|fused| fused.group_norm(of, how)) {
            return normed;
        }
        let x = of.whole();
        let mut normed = x.group_norm(how.groups, Some(how.weight), Some(how.shift), how.epsilon, true);
        match how.silu {
            true if normed.requires_grad() => normed.silu(),
            true => normed.silu_(),
            false => normed,
        }
    }

    /// Layer normalisation over the last axis.
    pub(crate) fn layer_norm(self, x: &Tensor, [weight, shift]: [&Tensor; 2], epsilon: f64) -> Tensor {
        let fused = self.fused(x).and_then(|fused| fused.layer_norm(x, None, [weight, shift], epsilon));
        match fused {
            Some((_, normed)) => normed,
            None => x.layer_norm(weight.size(), Some(weight), Some(shift), epsilon, true),
        }
    }

    /// `x + y`, and its layer normalisation.
    pub(crate) fn sum_and_norm(
        self,
        x: &Tensor,
        y: &Tensor,
        parameters: [&Tensor; 2],
        epsilon: f64,
    ) -> (Tensor, Tensor) {
        if let Some(both) = self.fused(x).and_then(|fused| fused.layer_norm(x, Some(y), parameters, epsilon)) {
            return both;
        }
        let sum = x + y;
        let normed = self.layer_norm(&sum, parameters, epsilon);
        (sum, normed)
    }

    /// `a * gelu(b)` for the halves of the last axis (GEGLU, Shazeer 2020).
    pub(crate) fn gated_gelu(self, x: &Tensor) -> Tensor {
        if let Some(gated) = self.fused(x).and_then(|fused| fused.gated_gelu(x)) {
            return gated;
        }
        let halves = x.chunk(2, -1);
        &halves[0] * halves[1].gelu("none")
    }

    /// `x` `[batch, channels, ..]` with each pixel repeated, to the given height and width.
    pub(crate) fn upsampled(self, x: &Tensor, height: i64, width: i64) -> Tensor {
        let twice = x.size()[2..] == [height / 2, width / 2] && [height, width].iter().all(|side| side % 2 == 0);
        match self.fused(x).filter(|_| twice).and_then(|fused| fused.doubled(x)) {
            Some(doubled) => doubled,
            None => x.upsample_nearest2d([height, width], None, None),
        }
    }

    /// The sum of two tensors.
    pub(crate) fn sum(self, a: &Pending, b: &Pending) -> Tensor {
        match self.fused(&a.x).filter(|_| a.bias.is_some() || b.bias.is_some()).and_then(|fused| fused.sum(a, b)) {
            Some(sum) => sum,
            None => a.whole() + b.whole(),
        }
    }
}

/// Bytes of a row of activations from which a large batch does not pay on a CPU. The bundled model has 64 kB, Stable Diffusion
/// 1.x 5 MB in f32.
const LARGE_ROW: i64 = 1 << 20;

const CHANNELS_LAST: &str = "channels-last";
const LINEAR_AS_CONVOLUTION: &str = "linear-as-convolution";
const ATTENTION: &str = "attention-";
const FUSED: &str = "fused";
const PLAIN: &str = "plain";

impl Display for Kernels {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let words = [
            (self.layout == Layout::ChannelsLast).then(|| CHANNELS_LAST.into()),
            (self.linear == Linears::Convolution).then(|| LINEAR_AS_CONVOLUTION.into()),
            self.attention.map(|engine| format!("{ATTENTION}{}", engine.name())),
            (self.passes == Passes::Fused).then(|| FUSED.into()),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        formatter.write_str(if words.is_empty() { PLAIN } else { "" })?;
        formatter.write_str(&words.join("+"))
    }
}

/// Words that are not those of [`Kernels`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernels: expected plain, or {}, found {:?}", Kernels::words(), .0)]
pub struct UnknownKernels(String);

impl FromStr for Kernels {
    type Err = UnknownKernels;

    fn from_str(text: &str) -> Result<Kernels, UnknownKernels> {
        let mut kernels = Kernels::PLAIN;
        if text == PLAIN {
            return Ok(kernels);
        }
        for word in text.split('+') {
            match word {
                CHANNELS_LAST => kernels.layout = Layout::ChannelsLast,
                LINEAR_AS_CONVOLUTION => kernels.linear = Linears::Convolution,
                FUSED => kernels.passes = Passes::Fused,
                _ => match word.strip_prefix(ATTENTION).and_then(Engine::named) {
                    Some(engine) => kernels.attention = Some(engine),
                    None => return Err(UnknownKernels(text.into())),
                },
            }
        }
        // A word that was given twice, or a second engine, is missing from what was read.
        let [given, read] = [text, &kernels.to_string()].map(|text| text.split('+').count());
        if given == read { Ok(kernels) } else { Err(UnknownKernels(text.into())) }
    }
}

impl From<Kernels> for String {
    fn from(kernels: Kernels) -> String {
        kernels.to_string()
    }
}

impl TryFrom<String> for Kernels {
    type Error = UnknownKernels;

    fn try_from(text: String) -> Result<Kernels, UnknownKernels> {
        text.parse()
    }
}

/// A tensor `[batch, channels, height, width]`, and what the next operation adds to it on the way.
pub(crate) struct Pending<'a> {
    pub(crate) x: Tensor,
    /// The bias of the convolution that gave it, `[channels]`.
    pub(crate) bias: Option<&'a Tensor>,
    /// The time embedding, `[batch or 1, channels]`.
    pub(crate) time: Option<Tensor>,
}

impl Pending<'_> {
    /// The tensor with everything added.
    pub(crate) fn whole(&self) -> Tensor {
        let biased = match self.bias {
            Some(bias) => &self.x + bias.view([1, -1, 1, 1]),
            None => self.x.shallow_clone(),
        };
        match &self.time {
            Some(time) => biased + time.unsqueeze(-1).unsqueeze(-1),
            None => biased,
        }
    }
}

impl From<Tensor> for Pending<'_> {
    fn from(x: Tensor) -> Self {
        Pending { x, bias: None, time: None }
    }
}

/// A convolution's kernel, and how it moves.
pub(crate) struct Convolution {
    /// `[outputs, inputs, height, width]`
    pub(crate) weight: Tensor,
    pub(crate) stride: i64,
    pub(crate) padding: i64,
}

impl Convolution {
    /// Whether each pixel of the output depends on one pixel of the input.
    fn is_pointwise(&self) -> bool {
        self.weight.size()[2..] == [1, 1] && (self.stride, self.padding) == (1, 0)
    }
}

/// The parameters of a group normalisation.
pub(crate) struct Grouping<'a> {
    /// `[channels]`
    pub(crate) weight: &'a Tensor,
    /// `[channels]`
    pub(crate) shift: &'a Tensor,
    pub(crate) groups: i64,
    pub(crate) epsilon: f64,
    /// Whether SiLU follows.
    pub(crate) silu: bool,
}

/// The same tensor `[batch, channels, height, width]` with its channels next to each other in memory. Nothing is copied
/// if they are.
pub(crate) fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// A tensor `[batch, channels, height, width]` without values, whose channels are next to each other in memory.
pub(crate) fn channels_last_empty([batch, channels, height, width]: [i64; 4], options: (Kind, Device)) -> Tensor {
    Tensor::empty([batch, height, width, channels], options).permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_read_as_they_are_written() {
        for layout in [Layout::Planar, Layout::ChannelsLast] {
            for linear in [Linears::Product, Linears::Convolution] {
                for passes in [Passes::Separate, Passes::Fused] {
                    for attention in [None, Some(Engine::Avx512), Some(Engine::Avx512Bf16), Some(Engine::Amx)] {
                        let kernels = Kernels { layout, linear, attention, passes };
                        assert_eq!(kernels.to_string().parse(), Ok(kernels));
                    }
                }
            }
        }
        assert_eq!(Kernels::PLAIN.to_string(), "plain");
        for text in ["", "fast", "plain+fused", "channels-last+", "Channels-Last", "attention-", "attention-mmx"]
            .into_iter()
            .chain(["fused+fused", "attention-amx+attention-avx2", "channels-last+fused+channels-last"])
        {
            assert_eq!(text.parse::<Kernels>(), Err(UnknownKernels(text.into())));
        }
    }
}
