//! DDPM: ancestral sampling (arXiv 2006.11239, algorithm 2).

use crate::tape::Tape;
use crate::{Level, Reading, Val};

/// The variance of the noise that a step adds (arXiv 2006.11239, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variance {
    /// That of the posterior given the clean sample: right where the data is one point.
    Small,
    /// That of the forward step: right where the data is standard normal.
    Large,
}

impl Variance {
    /// The standard deviation of a step's noise, in `x = x₀ + sigma·noise`.
    fn deviation(self, now: Level, next: Level, reading: Reading) -> f64 {
        let fresh = match self {
            Variance::Small => next.sigma.powi(2) * (1.0 - (next.sigma / now.sigma).powi(2)),
            // The forward step's β is 1 − ᾱ/ᾱ', for a sample of variance 1/ᾱ'.
            Variance::Large => {
                (now.sigma.powi(2) - next.sigma.powi(2)) * (now.input_scale() / next.input_scale()).powi(2)
            }
        };
        match reading {
            Reading::Diffusers => (fresh * next.input_scale().powi(2)).max(1e-20).sqrt() / next.input_scale(),
            Reading::Exact => fresh.max(0.0).sqrt(),
        }
    }
}

/// Walks `levels` down from `x`: to the posterior mean (arXiv 2006.11239, eq. 7), then fresh
/// noise.
pub(crate) fn ddpm(tape: &mut Tape, mut x: Val, levels: &[Level], variance: Variance, reading: Reading) -> Val {
    for (&now, &next) in levels.iter().zip(&levels[1..]) {
        tape.begin_step();
        let call = tape.call(x, now);
        let kept = (next.sigma / now.sigma).powi(2);
        let mean = call.denoised * (1.0 - kept) + x * kept;
        let deviation = variance.deviation(now, next, reading);
        let draws = match reading {
            Reading::Diffusers => now.t > 0.0,
            Reading::Exact => next != Level::CLEAN,
        };
        x = match draws {
            true => {
                let noise = tape.noise();
                tape.step(call, mean + noise * deviation)
            }
            false => tape.step(call, mean),
        };
    }
    x
}
