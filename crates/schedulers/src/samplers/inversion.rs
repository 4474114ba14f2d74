//! DDIM inversion: the probability-flow ODE from an image to its noise (arXiv 2105.05233, section F).

use crate::tape::Tape;
use crate::{Level, Val};

/// Steps up `levels` from `x`, a sample at the first of them, by Euler's method.
pub(crate) fn inversion(tape: &mut Tape, mut x: Val, levels: &[Level]) -> Val {
    for (&now, &next) in levels.iter().zip(&levels[1..]) {
        tape.begin_step();
        let call = tape.call(x, now);
        x = tape.step(call, x + call.slope() * (next.sigma - now.sigma));
    }
    x
}
