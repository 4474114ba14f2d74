//! Every plan against what diffusers 0.42.1 does; `data/golden/schedulers/make.py` made the
//! numbers.

mod support;

use latentrace_schedulers::{Config, Op, Plan, Reading, Val};
use serde_json::Value;
use std::collections::BTreeMap;
use support::{gap, run};

/// How far a row may be off, relative to its largest coefficient.
///
/// We keep `ᾱ` and sigma in single precision as diffusers does, but diffusers goes on in it: each `1 − ᾱ` and each sigma
/// difference loses an ulp, 6e-8, of numbers that are up to twenty times as large. At 1000 steps DDPM's step variances
/// `1 − ᾱ/ᾱ'` are 1e-3 and made from two numbers near 1, so each is off by up to 7e-5 there, and the rows by 2e-5 (which
/// is also what the same recurrence gives in double precision on the `ᾱ` of diffusers itself).
fn tolerance(case: &Value) -> f64 {
    match (case["steps"].as_u64(), case["config"]["_class_name"].as_str()) {
        (Some(1000), Some("DDPMScheduler")) => 5e-5,
        _ => 5e-6,
    }
}

fn fixture(name: &str) -> Vec<Value> {
    let path = format!("{}/../../data/golden/schedulers/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn plan_of(case: &Value) -> Plan {
    let config =
        Config::from_json(&case["config"].to_string()).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
    let steps = case["steps"].as_u64().unwrap() as usize;
    let plan = match case.get("strength").and_then(Value::as_f64) {
        None => config.plan(steps, Reading::Diffusers),
        Some(strength) => config.plan_from_image(steps, strength, Reading::Diffusers),
    };
    plan.unwrap_or_else(|error| panic!("{}: {error}", case["name"]))
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The axis of each value in the tables: the starting noise, the outputs in call order, later
/// draws, the image.
fn axes(plan: &Plan) -> BTreeMap<Val, usize> {
    let (mut calls, mut draws) = (0, 0);
    let mut axes = BTreeMap::new();
    for (index, op) in (0..).zip(plan.ops()) {
        let axis = match op {
            Op::Given => 2 * plan.calls() + 1,
            Op::Noise if draws == 0 => {
                draws = 1;
                0
            }
            Op::Noise => {
                draws += 1;
                plan.calls() + draws - 1
            }
            Op::Eval { .. } => {
                calls += 1;
                calls
            }
            Op::Sum(_) | Op::Clip { .. } => continue,
        };
        axes.insert(Val(index), axis);
    }
    axes
}

/// The largest error of a case's rows, relative to each row's largest coefficient.
fn error(case: &Value) -> f64 {
    let (plan, name) = (plan_of(case), &case["name"]);
    assert_eq!(plan.calls() as u64, case["calls"].as_u64().unwrap(), "{name}: calls");
    assert_eq!(plan.draws() as u64, case["draws"].as_u64().unwrap() + 1, "{name}: draws, the first included");
    // A time between two training times is found on a logarithm that diffusers takes in single
    // precision.
    let times: Vec<f64> = plan.steps().iter().map(|step| step.level.t).collect();
    let known = numbers(&case["times"]);
    assert!(known.is_empty() || gap(&times, &known) < 1e-4, "{name}: times {times:?}, expected {known:?}");
    let axes = axes(&plan);
    let rows = plan.rows();
    let mut worst = 0.0f64;
    for row in case["rows"].as_array().unwrap() {
        let mut want = vec![0.0; 2 * plan.calls() + 2];
        for (axis, coefficient) in numbers(&row[1]).into_iter().zip(numbers(&row[2])) {
            want[axis as usize] = coefficient;
        }
        let mut got = vec![0.0; want.len()];
        for (val, coefficient) in rows[row[0].as_u64().unwrap() as usize].terms() {
            got[axes[&val]] = coefficient;
        }
        let size = want.iter().fold(0.0f64, |size, coefficient| size.max(coefficient.abs()));
        worst = worst.max(gap(&got, &want) / size);
    }
    worst
}

#[test]
fn coefficients_match_the_tables() {
    let cases = fixture("tables.json");
    let mut summary: BTreeMap<String, (usize, f64, String)> = BTreeMap::new();
    let mut far = Vec::new();
    for case in &cases {
        let (error, name) = (error(case), case["name"].as_str().unwrap());
        if error.is_nan() || error > tolerance(case) {
            far.push(format!("{error:.1e} {name}"));
        }
        let group = name.split(' ').take_while(|word| !word.contains('=')).collect::<Vec<_>>().join(" ");
        let class = case["config"]["_class_name"].as_str().unwrap();
        for key in [class.to_owned(), group] {
            let entry = summary.entry(key).or_default();
            entry.0 += 1;
            if error > entry.1 {
                (entry.1, entry.2) = (error, name.to_owned());
            }
        }
    }
    let report: Vec<String> = summary
        .iter()
        .map(|(key, (count, worst, name))| format!("{key}: {count} cases, {worst:.1e} in {name}"))
        .collect();
    assert!(far.is_empty(), "{} of {} cases:\n{}\n{}", far.len(), cases.len(), far.join("\n"), report.join("\n"));
    assert!(summary.len() > 3 && cases.len() > 250, "the grid is there: {report:?}");
}

/// Numbers that diffusers prints, to nine digits.
#[test]
fn schedules_match_known_numbers() {
    let near = |found: f64, known: f64, tolerance: f64| {
        assert!((found / known - 1.0).abs() < tolerance, "{found}, expected {known}");
    };
    let base = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}"#;
    let lms = Config::from_json_as(base, "lms").unwrap();
    // A thousand betas in single precision move their product by a thousandth of a thousandth.
    for (time, known) in [(0, 0.999149978), (1, 0.998296022), (999, 0.00466009509)] {
        near(lms.schedule().alphas_cumprod()[time], known, 1e-6);
    }
    for (time, known) in [(0, 0.999899983), (1, 0.999780059), (999, 4.03583035e-5)] {
        near(Config::from_json_as("{}", "ddpm").unwrap().schedule().alphas_cumprod()[time], known, 1e-6);
    }
    let karras = [14.614647, 9.102938, 5.478401, 3.168611, 1.749423, 0.914077, 0.446921, 0.201400, 0.081911, 0.029168];
    let levels = lms.with("use_karras_sigmas", true).unwrap().levels(10).unwrap();
    for (level, known) in levels.iter().zip(karras) {
        // The smallest has five digits, and 1 − ᾱ has lost 1.3e-5 of it in single precision.
        near(level.sigma, known, 3e-5);
    }
}

#[test]
fn clipped_runs_match_their_replays() {
    for case in fixture("replays.json") {
        let (plan, name) = (plan_of(&case), &case["name"]);
        let lists = |key: &str| case[key].as_array().unwrap().iter().map(numbers).collect::<Vec<_>>();
        let (draws, outputs, denoised) = (lists("draws"), lists("outputs"), lists("denoised"));
        assert_eq!(plan.draws(), draws.len(), "{name}: draws");
        let values = run(&plan, &[], &draws, |call, _, _| outputs[call].clone());
        // Estimates before the clip reach 30, so single precision in the coefficients is worth 30
        // times 6e-8, and a few steps of it stay below this. An estimate moved across its limit by
        // that much moves by no more.
        for (step, known) in plan.steps().iter().zip(&denoised) {
            let error = gap(&values[step.denoised.0 as usize], known);
            assert!(error < 1e-5, "{name} at {}: {error:.1e}", step.level.t);
        }
        let error = gap(&values[plan.result().0 as usize], &numbers(&case["result"]));
        assert!(error < 1e-5, "{name}: {error:.1e}");
        let clipped = plan
            .steps()
            .iter()
            .zip(&outputs)
            .filter(|(step, _)| matches!(plan.ops()[step.denoised.0 as usize], Op::Clip { .. }));
        assert_eq!(clipped.count(), plan.calls(), "{name}: every estimate is clipped");
    }
}
