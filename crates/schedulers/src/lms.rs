//! LMS: linear multistep on the probability-flow ODE, as k-diffusion has it.

use crate::tape::Tape;
use crate::{Form, Level, Reading, Val};
use std::collections::VecDeque;

/// Walks `levels[begin..]` down from `x` by Adams-Bashforth with exact weights for uneven steps in
/// sigma (the ODE is arXiv 2206.00364, eq. 3).
pub(crate) fn lms(tape: &mut Tape, mut x: Val, levels: &[Level], begin: usize, order: usize, reading: Reading) -> Val {
    let mut slopes: VecDeque<Form> = VecDeque::new();
    for index in begin..levels.len() - 1 {
        tape.begin_step();
        let call = tape.call(x, levels[index]);
        slopes.push_front(call.slope());
        slopes.truncate(order);
        let known = match reading {
            Reading::Diffusers => order.min(index + 1), // also those before `begin`, which have no slope
            Reading::Exact => slopes.len(),
        };
        let nodes: Vec<f64> = levels[index + 1 - known..=index].iter().rev().map(|level| level.sigma).collect();
        let weights = lagrange_integrals(&nodes, levels[index].sigma, levels[index + 1].sigma);
        let next = slopes.iter().zip(weights).fold(x.into(), |sum: Form, (slope, weight)| sum + slope.clone() * weight);
        x = tape.step(call, next);
    }
    x
}

/// The integral from `a` to `b` of each Lagrange basis polynomial on `nodes`: by 3-point
/// Gauss-Legendre, which is exact for six nodes and fewer.
fn lagrange_integrals(nodes: &[f64], a: f64, b: f64) -> Vec<f64> {
    let (mid, half) = ((a + b) / 2.0, (b - a) / 2.0);
    let points = [(-0.6f64.sqrt(), 5.0 / 9.0), (0.0, 8.0 / 9.0), (0.6f64.sqrt(), 5.0 / 9.0)];
    let basis = |j: usize, x: f64| -> f64 {
        let others = nodes.iter().enumerate().filter(|(k, _)| *k != j);
        others.map(|(_, node)| (x - node) / (nodes[j] - node)).product()
    };
    (0..nodes.len()).map(|j| points.iter().map(|(x, w)| w * half * basis(j, mid + half * x)).sum()).collect()
}
