//! UniPC: a multistep predictor, and a corrector that uses the next call of the network (arXiv 2302.04867).

use super::Path;
use super::dpm_solver::Of;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Val};

/// The solver's options.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UniPc {
    /// What the polynomial goes through: the clean sample or the noise.
    pub(crate) of: Of,
    /// Whether `B(h)` is `h` ("bh1") or `e^h − 1` ("bh2").
    pub(crate) is_linear: bool,
    pub(crate) order: usize,
    /// Whether the order falls towards the end, so that the last step is of first order.
    pub(crate) falls: bool,
    /// The steps that are not corrected.
    pub(crate) uncorrected: Vec<usize>,
}

/// Takes the steps of `path` from `x` (arXiv 2302.04867, algorithms 5 and 6).
pub(crate) fn unipc(tape: &mut Tape, mut x: Val, path: Path, solver: &UniPc) -> Val {
    let Path { levels, begin, .. } = path;
    let steps = levels.len() - 1;
    let mut past: Vec<Call> = Vec::new();
    let mut base: Form = x.into();
    let mut order = 0;
    for index in begin..steps {
        tape.begin_step();
        let call = tape.call(x, levels[index]);
        let corrects = !past.is_empty() && !solver.uncorrected.contains(&(index - 1));
        base = match corrects {
            true => solver.step(&base, levels[index], &past[..order], Some(&call)),
            false => x.into(),
        };
        if corrects {
            base = tape.sum(base).into();
        }
        past.insert(0, call);
        past.truncate(solver.order);
        order = past.len().min(if solver.falls { steps - index } else { solver.order });
        let predicted = solver.step(&base, levels[index + 1], &past[..order], None);
        x = tape.step(call, predicted);
    }
    x
}

impl UniPc {
    /// A step from the newest call's level to `to`. The corrector has the call at `to` as well.
    fn step(&self, x: &Form, to: Level, past: &[Call], seen: Option<&Call>) -> Form {
        let from = past[0].level;
        let h = to.lambda() - from.lambda();
        let newest = self.of.value(&past[0]);
        let kept = to.sigma / from.sigma; // e^(−h)
        let (base, whole) = match self.of {
            Of::Data => (x.clone() * kept + newest.clone() * (1.0 - kept), 1.0 - kept),
            Of::Noise => (x.clone() + newest.clone() * (to.sigma - from.sigma), to.sigma - from.sigma),
        };
        let size = match (self.is_linear, self.of) {
            (false, _) => whole,
            (true, Of::Data) => h,
            (true, Of::Noise) => -to.sigma * h,
        };
        let older = past[1..].iter().map(|call| ((call.level.lambda() - from.lambda()) / h, self.of.value(call)));
        let nodes: Vec<(f64, Form)> = older.chain(seen.map(|call| (1.0, self.of.value(call)))).collect();
        let rates: Vec<f64> = nodes.iter().map(|(rate, _)| *rate).collect();
        let weights = match (nodes.len(), seen) {
            (0, _) => Vec::new(),
            // What the order conditions give for small steps; diffusers and the authors use it for all.
            (1, _) => vec![0.5],
            _ => solve_vandermonde(&rates, &self.moments(h, rates.len())),
        };
        let terms = nodes.into_iter().zip(weights);
        terms.fold(base, |sum, ((rate, value), weight)| sum + (value - newest.clone()) * (weight * size / rate))
    }

    /// The right-hand side of the order conditions, `n!·φₙ₊₁(h)·h / B(h)` (arXiv 2302.04867, eq. 8).
    fn moments(&self, h: f64, count: usize) -> Vec<f64> {
        let h = if self.of == Of::Data { -h } else { h };
        let size = if self.is_linear { h } else { h.exp_m1() };
        let (mut phi, mut factorial) = (h.exp_m1() / h - 1.0, 1.0);
        (1..=count)
            .map(|n| {
                let moment = phi * factorial / size;
                factorial *= (n + 1) as f64;
                phi = phi / h - 1.0 / factorial;
                moment
            })
            .collect()
    }
}

/// The `w` with `Σⱼ nodes[j]ⁱ·w[j] = right[i]`.
fn solve_vandermonde(nodes: &[f64], right: &[f64]) -> Vec<f64> {
    let n = nodes.len();
    let row = |i: usize| nodes.iter().map(|node| node.powi(i as i32)).chain([right[i]]).collect();
    let mut rows: Vec<Vec<f64>> = (0..n).map(row).collect();
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| rows[p][i].abs().total_cmp(&rows[q][i].abs())).unwrap_or(i);
        rows.swap(i, pivot);
        for k in (0..n).filter(|&k| k != i) {
            let ratio = rows[k][i] / rows[i][i];
            let pivot = rows[i].clone();
            rows[k].iter_mut().zip(pivot).skip(i).for_each(|(entry, above)| *entry -= ratio * above);
        }
    }
    (0..n).map(|i| rows[i][n] / rows[i][i]).collect()
}
