//! The precision that numbers are stored in.

use crate::single;
use ndarray::Array1;

/// The precision that the numbers of a schedule and its levels are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// `f32`, with the logarithm of numpy and the `linspace` of torch: what diffusers computes with.
    Single,
    /// `f64`.
    Double,
}

impl Precision {
    /// A number rounded to this precision.
    pub(crate) fn round(self, x: f64) -> f64 {
        match self {
            Precision::Single => f64::from(x as f32),
            Precision::Double => x,
        }
    }

    /// The natural logarithm of a positive number.
    pub(crate) fn ln(self, x: f64) -> f64 {
        match self {
            Precision::Single => f64::from(single::ln(x as f32)),
            Precision::Double => x.ln(),
        }
    }

    /// `len` evenly spaced numbers from `start` to `end`, both included.
    pub(crate) fn linspace(self, start: f64, end: f64, len: usize) -> Array1<f64> {
        match self {
            Precision::Single => single::linspace(start as f32, end as f32, len).map(f64::from).collect(),
            Precision::Double => {
                let step = (end - start) / (len - 1) as f64;
                Array1::from_shape_fn(len, |index| match index < len / 2 {
                    true => start + step * index as f64,
                    false => end - step * (len - 1 - index) as f64,
                })
            }
        }
    }
}
