//! The residual block that UNet and VAE share (`ResnetBlock2D`).

use crate::kernels::Pending;
use crate::strips::{Strips, part};
use crate::{Conv2d, GroupNorm, Kernels, Linear, Pass, Result, Tap, Weights};
use std::ops::Range;
use tch::Tensor;

/// Twice norm, SiLU and convolution, with the time embedding added in between; and a 1x1 shortcut where the number of
/// channels changes.
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    taps: Taps,
    kernels: Kernels,
}

/// Some rows of an image.
type RowsOf<'a> = Box<dyn Fn(i64, &Range<i64>) -> Tensor + 'a>;

struct Taps {
    norm1: Tap,
    conv1: Tap,
    time_emb_proj: Option<Tap>,
    norm2: Tap,
    conv2: Tap,
    conv_shortcut: Option<Tap>,
    out: Tap,
}

/// The shape of a residual block.
#[derive(Clone, Copy, Debug)]
pub struct ResnetShape {
    /// Input channels.
    pub inputs: i64,
    /// Output channels.
    pub outputs: i64,
    /// Width of the time embedding; `None` in the VAE.
    pub time: Option<i64>,
    /// Groups of both norms.
    pub groups: i64,
    /// Epsilon of both norms.
    pub eps: f64,
}

impl ResnetBlock {
    /// Reads the block.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, shape: ResnetShape) -> Result<ResnetBlock> {
        let ResnetShape { inputs, outputs, time, groups, eps } = shape;
        let shortcut = inputs != outputs;
        Ok(ResnetBlock {
            norm1: GroupNorm::load(&weights.at("norm1"), inputs, groups, eps)?,
            conv1: Conv2d::load(&weights.at("conv1"), inputs, outputs, 3)?,
            time_emb_proj: time
                .map(|width| Linear::load(&weights.at("time_emb_proj"), width, outputs, true))
                .transpose()?,
            norm2: GroupNorm::load(&weights.at("norm2"), outputs, groups, eps)?,
            conv2: Conv2d::load(&weights.at("conv2"), outputs, outputs, 3)?,
            conv_shortcut: shortcut
                .then(|| Conv2d::load(&weights.at("conv_shortcut"), inputs, outputs, 1))
                .transpose()?,
            taps: Taps {
                norm1: weights.tap("norm1"),
                conv1: weights.tap("conv1"),
                time_emb_proj: time.map(|_| weights.tap("time_emb_proj")),
                norm2: weights.tap("norm2"),
                conv2: weights.tap("conv2"),
                conv_shortcut: shortcut.then(|| weights.tap("conv_shortcut")),
                out: weights.residual_tap("out"),
            },
            kernels: weights.kernels(),
        })
    }

    /// `x` `[batch, inputs, height, width]` and the activated time embedding `[batch or 1, time]`.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, time: Option<&Tensor>) -> Tensor {
        if let Some(strips) = self.strips(x) {
            return self.by_strips(pass, x, time, strips);
        }
        let h = self.norm1.then_silu(pass, &self.taps.norm1, x);
        let h = self.conv1.pending(pass, &self.taps.conv1, &h);
        let h = Pending { time: self.projected(pass, time), ..h };
        let h = self.norm2.activated(pass, &self.taps.norm2, &h);
        let h = self.conv2.pending(pass, &self.taps.conv2, &h);
        let shortcut = match (&self.conv_shortcut, &self.taps.conv_shortcut) {
            (Some(conv), Some(tap)) => conv.pending(pass, tap, x),
            _ => x.shallow_clone().into(),
        };
        pass.tap_residual(&self.taps.out, self.kernels.sum(&shortcut, &h), || shortcut.whole())
    }

    /// The strips in which the block is computed, if it is.
    fn strips(&self, x: &Tensor) -> Option<Strips> {
        let size = [x.size()[2], x.size()[3]];
        let others = [Some(&self.conv2), self.conv_shortcut.as_ref()];
        let all = others.into_iter().flatten().all(|conv| conv.strips(x, size).is_some());
        self.conv1.strips(x, size).filter(|_| all)
    }

    /// [`ResnetBlock::forward`] strip by strip. Besides `x`, one picture of the block's output is held, in which each layer
    /// replaces the one before, and one for each tensor that a probe wants.
    fn by_strips(&self, pass: &mut Pass, x: &Tensor, time: Option<&Tensor>, strips: Strips) -> Tensor {
        let size = [x.size()[2], x.size()[3]];
        let taps = &self.taps;
        let out = self.conv1.blank(x, size);
        let h = self.norm1.convolved_into(pass, &taps.norm1, x, &self.conv1, (strips, out));
        let seen = pass.wants(&taps.conv1);
        let mut h = pass.tap(&taps.conv1, h);
        let time = self.projected(pass, time).map(|time| time.unsqueeze(-1).unsqueeze(-1));
        h = match (time, seen) {
            (Some(time), true) => h + time,
            (Some(time), false) => h.g_add_(&time),
            (None, _) => h,
        };
        let out = if seen { h.empty_like() } else { h.shallow_clone() };
        let h = self.norm2.convolved_into(pass, &taps.norm2, &h, &self.conv2, (strips, out));
        let seen = pass.wants(&taps.conv2);
        let h = pass.tap(&taps.conv2, h);
        let shortcut = self.shortcut(pass, x, strips);
        let out = if seen { h.empty_like() } else { h.shallow_clone() };
        strips.fill(&out, |image, rows| shortcut(image, rows) + part(&h, image, rows));
        pass.tap_residual(&taps.out, out, || {
            let whole = h.empty_like();
            strips.fill(&whole, &shortcut);
            whole
        })
    }

    /// Some rows of an image of `x` as they are added to the output, `[1, outputs, rows, width]`.
    fn shortcut<'a>(&'a self, pass: &mut Pass, x: &'a Tensor, strips: Strips) -> RowsOf<'a> {
        let (Some(conv), Some(tap)) = (&self.conv_shortcut, &self.taps.conv_shortcut) else {
            return Box::new(|image, rows| part(x, image, rows));
        };
        let by_rows = move |image: i64, rows: &Range<i64>| conv.strip(strips, rows, part(x, image, rows));
        if !pass.wants(tap) {
            return Box::new(by_rows);
        }
        let whole = conv.blank(x, [x.size()[2], x.size()[3]]);
        strips.fill(&whole, by_rows);
        let whole = pass.tap(tap, whole);
        Box::new(move |image, rows| part(&whole, image, rows))
    }

    /// The time embedding for each channel, `[batch or 1, outputs]`.
    fn projected(&self, pass: &mut Pass, time: Option<&Tensor>) -> Option<Tensor> {
        let (projection, tap) = (self.time_emb_proj.as_ref()?, self.taps.time_emb_proj.as_ref()?);
        Some(pass.tap(tap, projection.forward(time?)))
    }
}
