//! What plans make of small differences, against closed forms and against two runs of a linear network.

use latentrace_schedulers::stability::Companion;
use latentrace_schedulers::{Class, Config, Plan, Reading, evaluate};
use serde_json::{Value, json};

const CONFIG: &str = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing", "clip_sample": false, "skip_prk_steps": true}"#;

/// Every sampler that goes down from noise.
fn configs() -> impl Iterator<Item = (&'static str, Config)> {
    let config = |name| (name, Config::from_json_as(CONFIG, name).unwrap());
    Class::names().map(config).filter(|(_, config)| config.class() != Class::DdimInverse)
}

/// A plan whose steps all divide sigma by the same ratio, at least a half, within the levels of the schedule.
fn even(name: &str, ratio: f64, options: Value) -> (Config, Plan) {
    let sigmas: Vec<f64> = (0..=8).map(|index| 10.0 * ratio.powi(index)).collect();
    let config = Config::from_json_as(CONFIG, name).unwrap();
    let options = options.as_object().unwrap().clone().into_iter().chain([("sigmas".into(), json!(sigmas))]);
    let config = config.with_all(options).unwrap();
    let plan = config.plan(8, Reading::Exact).unwrap();
    (config, plan)
}

/// The matrix of a step in the middle of the run, where the history is complete.
fn steady(name: &str, ratio: f64, options: Value) -> Companion {
    let (config, plan) = even(name, ratio, options);
    config.companions(&plan).swap_remove(5)
}

/// A network whose clean estimate is `mu·x`, by the definitions of the predictions: the atlas's configs predict noise.
fn linear(config: &Config, plan: &Plan, mu: f64, start: f64) -> Vec<Vec<f64>> {
    let draws: Vec<Vec<f64>> = (0..plan.draws()).map(|draw| vec![if draw == 0 { start } else { 0.3 }]).collect();
    evaluate(plan, &[], &draws, |_, t, input| {
        let sigma = config.schedule().level(t).sigma;
        input.iter().map(|x| (x - mu * x) * sigma.hypot(1.0) / sigma).collect()
    })
}

#[test]
fn the_matrices_of_one_step_methods_have_closed_forms() {
    for (ratio, mu) in [(0.9, 0.4), (0.5, -3.0), (0.7, 1.2)] {
        let close = |name: &str, options: Value, want: f64| {
            let matrix = steady(name, ratio, options);
            assert_eq!(matrix.at(mu).dim(), (1, 1), "{name}");
            // A dozen roundings, of terms up to 10; the times of given sigmas are found by logarithms.
            assert!((matrix.at(mu)[[0, 0]] - want).abs() < 1e-11, "{name}: {} {want}", matrix.at(mu)[[0, 0]]);
        };
        let euler = ratio + (1.0 - ratio) * mu;
        close("euler", json!({}), euler);
        close("ddim", json!({}), euler);
        // The trapezoid rule over sigma: slopes (1 − μ)x/σ at both ends.
        let heun = 1.0 - 0.5 * (1.0 - ratio) * (1.0 - mu) * (1.0 + euler / ratio);
        close("heun", json!({}), heun);
        // The midpoint rule, the middle in log sigma.
        let middle = ratio.sqrt();
        let dpm2 = 1.0 - (1.0 - ratio) * (1.0 - mu) * (middle + (1.0 - middle) * mu) / middle;
        close("dpm2", json!({}), dpm2);
        // DDPM's posterior mean keeps σ'²/σ² of the sample (arXiv 2006.11239, eq. 7).
        close("ddpm", json!({}), ratio * ratio + (1.0 - ratio * ratio) * mu);
    }
}

#[test]
fn the_matrix_of_a_multistep_method_is_its_recurrence() {
    // DPM-Solver++(2M) with steps h = −ln(ratio): x' = r·x + (1 − r)(3/2 D − 1/2 D before) (arXiv 2211.01095, algorithm 2).
    let (ratio, mu) = (0.8, -1.7);
    let matrix = steady("dpm++2m", ratio, json!({})).at(mu);
    let trace: f64 = matrix.diag().sum();
    let minors = |a: usize, b: usize| matrix[[a, a]] * matrix[[b, b]] - matrix[[a, b]] * matrix[[b, a]];
    let size = matrix.nrows();
    let second: f64 = (0..size).flat_map(|a| (0..a).map(move |b| (a, b))).map(|(a, b)| minors(a, b)).sum();
    // The roots of z² − (r + 3/2 (1 − r) μ) z + 1/2 (1 − r) μ, and zeros: what is needed of a step before is its estimate.
    assert!((trace - (ratio + 1.5 * (1.0 - ratio) * mu)).abs() < 1e-11, "{trace}");
    assert!((second - 0.5 * (1.0 - ratio) * mu).abs() < 1e-11, "{second}");
}

#[test]
fn differences_are_carried_as_two_runs_of_a_linear_network_separate() {
    for (name, config) in configs() {
        for reading in [Reading::Exact, Reading::Diffusers] {
            let Ok(plan) = config.plan(12, reading) else { continue };
            if plan.steps().iter().any(|step| step.level.t < 1.0 && step.level.sigma > 1.0) {
                continue; // diffusers' IPNDM gives the network times of its own
            }
            let mu = -0.8;
            let carried = config.carry(&plan, &vec![1.0], |_, x: &Vec<f64>| Ok(vec![mu * x[0]])).unwrap();
            let [one, other] = [0.0, 1.0].map(|start| linear(&config, &plan, mu, start));
            let gap = |val: u32| other[val as usize][0] - one[val as usize][0];
            let first = gap(plan.steps()[0].sample.0);
            let vals = plan.steps().iter().map(|step| step.sample.0).chain([plan.result().0]);
            let largest = carried.iter().map(|value| value[0].abs()).fold(0.0, f64::max);
            for (value, val) in carried.iter().zip(vals) {
                // Differences of samples up to a hundred times larger, after some hundred roundings.
                assert!((value[0] - gap(val) / first).abs() < 1e-11 * largest.max(1.0), "{name} {val}: {value:?}");
            }
        }
    }
}

#[test]
fn the_matrices_of_all_steps_multiply_to_what_is_carried() {
    for (name, config) in configs() {
        let plan = config.plan(12, Reading::Exact).unwrap();
        let companions = config.companions(&plan);
        if companions[0].terms[0].ncols() != 1 {
            continue; // churn: the first draws are needed too
        }
        let mu = -1.3;
        let start = ndarray::Array2::from_elem((1, 1), 1.0);
        let state = companions.iter().fold(start, |state, companion| companion.at(mu).dot(&state));
        let carried = config.carry(&plan, &vec![1.0], |_, x: &Vec<f64>| Ok(vec![mu * x[0]])).unwrap();
        // The last boundary is before the last step's first call, whose sample is one of the values that are needed.
        let last = plan.steps().iter().rposition(|step| step.evaluation == 0).unwrap();
        let samples: Vec<f64> = carried[..=last].iter().rev().take(3).map(|value| value[0]).collect();
        let largest = carried.iter().map(|value| value[0].abs()).fold(0.0, f64::max);
        let is_there = |sample: &f64| state.iter().any(|value| (value - sample).abs() < 1e-11 * largest.max(1.0));
        assert!(samples.iter().any(is_there), "{name}: {state} {samples:?}");
    }
}
