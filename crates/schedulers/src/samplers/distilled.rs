//! LCM and TCD: samplers for networks that were distilled to jump to the end of their trajectory.

use crate::tape::Tape;
use crate::{Level, Reading, Schedule, Val};

/// LCM: walks `levels` down from `x`, jumping to the clean sample and adding fresh noise (arXiv 2310.04378, algorithm 4).
/// `scaling` is by how much a time is multiplied in the boundary condition (its section 4.1).
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

/// TCD: walks `levels` down from `x`, each step going below the next level by the share `eta` of its time, and back up
/// with fresh noise (arXiv 2402.19159, algorithm 4).
pub(crate) fn tcd(
    tape: &mut Tape,
    mut x: Val,
    levels: &[Level],
    eta: f64,
    schedule: &Schedule,
    reading: Reading,
) -> Val {
    let steps = levels.len() - 1;
    for (index, (&now, &next)) in levels.iter().zip(&levels[1..]).enumerate() {
        tape.begin_step();
        let call = tape.call(x, now);
        let is_last = index + 1 == steps;
        let below = match reading {
            _ if is_last => next,
            // The product is single precision there, which decides on which side of a whole number it falls.
            Reading::Diffusers => schedule.level(f64::from((1.0 - eta) as f32 * next.t as f32).floor()),
            Reading::Exact => schedule.level((1.0 - eta) * next.t),
        };
        // The noise in the sample is the network's, whatever the estimate was held within.
        let jump = call.denoised + call.noise() * below.sigma;
        x = if eta == 0.0 || is_last {
            tape.step(call, jump)
        } else {
            let noise = tape.noise();
            tape.step(call, jump + noise * rise(below, next, schedule, reading))
        };
    }
    x
}

/// The deviation of the noise that brings a sample from one level up to another.
fn rise(from: Level, to: Level, schedule: &Schedule, reading: Reading) -> f64 {
    match reading {
        Reading::Exact => (to.sigma.powi(2) - from.sigma.powi(2)).sqrt(),
        // One less the ratio of two signals, in single precision, at unit variance. Times are whole there.
        Reading::Diffusers => {
            let signal = |level: Level| schedule.alphas_cumprod()[level.t as usize] as f32;
            f64::from((1.0 - signal(to) / signal(from)).sqrt()) / to.input_scale()
        }
    }
}
