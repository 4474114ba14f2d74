//! The basic layers: linear, convolution, the two norms, embedding, and activations.
//!
//! libtorch's convolution, norms and embedding do not accept tensors without numbers (see [`shape_only`]), so these
//! layers compute the shape of their output themselves.

use crate::kernels::{Convolution, Grouping, Pending};
use crate::low_rank::Beside;
use crate::shapes::{is_shape_only, shape_only};
use crate::strips::{Moments, Strips, blank, dense, part, wide};
use crate::{Config, Init, Kernels, Pass, Result, Tap, Weights};
use std::ops::Range;
use tch::Tensor;

/// `x A^T + b` over the last axis.
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    beside: Vec<Beside>,
    kernels: Kernels,
}

impl Linear {
    /// Reads `weight` and, if asked for, `bias`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, inputs: i64, outputs: i64, bias: bool) -> Result<Linear> {
        let init = Init::FanIn(inputs);
        Ok(Linear {
            weight: weights.tensor("weight", &[outputs, inputs], init)?,
            bias: bias.then(|| weights.tensor("bias", &[outputs], init)).transpose()?,
            beside: weights.beside(),
            kernels: weights.kernels(),
        })
    }

    /// `[.., inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.kernels.linear(x, &self.weight, self.bias.as_ref());
        self.beside.iter().fold(y, |y, change| change.linear(x, y))
    }
}

/// A two-dimensional convolution with a bias.
pub struct Conv2d {
    convolution: Convolution,
    bias: Tensor,
    beside: Vec<Beside>,
    kernels: Kernels,
}

impl Conv2d {
    /// Reads a square kernel of `size`, for stride 1 and the padding that keeps height and width.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, inputs: i64, outputs: i64, size: i64) -> Result<Conv2d> {
        let init = Init::FanIn(inputs * size * size);
        let kernels = weights.kernels();
        let weight = weights.convolution(&[outputs, inputs, size, size], init)?;
        Ok(Conv2d {
            convolution: Convolution { weight, stride: 1, padding: size / 2 },
            bias: weights.tensor("bias", &[outputs], init)?,
            beside: weights.beside(),
            kernels,
        })
    }

    /// The same kernel at another stride and padding.
    pub fn with(self, stride: i64, padding: i64) -> Conv2d {
        let convolution = Convolution { stride, padding, ..self.convolution };
        Conv2d { convolution, ..self }
    }

    /// `[batch, inputs, height, width]` to `[batch, outputs, ..]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.biased(x, Some(&self.bias))
    }

    /// The output, passed through its tap. If no probe looks at it, the bias may be left to the next operation.
    pub(crate) fn pending(&self, pass: &mut Pass, tap: &Tap, x: &Tensor) -> Pending<'_> {
        let whole = pass.wants(tap) || !self.beside.is_empty() || is_shape_only(x);
        match !whole && self.kernels.leaves_bias(&self.convolution) {
            true => Pending { bias: Some(&self.bias), ..self.biased(x, None).into() },
            false => pass.tap(tap, self.forward(x)).into(),
        }
    }

    fn biased(&self, x: &Tensor, bias: Option<&Tensor>) -> Tensor {
        if is_shape_only(x) {
            return self.shape(x);
        }
        let Convolution { stride, padding, .. } = self.convolution;
        let y = self.kernels.convolution(x, &self.convolution, bias);
        self.beside.iter().fold(y, |y, change| change.convolution(x, y, stride, padding))
    }

    /// The output's shape.
    fn shape(&self, x: &Tensor) -> Tensor {
        let Convolution { weight, stride, padding } = &self.convolution;
        let (size, kernel) = (x.size(), weight.size());
        let side = |axis: usize| (size[axis] + 2 * padding - kernel[axis]) / stride + 1;
        shape_only(&[size[0], kernel[0], side(2), side(3)], x.kind())
    }

    /// The strips in which the layer is computed, if it is. Its output has a height and width, and `x` is its input, or that of the
    /// layers that are computed with it.
    pub(crate) fn strips(&self, x: &Tensor, [height, width]: [i64; 2]) -> Option<Strips> {
        let weight = &self.convolution.weight;
        if !self.beside.is_empty() || weight.requires_grad() {
            return None;
        }
        self.kernels.strips(x, [weight.size()[0], height, width])
    }

    /// An output without values for pictures of a height and width, of as many images as `x`.
    pub(crate) fn blank(&self, x: &Tensor, [height, width]: [i64; 2]) -> Tensor {
        blank(self.kernels, x, [self.convolution.weight.size()[0], height, width])
    }

    /// Some rows of the output, `[1, outputs, rows, width]`, from those `around` them in the input: for a layer that pads, with the one
    /// above and the one below, where the picture has them.
    pub(crate) fn strip(&self, strips: Strips, rows: &Range<i64>, around: Tensor) -> Tensor {
        let around = if self.convolution.padding > 0 { strips.padded(around, rows) } else { around };
        self.kernels.convolution_of_rows(&around, &self.convolution, Some(&self.bias))
    }
}

/// Group normalisation (Wu and He 2018) with a scale and a shift for each channel.
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
    kernels: Kernels,
}

impl GroupNorm {
    /// Reads the scale and shift of `channels` channels in `groups` groups.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, channels: i64, groups: i64, eps: f64) -> Result<GroupNorm> {
        Ok(GroupNorm {
            weight: weights.tensor("weight", &[channels], Init::Ones)?,
            bias: weights.tensor("bias", &[channels], Init::Zeros)?,
            groups,
            eps,
            kernels: weights.kernels(),
        })
    }

    /// `[batch, channels, ..]`, shape kept.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.normed(&x.shallow_clone().into(), false)
    }

    /// Normalises, passes the result through its tap, and applies SiLU. `[batch, channels, ..]`, shape kept.
    pub fn then_silu(&self, pass: &mut Pass, tap: &Tap, x: &Tensor) -> Tensor {
        self.activated(pass, tap, &x.shallow_clone().into())
    }

    /// [`GroupNorm::then_silu`] of a tensor that is not complete.
    pub(crate) fn activated(&self, pass: &mut Pass, tap: &Tap, of: &Pending) -> Tensor {
        match pass.wants(tap) {
            true => pass.tap(tap, self.normed(of, false)).silu(),
            false => self.normed(of, true),
        }
    }

    /// Normalises, passes the result through its tap, applies SiLU, and convolves: `[batch, channels, height, width]` to
    /// `[batch, outputs, height, width]`. Large pictures are computed strip by strip.
    pub fn then_convolved(&self, pass: &mut Pass, tap: &Tap, x: &Tensor, convolution: &Conv2d) -> Tensor {
        let size = [x.size()[2], x.size()[3]];
        match convolution.strips(x, size) {
            Some(strips) => self.convolved_into(pass, tap, x, convolution, (strips, convolution.blank(x, size))),
            None => convolution.forward(&self.then_silu(pass, tap, x)),
        }
    }

    /// [`GroupNorm::then_convolved`] strip by strip into a tensor, which may be `x`.
    pub(crate) fn convolved_into(
        &self,
        pass: &mut Pass,
        tap: &Tap,
        x: &Tensor,
        convolution: &Conv2d,
        (strips, out): (Strips, Tensor),
    ) -> Tensor {
        let moments: Vec<Moments> = (0..x.size()[0]).map(|image| Moments::of(x, image, strips, self.groups)).collect();
        let normed = |image: i64, rows: &Range<i64>| self.rows(&dense(part(x, image, rows)), &moments[image as usize]);
        if !pass.wants(tap) {
            strips.fill(&out, |image, rows| {
                let activated = normed(image, &strips.around(rows)).silu_();
                convolution.strip(strips, rows, activated)
            });
            return out;
        }
        // The same operations on the same rows, with the norm's output whole for the probe.
        let whole = x.empty_like();
        strips.fill(&whole, normed);
        let whole = pass.tap(tap, whole);
        strips.fill(&out, |image, rows| {
            let activated = part(&whole, image, &strips.around(rows)).copy().silu_();
            convolution.strip(strips, rows, activated)
        });
        out
    }

    /// Rows of a picture `[1, channels, rows, width]`, normalised by the moments of all of it.
    fn rows(&self, x: &Tensor, Moments { mean, variance }: &Moments) -> Tensor {
        // With moments that are given, this is what libtorch calls a batch norm.
        let [weight, bias] = [&self.weight, &self.bias].map(|of| of.to_kind(wide(x.kind())));
        x.batch_norm(Some(&weight), Some(&bias), Some(mean), Some(variance), false, 0.0, self.eps, false)
    }

    fn normed(&self, of: &Pending, silu: bool) -> Tensor {
        if is_shape_only(&of.x) {
            return of.x.empty_like();
        }
        let GroupNorm { weight, bias: shift, groups, eps: epsilon, kernels } = self;
        kernels.group_norm(of, &Grouping { weight, shift, groups: *groups, epsilon: *epsilon, silu })
    }
}

/// Layer normalisation over the last axis.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
    kernels: Kernels,
}

impl LayerNorm {
    /// Reads the scale and shift over `width` features.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, width: i64, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm {
            weight: weights.tensor("weight", &[width], Init::Ones)?,
            bias: weights.tensor("bias", &[width], Init::Zeros)?,
            eps,
            kernels: weights.kernels(),
        })
    }

    /// `[.., width]`, shape kept.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        if is_shape_only(x) {
            return x.empty_like();
        }
        self.kernels.layer_norm(x, [&self.weight, &self.bias], self.eps)
    }

    /// `x + y`, and the sum normalised.
    pub fn of_sum(&self, x: &Tensor, y: &Tensor) -> (Tensor, Tensor) {
        if is_shape_only(x) {
            return (x + y, x.empty_like());
        }
        self.kernels.sum_and_norm(x, y, [&self.weight, &self.bias], self.eps)
    }
}

/// An embedding: rows of a table by their indices.
pub struct Embedding {
    weight: Tensor,
}

impl Embedding {
    /// Reads a table of `rows` rows.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub fn load(weights: &Weights, rows: i64, width: i64) -> Result<Embedding> {
        Ok(Embedding { weight: weights.tensor("weight", &[rows, width], Init::Normal(0.02))? })
    }

    /// Indices `[batch, tokens]` to `[batch, tokens, width]`.
    pub fn forward(&self, numbers: &Tensor) -> Tensor {
        if is_shape_only(numbers) {
            let shape = [numbers.size(), self.weight.size()[1..].to_vec()].concat();
            return shape_only(&shape, self.weight.kind()); // libtorch does not look up indices without numbers
        }
        Tensor::embedding(&self.weight, numbers, -1, false, false)
    }

    /// The first rows, `[rows, width]`.
    pub fn first(&self, rows: i64) -> Tensor {
        self.weight.slice(0, 0, rows, 1)
    }

    /// Replaces the rows from `first` on by others, `[rows, width]`. They get the number format and the device of the
    /// table.
    pub fn replace_from(&mut self, first: i64, rows: &Tensor) {
        let rows = rows.to_kind(self.weight.kind()).to_device(self.weight.device());
        self.weight = Tensor::cat(&[self.first(first), rows], 0);
    }

    /// The whole table, `[rows, width]`.
    pub fn table(&self) -> &Tensor {
        &self.weight
    }
}

/// The nonlinearities that checkpoints name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(1.702 x)`, the approximation that OpenAI's CLIP was trained with.
    QuickGelu,
    /// `x Phi(x)`, exact.
    Gelu,
}

impl Activation {
    /// Reads the activation that a configuration names.
    ///
    /// # Errors
    /// Another name than `quick_gelu` and `gelu`.
    pub fn from_config(config: &Config, key: &str) -> Result<Activation> {
        match config.word(key, "quick_gelu")?.as_str() {
            "quick_gelu" => Ok(Activation::QuickGelu),
            "gelu" => Ok(Activation::Gelu),
            _ => Err(config.unsupported(key, "quick_gelu, gelu")),
        }
    }

    /// Applies it to each number.
    pub fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Activation::QuickGelu => x * (x * 1.702).sigmoid(),
            Activation::Gelu => x.gelu("none"),
        }
    }
}

/// The gated activation of a feed-forward layer: `a * gelu(b)` for the halves of the last axis (GEGLU, Shazeer 2020).
pub struct GatedGelu {
    kernels: Kernels,
}

impl GatedGelu {
    /// The activation after a layer that is read from `weights`.
    pub fn load(weights: &Weights) -> GatedGelu {
        GatedGelu { kernels: weights.kernels() }
    }

    /// `[.., 2 width]` to `[.., width]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.kernels.gated_gelu(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn activations_have_their_closed_forms() {
        let x = Tensor::from_slice(&[-2.0f64, 0.0, 1.0]);
        // Phi(1) = 0.841344746..., Phi(-2) = 0.022750131...
        let gelu = Activation::Gelu.forward(&x);
        assert!((gelu.double_value(&[2]) - 0.841_344_746).abs() < 1e-9);
        assert!((gelu.double_value(&[0]) + 2.0 * 0.022_750_132).abs() < 1e-8);
        let quick = Activation::QuickGelu.forward(&x);
        assert!((quick.double_value(&[2]) - 1.0 / (1.0 + (-1.702f64).exp())).abs() < 1e-12);
    }

    #[test]
    fn a_group_norm_has_zero_mean_and_unit_variance_in_each_group() {
        let weights = Weights::random("test", 1, Kind::Double, Device::Cpu);
        let norm = GroupNorm::load(&weights, 4, 2, 1e-12).unwrap();
        let x = Tensor::arange(32, (Kind::Double, Device::Cpu)).view([1, 4, 2, 4]).square();
        let y = norm.forward(&x).view([2, 16]);
        for group in 0..2 {
            let (deviation, mean) = y.get(group).std_mean(false);
            assert!(mean.double_value(&[]).abs() < 1e-12 && (deviation.double_value(&[]) - 1.0).abs() < 1e-9);
        }
    }
}
