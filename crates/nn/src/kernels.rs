//! Which kernels compute the layers. No other file of a network asks for a device or a number format.

use crate::cuda::Fused;
use crate::shapes::is_shape_only;
use tch::{Device, Kind, Tensor};

/// The kernels that a network's layers use. They are chosen when its weights are opened, and give the same numbers up to
/// rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// libtorch's operations on tensors as they are.
    Plain,
    /// libtorch's operations on pictures whose channels are next to each other in memory (NHWC, *channels last*).
    ChannelsLast,
    /// On a CUDA device, in a 16-bit format: channels last, with our own kernels for what libtorch computes in several
    /// passes (`cuda/fused.cu`).
    Fused,
}

impl Kernels {
    /// The kernels for a number format on a device.
    pub(crate) fn of(kind: Kind, device: Device) -> Kernels {
        match device {
            Device::Cuda(_) if Fused::of(kind, device).is_some() => Kernels::Fused,
            Device::Cpu if kind == Kind::BFloat16 => Kernels::ChannelsLast,
            _ => Kernels::Plain,
        }
    }

    fn fused(self, x: &Tensor) -> Option<&'static Fused> {
        match self {
            Kernels::Fused if !x.requires_grad() => Fused::of(x.kind(), x.device()),
            _ => None,
        }
    }

    /// Whether the bias of a convolution is better added by the next operation.
    pub(crate) fn leaves_bias(self, convolution: &Convolution) -> bool {
        self == Kernels::Fused && !convolution.is_pointwise()
    }

    /// The weight of a convolution `[outputs, inputs, height, width]` as these kernels read it.
    pub(crate) fn placed(self, weight: Tensor) -> Tensor {
        match self {
            Kernels::ChannelsLast | Kernels::Fused if !is_shape_only(&weight) => channels_last(&weight),
            _ => weight,
        }
    }

    /// A convolution of `x` `[batch, channels, height, width]`.
    pub(crate) fn convolution(self, x: &Tensor, how: &Convolution, bias: Option<&Tensor>) -> Tensor {
        let Convolution { weight, stride, padding } = how;
        if self == Kernels::Fused && how.is_pointwise() {
            // A product for each pixel, to which the bias is added on the way.
            let weight = weight.squeeze_dim(3).squeeze_dim(2); // [outputs, inputs]
            return x.permute([0, 2, 3, 1]).linear(&weight, bias).permute([0, 3, 1, 2]);
        }
        x.conv2d(weight, bias, [*stride; 2], [*padding; 2], [1, 1], 1)
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
