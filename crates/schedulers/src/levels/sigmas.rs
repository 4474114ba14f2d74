//! Sigmas between two ends: Karras, exponential, beta and others.

use crate::precision::Precision;

/// How sigmas are spaced between the largest and the smallest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sigmas {
    /// Those of the times.
    Times,
    /// Evenly in `sigma^(1/rho)` (arXiv 2206.00364, eq. 5).
    Karras {
        /// How much denser they are towards the end; 7 in the paper.
        rho: f64,
    },
    /// Evenly in the logarithm.
    Exponential,
    /// Evenly in a power of the share of the logarithm (k-diffusion).
    Polyexponential {
        /// The power; with 1 they are exponential.
        rho: f64,
    },
    /// Those of the variance-preserving SDE at even times from 1 down (arXiv 2011.13456, appendix C; k-diffusion).
    VariancePreserving {
        /// `β_max − β_min`.
        beta_d: f64,
        beta_min: f64,
        /// The last time, above 0.
        least_time: f64,
    },
    /// Quantiles of the symmetric beta distribution (arXiv 2407.12173).
    Beta {
        /// Both its parameters; 0.6 in the paper.
        shape: f64,
    },
    /// Evenly in the logarithm too; diffusers rounds their times (arXiv 2206.00927, section 4.1).
    Lu,
    /// Evenly in the logarithm from the last training time to the first, with the times of the spacing (Euler's
    /// `interpolation_type`).
    LogLinear,
}

impl Sigmas {
    /// The sigma at `index` of 0 to `last`, from `most` down to `least`; not for those of the times.
    ///
    /// Evenly spaced numbers are numpy's to the last bit, because some classes of diffusers truncate the time of a sigma.
    pub(super) fn at(self, most: f64, least: f64, index: usize, last: usize, precision: Precision) -> f64 {
        let even = |from: f64, to: f64| match index == last {
            true => to,
            false => index as f64 * ((to - from) / last as f64) + from,
        };
        let share = even(0.0, 1.0);
        match self {
            Sigmas::Times => most,
            Sigmas::Karras { rho } => {
                let (from, to) = (most.powf(1.0 / rho), least.powf(1.0 / rho));
                (from + share * (to - from)).powf(rho)
            }
            Sigmas::Exponential | Sigmas::LogLinear => even(most.ln(), least.ln()).exp(),
            Sigmas::Lu => {
                let (from, to) = (precision.ln(most), precision.ln(least));
                (from + share * (to - from)).exp()
            }
            Sigmas::Polyexponential { rho } => (even(1.0, 0.0).powf(rho) * (most / least).ln() + least.ln()).exp(),
            Sigmas::VariancePreserving { beta_d, beta_min, least_time } => {
                let time = even(1.0, least_time);
                (beta_d * time.powi(2) / 2.0 + beta_min * time).exp_m1().sqrt()
            }
            Sigmas::Beta { shape } => least + beta_quantile(1.0 - share, shape) * (most - least),
        }
    }
}

/// The quantile of the beta distribution with both parameters `shape`.
fn beta_quantile(probability: f64, shape: f64) -> f64 {
    if probability > 0.5 {
        return 1.0 - beta_quantile(1.0 - probability, shape);
    }
    let whole = 2.0 * incomplete_beta(0.5, shape);
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        match incomplete_beta(middle, shape) < probability * whole {
            true => low = middle,
            false => high = middle,
        }
    }
    (low + high) / 2.0
}

/// `∫₀ˣ (t·(1−t))^(shape−1) dt` for `x` up to one half, by its power series.
fn incomplete_beta(x: f64, shape: f64) -> f64 {
    let mut power = x.powf(shape);
    let mut sum = 0.0;
    for k in 0..64 {
        let k = f64::from(k);
        sum += power / (shape + k);
        power *= x * (1.0 - shape + k) / (k + 1.0);
    }
    sum
}
