//! What happens here where diffusers 0.42.1 raises or makes NaN; `data/golden/schedulers/make.py` found the cases.

use latentrace_schedulers::{Config, Form, Plan, Reading};
use serde_json::Value;
use std::collections::BTreeMap;

fn plan(case: &Value, reading: Reading) -> Result<Plan, String> {
    let config = Config::from_json(&case["config"].to_string()).map_err(|error| error.to_string())?;
    let steps = case["steps"].as_u64().unwrap() as usize;
    let plan = match case["strength"].as_f64() {
        None => config.plan(steps, reading),
        Some(strength) => config.plan_from_image(steps, strength, reading),
    };
    plan.map_err(|error| error.to_string())
}

#[test]
#[allow(clippy::print_stdout)] // the counts, for `--nocapture`
fn what_fails_in_diffusers_is_an_error_or_a_plan_and_never_a_nan() {
    let path = format!("{}/../../data/golden/schedulers/failures.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        for reading in [Reading::Diffusers, Reading::Exact] {
            let found = plan(case, reading);
            if let Ok(plan) = &found {
                assert!(plan.rows().iter().all(Form::is_finite), "{}", case["name"]);
            }
            if let Err(error) = &found {
                assert!(!error.contains('\n'), "{}: {error}", case["name"]);
            }
            *counts
                .entry(match (reading, found.is_ok()) {
                    (Reading::Diffusers, true) => "a plan in the reading of diffusers",
                    (Reading::Diffusers, false) => "an error in the reading of diffusers",
                    (Reading::Exact, true) => "a plan in the exact reading",
                    (Reading::Exact, false) => "an error in the exact reading",
                })
                .or_default() += 1;
        }
    }
    println!("{} cases: {counts:?}", cases.len());
    assert!(cases.len() > 300);
    assert!(counts["a plan in the exact reading"] > cases.len() / 2, "{counts:?}");
}
