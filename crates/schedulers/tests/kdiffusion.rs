//! The exact reading compared with k-diffusion 0.1.1 in double precision; `data/golden/schedulers/kdiffusion.py` made the numbers.

mod support;

use latentrace_schedulers::{Config, Op, Plan, Reading, Val};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::gap;

const STABLE_DIFFUSION: &str =
    r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "sample"}"#;

fn cases() -> Vec<Value> {
    let path = format!("{}/../../data/golden/schedulers/kdiffusion.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn with_options(config: Config, options: &Value) -> Config {
    let options = options.as_object().unwrap().iter().filter(|(key, _)| *key != "n");
    config.with_all(options.map(|(key, value)| (key, value.clone()))).unwrap()
}

/// The plan of a case on its own sigmas; `dpm_fast` computes those between the first and the last.
fn plan_of(case: &Value) -> Plan {
    let config = Config::from_json_as(STABLE_DIFFUSION, case["ours"].as_str().unwrap()).unwrap();
    let sigmas = numbers(&case["sigmas"]);
    let (sigmas, steps) = match case["options"]["n"].as_u64() {
        None => (sigmas.clone(), sigmas.len() - 1),
        Some(steps) => {
            let (most, least) = (sigmas[0], sigmas[sigmas.len() - 1]);
            let sigma = |step: u64| most + (least - most) * step as f64 / steps as f64;
            ((0..=steps).map(sigma).collect(), steps as usize)
        }
    };
    let config = with_options(config, &case["options"]).with("sigmas", json!(sigmas)).unwrap();
    config.plan(steps, Reading::Exact).unwrap()
}

/// The weights of the result of a plan: of the start, of the estimates in call order, and of the draws from axis 101 on.
fn weights(plan: &Plan) -> BTreeMap<u64, f64> {
    let (mut calls, mut draws) = (0, 0);
    let mut axes: BTreeMap<Val, u64> = BTreeMap::new();
    for (index, op) in (0..).zip(plan.ops()) {
        let axis = match op {
            Op::Noise if draws == 0 => 0,
            Op::Noise => 100 + draws,
            Op::Eval { .. } => {
                calls += 1;
                calls
            }
            _ => continue,
        };
        draws += u64::from(matches!(op, Op::Noise));
        axes.insert(Val(index), axis);
    }
    let row: BTreeMap<u64, f64> =
        plan.row(plan.result()).terms().map(|(val, coefficient)| (axes[&val], coefficient)).collect();
    // Our plan starts from noise of the deviation of the level, and theirs from a sample of deviation one.
    let start = plan.row(plan.steps()[0].sample).terms().next().unwrap().1;
    row.into_iter().map(|(axis, weight)| (axis, if axis == 0 { weight / start } else { weight })).collect()
}

#[test]
fn every_sampler_has_the_weights_of_k_diffusion() {
    let cases = cases();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases.iter().filter(|case| case["name"].is_string()) {
        let name = format!("{} {}", case["name"], case["options"]);
        let plan = plan_of(case);
        let called: Vec<f64> = plan.steps().iter().map(|step| step.level.sigma).collect();
        // Sigmas up to 15, converted to logarithms and back several times.
        assert!(gap(&called, &numbers(&case["called"])) < 1e-12, "{name}: {called:?}");
        let (axes, want) = (numbers(&case["axes"]), numbers(&case["coefficients"]));
        let found = weights(&plan);
        let of = |axis: f64| found.get(&(axis as u64)).copied().unwrap_or(0.0);
        let found_at: Vec<f64> = axes.iter().copied().map(of).collect();
        // Weights of third order are differences of numbers up to 500, the ratio of the sigmas, over the square of a step of one half.
        assert!(gap(&found_at, &want) < 1e-11, "{name}: {:.1e}", gap(&found_at, &want));
        let rest = found.iter().filter(|(axis, _)| !axes.contains(&(**axis as f64)));
        // If the last step does not depend on the start, k-diffusion has a rounding error there.
        assert!(rest.map(|(_, weight)| weight.abs()).fold(0.0, f64::max) < 1e-11, "{name}: {found:?}");
        *counts.entry(case["ours"].as_str().unwrap()).or_default() += 1;
    }
    assert!(counts.len() >= 10 && counts.values().all(|count| *count > 0) && counts["dpm_fast"] > 30, "{counts:?}");
}

#[test]
fn sigmas_are_those_of_k_diffusion() {
    let cases = cases();
    let lists: Vec<&Value> = cases.iter().filter(|case| case["levels"].is_array()).collect();
    for case in &lists {
        let config = with_options(Config::from_json_as(STABLE_DIFFUSION, "euler").unwrap(), &case["options"]);
        let want = numbers(&case["levels"]);
        let found: Vec<f64> = config.levels(want.len() - 1).unwrap().iter().map(|level| level.sigma).collect();
        // Relative to each sigma: they go from 150 to 0.01.
        let off = found.iter().zip(&want).map(|(a, b)| (a - b).abs() / b.max(1e-3)).fold(0.0, f64::max);
        assert!(off < 1e-12, "{}: {off:.1e}", case["options"]);
    }
    assert!(lists.len() > 20);
}
