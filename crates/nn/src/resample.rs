//! Downsampling and upsampling by 2.

use crate::strips::{Strips, part};
use crate::{Conv2d, Kernels, Pass, Result, Tap, Weights};
use tch::Tensor;

/// A convolution of stride 2 (`Downsample2D`).
pub struct Downsample {
    conv: Conv2d,
    padding: Padding,
    out: Tap,
}

/// Where a [`Downsample`] pads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// One pixel on every side, as in the UNet.
    Around,
    /// One pixel on the right and at the bottom, as in the VAE.
    After,
}

impl Downsample {
    /// Reads `conv`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, channels: i64, padding: Padding) -> Result<Downsample> {
        let around = i64::from(padding == Padding::Around);
        let conv = Conv2d::load(&weights.at("conv"), channels, channels, 3)?.with(2, around);
        Ok(Downsample { conv, padding, out: weights.tap("out") })
    }

    /// `[batch, channels, height, width]` to half the height and width, rounded up with [`Padding::Around`] and down
    /// with [`Padding::After`].
    pub fn forward(&self, pass: &mut Pass, x: &Tensor) -> Tensor {
        let out = match self.padding {
            Padding::Around => self.conv.forward(x),
            Padding::After => self.padded_after(x),
        };
        pass.tap(&self.out, out)
    }

    fn padded_after(&self, x: &Tensor) -> Tensor {
        let (height, half) = (x.size()[2], [x.size()[2] / 2, x.size()[3] / 2]);
        let Some(strips) = self.conv.strips(x, half) else {
            return self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1]));
        };
        let out = self.conv.blank(x, half);
        strips.fill(&out, |image, rows| {
            let source = 2 * rows.start..(2 * rows.end + 1).min(height);
            let below = 2 * rows.end + 1 - source.end;
            self.conv.strip(strips, rows, part(x, image, &source).constant_pad_nd([0, 1, 0, below]))
        });
        out
    }
}

/// Nearest-neighbour upsampling and a convolution (`Upsample2D`).
pub struct Upsample {
    conv: Conv2d,
    out: Tap,
    kernels: Kernels,
}

impl Upsample {
    /// Reads `conv`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, channels: i64) -> Result<Upsample> {
        let conv = Conv2d::load(&weights.at("conv"), channels, channels, 3)?;
        Ok(Upsample { conv, out: weights.tap("out"), kernels: weights.kernels() })
    }

    /// `[batch, channels, height, width]` to the given height and width. They are double, or one less where the
    /// downsampling rounded up.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, height: i64, width: i64) -> Tensor {
        let out = match self.conv.strips(x, [height, width]).filter(|_| doubles(x, [height, width])) {
            Some(strips) => self.by_strips(x, [height, width], strips),
            None => self.conv.forward(&self.kernels.upsampled(x, height, width)),
        };
        pass.tap(&self.out, out)
    }

    /// The same strip by strip, so that the upsampled picture is never there as a whole.
    fn by_strips(&self, x: &Tensor, [height, width]: [i64; 2], strips: Strips) -> Tensor {
        let out = self.conv.blank(x, [height, width]);
        strips.fill(&out, |image, rows| {
            let around = strips.around(rows);
            let source = around.start / 2..(around.end + 1) / 2;
            let large = self.kernels.upsampled(&part(x, image, &source), 2 * (source.end - source.start), width);
            let large = large.narrow(2, around.start - 2 * source.start, around.end - around.start);
            self.conv.strip(strips, rows, large)
        });
        out
    }
}

/// Whether a height and width are double those of `x` `[batch, channels, height, width]`.
fn doubles(x: &Tensor, size: [i64; 2]) -> bool {
    x.size()[2..] == [size[0] / 2, size[1] / 2] && size.iter().all(|side| side % 2 == 0)
}
