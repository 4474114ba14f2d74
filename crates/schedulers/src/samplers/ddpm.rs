//! DDPM: ancestral sampling (arXiv 2006.11239, algorithm 2).

use super::ancestral::Draws;
use crate::tape::Tape;
use crate::{Level, Val};

/// The variance of the noise that a step adds (arXiv 2006.11239, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variance {
    /// That of the posterior given the clean sample: correct if the data is one point.
    Small,
    /// That of the forward step: correct if the data is standard normal.
    Large,
}

impl Variance {
    /// The standard deviation of a step's noise, in `x = x₀ + sigma·noise`.
    fn deviation(self, now: Level, next: Level, least: Option<f64>) -> f64 {
        let fresh = match self {
            Variance::Small => next.sigma.powi(2) * (1.0 - (next.sigma / now.sigma).powi(2)),
            // The forward step's β is 1 − ᾱ/ᾱ', for a sample of variance 1/ᾱ'.
            Variance::Large => {
                (now.sigma.powi(2) - next.sigma.powi(2)) * (now.input_scale() / next.input_scale()).powi(2)
            }
        };
        match least {
            Some(least) => (fresh * next.input_scale().powi(2)).max(least).sqrt() / next.input_scale(),
            None => fresh.max(0.0).sqrt(),
        }
    }
}

/// DDPM with its options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ddpm {
    pub(crate) variance: Variance,
    /// The smallest variance of a step's noise, for samples at unit variance; `None` for no limit.
    pub(crate) least: Option<f64>,
    /// With [`Draws::Always`] a step draws unless it starts at time 0.
    pub(crate) draws: Draws,
}

/// Steps down `levels` from `x`: to the posterior mean (arXiv 2006.11239, eq. 7), then fresh noise.
pub(crate) fn ddpm(tape: &mut Tape, mut x: Val, levels: &[Level], sampler: Ddpm) -> Val {
    for (&now, &next) in levels.iter().zip(&levels[1..]) {
        tape.begin_step();
        let call = tape.call(x, now);
        let kept = (next.sigma / now.sigma).powi(2);
        let mean = call.denoised * (1.0 - kept) + x * kept;
        let deviation = sampler.variance.deviation(now, next, sampler.least);
        let is_drawn = match sampler.draws {
            Draws::Always => now.t > 0.0,
            Draws::Used => next != Level::CLEAN,
        };
        x = match is_drawn {
            true => {
                let noise = tape.noise();
                tape.step(call, mean + noise * deviation)
            }
            false => tape.step(call, mean),
        };
    }
    x
}
