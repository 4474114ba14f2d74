//! What a mask keeps of a known picture, compared with diffusers 0.42.1; `data/golden/schedulers/known.py` made the numbers.

use latentrace_schedulers::{Config, Noised, Op, Plan, Reading};
use serde_json::Value;

/// diffusers computes the coefficients in single precision, from differences `1 − ᾱ` of numbers near 1.
const TOLERANCE: f64 = 2e-6;

fn cases() -> Vec<Value> {
    let path = format!("{}/../../data/golden/schedulers/known.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut read: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_value(read["cases"].take()).unwrap()
}

fn plan(case: &Value, reading: Reading) -> Plan {
    let class = case["class"].as_str().unwrap();
    let config = Config::from_json_as(&case["config"].to_string(), class).unwrap();
    let (steps, strength) = (case["steps"].as_u64().unwrap() as usize, case["strength"].as_f64().unwrap());
    match strength {
        1.0 => config.plan(steps, reading),
        strength => config.plan_from_image(steps, strength, reading),
    }
    .unwrap_or_else(|error| panic!("{class}: {error}"))
}

/// The scale of diffusers' own latents, of a sample `x₀ + sigma·noise`: some classes keep that, others have unit variance.
fn scale(class: &str, sigma: f64) -> f64 {
    let keeps = ["LMSDiscrete", "Euler", "Heun", "KDPM2", "DPMSolverSDE"];
    if keeps.iter().any(|beginning| class.starts_with(beginning)) { 1.0 } else { 1.0 / sigma.hypot(1.0) }
}

#[test]
fn a_known_picture_gets_the_noise_that_diffusers_gives_it_after_each_step() {
    let cases = cases();
    assert!(cases.len() > 40);
    for case in &cases {
        let (class, plan) = (case["class"].as_str().unwrap(), plan(case, Reading::Diffusers));
        let name = format!("{class} {} at {}", case["config"], case["strength"]);
        let times: Vec<f64> = plan.steps().iter().map(|step| step.level.t).collect();
        let theirs: Vec<f64> = serde_json::from_value(case["timesteps"].clone()).unwrap();
        assert_eq!(times.len(), theirs.len(), "{name}");
        for (call, (step, theirs)) in plan.steps()[1..].iter().zip(case["known"].as_array().unwrap()).enumerate() {
            let scale = scale(class, step.level.sigma);
            let Noised { picture, noise } = step.known;
            for (ours, theirs) in [(picture, &theirs[0]), (noise, &theirs[1])] {
                let (ours, theirs) = (ours * scale, theirs.as_f64().unwrap());
                let apart = (ours - theirs).abs() / theirs.abs().max(1.0);
                assert!(apart < TOLERANCE, "{name}, call {}: {ours}, and {theirs} in diffusers", call + 1);
            }
        }
    }
}

#[test]
fn in_the_exact_reading_the_noise_is_that_of_the_sample() {
    for case in &cases() {
        for step in plan(case, Reading::Exact).steps() {
            assert_eq!(step.known, Noised::to(step.level.sigma), "{case}");
        }
    }
}

#[test]
fn a_plan_in_text_has_what_a_mask_keeps() {
    let mut others = 0;
    for case in &cases() {
        let plan = plan(case, Reading::Diffusers);
        let text = format!("{plan:#}");
        assert_eq!(text.parse::<Plan>().unwrap(), plan, "{case}");
        let differs = plan.steps().iter().any(|step| step.known != Noised::to(step.level.sigma));
        assert_eq!(text.contains(" known "), differs, "{case}");
        others += usize::from(differs);
        assert!(plan.ops().iter().any(|op| matches!(op, Op::Noise)));
    }
    assert!(others >= 6, "DPM2, DPM-Solver++ SDE and PNDM from a picture: {others}");
}
