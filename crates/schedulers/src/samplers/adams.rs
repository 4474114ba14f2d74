//! Adams-Bashforth on the probability-flow ODE: LMS, DEIS and IPNDM differ in the variable of their polynomials.

use super::Path;
use super::dpm_multistep::Ending;
use super::pndm;
use crate::integrals::lagrange_integrals;
use crate::tape::Tape;
use crate::{Form, Val};
use std::collections::VecDeque;

/// The variable of the polynomial through the latest slopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Sigma: LMS, as in k-diffusion.
    Sigma,
    /// Log sigma: DEIS, as "log rho" (arXiv 2204.13902, section 3.2).
    LogSigma,
    /// The index of the step, whatever the levels are: IPNDM.
    Index,
}

/// The slopes of the steps before the first one that a run makes, if it starts from an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They are left out: the order grows with the slopes that there are.
    Skipped,
    /// They count as zero, and the order grows with the index of the step.
    Zero,
}

/// An Adams-Bashforth sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Adams {
    pub(crate) over: Over,
    pub(crate) order: usize,
    pub(crate) ending: Ending,
    pub(crate) missing: Missing,
}

/// Takes the steps of `path` from `x` (the ODE is arXiv 2206.00364, eq. 1 and 3).
pub(crate) fn adams(tape: &mut Tape, mut x: Val, path: Path, sampler: Adams) -> Val {
    let Path { levels, begin, schedule, .. } = path;
    let Adams { over, order, ending, missing } = sampler;
    let least = schedule.level(0.0).sigma;
    let mut slopes: VecDeque<Form> = VecDeque::new();
    let steps = levels.len() - 1;
    for index in begin..steps {
        tape.begin_step();
        let call = tape.call(x, levels[index]);
        slopes.push_front(call.slope());
        slopes.truncate(order);
        let known = match missing {
            Missing::Zero => order.min(index + 1),
            Missing::Skipped => slopes.len().min(ending.highest(steps - index, steps)),
        };
        let nodes: Vec<f64> = levels[index + 1 - known..=index].iter().rev().map(|level| level.sigma).collect();
        let weights = weights(over, &nodes, levels[index + 1].sigma, least);
        let next = slopes.iter().zip(weights).fold(x.into(), |sum: Form, (slope, weight)| sum + slope.clone() * weight);
        x = tape.step(call, next);
    }
    x
}

/// The weight of each slope, newest first, in a step from `nodes[0]` to `next`; `least` is the sigma of the first training time.
fn weights(over: Over, nodes: &[f64], next: f64, least: f64) -> Vec<f64> {
    let now = nodes[0];
    match over {
        Over::Index => pndm::WEIGHTS[nodes.len() - 1].iter().map(|weight| weight * (next - now)).collect(),
        Over::Sigma => {
            let nodes: Vec<f64> = nodes.iter().map(|node| node - now).collect();
            lagrange_integrals(&nodes, 0.0, next - now)
        }
        // A polynomial in log sigma cannot be integrated down to minus infinity. It is used down to the first training time, and the
        // newest slope from there to sigma 0.
        Over::LogSigma => {
            let end = if next == 0.0 { least.min(now) } else { next };
            // With v = ln(now / sigma), d sigma = −now·e^(−v) dv.
            let nodes: Vec<f64> = nodes.iter().map(|node| (now / node).ln()).collect();
            let integrals = lagrange_integrals(&nodes, 1.0, (now / end).ln());
            let mut weights: Vec<f64> = integrals.into_iter().map(|weight| -now * weight).collect();
            weights[0] += next - end;
            weights
        }
    }
}
