//! The call after which each pixel of an image stays as it is.

use crate::numbers::{lengths, list, rows, vectors};
use latentrace_nn::tch::{Kind, Tensor};
use ndarray::Array2;
use std::borrow::Borrow;

/// The default share of the first estimate's distance, below which a pixel counts as decided.
pub const KAPPA: f64 = 0.1;

/// How early the clean estimates `x̂₀_i` of a run agree with its result `x₀`, for each pixel and for the whole image.
#[derive(Clone, Debug, PartialEq)]
pub struct Commitment {
    /// For each pixel `[height, width]`, the first call `i` such that `b_j < kappa b_0` for all `j >= i`, where `b_i =
    /// ||x̂₀_i - x₀||₂` over the pixel's channels. A pixel that is never decided, or whose `b_0` is 0, has the number
    /// of calls.
    pub step: Array2<usize>,
    /// For each call, `B_i = ||x̂₀_i - x₀|| / ||x̂₀_0 - x₀||` over all pixels; `B_0` is 1. NaN if the first estimate
    /// equals the result.
    pub curve: Vec<f64>,
}

impl Commitment {
    /// Computes it from the clean estimates `[1, channels, height, width]`, in the order of the calls, and the result
    /// of the same shape. `kappa` is [`KAPPA`] or another share. For a channel or a band of frequencies, pass that part
    /// of each tensor. `None` if the shapes do not fit.
    pub fn of<T: Borrow<Tensor>>(estimates: &[T], result: &Tensor, kappa: f64) -> Option<Commitment> {
        let size = result.size();
        let &[1, channels, height, width] = size.as_slice() else { return None };
        let [_, result] = vectors([estimates.first()?.borrow(), result])?;
        let away = rows(estimates)? - result; // [calls, elements]
        let whole = list(&lengths(&away));
        let distance = lengths(&away.view([-1, channels, height * width]).transpose(1, 2)); // [calls, pixels]
        let near = distance.lt_tensor(&(distance.get(0) * kappa));
        let run = near.flip([0]).cumprod(0, Kind::Int64).sum_dim_intlist(0, false, Kind::Int64); // near to the end
        let step = list(&run).into_iter().map(|run| estimates.len() - run as usize).collect();
        Some(Commitment {
            step: Array2::from_shape_vec((height as usize, width as usize), step).ok()?,
            curve: whole.iter().map(|length| length / whole[0]).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of two channels and three pixels, whose distance from the result is the same in both channels.
    fn run(distances: &[[f64; 3]]) -> (Vec<Tensor>, Tensor) {
        let result = Tensor::from_slice(&[1f64, -2.0, 3.0, 0.5, 0.0, -0.5]).view([1, 2, 1, 3]);
        let estimate = |row: &[f64; 3]| &result + Tensor::from_slice(row).view([1, 1, 1, 3]);
        (distances.iter().map(estimate).collect(), result)
    }

    #[test]
    fn a_pixel_is_decided_when_it_stays_near() {
        // The first pixel gets near and stays; the second leaves once more; the third never gets below a tenth.
        let (estimates, result) = run(&[[8.0, -8.0, 8.0], [0.5, 0.5, 4.0], [0.5, 4.0, 2.0], [0.0, 0.0, 1.0]]);
        let commitment = Commitment::of(&estimates, &result, KAPPA).unwrap();
        assert_eq!(commitment.step, ndarray::array![[1, 3, 4]]);
        let expected = [192.0, 16.5, 20.25, 1.0].map(|square: f64| (square / 192.0).sqrt());
        assert!(commitment.curve.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{:?}", commitment.curve);
        let lenient = Commitment::of(&estimates, &result, 0.6).unwrap();
        assert_eq!(lenient.step, ndarray::array![[1, 1, 1]]);
    }

    #[test]
    fn a_run_that_begins_at_its_result_has_no_scale() {
        let (estimates, result) = run(&[[0.0; 3], [0.0; 3]]);
        let commitment = Commitment::of(&estimates, &result, KAPPA).unwrap();
        assert_eq!(commitment.step, ndarray::array![[2, 2, 2]]);
        assert!(commitment.curve.iter().all(|b| b.is_nan()));
    }

    #[test]
    fn what_does_not_fit_is_none() {
        let (estimates, result) = run(&[[1.0; 3]]);
        assert_eq!(Commitment::of::<Tensor>(&[], &result, KAPPA), None);
        assert_eq!(Commitment::of(&estimates, &result.view([1, 2, 3, 1]), KAPPA), None);
        assert_eq!(Commitment::of(&estimates, &result.view([2, 3]), KAPPA), None);
    }
}
