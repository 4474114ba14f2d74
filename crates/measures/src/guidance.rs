//! Classifier-free guidance in one network call.

use crate::numbers::{dot, mean, rms, vectors};
use crate::similarity::cosine;
use latentrace_nn::tch::Tensor;

/// The parts of classifier-free guidance in one call, where `delta = eps_c - eps_u` and `eps_g = eps_u + w delta`.
///
/// Lengths are root mean squares, so that they are comparable between sizes. No number here needs another network call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuidanceParts {
    /// `rms(delta)`. `||delta||₂` stays high over the steps of a memorised image (Wen et al., ICLR 2024).
    pub difference: f64,
    /// `cos(eps_c, eps_u)`, the gamma of Adaptive Guidance (arXiv 2312.12487): near 1, guidance changes little.
    pub cosine: f64,
    /// The rms of the part of `delta` along the conditional clean estimate `x̂₀_c`, which guidance turns into contrast
    /// and saturation (APG, arXiv 2410.02416). APG splits the difference of clean estimates, which is `delta` times
    /// `-sigma`, so `parallel / difference` is the same.
    pub parallel: f64,
    /// The rms of the part orthogonal to it; `parallel² + orthogonal² = difference²`.
    pub orthogonal: f64,
    /// `std(eps_c) / std(eps_g)`, by which guidance rescale multiplies the guided output (arXiv 2305.08891, section
    /// 3.4).
    pub rescale: f64,
    /// `s* = <eps_c, eps_u> / ||eps_u||²`: `s* eps_u` is nearest to `eps_c` (CFG-Zero*, arXiv 2503.18886, there for
    /// velocities).
    pub projection: f64,
}

impl GuidanceParts {
    /// Computes them from the three noises of one image in one call, and the clean estimate that follows from the
    /// conditional noise alone. `None` if the shapes differ. Parts along a zero estimate and ratios to zero tensors are
    /// NaN.
    pub fn of(
        unconditional: &Tensor,
        conditional: &Tensor,
        guided: &Tensor,
        denoised_conditional: &Tensor,
    ) -> Option<GuidanceParts> {
        let [u, c, g, clean] = vectors([unconditional, conditional, guided, denoised_conditional])?;
        let delta = &c - &u;
        let parallel = &clean * (dot(&delta, &clean) / dot(&clean, &clean));
        Some(GuidanceParts {
            difference: rms(&delta),
            cosine: cosine(&c, &u),
            parallel: rms(&parallel),
            orthogonal: rms(&(&delta - &parallel)),
            rescale: std(&c) / std(&g),
            projection: dot(&c, &u) / dot(&u, &u),
        })
    }
}

fn std(vector: &Tensor) -> f64 {
    rms(&(vector - mean(vector)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(noises: [[f32; 4]; 4]) -> GuidanceParts {
        let [u, c, g, clean] = noises.map(|noise| Tensor::from_slice(&noise).view([1, 1, 2, 2]));
        GuidanceParts::of(&u, &c, &g, &clean).unwrap()
    }

    #[test]
    fn a_right_angle_in_four_dimensions() {
        // delta is (0, 6, 8, 0), of length 10; the estimate lies along its second axis.
        let guidance = of([[1.0, 0.0, 0.0, 0.0], [1.0, 6.0, 8.0, 0.0], [2.0, 12.0, 16.0, 0.0], [0.0, -5.0, 0.0, 0.0]]);
        let expected = [5.0, 1.0 / 101f64.sqrt(), 3.0, 4.0, 0.5, 1.0];
        let GuidanceParts { difference, cosine, parallel, orthogonal, rescale, projection } = guidance;
        let found = [difference, cosine, parallel, orthogonal, rescale, projection];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{guidance:?}");
    }

    #[test]
    fn what_is_undefined_is_nan_and_what_does_not_fit_is_none() {
        let one = [1.0, 2.0, 3.0, 4.0];
        let guidance = of([[0.0; 4], one, one, [0.0; 4]]);
        assert!((guidance.difference, guidance.rescale) == (7.5f64.sqrt(), 1.0));
        assert!(
            [guidance.cosine, guidance.parallel, guidance.orthogonal, guidance.projection].map(f64::is_nan)
                == [true; 4]
        );
        let tensor = Tensor::from_slice(&one);
        assert_eq!(GuidanceParts::of(&tensor, &tensor, &tensor, &tensor.view([2, 2])), None);
    }

    proptest! {
        #[test]
        fn the_parts_of_the_difference_are_at_right_angles(u: [i8; 4], c: [i8; 4], clean: [i8; 4]) {
            prop_assume!(clean != [0; 4]);
            let [u, c, clean] = [u, c, clean].map(|noise| noise.map(f32::from));
            let guidance = of([u, c, c, clean]);
            let square = guidance.difference.powi(2);
            // Numbers up to 255: a few units in the last place of squares up to 2^16.
            prop_assert!((guidance.parallel.powi(2) + guidance.orthogonal.powi(2) - square).abs() <= 1e-14 * (1.0 + square));
        }
    }
}
