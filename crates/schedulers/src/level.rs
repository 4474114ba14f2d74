//! Noise levels, and what a network's output means at one.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A noise level: its samples are `x = x₀ + sigma·noise`, and the network gets the time `t`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// The time that the network gets, in training steps; it can be fractional. In diffusers' IPNDM it goes from 1 to 0 instead.
    pub t: f64,
    /// The standard deviation of the noise, at the scale of the clean sample.
    pub sigma: f64,
}

impl Level {
    /// No noise at all.
    pub const CLEAN: Level = Level { t: 0.0, sigma: 0.0 };

    /// The sigma used instead of infinity at zero terminal signal-to-noise ratio.
    ///
    /// One part in 2²⁴ of such a sample is signal, which is the resolution of `f32`.
    pub const PURE_NOISE: f64 = 16_777_216.0;

    /// Half the log signal-to-noise ratio; infinite at [`Level::CLEAN`].
    pub fn lambda(self) -> f64 {
        -self.sigma.ln()
    }

    /// The factor that scales a sample of this level to the unit variance that the network expects: `√ᾱ`.
    pub fn input_scale(self) -> f64 {
        1.0 / self.sigma.hypot(1.0)
    }
}

/// What the network was trained to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise (arXiv 2006.11239, section 3.2).
    Epsilon,
    /// `√ᾱ·noise − √(1−ᾱ)·x₀` (arXiv 2202.00512, appendix D).
    Velocity,
    /// The clean sample.
    Sample,
}

impl fmt::Display for Prediction {
    /// The name in diffusers' `prediction_type`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Prediction::Epsilon => "epsilon",
            Prediction::Velocity => "v_prediction",
            Prediction::Sample => "sample",
        })
    }
}

impl Prediction {
    /// `(p, q)` such that the denoised sample is `p·x + q·output`, for `x = x₀ + sigma·noise`.
    pub fn denoising(self, sigma: f64) -> (f64, f64) {
        let scale = 1.0 / sigma.hypot(1.0);
        match self {
            Prediction::Epsilon => (1.0, -sigma),
            Prediction::Velocity => (scale * scale, -sigma * scale),
            Prediction::Sample => (0.0, 1.0),
        }
    }

    /// `(a, b)` such that the derivative of the output by the network's input, which has unit variance, is `a + b·∂D/∂x`, where `D` is the
    /// denoised sample.
    pub fn slope(self, sigma: f64) -> (f64, f64) {
        // D = p·x + q·F(s·x), so ∂D/∂x = p + q·s·F'.
        let (p, q) = self.denoising(sigma);
        let scale = q / sigma.hypot(1.0);
        (-p / scale, 1.0 / scale)
    }

    /// `(a, b)` such that the noise is `a·x + b·output`, for `x = x₀ + sigma·noise` and `sigma`
    /// above zero.
    pub fn epsilon(self, sigma: f64) -> (f64, f64) {
        let scale = 1.0 / sigma.hypot(1.0);
        match self {
            Prediction::Epsilon => (0.0, 1.0),
            Prediction::Velocity => (sigma * scale * scale, scale),
            Prediction::Sample => (1.0 / sigma, -1.0 / sigma),
        }
    }
}
