//! Samplers of two stages with the middle taken in log sigma: DPM2, DPM-Solver++(2S) and its stochastic kin.

use super::Path;
use super::ancestral::{Fresh, Split};
use super::dpm_solver::Of;
use super::euler::Churn;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Reading, Schedule, Val};

/// A sampler of two stages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TwoStages {
    /// What of the second stage stands for the whole step: its noise (the midpoint rule; DPM2) or its clean estimate
    /// (DPM-Solver++(2S)).
    pub(crate) of: Of,
    /// The noise drawn after a step.
    pub(crate) fresh: Fresh,
    /// The noise put in before a step and taken away by it.
    pub(crate) churn: Churn,
    /// Where the second stage is, as a share of the step in log sigma (`r`); one half in DPM2.
    pub(crate) middle: f64,
}

impl TwoStages {
    /// Walks the path down from `x` (k-diffusion's `dpm_2`, `dpm_2_ancestral` and `dpmpp_2s_ancestral`; arXiv 2206.00364,
    /// algorithm 2, and arXiv 2211.01095, algorithm 1).
    pub(crate) fn walk(self, tape: &mut Tape, mut x: Val, path: Path) -> Val {
        let Path { levels, begin, counted, schedule, reading } = path;
        for (&now, &next) in levels[begin..].iter().zip(&levels[begin + 1..]) {
            tape.begin_step();
            let (raised, now) = self.churn.raise(tape, x, now, counted, schedule);
            let Split { down, up } = Split::of_reading(now.sigma, next.sigma, self.fresh.share, reading);
            let call = tape.call(raised, now);
            if down == 0.0 {
                x = tape.step(call, raised - call.slope() * now.sigma);
                continue;
            }
            let half = between(now.sigma, down, self.middle, schedule, reading);
            let guess = tape.step(call, call.towards(call.denoised, half.sigma));
            let second = tape.call(guess, half);
            let mut moved = match self.of {
                Of::Noise => raised + second.slope() * (down - now.sigma),
                Of::Data => call.towards(weighed(&call, &second, self.middle), down),
            };
            if up > 0.0 || self.fresh.share > 0.0 && reading == Reading::Diffusers {
                moved = moved + tape.noise() * (up * self.fresh.deviation);
            }
            x = tape.step(second, moved);
        }
        x
    }
}

/// The level at a share of the way in log sigma.
fn between(from: f64, to: f64, share: f64, schedule: &Schedule, reading: Reading) -> Level {
    let sigma = match reading {
        Reading::Exact => from * (to / from).powf(share),
        // Logarithms in single precision, as DPM2 has them; the middle is always one half there.
        Reading::Diffusers => {
            let (from, to) = (from.ln() as f32, to.ln() as f32);
            f64::from(0.5f32.mul_add(from - to, to)).exp()
        }
    };
    Level { t: schedule.time(sigma), sigma: reading.round(sigma) }
}

/// The clean estimate of a whole step from those of its beginning and of a share of it: the straight line through both, at
/// one half (k-diffusion's `dpmpp_sde`).
fn weighed(first: &Call, second: &Call, share: f64) -> Form {
    let weight = 0.5 / share;
    first.denoised * (1.0 - weight) + second.denoised * weight
}

/// Walks the path down from `x` by DPM-Solver++ SDE: both stages draw fresh noise, of one Brownian motion in sigma
/// (k-diffusion's `dpmpp_sde`). `middle` is its `r`.
pub(crate) fn dpmpp_sde(tape: &mut Tape, mut x: Val, path: Path, fresh: Fresh, middle: f64) -> Val {
    let Path { levels, begin, schedule, reading, .. } = path;
    for (&now, &next) in levels[begin..].iter().zip(&levels[begin + 1..]) {
        tape.begin_step();
        let call = tape.call(x, now);
        if next.sigma == 0.0 {
            x = tape.step(call, x - call.slope() * now.sigma);
            continue;
        }
        let half = between(now.sigma, next.sigma, middle, schedule, reading);
        let split = |to: f64| Split::of_reading(now.sigma, to, fresh.share, reading);
        let (near, far) = (split(half.sigma), split(next.sigma));
        let mut guess = call.towards(call.denoised, near.down);
        let draws = near.up > 0.0 || reading == Reading::Diffusers;
        let first = draws.then(|| tape.noise());
        if let Some(noise) = first {
            guess = guess + noise * (near.up * fresh.deviation);
        }
        let guess = tape.step(call, guess);
        let second = tape.call(guess, half);
        let mut moved = call.towards(weighed(&call, &second, middle), far.down);
        if let Some(first) = first {
            // The motion over the whole step is that over its two parts, brought to unit variance.
            let (one, two) = (now.sigma - half.sigma, half.sigma - next.sigma);
            let whole = first * one.sqrt() + tape.noise() * two.sqrt();
            let weight = if far.up > 0.0 { far.up * fresh.deviation / (one + two).sqrt() } else { 0.0 };
            moved = moved + whole * weight;
        }
        x = tape.step(second, moved);
    }
    x
}
