//! Samplers that are equal in special cases, and the number of calls of each.

use latentrace_schedulers::{Class, Config, Plan, Reading};
use proptest::prelude::*;
use serde_json::json;

const BASE: &str =
    r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": false}"#;

/// A plan of a sampler on given sigmas, the last of them 0.
fn plan(name: &str, options: &[(&str, serde_json::Value)], sigmas: &[f64], prediction: &str) -> Plan {
    let config = Config::from_json_as(BASE, name).unwrap();
    let config = options.iter().fold(config, |config, (key, value)| config.with(key, value.clone()).unwrap());
    let config = config.with("sigmas", json!(sigmas)).unwrap().with("prediction_type", prediction).unwrap();
    config.plan(sigmas.len() - 1, Reading::Exact).unwrap()
}

/// The largest difference between the rows of two plans, relative to the largest coefficient. Both draw and call in the same
/// order, so their columns correspond.
fn difference(one: &Plan, other: &Plan) -> f64 {
    let (one, other) = (one.matrix(), other.matrix());
    assert_eq!(one.dim(), other.dim());
    let size = one.iter().fold(0.0f64, |size, value| size.max(value.abs()));
    one.iter().zip(&other).fold(0.0f64, |most, (a, b)| most.max((a - b).abs())) / size
}

/// Falling sigmas that end with 0, no two of them close.
fn any_sigmas() -> impl Strategy<Value = Vec<f64>> {
    (1.0..14.0f64, prop::collection::vec(0.3..0.9f64, 1..12)).prop_map(|(first, ratios)| {
        let mut sigmas = vec![first];
        ratios.iter().for_each(|ratio| sigmas.push(sigmas[sigmas.len() - 1] * ratio));
        sigmas.push(0.0);
        sigmas
    })
}

fn any_prediction() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["epsilon", "v_prediction", "sample"])
}

proptest! {
    /// Every multistep sampler and exponential integrator of first order is Euler's method.
    #[test]
    fn every_first_order_is_euler(sigmas in any_sigmas(), prediction in any_prediction()) {
        let euler = plan("euler", &[], &sigmas, prediction);
        let first = ("solver_order", json!(1));
        let same = [
            ("ddim", vec![("eta", json!(0.0))]),
            ("euler_a", vec![("eta", json!(0.0))]),
            ("lms", vec![("order", json!(1))]),
            ("ipndm", vec![("order", json!(1))]),
            ("deis", vec![first.clone()]),
            ("dpm_multistep", vec![first.clone()]),
            ("dpm_multistep", vec![first.clone(), ("algorithm_type", json!("dpmsolver"))]),
            ("dpm_singlestep", vec![first]),
        ];
        for (name, options) in same {
            let other = plan(name, &options, &sigmas, prediction);
            // A dozen roundings per step, twelve steps.
            prop_assert!(difference(&euler, &other) < 1e-12, "{name}: {:.1e}", difference(&euler, &other));
        }
    }

    /// DDPM is DDIM with eta 1, and Euler-ancestral.
    #[test]
    fn ddpm_is_ddim_and_ancestral_euler(sigmas in any_sigmas(), prediction in any_prediction()) {
        let ddpm = plan("ddpm", &[("variance_type", json!("fixed_small"))], &sigmas, prediction);
        for (name, options) in [("ddim", vec![("eta", json!(1.0))]), ("euler_a", vec![])] {
            let other = plan(name, &options, &sigmas, prediction);
            prop_assert!(difference(&ddpm, &other) < 1e-12, "{name}");
        }
        // The stochastic exponential integrator of first order is the same.
        let sde = plan("dpm_multistep", &[("algorithm_type", json!("sde-dpmsolver++")), ("solver_order", json!(1))], &sigmas, prediction);
        prop_assert!(difference(&ddpm, &sde) < 1e-12, "{:.1e}", difference(&ddpm, &sde));
    }

    /// Without fresh noise the solvers of two stages are equal.
    #[test]
    fn two_stages_without_noise_are_one_solver(sigmas in any_sigmas(), prediction in any_prediction()) {
        let quiet = [("eta", json!(0.0))];
        let (one, other) = (plan("dpm++2s_a", &quiet, &sigmas, prediction), plan("dpm++sde", &quiet, &sigmas, prediction));
        prop_assert!(difference(&one, &other) < 1e-12);
        let (one, other) = (plan("dpm2", &[], &sigmas, prediction), plan("dpm2_a", &quiet, &sigmas, prediction));
        prop_assert!(difference(&one, &other) < 1e-12);
    }

    /// DEIS is DPM-Solver: both integrate a polynomial of the noise in log sigma.
    #[test]
    fn deis_is_the_multistep_solver_of_the_noise(sigmas in any_sigmas(), prediction in any_prediction()) {
        let options = [("algorithm_type", json!("dpmsolver")), ("solver_type", json!("heun")), ("lower_order_final", json!(false))];
        let ended: Vec<f64> = sigmas[..sigmas.len() - 1].to_vec();
        prop_assume!(ended.len() > 1);
        let (one, other) = (plan("deis", &[("lower_order_final", json!(false))], &ended, prediction), plan("dpm_multistep", &options, &ended, prediction));
        prop_assert!(difference(&one, &other) < 1e-11, "{:.1e}", difference(&one, &other));
    }

    /// A solver of two stages is the singlestep solver of second order with the middles as levels.
    #[test]
    fn two_stages_are_the_singlestep_solver_on_their_middles(sigmas in any_sigmas(), prediction in any_prediction()) {
        let mut dense = Vec::new();
        for pair in sigmas.windows(2) {
            dense.push(pair[0]);
            if pair[1] > 0.0 {
                dense.push((pair[0] * pair[1]).sqrt());
            }
        }
        dense.push(0.0);
        for (name, options, algorithm) in [("dpm++2s_a", vec![("eta", json!(0.0))], "dpmsolver++"), ("dpm2", vec![], "dpmsolver")] {
            let stages = plan(name, &options, &sigmas, prediction);
            let single = plan("dpm_singlestep", &[("algorithm_type", json!(algorithm)), ("solver_order", json!(2))], &dense, prediction);
            prop_assert!(difference(&stages, &single) < 1e-11, "{name}: {:.1e}", difference(&stages, &single));
        }
    }

    /// UniPC with its corrector off.
    #[test]
    fn unipc_without_its_corrector_is_the_multistep_solver(sigmas in any_sigmas(), prediction in any_prediction()) {
        let never: Vec<usize> = (0..sigmas.len()).collect();
        for (order, other) in [(1, "euler"), (2, "dpm++2m")] {
            let unipc = plan("unipc", &[("solver_order", json!(order)), ("disable_corrector", json!(never))], &sigmas, prediction);
            let other = plan(other, &[], &sigmas, prediction);
            // With B(h) = e^h - 1 the weight of UniPC is the one of DPM-Solver++.
            prop_assert!(difference(&unipc, &other) < 1e-12, "order {order}: {:.1e}", difference(&unipc, &other));
        }
    }

    /// TCD with eta 0 is DDIM, and samplers with churn 0 are those without churn.
    #[test]
    fn samplers_without_their_noise_are_the_deterministic_ones(sigmas in any_sigmas(), prediction in any_prediction(), steps in 2usize..20) {
        let times: Vec<usize> = (0..steps).map(|step| 999 - step * 999 / steps).collect();
        let timed = |name: &str| {
            let config = Config::from_json_as(BASE, name).unwrap().with("timesteps", json!(times)).unwrap();
            config.with("prediction_type", prediction).unwrap().with("eta", 0.0).unwrap().plan(steps, Reading::Exact).unwrap()
        };
        prop_assert!(difference(&timed("tcd"), &timed("ddim")) < 1e-12);
        let given = ("use_karras_sigmas", json!(false));
        let quiet = [given.clone(), ("s_churn", json!(0.0)), ("s_noise", json!(1.003))];
        let (one, other) = (plan("edm_sde", &quiet, &sigmas, prediction), plan("edm", &[given], &sigmas, prediction));
        prop_assert_eq!(one, other);
    }

    /// A single step of any sampler goes to the clean estimate.
    #[test]
    fn one_step_is_the_clean_estimate(first in 1.0..14.0f64, prediction in any_prediction(), class in prop::sample::select(Class::ALL.to_vec())) {
        // LCM keeps a part of the sample, and an inversion goes up.
        let class = if matches!(class, Class::Lcm | Class::DdimInverse) { Class::Tcd } else { class };
        let one = plan(class.name(), &[], &[first, 0.0], prediction);
        let euler = plan("euler", &[], &[first, 0.0], prediction);
        let [one, other] = [&one, &euler].map(|plan| plan.row(plan.result()).terms().map(|(_, weight)| weight).filter(|weight| weight.abs() > 1e-12).collect::<Vec<_>>());
        prop_assert!(one.len() == other.len() && one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-12), "{one:?} {other:?}");
    }


    /// On levels with some signal, diffusers' IPNDM is the exact one on the same levels.
    #[test]
    fn ipndm_of_diffusers_is_the_exact_one_on_its_levels(sigmas in any_sigmas()) {
        let sigmas = &sigmas[..sigmas.len() - 1];
        let amplitudes: Vec<f64> = sigmas.iter().map(|sigma| sigma / sigma.hypot(1.0)).collect();
        let file = json!({"trained_betas": amplitudes, "num_train_timesteps": amplitudes.len(), "prediction_type": "v_prediction"});
        let theirs = Config::from_json_as(&file.to_string(), "ipndm").unwrap().plan(sigmas.len() - 1, Reading::Diffusers);
        let (theirs, ours) = (theirs.unwrap().matrix(), plan("ipndm", &[], sigmas, "v_prediction").matrix());
        prop_assert_eq!(theirs.dim(), ours.dim());
        for (index, (theirs, ours)) in theirs.rows().into_iter().zip(ours.rows()).enumerate() {
            // The last level has noise, and diffusers keeps that sample at unit variance.
            let scale = if index + 1 == sigmas.len() { 1.0 / sigmas[index].hypot(1.0) } else { 1.0 };
            let size = ours.iter().fold(0.0f64, |size, value| size.max(value.abs()));
            // An amplitude in single precision has an error of 3e-8, and the square of the signal has two hundred times that at
            // sigma 14; the largest observed error is 2.3e-6.
            let gap = theirs.iter().zip(ours).fold(0.0f64, |most, (a, b)| most.max((a - b * scale).abs()));
            prop_assert!(gap < 5e-6 * size * scale, "{gap:.1e} in row {index}");
        }
    }

    #[test]
    fn a_plan_has_the_calls_of_its_class(steps in 4usize..40, class in prop::sample::select(Class::ALL.to_vec())) {
        let config = Config::from_json_as(BASE, class.name()).unwrap();
        let config = if class == Class::Pndm { config.with("skip_prk_steps", true).unwrap() } else { config };
        let plan = config.plan(steps, Reading::Exact).unwrap();
        let calls = match class {
            Class::Pndm => steps + 1,
            // The last step, to sigma 0, has one stage.
            Class::Heun | Class::Dpm2 | Class::Dpm2Ancestral | Class::Dpm2sAncestral | Class::DpmSde => 2 * steps - 1,
            _ => steps,
        };
        // An inversion has one call for each level but the last, and adds its own first level.
        prop_assert!(plan.calls() == calls || class == Class::DdimInverse && plan.calls().abs_diff(steps) <= 1);
        prop_assert_eq!(config.plan(steps, Reading::Exact).unwrap(), plan, "the same config, the same plan");
    }
}
