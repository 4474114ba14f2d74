//! A tiny executor of plans on plain `f64` vectors.
#![allow(dead_code, reason = "each test program uses a part of it")]

use latentrace_schedulers::{Form, Limit, Op, Plan, Val};

/// Every value of a run. `network` sees the call's index, its time and its input; noise comes from
/// `draws` in order.
pub fn run(
    plan: &Plan,
    given: &[f64],
    draws: &[Vec<f64>],
    mut network: impl FnMut(usize, f64, &[f64]) -> Vec<f64>,
) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = Vec::new();
    let (mut calls, mut drawn) = (0, 0);
    for op in plan.ops() {
        let value = match op {
            Op::Given => given.to_vec(),
            Op::Noise => {
                drawn += 1;
                draws[drawn - 1].clone()
            }
            Op::Eval { input, t } => {
                calls += 1;
                network(calls - 1, *t, &sum(&values, input))
            }
            Op::Sum(form) => sum(&values, form),
            Op::Clip { of, limit } => clip(&values[of.0 as usize], *limit),
        };
        values.push(value);
    }
    values
}

fn sum(values: &[Vec<f64>], form: &Form) -> Vec<f64> {
    let mut total = vec![0.0; values[0].len()];
    for (Val(val), coefficient) in form.terms() {
        total.iter_mut().zip(&values[val as usize]).for_each(|(sum, value)| *sum += coefficient * value);
    }
    total
}

fn clip(values: &[f64], limit: Limit) -> Vec<f64> {
    match limit {
        Limit::Clamp { range } => values.iter().map(|value| value.clamp(-range, range)).collect(),
        Limit::Dynamic { ratio, max } => {
            let mut magnitudes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
            magnitudes.sort_by(f64::total_cmp);
            let rank = ratio * (magnitudes.len() - 1) as f64;
            let (low, high) = (magnitudes[rank.floor() as usize], magnitudes[rank.ceil() as usize]);
            let most = (low + (high - low) * rank.fract()).clamp(1.0, max);
            values.iter().map(|value| value.clamp(-most, most) / most).collect()
        }
    }
}

/// The largest difference between two rows of numbers.
pub fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
