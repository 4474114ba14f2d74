//! DDIM with the bookkeeping of diffusers, there and back.

use super::ancestral::Split;
use crate::tape::Tape;
use crate::{Error, Level, Schedule, Val};

/// Walks the times of `levels` down from `x`; ends on the sample and its level.
///
/// Each step goes down by `T / steps` whatever the list of times says, to `end` where that is below zero; and takes the
/// sample to be at the time that the network is told, wherever the last step left it. Where the estimate is held within
/// a limit, the noise is still the network's.
pub(crate) fn ddim(
    tape: &mut Tape,
    x: Val,
    levels: &[Level],
    eta: f64,
    stride: f64,
    schedule: &Schedule,
    end: Level,
) -> Result<(Val, Level), Error> {
    let mut held = (x, levels[0]);
    for &now in &levels[..levels.len() - 1] {
        tape.begin_step();
        let target = now.t - stride;
        let next = if target < 0.0 { end } else { schedule.level(target) };
        let apart = held.1.input_scale() / now.input_scale();
        let x = if held.1.sigma == now.sigma { held.0 } else { tape.sum(held.0 * apart) };
        let Split { down, up } = Split::new(now.sigma, next.sigma, eta);
        let call = tape.call(x, now);
        let mut moved = call.denoised + call.noise() * down;
        if eta > 0.0 {
            moved = moved + tape.noise() * up;
        }
        held = (tape.step(call, moved), next);
    }
    Ok(held)
}

/// Walks the times of `levels` up from the image `x`, each told one stride ahead of the noise that the sample has; ends on
/// the sample and its level.
pub(crate) fn ddim_inverse(
    tape: &mut Tape,
    x: Val,
    levels: &[Level],
    stride: f64,
    schedule: &Schedule,
    start: Level,
) -> (Val, Level) {
    let at = |t: f64| if t < 0.0 { start } else { schedule.level(t.min((schedule.len() - 1) as f64)) };
    // The image is a sample of unit variance there, whatever noise it is taken to have.
    let first = at(levels[0].t - stride);
    let mut held = (tape.sum(x * (1.0 / first.input_scale())), first);
    for &next in levels {
        tape.begin_step();
        let now = Level { t: next.t, ..at(next.t - stride) };
        let apart = held.1.input_scale() / now.input_scale();
        let x = if held.1.sigma == now.sigma { held.0 } else { tape.sum(held.0 * apart) };
        let call = tape.call(x, now);
        held = (tape.step(call, call.denoised + call.noise() * next.sigma), next);
    }
    held
}
