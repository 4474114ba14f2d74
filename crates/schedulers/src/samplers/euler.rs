//! Euler and Heun, with noise added before a step and removed by it (arXiv 2206.00364).

use super::Path;
use crate::tape::Tape;
use crate::{Level, Prediction, Schedule, Val};

/// How much noise is added before a step (arXiv 2206.00364, algorithm 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Churn {
    /// `S_churn`: how much log sigma rises over the whole run, at most.
    pub(crate) amount: f64,
    /// `S_tmin` and `S_tmax`: the smallest and the largest sigma that noise is added at.
    pub(crate) within: (f64, f64),
    /// `S_noise`: the deviation of the noise.
    pub(crate) noise: f64,
}

impl Churn {
    /// No noise.
    pub(crate) const NONE: Churn = Churn { amount: 0.0, within: (0.0, f64::INFINITY), noise: 1.0 };

    /// The sigma of a sample after the noise is added, in a run of `steps`.
    fn raised(self, sigma: f64, steps: usize) -> f64 {
        let is_within = self.within.0 <= sigma && sigma <= self.within.1;
        let rise = if is_within { (self.amount / steps as f64).min(2f64.sqrt() - 1.0) } else { 0.0 };
        sigma * (1.0 + rise)
    }

    /// Adds the noise to a sample; returns it with its new level.
    pub(super) fn raise(self, tape: &mut Tape, x: Val, now: Level, steps: usize, schedule: &Schedule) -> (Val, Level) {
        let sigma = self.raised(now.sigma, steps);
        if sigma == now.sigma {
            return (x, now);
        }
        let noise = tape.noise() * (self.noise * (sigma.powi(2) - now.sigma.powi(2)).sqrt());
        (tape.sum(x + noise), Level { t: schedule.time(sigma), sigma })
    }
}

/// When Euler's churn adds its noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the network call (arXiv 2206.00364, algorithm 2).
    BeforeCall,
    /// After it, as in diffusers.
    AfterCall,
}

/// Takes the steps of `path` from `x` by Euler's method.
pub(crate) fn euler(tape: &mut Tape, mut x: Val, path: Path, churn: Churn, when: When) -> Val {
    let Path { levels, begin, counted: steps, schedule } = path;
    for (&now, &next) in levels[begin..].iter().zip(&levels[begin + 1..]) {
        tape.begin_step();
        x = match when {
            When::BeforeCall => {
                let (raised, now) = churn.raise(tape, x, now, steps, schedule);
                let call = tape.call(raised, now);
                tape.step(call, raised + call.slope() * (next.sigma - now.sigma))
            }
            When::AfterCall => stale_euler_step(tape, x, (now, next), churn.raised(now.sigma, steps), churn.noise),
        };
    }
    x
}

/// Euler's step with [`When::AfterCall`]: the network has not seen the noise, and a velocity is converted at the level before
/// the noise.
fn stale_euler_step(tape: &mut Tape, x: Val, (now, next): (Level, Level), raised: f64, deviation: f64) -> Val {
    let call = tape.call(x, now);
    if raised == now.sigma {
        return tape.step(call, x + call.slope() * (next.sigma - now.sigma));
    }
    let noise = tape.noise() * (deviation * (raised.powi(2) - now.sigma.powi(2)).sqrt());
    let raised_x = tape.sum(x + noise);
    let (p, q) = match tape.prediction {
        Prediction::Epsilon => tape.prediction.denoising(raised),
        _ => tape.prediction.denoising(now.sigma),
    };
    let denoised = raised_x * p + call.output * q;
    let slope = (raised_x - denoised) * (1.0 / raised);
    tape.step(call, raised_x + slope * (next.sigma - raised))
}

/// Takes the steps of `path` from `x` by the trapezoid rule, and a step to sigma 0 by Euler's method (arXiv 2206.00364,
/// algorithm 2).
pub(crate) fn heun(tape: &mut Tape, mut x: Val, path: Path, churn: Churn) -> Val {
    let Path { levels, begin, counted: steps, schedule, .. } = path;
    for (&now, &next) in levels[begin..].iter().zip(&levels[begin + 1..]) {
        tape.begin_step();
        let (raised, now) = churn.raise(tape, x, now, steps, schedule);
        let distance = next.sigma - now.sigma;
        let call = tape.call(raised, now);
        let guess = tape.step(call, raised + call.slope() * distance);
        x = if next.sigma == 0.0 {
            guess
        } else {
            let second = tape.call(guess, next);
            tape.step(second, raised + (call.slope() + second.slope()) * (distance / 2.0))
        };
    }
    x
}
