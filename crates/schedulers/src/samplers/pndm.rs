//! PNDM: pseudo linear multistep with even-step weights (arXiv 2202.09778).

use crate::tape::{Call, Tape};
use crate::{Form, Level, Schedule, Val};

/// Adams-Bashforth weights for even steps, newest slope first, as the history grows (arXiv
/// 2202.09778, eq. 12).
pub(crate) const WEIGHTS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

/// Steps down `levels` from `x`; each output is converted at its own level.
///
/// With `warm_up` the first three steps are Runge-Kutta steps (eq. 13); without it the first is an improved Euler step.
pub(crate) fn pndm(tape: &mut Tape, mut x: Val, levels: &[Level], schedule: &Schedule, warm_up: bool) -> Val {
    let mut slopes: Vec<Form> = Vec::new();
    for (index, (&now, &next)) in levels.iter().zip(&levels[1..]).enumerate() {
        tape.begin_step();
        let distance = next.sigma - now.sigma;
        let mut call = tape.call(x, now);
        let first = call.slope();
        slopes.insert(0, first.clone());
        slopes.truncate(WEIGHTS.len());
        let mut stage = |last: &mut Call, to: Level, along: &Form| {
            let guess = tape.step(*last, x + along.clone() * (to.sigma - now.sigma));
            *last = tape.call(guess, to);
            last.slope()
        };
        let slope = if next == Level::CLEAN || index >= 3 || (index > 0 && !warm_up) {
            weighted(&slopes)
        } else if warm_up {
            let middle = schedule.level((now.t + next.t) / 2.0);
            let second = stage(&mut call, middle, &first);
            let third = stage(&mut call, middle, &second);
            let fourth = stage(&mut call, next, &third);
            (first + (second + third) * 2.0 + fourth) * (1.0 / 6.0)
        } else {
            (first.clone() + stage(&mut call, next, &first)) * 0.5
        };
        x = tape.step(call, x + slope * distance);
    }
    x
}

/// The slope of the next step: the weighted sum of the latest slopes, newest first.
pub(crate) fn weighted(slopes: &[Form]) -> Form {
    let weights = WEIGHTS[slopes.len() - 1];
    slopes.iter().zip(weights).fold(Form::default(), |sum, (slope, &weight)| sum + slope.clone() * weight)
}
