//! DPM-Solver: exponential integrators in the log signal-to-noise ratio (arXiv 2206.00927, 2211.01095), multistep and
//! singlestep, deterministic and stochastic.

use super::Path;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Reading, Val};

/// What is integrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Solver {
    /// What the network's outputs are turned into.
    pub(crate) of: Of,
    /// Whether fresh noise is drawn, as the reverse-time SDE has it.
    pub(crate) is_stochastic: bool,
    /// Whether the second order takes the polynomial's own weights ("heun") or half the first weight ("midpoint").
    pub(crate) is_heun: bool,
}

/// What an exponential integrator takes for slowly changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The noise: DPM-Solver (arXiv 2206.00927, eq. 3.7).
    Noise,
    /// The clean sample: DPM-Solver++ (arXiv 2211.01095, eq. 9).
    Data,
}

impl Of {
    /// What of a call is integrated.
    pub(crate) fn value(self, call: &Call) -> Form {
        match self {
            Of::Data => call.denoised.into(),
            Of::Noise => call.slope(),
        }
    }
}

/// The weights of a step: `x' = carry·x + zeroth·D₀ + first·D₁ + second·D₂ + noise·z`, where `D₁` and `D₂` are the first
/// two terms of the polynomial in the step's share.
struct Weights {
    carry: f64,
    zeroth: f64,
    first: f64,
    second: f64,
    noise: f64,
}

impl Solver {
    /// The weights from `now` to `next`. A third order of diffusers is wrong in a sign where it draws noise, see
    /// [`Reading`].
    fn weights(self, now: Level, next: Level, reading: Reading) -> Weights {
        let (from, to) = (now.sigma, next.sigma);
        let kept = to / from; // e^(−h)
        let h = -kept.ln();
        match (self.of, self.is_stochastic) {
            (Of::Data, false) => {
                let whole = 1.0 - kept;
                let heun = 1.0 - whole / h;
                Weights {
                    carry: kept,
                    zeroth: whole,
                    first: self.pick(heun, whole / 2.0),
                    second: 0.5 - heun / h,
                    noise: 0.0,
                }
            }
            (Of::Data, true) => {
                let whole = 1.0 - kept.powi(2);
                let heun = 1.0 - whole / (2.0 * h);
                let half = if reading == Reading::Diffusers { -0.5 } else { 0.5 };
                Weights {
                    carry: kept.powi(2),
                    zeroth: whole,
                    first: self.pick(heun, whole / 2.0),
                    second: half - heun / (2.0 * h),
                    noise: to * whole.sqrt(),
                }
            }
            // e^h is taken together with the sigma before it: sigma'·(e^h − 1) = sigma − sigma'.
            (Of::Noise, false) => {
                let whole = to - from;
                let heun = whole / h + to;
                let second = heun / h + to / 2.0;
                Weights { carry: 1.0, zeroth: whole, first: self.pick(heun, whole / 2.0), second, noise: 0.0 }
            }
            (Of::Noise, true) => {
                let whole = 2.0 * (to - from);
                let heun = whole / h + 2.0 * to;
                let second = heun / h + to;
                let noise = (from.powi(2) - to.powi(2)).sqrt();
                Weights { carry: 1.0, zeroth: whole, first: self.pick(heun, whole / 2.0), second, noise }
            }
        }
    }

    fn pick(self, heun: f64, midpoint: f64) -> f64 {
        if self.is_heun { heun } else { midpoint }
    }

    /// The sum of a step's terms, and its fresh noise.
    fn step(self, tape: &mut Tape, x: Val, weights: &Weights, terms: [Form; 3]) -> Form {
        let [zeroth, first, second] = terms;
        let sum = x * weights.carry + zeroth * weights.zeroth + first * weights.first + second * weights.second;
        if self.is_stochastic { sum + tape.noise() * weights.noise } else { sum }
    }
}

/// Towards the end of a run, when a multistep solver goes back to lower orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// In the last two steps of a run that is shorter than 15.
    pub(crate) falls: bool,
    /// In the last step, however many there are.
    pub(crate) with_euler: bool,
}

impl Ending {
    /// Whether any of so many steps is of third order.
    pub(crate) fn reaches_third(self, steps: usize) -> bool {
        (2..steps).any(|index| self.highest(steps - index, steps) > 2)
    }

    /// The highest order allowed where so many steps are left, of `steps`.
    pub(crate) fn highest(self, left: usize, steps: usize) -> usize {
        let falls = self.falls && steps < 15;
        match left {
            1 if falls || self.with_euler => 1,
            2 if falls => 2,
            _ => usize::MAX,
        }
    }
}

/// Walks `levels[begin..]` down from `x` with the outputs of the calls before (arXiv 2211.01095, algorithm 2).
pub(crate) fn multistep(tape: &mut Tape, mut x: Val, path: Path, solver: Solver, order: usize, ending: Ending) -> Val {
    let Path { levels, begin, reading, .. } = path;
    let steps = levels.len() - 1;
    // No higher order can step to no noise at all.
    let ending = Ending { with_euler: ending.with_euler || levels[steps].sigma == 0.0, ..ending };
    let mut past: Vec<Call> = Vec::new();
    for index in begin..steps {
        tape.begin_step();
        let (now, next) = (levels[index], levels[index + 1]);
        let call = tape.call(x, now);
        past.insert(0, call);
        past.truncate(order);
        let order = past.len().min(ending.highest(steps - index, steps));
        let terms = differences(solver, &past[..order], next, reading);
        // The third order has the polynomial's own weights, whatever the second takes.
        let solver = Solver { is_heun: solver.is_heun || order == 3, ..solver };
        let moved = solver.step(tape, x, &solver.weights(now, next, reading), terms);
        x = tape.step(call, moved);
    }
    x
}

/// `D₀`, `D₁` and `D₂` at the newest of the calls, by divided differences.
fn differences(solver: Solver, past: &[Call], next: Level, reading: Reading) -> [Form; 3] {
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
            // Half of the second derivative is what the difference quotient gives, and the weights want the whole.
            let whole = if reading == Reading::Diffusers { 1.0 } else { 2.0 };
            [value(0), difference(0) + bend.clone() * near, bend * whole]
        }
    }
}

/// The order of each step of the singlestep solver: 1 starts afresh, 2 and 3 go again from where the last 1 began.
pub(crate) fn stages(steps: usize, order: usize, falls: bool, ends_clean: bool) -> Vec<usize> {
    // diffusers turns `lower_order_final` on where the steps would not come out, or end in no noise.
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

/// Walks `levels[begin..]` down from `x`, two or three calls together making a step of that order (arXiv 2206.00927,
/// algorithms 4 and 5, the stages on the levels themselves).
pub(crate) fn singlestep(tape: &mut Tape, mut x: Val, path: Path, solver: Solver, stages: &[usize]) -> Val {
    let Path { levels, begin, reading, .. } = path;
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
        let moved = solver.step(tape, base, &solver.weights(from, next, reading), terms);
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
                // The slope to the farther stage stands for both.
                false => [start(), d0, Form::default()],
            }
        }
        [] => Default::default(),
    }
}
