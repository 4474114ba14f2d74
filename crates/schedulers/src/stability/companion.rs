//! The matrix by which a step of a plan multiplies differences.

use crate::{Config, Form, Level, Op, Plan, Val};
use ndarray::Array2;

/// The matrix of a sampler's step, for a network whose Jacobian is a multiple of the identity.
///
/// The differences are those of all values that the plan still needs when the step begins: the sample, and what a multistep sampler
/// remembers. A step of several network calls, as Heun's, is one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Companion {
    /// The level of the step's first call.
    pub level: Level,
    /// The coefficients of the powers of the eigenvalue `μ` of `J = ∂D/∂x`: the matrix is `Σ μᵏ terms[k]`,
    /// `[values after, values before]` each. It is square unless the history grows or ends in the step.
    pub terms: Vec<Array2<f64>>,
}

impl Companion {
    /// Whether the step needs as many values as the next one, so that its matrix can be applied again and again.
    pub fn is_square(&self) -> bool {
        self.terms.iter().all(Array2::is_square)
    }

    /// The matrix for an eigenvalue of `J`.
    pub fn at(&self, eigenvalue: f64) -> Array2<f64> {
        let (rows, columns) = self.terms[0].dim();
        self.terms.iter().rev().fold(Array2::zeros((rows, columns)), |sum, term| sum * eigenvalue + term)
    }
}

impl Config {
    /// The matrix of each step of a plan of this config but the last, in order.
    ///
    /// The plan must not clip, because a clipped estimate is not linear.
    pub fn companions(&self, plan: &Plan) -> Vec<Companion> {
        let every = self.options.sampler.calls_together();
        let calls =
            plan.ops().iter().enumerate().filter(|(_, op)| matches!(op, Op::Eval { .. })).map(|(index, _)| index);
        let begins =
            calls.zip(plan.steps()).filter(|(_, step)| step.evaluation == 0 && step.index.is_multiple_of(every));
        let begins: Vec<(usize, Level)> = begins.map(|(index, step)| (index, step.level)).collect();
        let between = |pair: &[(usize, Level)]| {
            let [(begin, level), (end, _)] = [pair[0], pair[1]];
            Companion { level, terms: self.terms(plan, begin, end) }
        };
        begins.windows(2).map(between).collect()
    }

    /// The coefficients of the powers of the eigenvalue in the matrix of the ops `begin..end`.
    fn terms(&self, plan: &Plan, begin: usize, end: usize) -> Vec<Array2<f64>> {
        let (before, after) = (needed(plan, begin), needed(plan, end));
        let calls = plan.ops()[begin..end].iter().filter(|op| matches!(op, Op::Eval { .. })).count();
        // Of each value its coefficients, [powers of the eigenvalue, values before].
        let zero = || Array2::<f64>::zeros((calls + 1, before.len()));
        let mut known: Vec<Option<Array2<f64>>> = vec![None; end];
        for (place, Val(val)) in before.iter().enumerate() {
            let mut unit = zero();
            unit[[0, place]] = 1.0;
            known[*val as usize] = Some(unit);
        }
        let sum = |known: &[Option<Array2<f64>>], form: &Form| {
            let terms = form.terms().filter_map(|(Val(val), weight)| Some((known[val as usize].as_ref()?, weight)));
            terms.fold(zero(), |sum, (value, weight)| sum + value * weight)
        };
        for index in begin..end {
            let value = match &plan.ops()[index] {
                Op::Given | Op::Noise => zero(), // both runs draw the same noise
                Op::Sum(form) => sum(&known, form),
                Op::Clip { of, .. } => sum(&known, &(*of).into()),
                Op::Eval { input, t } => {
                    let input = sum(&known, input);
                    let (own, times) = self.prediction().slope(self.schedule().level(*t).sigma);
                    let mut risen = zero(); // the input times the eigenvalue
                    risen.slice_mut(ndarray::s![1.., ..]).assign(&input.slice(ndarray::s![..calls, ..]));
                    input * own + risen * times
                }
            };
            known[index] = Some(value);
        }
        let of = |power: usize, row: usize, column: usize| {
            let Val(val) = after[row];
            known[val as usize].as_ref().map_or(0.0, |value| value[[power, column]])
        };
        (0..=calls)
            .map(|power| Array2::from_shape_fn((after.len(), before.len()), |(row, column)| of(power, row, column)))
            .collect()
    }
}

/// The values before an op that it or a later op uses, in order.
fn needed(plan: &Plan, begin: usize) -> Vec<Val> {
    let mut needed: Vec<Val> = Vec::new();
    for op in &plan.ops()[begin..] {
        match op {
            Op::Given | Op::Noise => (),
            Op::Eval { input: form, .. } | Op::Sum(form) => needed.extend(form.terms().map(|(val, _)| val)),
            Op::Clip { of, .. } => needed.push(*of),
        }
    }
    needed.retain(|Val(val)| (*val as usize) < begin);
    needed.sort_unstable();
    needed.dedup();
    needed
}
