//! Which levels a sampler visits: times of the schedule, or sigmas between its ends.

use crate::{Error, Level, Reading, Schedule};

/// How a number of steps is laid over the training times (arXiv 2305.08891, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// Whole strides up from `offset`; the last training times are not reached.
    Leading {
        /// The smallest time.
        offset: usize,
    },
    /// Even, both ends included.
    Linspace,
    /// Even strides down from the last time.
    Trailing,
}

/// How sigmas are laid between the largest and the smallest that a [`Spacing`] gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sigmas {
    /// Those of the times.
    Times,
    /// Even in `sigma^(1/rho)` (arXiv 2206.00364, eq. 5).
    Karras {
        /// How much denser they are towards the end; 7 in the paper.
        rho: f64,
    },
    /// Even in the logarithm.
    Exponential,
    /// Quantiles of the symmetric beta distribution (arXiv 2407.12173).
    Beta {
        /// Both its parameters; 0.6 in the paper.
        shape: f64,
    },
}

impl Spacing {
    /// The times of `steps` steps, descending; whole numbers if `whole`.
    pub(crate) fn times(self, len: usize, steps: usize, whole: bool, reading: Reading) -> Result<Vec<f64>, Error> {
        let total = len as f64;
        let times: Vec<f64> = match self {
            Spacing::Leading { offset } => (0..steps).rev().map(|i| (i * (len / steps) + offset) as f64).collect(),
            Spacing::Linspace if steps == 1 && reading == Reading::Diffusers => vec![0.0],
            Spacing::Linspace if steps == 1 => vec![total - 1.0],
            Spacing::Linspace => {
                let stride = (total - 1.0) / (steps - 1) as f64;
                let even = (0..steps).rev().map(|i| if i == steps - 1 { total - 1.0 } else { i as f64 * stride });
                even.map(|t| if whole { t.round_ties_even() } else { t }).collect()
            }
            Spacing::Trailing => trailing(len, steps, reading)?,
        };
        Ok(times.into_iter().map(|t| reading.round(t)).collect())
    }
}

/// Strides of `len / steps` down from `len`, less one.
///
/// numpy counts these strides by dividing back, and at some step counts (61 of 1000) finds one
/// more, whose time is -1.
fn trailing(len: usize, steps: usize, reading: Reading) -> Result<Vec<f64>, Error> {
    let total = len as f64;
    let stride = total / steps as f64;
    if reading == Reading::Diffusers && (total / stride).ceil() as usize != steps {
        return Err(Error::Overrun { steps });
    }
    let stride = (total - stride) - total;
    Ok((0..steps).map(|i| (total + i as f64 * stride).round_ties_even() - 1.0).collect())
}

impl Sigmas {
    /// The levels that stand in for `levels`, as many and between the same ends.
    pub(crate) fn spread(self, schedule: &Schedule, levels: Vec<Level>, reading: Reading) -> Vec<Level> {
        let (most, least) = (levels[0].sigma, levels[levels.len() - 1].sigma);
        let ramp = |i: usize| if levels.len() == 1 { 0.0 } else { i as f64 / (levels.len() - 1) as f64 };
        let between = |from: f64, to: f64, share: f64| from + share * (to - from);
        let sigma_at = |share: f64| match self {
            Sigmas::Times => None,
            Sigmas::Karras { rho } => Some(between(most.powf(1.0 / rho), least.powf(1.0 / rho), share).powf(rho)),
            Sigmas::Exponential => Some(between(most.ln(), least.ln(), share).exp()),
            Sigmas::Beta { shape } => Some(between(least, most, beta_quantile(1.0 - share, shape))),
        };
        let level = |(i, level): (usize, &Level)| match sigma_at(ramp(i)) {
            Some(sigma) => Level { t: schedule.time(sigma), sigma: reading.round(sigma) },
            None => *level,
        };
        levels.iter().enumerate().map(level).collect()
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
