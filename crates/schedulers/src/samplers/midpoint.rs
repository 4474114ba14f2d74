//! Samplers of two stages with the middle taken in log sigma: DPM2, DPM-Solver++(2S) and its SDE form.

use super::Path;
use super::ancestral::{Fresh, Split};
use super::dpm_solver::Of;
use super::euler::Churn;
use crate::Noised;
use crate::precision::Precision;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Schedule, Val};

/// A sampler of two stages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TwoStages {
    /// What of the second stage the whole step uses: its noise (the midpoint rule; DPM2) or its clean estimate
    /// (DPM-Solver++(2S)).
    pub(crate) of: Of,
    /// The noise added after a step.
    pub(crate) fresh: Fresh,
    /// The noise added before a step and removed by it.
    pub(crate) churn: Churn,
    /// Where the second stage is, as a share of the step in log sigma (`r`); one half in DPM2.
    pub(crate) middle: f64,
    /// The precision of the middle and of the split of a step.
    pub(crate) precision: Precision,
}

/// Takes the steps of `path` from `x` (k-diffusion's `dpm_2`, `dpm_2_ancestral` and `dpmpp_2s_ancestral`; arXiv 2206.00364,
/// algorithm 2, and arXiv 2211.01095, algorithm 1).
pub(crate) fn two_stages(tape: &mut Tape, mut x: Val, path: Path, sampler: TwoStages) -> Val {
    let Path { levels, begin, counted, schedule } = path;
    for (&now, &next) in levels[begin..].iter().zip(&levels[begin + 1..]) {
        tape.begin_step();
        let (raised, now) = sampler.churn.raise(tape, x, now, counted, schedule);
        let Split { down, up } = Split::new(now.sigma, next.sigma, sampler.fresh.share, sampler.precision);
        let call = tape.call(raised, now);
        if down == 0.0 {
            x = tape.step(call, raised - call.slope() * now.sigma);
            continue;
        }
        let half = between(now.sigma, down, sampler.middle, schedule, sampler.precision);
        let guess = tape.step(call, call.towards(call.denoised, half.sigma));
        let second = tape.call_with(guess, half, known_at(half, next, sampler.precision));
        let mut moved = match sampler.of {
            Of::Noise => raised + second.slope() * (down - now.sigma),
            Of::Data => call.towards(weighed(&call, &second, sampler.middle), down),
        };
        if sampler.fresh.is_drawn(up) {
            moved = moved + tape.noise() * (up * sampler.fresh.deviation);
        }
        x = tape.step(second, moved);
    }
    x
}

/// What a mask keeps of a picture in the middle of a step. diffusers gives it the noise that it has after the step.
fn known_at(half: Level, next: Level, precision: Precision) -> Noised {
    match precision {
        Precision::Double => Noised::to(half.sigma),
        Precision::Single => Noised::to(next.sigma),
    }
}

/// The level at a share of the way in log sigma.
fn between(from: f64, to: f64, share: f64, schedule: &Schedule, precision: Precision) -> Level {
    let sigma = match precision {
        Precision::Double => from * (to / from).powf(share),
        // torch's `lerp` of two logarithms.
        Precision::Single => {
            let (from, to) = (from.ln() as f32, to.ln() as f32);
            f64::from((1.0 - share as f32).mul_add(from - to, to)).exp()
        }
    };
    Level { t: schedule.time(sigma), sigma: precision.round(sigma) }
}

/// The clean estimate of a whole step from that of its beginning and that at a share of it: the line through both, at one half
/// (k-diffusion's `dpmpp_sde`).
fn weighed(first: &Call, second: &Call, share: f64) -> Form {
    let weight = 0.5 / share;
    first.denoised * (1.0 - weight) + second.denoised * weight
}

/// DPM-Solver++ SDE with its options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DpmSde {
    pub(crate) fresh: Fresh,
    /// Where the second stage is, as a share of the step in log sigma (`r`).
    pub(crate) middle: f64,
    /// The precision of the middle and of the split of a step.
    pub(crate) precision: Precision,
}

/// Takes the steps of `path` from `x` by DPM-Solver++ SDE: both stages draw fresh noise, of one Brownian motion in sigma
/// (k-diffusion's `dpmpp_sde`).
pub(crate) fn dpmpp_sde(tape: &mut Tape, mut x: Val, path: Path, sampler: DpmSde) -> Val {
    let Path { levels, begin, schedule, .. } = path;
    let DpmSde { fresh, middle, precision } = sampler;
    for (&now, &next) in levels[begin..].iter().zip(&levels[begin + 1..]) {
        tape.begin_step();
        let call = tape.call(x, now);
        if next.sigma == 0.0 {
            x = tape.step(call, x - call.slope() * now.sigma);
            continue;
        }
        let half = between(now.sigma, next.sigma, middle, schedule, precision);
        let split = |to: f64| Split::new(now.sigma, to, fresh.share, precision);
        let (near, far) = (split(half.sigma), split(next.sigma));
        let mut guess = call.towards(call.denoised, near.down);
        let first = fresh.is_drawn(near.up).then(|| tape.noise());
        if let Some(noise) = first {
            guess = guess + noise * (near.up * fresh.deviation);
        }
        let guess = tape.step(call, guess);
        let second = tape.call_with(guess, half, known_at(half, next, precision));
        let mut moved = call.towards(weighed(&call, &second, middle), far.down);
        if let Some(first) = first {
            // The motion over the whole step is the sum over its two parts, scaled to unit variance.
            let (one, two) = (now.sigma - half.sigma, half.sigma - next.sigma);
            let whole = first * one.sqrt() + tape.noise() * two.sqrt();
            let weight = if far.up > 0.0 { far.up * fresh.deviation / (one + two).sqrt() } else { 0.0 };
            moved = moved + whole * weight;
        }
        x = tape.step(second, moved);
    }
    x
}
