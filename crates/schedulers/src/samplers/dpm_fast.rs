//! DPM-Solver-fast: steps of third order, and of lower order at the end, for any number of network calls (arXiv 2206.00927,
//! section 3.4; k-diffusion's `sample_dpm_fast`).

use super::Path;
use super::ancestral::{Fresh, Split};
use super::dpm_solver::{Of, Solver, ThirdOrder};
use crate::precision::Precision;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Val};

/// The orders of the steps that make `calls` network calls together.
fn orders(calls: usize) -> Vec<usize> {
    match (calls / 3, calls % 3) {
        (0, 0) => Vec::new(),
        (threes, 0) => [vec![3; threes - 1], vec![2, 1]].concat(),
        (threes, rest) => [vec![3; threes], vec![rest]].concat(),
    }
}

/// Goes from the first level of `path` to its end in steps that are even in log sigma, whatever levels are between. If the end
/// has no noise, the last step is of first order, from the last level that has some.
pub(crate) fn dpm_fast(tape: &mut Tape, mut x: Val, path: Path, fresh: Fresh) -> Val {
    let Path { levels, begin, schedule, .. } = path;
    let calls = levels.len() - 1 - begin;
    let (start, end) = (levels[begin], levels[levels.len() - 1]);
    let (least, down_calls) = match end.sigma == 0.0 {
        true => (levels[levels.len() - 2], calls - 1),
        false => (end, calls),
    };
    let orders = orders(down_calls);
    let level = |sigma: f64| Level { t: schedule.time(sigma), sigma };
    let sigma = |step: usize| match orders.len() - step {
        0 => least.sigma,
        _ => start.sigma * (least.sigma / start.sigma).powf(step as f64 / orders.len() as f64),
    };
    for (step, &order) in orders.iter().enumerate() {
        let now = if step == 0 { start } else { level(sigma(step)) };
        let next = sigma(step + 1);
        // Fresh noise takes no step below the end.
        let down = Split::new(now.sigma, next, fresh.share, Precision::Double).down.max(least.sigma);
        let up = (next.powi(2) - down.powi(2)).max(0.0).sqrt();
        let (last, mut moved) = stages(tape, x, now, down, order, &level);
        if up > 0.0 {
            moved = moved + tape.noise() * (up * fresh.deviation);
        }
        x = tape.step(last, moved);
    }
    if end.sigma == 0.0 {
        tape.begin_step();
        let call = tape.call(x, least);
        x = tape.step(call, call.denoised.into());
    }
    x
}

/// The last call of a step from `x` down to a sigma, and where the step ends (arXiv 2206.00927, algorithms 1, 4 and 5, the
/// second stages at a half, or at a third and two thirds).
fn stages(tape: &mut Tape, x: Val, now: Level, down: f64, order: usize, level: &dyn Fn(f64) -> Level) -> (Call, Form) {
    let share = |share: f64| level(now.sigma * (down / now.sigma).powf(share));
    tape.begin_step();
    let first = tape.call(x, now);
    // `bend` is how much the noise changes over the whole step to `to`.
    let moved = |tape: &mut Tape, is_heun: bool, to: f64, bend: Form| {
        let solver = Solver { of: Of::Noise, fresh: Fresh::NONE, is_heun, third: ThirdOrder::Polynomial };
        let weights = solver.weights(now, Level { t: 0.0, sigma: to });
        solver.step(tape, x, &weights, [first.slope(), bend, Form::default()])
    };
    let next_call = |tape: &mut Tape, last: Call, guess: Form, at: Level| {
        let guess = tape.step(last, guess);
        tape.begin_step();
        tape.call(guess, at)
    };
    let change = |call: &Call, rate: f64| (call.slope() - first.slope()) * rate;
    match order {
        1 => {
            let end = moved(tape, false, down, Form::default());
            (first, end)
        }
        2 => {
            let half = share(0.5);
            let guess = moved(tape, false, half.sigma, Form::default());
            let second = next_call(tape, first, guess, half);
            let end = moved(tape, false, down, change(&second, 2.0));
            (second, end)
        }
        _ => {
            let (near, far) = (share(1.0 / 3.0), share(2.0 / 3.0));
            let guess = moved(tape, false, near.sigma, Form::default());
            let second = next_call(tape, first, guess, near);
            let guess = moved(tape, true, far.sigma, change(&second, 2.0));
            let third = next_call(tape, second, guess, far);
            let end = moved(tape, true, down, change(&third, 1.5));
            (third, end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::orders;

    #[test]
    fn the_orders_add_up_to_the_calls() {
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 9].map(orders),
            [vec![1], vec![2], vec![2, 1], vec![3, 1], vec![3, 2], vec![3, 2, 1], vec![3, 3, 2, 1]]
        );
        assert!((0..100).all(|calls| orders(calls).iter().sum::<usize>() == calls));
    }
}
