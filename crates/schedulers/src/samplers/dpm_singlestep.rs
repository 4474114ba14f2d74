//! Singlestep DPM-Solver: two or three calls together make a step (arXiv 2206.00927, algorithms 4 and 5).

use super::Path;
use super::dpm_solver::Solver;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Val};

/// The order of each call of the singlestep solver: 1 begins a new step, 2 and 3 start again from where the last 1 did.
pub(crate) fn stages(steps: usize, order: usize, falls: bool, ends_clean: bool) -> Vec<usize> {
    // diffusers turns `lower_order_final` on if the steps do not divide evenly, or end without noise.
    let falls = falls || !steps.is_multiple_of(order) || ends_clean;
    let whole: Vec<usize> = (1..=order).collect();
    let mut stages = match (falls, order, steps % order) {
        (false, ..) | (true, 1, _) => whole.repeat(steps / order),
        (true, 2, 0) => [whole.repeat(steps / 2 - 1), vec![1, 1]].concat(),
        (true, 2, _) => [whole.repeat(steps / 2), vec![1]].concat(),
        (true, _, 0) => [whole.repeat(steps / 3 - 1), vec![1, 2, 1]].concat(),
        (true, _, 1) => [whole.repeat(steps / 3), vec![1]].concat(),
        (true, ..) => [whole.repeat(steps / 3), vec![1, 2]].concat(),
    };
    if let (true, Some(last)) = (ends_clean, stages.last_mut()) {
        *last = 1;
    }
    stages
}

/// Goes down `path` from `x`, two or three calls together making a step of that order (arXiv 2206.00927, algorithms 4 and 5,
/// with the stages on the levels themselves).
pub(crate) fn singlestep(tape: &mut Tape, mut x: Val, path: Path, solver: Solver, stages: &[usize]) -> Val {
    let Path { levels, begin, .. } = path;
    let mut past: Vec<Call> = Vec::new();
    let mut base = x;
    for index in begin..levels.len() - 1 {
        let call_order = stages[index].min(past.len() + 1);
        tape.begin_step();
        let call = tape.call(x, levels[index]);
        past.insert(0, call);
        past.truncate(3);
        if call_order == 1 {
            base = x;
        }
        let (from, next) = (past[call_order - 1].level, levels[index + 1]);
        let terms = inner_differences(solver, &past[..call_order], next);
        let solver = Solver { is_heun: solver.is_heun || call_order == 3, ..solver };
        let moved = solver.step(tape, base, &solver.weights(from, next), terms);
        x = tape.step(call, moved);
    }
    x
}

/// `D₀`, `D₁` and `D₂` at the oldest of the calls, where the step begins.
fn inner_differences(solver: Solver, past: &[Call], next: Level) -> [Form; 3] {
    let from = past[past.len() - 1];
    let h = next.lambda() - from.level.lambda();
    let start = || solver.of.value(&from);
    let rate = |call: &Call| (call.level.lambda() - from.level.lambda()) / h;
    let difference = |call: &Call| (solver.of.value(call) - start()) * (1.0 / rate(call));
    match past {
        [_] => [start(), Form::default(), Form::default()],
        [near, _] => [start(), difference(near), Form::default()],
        [far, near, ..] => {
            let (r0, r1) = (rate(far), rate(near));
            let (d0, d1) = (difference(far), difference(near));
            match solver.is_heun {
                true => {
                    let first = (d1.clone() * r0 - d0.clone() * r1) * (1.0 / (r0 - r1));
                    [start(), first, (d0 - d1) * (2.0 / (r0 - r1))]
                }
                // The slope to the farther stage is used for both.
                false => [start(), d0, Form::default()],
            }
        }
        [] => Default::default(),
    }
}
