//! The training noise schedule: how much noise there is at each time.

use crate::levels::Terminal;
use crate::precision::Precision;
use crate::{Error, Level};
use ndarray::Array1;
use std::f64::consts::FRAC_PI_2;

/// The training noise schedule, a number for each integer time.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    betas: Array1<f64>,
    alphas_cumprod: Array1<f64>,
    sigmas: Array1<f64>,
    /// The logarithms of the sigmas.
    logs: Array1<f64>,
    precision: Precision,
}

/// How the betas are computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Betas {
    /// Evenly spaced (arXiv 2006.11239, section 4).
    Linear { start: f64, end: f64 },
    /// Evenly spaced square roots, as in latent diffusion.
    ScaledLinear { start: f64, end: f64 },
    /// The logistic curve over -6..6 between the ends.
    Sigmoid { start: f64, end: f64 },
    /// From the signal `cos²` (arXiv 2102.09672, eq. 17).
    SquaredCosine,
    /// From the signal `e^(−12t)`.
    Exponential,
    /// From the signal whose log ratio to the noise is Laplace distributed (arXiv 2407.03297).
    Laplace,
    /// `trained_betas`.
    Trained(Vec<f64>),
}

impl Schedule {
    /// The schedule of `len` times; with `rescale`, rescaled to zero terminal signal-to-noise ratio (arXiv 2305.08891,
    /// algorithm 1).
    pub(crate) fn new(
        betas: &Betas,
        len: usize,
        rescale: Option<Terminal>,
        precision: Precision,
    ) -> Result<Schedule, Error> {
        let round = |x| precision.round(x);
        let mut betas = betas.values(len, precision);
        if let Some(time) = betas.iter().position(|beta| !(*beta > 0.0 && *beta < 1.0)) {
            return Err(Error::Beta { time, beta: betas[time], reason: "expected a number above 0 and below 1" });
        }
        let mut alphas_cumprod = signals(&betas, precision);
        if rescale.is_some() {
            betas = rescaled(&alphas_cumprod, precision);
            alphas_cumprod = signals(&betas, precision);
        }
        let mut sigmas = alphas_cumprod.mapv(|signal| round(round(round(1.0 - signal) / signal).sqrt()));
        match rescale {
            None => (),
            Some(Terminal::PureNoise) => sigmas[len - 1] = Level::PURE_NOISE,
            Some(Terminal::Finite) => {
                alphas_cumprod[len - 1] = 2f64.powi(-24);
                sigmas[len - 1] = round(round(2f64.powi(24) - 1.0).sqrt());
            }
        }
        match sigmas.iter().position(|sigma| !(*sigma > 0.0 && sigma.is_finite())) {
            Some(time) => {
                let reason = "there is no noise, or no signal left, that single precision could hold";
                Err(Error::Beta { time, beta: betas[time], reason })
            }
            None => {
                let logs = sigmas.mapv(|sigma| precision.ln(sigma));
                Ok(Schedule { betas, alphas_cumprod, sigmas, logs, precision })
            }
        }
    }

    /// The variance that each time adds, `β` (arXiv 2006.11239, eq. 2).
    pub fn betas(&self) -> &Array1<f64> {
        &self.betas
    }

    /// The share of the signal in a sample's variance at each time, `ᾱ` (arXiv 2006.11239, eq. 4).
    pub fn alphas_cumprod(&self) -> &Array1<f64> {
        &self.alphas_cumprod
    }

    /// `√((1−ᾱ)/ᾱ)` at each time; [`Level::PURE_NOISE`] where `ᾱ` is zero.
    pub fn sigmas(&self) -> &Array1<f64> {
        &self.sigmas
    }

    /// The number of times.
    #[expect(clippy::len_without_is_empty, reason = "a schedule has two times at least")]
    pub fn len(&self) -> usize {
        self.sigmas.len()
    }

    /// The level at a time: between integer times linear in log sigma (in the reading of diffusers, in sigma), and constant outside
    /// the schedule.
    pub fn level(&self, t: f64) -> Level {
        let inside = t.clamp(0.0, (self.len() - 1) as f64);
        let (low, fraction) = (inside.floor() as usize, inside.fract());
        let high = (low + 1).min(self.len() - 1);
        let (from, to) = (self.sigmas[low], self.sigmas[high]);
        let sigma = match self.precision {
            Precision::Single => self.precision.round(from + (to - from) * fraction),
            Precision::Double if fraction == 0.0 => from,
            Precision::Double => from * (to / from).powf(fraction),
        };
        Level { t, sigma }
    }

    /// The time of a sigma: linear in its logarithm between integer times, and clamped to the schedule.
    pub fn time(&self, sigma: f64) -> f64 {
        // The last sigma that is not above it. In diffusers, the last sigma of a schedule rescaled to zero signal can be below
        // those before it.
        let below = self.logs.iter().rposition(|log| *log <= sigma.ln());
        let low = below.unwrap_or(0).min(self.len() - 2);
        let (from, to) = (self.logs[low], self.logs[low + 1]);
        let fraction = (sigma.ln() - from) / (to - from);
        low as f64 + fraction.clamp(0.0, 1.0)
    }
}

impl Betas {
    /// `trained_betas`.
    pub(crate) fn given(&self) -> Option<&[f64]> {
        if let Betas::Trained(betas) = self { Some(betas) } else { None }
    }

    fn values(&self, len: usize, precision: Precision) -> Array1<f64> {
        let round = |x| precision.round(x);
        match self {
            Betas::Linear { start, end } => precision.linspace(*start, *end, len),
            Betas::ScaledLinear { start, end } => {
                precision.linspace(start.sqrt(), end.sqrt(), len).mapv(|root| round(root * root))
            }
            Betas::Sigmoid { start, end } => precision
                .linspace(-6.0, 6.0, len)
                .mapv(|x| round(round(1.0 / (1.0 + (-x).exp())) * round(end - start)) + start)
                .mapv(round),
            Betas::SquaredCosine => from_signal(len, |t| ((t + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)).mapv(round),
            Betas::Exponential => from_signal(len, |t| (-12.0 * t).exp()).mapv(round),
            Betas::Laplace => from_signal(len, laplace_signal).mapv(round),
            Betas::Trained(betas) => betas.iter().copied().map(round).collect(),
        }
    }
}

/// The betas of a signal `signal(t)` for `t` in `0..1`, at most 0.999 each.
fn from_signal(len: usize, signal: impl Fn(f64) -> f64) -> Array1<f64> {
    let at = |index: usize| signal(index as f64 / len as f64);
    Array1::from_shape_fn(len, |index| (1.0 - at(index + 1) / at(index)).min(0.999))
}

fn laplace_signal(t: f64) -> f64 {
    let log_ratio = -0.5 * (0.5 - t).signum() * (1.0 - 2.0 * (0.5 - t).abs() + 1e-6).ln();
    let ratio = log_ratio.exp();
    (ratio / (1.0 + ratio)).sqrt()
}

/// The running product of `1 − β`; the product itself is always in double precision.
fn signals(betas: &Array1<f64>, precision: Precision) -> Array1<f64> {
    let mut signal = 1.0;
    betas.mapv(|beta| {
        signal *= precision.round(1.0 - beta);
        precision.round(signal)
    })
}

/// The betas of a schedule whose `√ᾱ` is shifted and scaled to end at zero, with the same start.
fn rescaled(alphas_cumprod: &Array1<f64>, precision: Precision) -> Array1<f64> {
    let round = |x| precision.round(x);
    let roots = alphas_cumprod.mapv(|signal| round(signal.sqrt()));
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let scale = round(first / round(first - last));
    let signals = roots.mapv(|root| round(round(round(root - last) * scale).powi(2)));
    Array1::from_shape_fn(signals.len(), |index| match index {
        0 => round(1.0 - signals[0]),
        _ => round(1.0 - round(signals[index] / signals[index - 1])),
    })
}
