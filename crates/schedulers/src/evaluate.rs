//! A plan evaluated on plain numbers.

use crate::{Form, Op, Plan, Val};

/// Every value of a plan, in the order of its ops; the result is `values[plan.result().0]`. [`run`](crate::run()) keeps only the
/// values that are still needed.
///
/// `given` is the image, if the plan starts from one. `draws` is the noise, a vector for each draw. The network gets the index of
/// the call, the time and the input at unit variance, and returns as many numbers.
///
/// ```
/// use latentrace_schedulers::{Config, Reading, evaluate};
///
/// let plan = Config::from_json_as("{}", "euler")?.plan(10, Reading::Exact)?;
/// // A network that finds nothing but noise: the sample goes straight to zero.
/// let values = evaluate(&plan, &[], &[vec![0.3, -1.2]], |call, _time, input| {
///     let sigma = plan.steps()[call].level.sigma;
///     input.iter().map(|x| x * sigma.hypot(1.0) / sigma).collect()
/// });
/// assert!(values[plan.result().0 as usize].iter().all(|x| x.abs() < 1e-9));
/// # Ok::<(), latentrace_schedulers::Error>(())
/// ```
///
/// # Panics
/// If there are fewer draws than [`Plan::draws`].
pub fn evaluate(
    plan: &Plan,
    given: &[f64],
    draws: &[Vec<f64>],
    mut network: impl FnMut(usize, f64, &[f64]) -> Vec<f64>,
) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = Vec::with_capacity(plan.ops().len());
    let (mut calls, mut draws) = (0.., draws.iter());
    for op in plan.ops() {
        let value = match op {
            Op::Given => given.to_vec(),
            Op::Noise => draws.next().expect("a vector for each draw of the plan").clone(),
            Op::Eval { input, t } => network(calls.next().unwrap_or(0), *t, &sum(&values, input)),
            Op::Sum(form) => sum(&values, form),
            Op::Clip { of, limit } => limit.hold(&values[of.0 as usize]),
        };
        values.push(value);
    }
    values
}

fn sum(values: &[Vec<f64>], form: &Form) -> Vec<f64> {
    let len = values.first().map_or(0, Vec::len);
    let mut total = vec![0.0; len];
    for (Val(val), coefficient) in form.terms() {
        total.iter_mut().zip(&values[val as usize]).for_each(|(sum, value)| *sum += coefficient * value);
    }
    total
}
