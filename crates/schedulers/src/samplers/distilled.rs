//! LCM and TCD: samplers for networks that were distilled to jump to the end of their trajectory.

use crate::tape::Tape;
use crate::{Level, Schedule, Val};

/// LCM: steps down `levels` from `x`, each step going to the clean estimate and back up with fresh noise (arXiv 2310.04378,
/// algorithm 4). `scaling` multiplies a time in the boundary condition (section 4.1).
pub(crate) fn lcm(tape: &mut Tape, mut x: Val, levels: &[Level], scaling: f64) -> Val {
    const SIGMA_DATA: f64 = 0.5;
    let steps = levels.len() - 1;
    for (index, &now) in levels[..steps].iter().enumerate() {
        tape.begin_step();
        let call = tape.call(x, now);
        let time = now.t * scaling;
        let size = time.hypot(SIGMA_DATA);
        let (skip, out) = ((SIGMA_DATA / size).powi(2), time / size);
        let jump = call.denoised * out + x * (now.input_scale() * skip);
        x = if index + 1 == steps {
            tape.step(call, jump)
        } else {
            let noise = tape.noise();
            tape.step(call, jump + noise * levels[index + 1].sigma)
        };
    }
    x
}

/// TCD with its options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tcd {
    /// How far below the next level a step goes, as a share of that level's time.
    pub(crate) eta: f64,
    pub(crate) times: TcdTimes,
}

/// The time that a step of TCD goes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcdTimes {
    /// Any time.
    Fractional,
    /// A training time: the product is in single precision, which decides the side of an integer that it falls on, and
    /// truncated. The noise back up is in single precision too.
    Whole,
}

/// TCD: steps down `levels` from `x`, each step going below the next level by the share `eta` of its time, and back up
/// with fresh noise (arXiv 2402.19159, algorithm 4).
pub(crate) fn tcd(tape: &mut Tape, mut x: Val, levels: &[Level], schedule: &Schedule, sampler: Tcd) -> Val {
    let Tcd { eta, times } = sampler;
    let steps = levels.len() - 1;
    for (index, (&now, &next)) in levels.iter().zip(&levels[1..]).enumerate() {
        tape.begin_step();
        let call = tape.call(x, now);
        let is_last = index + 1 == steps;
        let below = match times {
            _ if is_last => next,
            TcdTimes::Whole => schedule.level(f64::from((1.0 - eta) as f32 * next.t as f32).floor()),
            TcdTimes::Fractional => schedule.level((1.0 - eta) * next.t),
        };
        // The noise in the sample is the network's, even if the estimate was clipped.
        let jump = call.denoised + call.noise() * below.sigma;
        x = if eta == 0.0 || is_last {
            tape.step(call, jump)
        } else {
            let noise = tape.noise();
            tape.step(call, jump + noise * rise(below, next, schedule, times))
        };
    }
    x
}

/// The deviation of the noise that brings a sample from one level up to another.
fn rise(from: Level, to: Level, schedule: &Schedule, times: TcdTimes) -> f64 {
    match times {
        TcdTimes::Fractional => (to.sigma.powi(2) - from.sigma.powi(2)).sqrt(),
        // One minus the ratio of two `ᾱ`, at unit variance.
        TcdTimes::Whole => {
            let signal = |level: Level| schedule.alphas_cumprod()[level.t as usize] as f32;
            f64::from((1.0 - signal(to) / signal(from)).sqrt()) / to.input_scale()
        }
    }
}
