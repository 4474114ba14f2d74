//! Similarity of two tensors, and the range that a tensor leaves in half precision.

use crate::numbers::{dot, vectors};
use latentrace_nn::tch::{Kind, Tensor};

/// `<a, b> / (||a||₂ ||b||₂)`, from -1 to 1; DeepCache compares neighbouring steps with it (arXiv 2312.00858).
///
/// NaN if either is zero, or if they differ in shape.
pub fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    let Some([a, b]) = vectors([a, b]) else { return f64::NAN };
    (dot(&a, &b) / (dot(&a, &a).sqrt() * dot(&b, &b).sqrt())).clamp(-1.0, 1.0)
}

/// `||a - b||₁ / ||b||₁`: the change of a tensor from `b`, one step ago, to `a` (TeaCache, arXiv 2411.19108).
///
/// NaN if both are zero, infinite if only `b` is; NaN if they differ in shape.
pub fn relative_l1(a: &Tensor, b: &Tensor) -> f64 {
    let Some([a, b]) = vectors([a, b]) else { return f64::NAN };
    let sum = |tensor: &Tensor| tensor.abs().sum(Kind::Double).double_value(&[]);
    sum(&(a - &b)) / sum(&b)
}

/// `||a - b||₂ / ||b||₂`: the relative error of `a` when `b` is the solution.
///
/// NaN if both are zero, infinite if only `b` is; NaN if they differ in shape.
pub fn relative_l2(a: &Tensor, b: &Tensor) -> f64 {
    let Some([a, b]) = vectors([a, b]) else { return f64::NAN };
    let away = a - &b;
    (dot(&away, &away) / dot(&b, &b)).sqrt()
}

/// `max|a - b| / (max|a| + 1e-12)`: the difference of another run's `b` from the reference `a`.
///
/// Zero if they are equal, even if both are zero; NaN if they differ in shape, or if either contains NaN.
pub fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    let Some([a, b]) = vectors([a, b]) else { return f64::NAN };
    let max = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
    max(&(&a - b)) / (max(&a) + 1e-12)
}

/// `log2(65504 / absmax)`: how often the number can be doubled in half precision, whose largest number is 65504.
///
/// Negative above 65504, infinite for zero.
pub fn headroom(absmax: f64) -> f64 {
    (65504.0 / absmax).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let [a, b] = [[3.0, 0.0, 4.0], [0.0, 5.0, 5.0]].map(|tensor: [f32; 3]| Tensor::from_slice(&tensor));
        assert!((cosine(&a, &b) - 20.0 / (5.0 * 50f64.sqrt())).abs() < 1e-15);
        assert_eq!(cosine(&a, &(&a * -0.3)), -1.0);
        assert_eq!(relative_l1(&a, &b), 9.0 / 10.0);
        assert!((relative_l2(&a, &b) - (35.0f64 / 50.0).sqrt()).abs() < 1e-15);
        assert_eq!(relative_error(&a, &b), 5.0 / (4.0 + 1e-12));
        assert_eq!(relative_error(&a.to_kind(Kind::Half), &a), 0.0);
        assert_eq!(headroom(65504.0 / 8.0), 3.0);
        assert_eq!(headroom(2.0 * 65504.0), -1.0);
    }

    #[test]
    fn zeros_and_strangers() {
        let [zero, one] = [0f32, 1.0].map(|value| Tensor::from_slice(&[value; 3]));
        assert!(cosine(&zero, &one).is_nan() && relative_l1(&zero, &zero).is_nan());
        assert_eq!(relative_l1(&one, &zero), f64::INFINITY);
        assert_eq!(relative_error(&zero, &zero), 0.0);
        for measure in [cosine, relative_l1, relative_l2, relative_error] {
            assert!(measure(&one, &one.view([3, 1])).is_nan()); // libtorch would broadcast these
            assert!(measure(&one.slice(0, 0, 0, 1), &one.slice(0, 0, 0, 1)).is_nan());
        }
        assert_eq!(headroom(0.0), f64::INFINITY);
    }
}
