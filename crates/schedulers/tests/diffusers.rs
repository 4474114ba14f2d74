//! Plans compared with diffusers 0.42.1; `data/golden/schedulers/make.py` made the numbers.

mod support;

use latentrace_schedulers::{Class, Config, Op, Plan, Reading, Val, evaluate};
use serde_json::Value;
use std::collections::BTreeMap;
use support::gap;

/// The tolerance of a row relative to its largest coefficient: the rounding errors of diffusers in single precision.
///
/// Here `ᾱ` and sigma are in single precision as in diffusers, but diffusers computes the coefficients in it too: each `1 − ᾱ` and each
/// difference of sigmas has an error of one ulp, 6e-8, of numbers that are up to twenty times as large. At 1000 steps the variances
/// `1 − ᾱ/ᾱ'` of DDPM are 1e-3 and computed from two numbers near 1, so each has an error of up to 7e-5, and the rows of 2e-5 (the same
/// recurrence in double precision on the `ᾱ` of diffusers gives that too).
///
/// Exponential integrators subtract exponentials, and lose more digits if two levels are close: at 999 steps and more, and at the ends
/// of beta sigmas. SASolver multiplies by `e^((1 + τ²)λ)` and back.
/// IPNDM computes its signal from `1 − sin⁴` in single precision: after the first of 1000 steps the last bit of the sine is two
/// hundredths of it, and one in ten of torch's sines is not the nearest number. At 1000 steps that is 3e-5 of a row; the same recurrence
/// on torch's own sines has an error of 3e-8, and given levels (the group "betas") have 2e-7.
/// Euler at zero signal starts from a sigma of 4096, which costs three digits. DEIS of third order computes its weights as differences of
/// antiderivatives. For these the group "double" shows that ours are right: it is the code of diffusers on the same sigmas in double
/// precision, with a tolerance of 5e-6.
fn tolerance(case: &Value) -> f64 {
    let (config, is_long) = (&case["config"], case["steps"].as_u64() >= Some(999));
    let is_beta = config["use_beta_sigmas"] == true;
    let is_black = config["rescale_betas_zero_snr"] == true;
    match config["_class_name"].as_str().unwrap() {
        _ if config["_double"] == true => 5e-6,
        "EulerDiscreteScheduler" | "EulerAncestralDiscreteScheduler" if is_black => 1e-4,
        "SASolverScheduler" => 2e-4,
        "DDPMScheduler" | "IPNDMScheduler" if is_long => 5e-5,
        "DEISMultistepScheduler" | "UniPCMultistepScheduler" if is_long || is_beta => 1e-4,
        "DEISMultistepScheduler" => 1e-5,
        _ => 5e-6,
    }
}

/// The tolerance of a time. A time between two training times is computed from a logarithm, which diffusers has in single precision.
/// The times of IPNDM go from 1 to 0, and have the error of its levels at 1000 steps.
fn time_tolerance(case: &Value) -> f64 {
    let is_long = case["steps"].as_u64() >= Some(999);
    match case["config"]["_class_name"].as_str() {
        Some("KDPM2DiscreteScheduler" | "KDPM2AncestralDiscreteScheduler") => 3e-4,
        Some("IPNDMScheduler") if is_long => 5e-6,
        Some("IPNDMScheduler") => 1e-6,
        _ => 1e-4,
    }
}

fn fixture(name: &str) -> Vec<Value> {
    let path = format!("{}/../../data/golden/schedulers/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn plan_of(case: &Value) -> Result<Plan, String> {
    let config = Config::from_json(&case["config"].to_string()).map_err(|error| error.to_string())?;
    let steps = case["steps"].as_u64().unwrap() as usize;
    let plan = match case.get("strength").and_then(Value::as_f64) {
        None => config.plan(steps, Reading::Diffusers),
        Some(strength) => config.plan_from_image(steps, strength, Reading::Diffusers),
    };
    plan.map_err(|error| error.to_string())
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
            Op::Given if plan.draws() == 0 => 0, // an inversion has no noise, and starts from the image
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

/// The largest error of the rows of a case, relative to the largest coefficient of each row; or the difference that is found first.
fn error(case: &Value) -> Result<f64, String> {
    let plan = plan_of(case)?;
    let count = |key: &str| case[key].as_u64().unwrap() as usize;
    if plan.calls() != count("calls") {
        return Err(format!("{} calls, expected {}", plan.calls(), count("calls")));
    }
    // An inversion draws nothing, not even the first sample.
    let drawn = plan.draws().saturating_sub(1);
    if drawn != count("draws") {
        return Err(format!("{drawn} draws after the first, expected {}", count("draws")));
    }
    let times: Vec<f64> = plan.steps().iter().map(|step| step.level.t).collect();
    let known = numbers(&case["times"]);
    if !known.is_empty() && gap(&times, &known) >= time_tolerance(case) {
        return Err(format!("times are {:.1e} off", gap(&times, &known)));
    }
    let axes = axes(&plan);
    let mut worst = 0.0f64;
    for row in case["rows"].as_array().unwrap() {
        let mut want = vec![0.0; 2 * plan.calls() + 2];
        for (axis, coefficient) in numbers(&row[1]).into_iter().zip(numbers(&row[2])) {
            want[axis as usize] = coefficient;
        }
        let mut got = vec![0.0; want.len()];
        let index = row[0].as_u64().unwrap() as usize;
        for (val, coefficient) in plan.input_row(index).unwrap_or_else(|| plan.row(plan.result())).terms() {
            got[axes[&val]] = coefficient;
        }
        let size = want.iter().fold(0.0f64, |size, coefficient| size.max(coefficient.abs()));
        worst = worst.max(gap(&got, &want) / size);
    }
    Ok(worst)
}

#[test]
#[allow(clippy::print_stdout)] // the counts and the worst errors, for `--nocapture`
fn coefficients_match_the_tables() {
    let cases: Vec<Value> = Class::ALL
        .into_iter()
        .filter(|class| class.is_in_diffusers())
        .flat_map(|class| fixture(&format!("tables/{class}.json")))
        .collect();
    let mut summary: BTreeMap<String, (usize, f64, String)> = BTreeMap::new();
    let (mut far, mut refusals) = (Vec::new(), 0);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let error = match error(case) {
            Ok(error) => error,
            // diffusers runs these: more steps than training times, times that do not fall, a call at time -1, and a run whose result
            // is zero.
            Err(refused) if name.starts_with("edge") && !refused.contains(" off") => {
                refusals += 1;
                continue;
            }
            Err(other) => {
                far.push(format!("{other}: {name}"));
                continue;
            }
        };
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
    assert!(cases.len() > 3000 && refusals < 40, "{} cases, {refusals} refused", cases.len());
    println!("{} cases, {refusals} refused\n{}", cases.len(), report.join("\n"));
}

#[test]
fn betas_are_those_of_torch_to_the_last_bit() {
    let cases = fixture("betas.json");
    for case in &cases {
        let config = Config::from_json(&case["config"].to_string()).unwrap();
        let betas = config.schedule_in(Reading::Diffusers).unwrap().betas().clone();
        let bits = |beta: &f64| u128::from((*beta as f32).to_bits());
        let checksum: u128 = (1..).zip(&betas).map(|(place, beta)| place * bits(beta)).sum();
        assert_eq!(case["checksum"], checksum.to_string(), "{}", case["config"]);
    }
    assert!(cases.len() > 500, "{} cases", cases.len());
}

/// Numbers that diffusers prints, to nine digits.
#[test]
fn schedules_match_known_numbers() {
    let near = |found: f64, known: f64, tolerance: f64| {
        assert!((found / known - 1.0).abs() < tolerance, "{found}, expected {known}");
    };
    let base = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}"#;
    let lms = Config::from_json_as(base, "lms").unwrap();
    // The product of a thousand betas in single precision has an error of 1e-6.
    for (time, known) in [(0, 0.999149978), (1, 0.998296022), (999, 0.00466009509)] {
        near(lms.schedule().alphas_cumprod()[time], known, 1e-6);
    }
    for (time, known) in [(0, 0.999899983), (1, 0.999780059), (999, 4.03583035e-5)] {
        near(Config::from_json_as("{}", "ddpm").unwrap().schedule().alphas_cumprod()[time], known, 1e-6);
    }
    let karras = [14.614647, 9.102938, 5.478401, 3.168611, 1.749423, 0.914077, 0.446921, 0.201400, 0.081911, 0.029168];
    let levels = lms.with("use_karras_sigmas", true).unwrap().levels(10).unwrap();
    for (level, known) in levels.iter().zip(karras) {
        // The smallest number has five digits, and 1 − ᾱ has an error of 1.3e-5 in single precision.
        near(level.sigma, known, 3e-5);
    }
}

#[test]
fn clipped_runs_match_their_replays() {
    for case in fixture("replays.json") {
        let name = &case["name"];
        let plan = plan_of(&case).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lists = |key: &str| case[key].as_array().unwrap().iter().map(numbers).collect::<Vec<_>>();
        let (draws, outputs, denoised) = (lists("draws"), lists("outputs"), lists("denoised"));
        // An inversion starts from an image, and no draw follows.
        let given = if plan.draws() == 0 { draws[0].as_slice() } else { &[] };
        assert_eq!(plan.draws().max(1), draws.len(), "{name}: draws");
        let values = evaluate(&plan, given, &draws, |call, _, _| outputs[call].clone());
        // Estimates before clipping are up to 30, so coefficients in single precision have an error of 30 times 6e-8, and several steps of
        // it stay below this. Clipping makes an error no larger.
        // What LCM in diffusers calls denoised is not the estimate.
        let is_estimate = !name.as_str().unwrap().contains("LCM");
        for (step, known) in plan.steps().iter().zip(&denoised).filter(|_| is_estimate) {
            let error = gap(&values[step.denoised.0 as usize], known);
            assert!(error < 1e-5, "{name} at {}: {error:.1e}", step.level.t);
        }
        let result = numbers(&case["result"]);
        let size = result.iter().fold(30.0f64, |size, value| size.max(value.abs()));
        let error = gap(&values[plan.result().0 as usize], &result);
        assert!(error < 2e-5 * size / 30.0, "{name}: {error:.1e}");
        let clipped = plan
            .steps()
            .iter()
            .zip(&outputs)
            .filter(|(step, _)| matches!(plan.ops()[step.denoised.0 as usize], Op::Clip { .. }));
        let is_ignored =
            ["TCD", "UniPCMultistepScheduler noise"].iter().any(|word| name.as_str().unwrap().contains(word));
        let count = if is_ignored { 0 } else { plan.calls() };
        assert_eq!(clipped.count(), count, "{name}: every estimate is clipped, or none is");
    }
}
