//! Multistep DPM-Solver: exponential integrators that remember (arXiv 2211.01095, algorithm 2).

use super::Path;
use super::dpm_solver::{Solver, ThirdOrder};
use crate::tape::{Call, Tape};
use crate::{Form, Level, Val};

/// Takes the steps of `path` from `x` with the outputs of earlier calls (arXiv 2211.01095, algorithm 2).
pub(crate) fn multistep(tape: &mut Tape, mut x: Val, path: Path, solver: Solver, order: usize, ending: Ending) -> Val {
    let Path { levels, begin, .. } = path;
    let steps = levels.len() - 1;
    // Only the first order can step to sigma 0, where lambda is infinite.
    let ending = Ending { with_euler: ending.with_euler || levels[steps].sigma == 0.0, ..ending };
    let mut past: Vec<Call> = Vec::new();
    for index in begin..steps {
        tape.begin_step();
        let (now, next) = (levels[index], levels[index + 1]);
        let call = tape.call(x, now);
        past.insert(0, call);
        past.truncate(order);
        let order = past.len().min(ending.highest(steps - index, steps));
        let terms = differences(solver, &past[..order], next);
        // The third order has the weights of the polynomial, whatever `solver_type` is.
        let solver = Solver { is_heun: solver.is_heun || order == 3, ..solver };
        let moved = solver.step(tape, x, &solver.weights(now, next), terms);
        x = tape.step(call, moved);
    }
    x
}

/// `D₀`, `D₁` and `D₂` at the newest of the calls, by divided differences.
fn differences(solver: Solver, past: &[Call], next: Level) -> [Form; 3] {
    let h = next.lambda() - past[0].level.lambda();
    let rate = |k: usize| (past[k].level.lambda() - past[k + 1].level.lambda()) / h;
    let value = |k: usize| solver.of.value(&past[k]);
    let difference = |k: usize| (value(k) - value(k + 1)) * (1.0 / rate(k));
    match past.len() {
        1 => [value(0), Form::default(), Form::default()],
        2 => [value(0), difference(0), Form::default()],
        _ => {
            let (near, far) = (rate(0), rate(1));
            let bend = (difference(0) - difference(1)) * (1.0 / (near + far));
            // The divided difference is half of the second derivative, and the weights are for the whole.
            let factor = if solver.third == ThirdOrder::Polynomial { 2.0 } else { 1.0 };
            [value(0), difference(0) + bend.clone() * near, bend * factor]
        }
    }
}

/// When a multistep solver goes back to lower orders towards the end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// In the last two steps of a run of fewer than 15 (`lower_order_final`).
    pub(crate) falls: bool,
    /// In the last step of any run (`euler_at_final`).
    pub(crate) with_euler: bool,
}

impl Ending {
    /// Whether any step of a run of `steps` is of third order.
    pub(crate) fn reaches_third(self, steps: usize) -> bool {
        (2..steps).any(|index| self.highest(steps - index, steps) > 2)
    }

    /// The highest order allowed if `left` of `steps` steps are left.
    pub(crate) fn highest(self, left: usize, steps: usize) -> usize {
        let falls = self.falls && steps < 15;
        match left {
            1 if falls || self.with_euler => 1,
            2 if falls => 2,
            _ => usize::MAX,
        }
    }
}
