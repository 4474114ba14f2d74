//! Downsampling and upsampling by 2.

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
            Padding::After => self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1])),
        };
        pass.tap(&self.out, out)
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
        let large = self.kernels.upsampled(x, height, width);
        pass.tap(&self.out, self.conv.forward(&large))
    }
}
