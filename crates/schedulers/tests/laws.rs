//! Properties of every schedule and every plan, whatever the options.

mod support;

use latentrace_schedulers::truth::Mixture;
use latentrace_schedulers::{Class, Config, Level, Op, Plan, Prediction, Reading, Run, RunError, Val, evaluate};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Edit, gap, mutated};

/// Any class that goes down from noise.
fn any_class() -> impl Strategy<Value = Class> {
    let all: Vec<Class> = Class::ALL.into_iter().filter(|class| *class != Class::DdimInverse).collect();
    prop::sample::select(all)
}

/// Any config that the classes allow. 66 steps of 200 times or more have strides of 3, so the offset fits.
fn any_config() -> impl Strategy<Value = Config> {
    let schedule = prop::sample::select(vec!["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"]);
    let spacing = prop::sample::select(vec!["leading", "linspace", "trailing"]);
    let prediction = prop::sample::select(vec!["epsilon", "v_prediction", "sample"]);
    let sigmas = prop::sample::select(vec!["", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"]);
    let variance = prop::sample::select(vec!["fixed_small", "fixed_small_log", "fixed_large"]);
    let ends = (1e-4..2e-3, 4e-3..3e-2, 200usize..1200);
    let rest = (any_class(), 0usize..3, 1usize..=4, any::<bool>(), any::<bool>());
    (schedule, spacing, prediction, sigmas, variance, ends, rest).prop_map(
        |(schedule, spacing, prediction, sigmas, variance, (start, end, len), (class, offset, order, one, other))| {
            let mut config = json!({
                "beta_start": start, "beta_end": end, "num_train_timesteps": len,
                "beta_schedule": schedule, "prediction_type": prediction,
                "timestep_spacing": spacing, "steps_offset": offset, "order": order, "solver_order": order.min(3),
                "clip_sample": false, "original_inference_steps": 100, "skip_prk_steps": one, "set_alpha_to_one": other,
            });
            if !sigmas.is_empty() {
                config[sigmas] = json!(true);
            }
            if class == Class::Ddpm {
                config["variance_type"] = json!(variance);
            }
            let config = Config::from_json_as(&config.to_string(), class.name()).expect("a config of valid options");
            // The others end without noise by default.
            if class == Class::DpmFast { config.with("final_sigmas_type", "zero").unwrap() } else { config }
        },
    )
}

fn any_reading() -> impl Strategy<Value = Reading> {
    prop::sample::select(vec![Reading::Diffusers, Reading::Exact])
}

/// The output of a network that knows the clean sample and the noise, by the definitions of the predictions.
fn exact_output(prediction: Prediction, sigma: f64, clean: f64, noise: f64) -> f64 {
    let signal = 1.0 / (1.0 + sigma * sigma);
    match prediction {
        Prediction::Epsilon => noise,
        Prediction::Velocity => signal.sqrt() * noise - (1.0 - signal).sqrt() * clean,
        Prediction::Sample => clean,
    }
}

proptest! {
    #[test]
    fn signal_falls_and_noise_rises_along_a_schedule(config in any_config()) {
        let schedule = config.schedule();
        let (signals, sigmas) = (schedule.alphas_cumprod(), schedule.sigmas());
        for time in 1..schedule.len() {
            prop_assert!(signals[time] < signals[time - 1], "ᾱ at {time}");
            prop_assert!(sigmas[time] > sigmas[time - 1], "sigma at {time}");
        }
        // One rounding for each factor of a running product, 1200 at most.
        let product: f64 = schedule.betas().iter().map(|beta| 1.0 - beta).product();
        prop_assert!((signals[schedule.len() - 1] / product - 1.0).abs() < 1200.0 * f64::EPSILON);
    }

    #[test]
    fn a_time_has_a_level_and_the_level_that_time(config in any_config(), share in 0.0..=1.0f64) {
        let schedule = config.schedule();
        let t = share * (schedule.len() - 1) as f64;
        let level = schedule.level(t);
        // A difference of logarithms up to 10, over as little as 1e-3 from one time to the next.
        prop_assert!((schedule.time(level.sigma) - t).abs() < 1e-9, "{} is not {t}", schedule.time(level.sigma));
    }

    #[test]
    fn levels_descend_between_the_ends_of_the_schedule(config in any_config(), steps in 1usize..66) {
        let (schedule, levels) = (config.schedule(), config.levels(steps).unwrap());
        prop_assert_eq!(levels.len(), steps + 1);
        prop_assert_eq!(levels[steps], Level::CLEAN);
        for pair in levels[..steps].windows(2) {
            prop_assert!(pair[1].t < pair[0].t && pair[1].sigma < pair[0].sigma, "{pair:?}");
        }
        let (least, most) = (schedule.sigmas()[0], schedule.sigmas()[schedule.len() - 1]);
        // Karras and exponential sigmas go through a power and back, which costs about ten roundings.
        prop_assert!(levels[0].sigma <= most * (1.0 + 1e-13) && levels[steps - 1].sigma >= least * (1.0 - 1e-13));
    }

    #[test]
    fn other_sigmas_keep_the_ends_of_the_times(config in any_config(), steps in 2usize..66) {
        let lms = config.with_class("lms").unwrap_or_else(|_| {
            config.with("beta_schedule", "linear").unwrap().with_class("lms").unwrap()
        });
        let plain = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"]
            .into_iter().fold(lms, |config, name| config.with(name, false).unwrap());
        let ends = plain.levels(steps).unwrap();
        for name in ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] {
            let levels = plain.with(name, true).unwrap().levels(steps).unwrap();
            for end in [0, steps - 1] {
                // A power and its inverse, as above; a time is found on a slope of at least 0.002
                // in log sigma.
                prop_assert!((levels[end].sigma / ends[end].sigma - 1.0).abs() < 1e-13, "{name} {end}");
                prop_assert!((levels[end].t - ends[end].t).abs() < 0.2, "{name} {end}: {:?} {:?}", levels[end], ends[end]);
            }
        }
    }

    #[test]
    fn plans_are_finite_ordered_and_drop_values_in_time(config in any_config(), reading in any_reading(), steps in 4usize..40) {
        let plan = match config.plan(steps, reading) {
            // Trailing times such as 61 of 1000 have their own error, which another test checks.
            Err(error) => {
                let known = ["at time -1", "is not in diffusers", "is read as v_prediction", "two noise levels are equal", "original_inference_steps"];
                prop_assert!(reading == Reading::Diffusers && known.iter().any(|part| error.to_string().contains(part)), "{error}");
                return Ok(())
            }
            Ok(plan) => plan,
        };
        prop_assert_eq!(plan.steps().len(), plan.calls());
        prop_assert!(plan.rows().iter().all(|row| row.is_finite() && row.terms().count() > 0));
        // The middle of ancestral DPM2 can be at the end of the step, and diffusers rounds one of the two times.
        let slack = if reading == Reading::Diffusers { 0.51 } else { 1e-9 };
        // In f32 diffusers loses the digits of σ_down² = σ_next² − σ_up² where one step divides sigma by hundreds; the middle
        // is then anywhere near the end of the step, as in diffusers.
        let is_steep = plan.steps().windows(2).any(|pair| pair[0].level.sigma > 300.0 * pair[1].level.sigma);
        let is_lost = reading == Reading::Diffusers && is_steep;
        prop_assert!(is_lost || plan.steps().windows(2).all(|pair| pair[1].level.t <= pair[0].level.t + slack));
        prop_assert_eq!(plan.ops().iter().position(|op| matches!(op, Op::Noise)), Some(0));

        let mut dropped = vec![usize::MAX; plan.ops().len()];
        for (index, values) in plan.last_uses().iter().enumerate() {
            for Val(val) in values {
                prop_assert_eq!(dropped[*val as usize], usize::MAX, "dropped twice");
                dropped[*val as usize] = index;
            }
        }
        for (index, op) in plan.ops().iter().enumerate() {
            let used: Vec<Val> = match op {
                Op::Given | Op::Noise => vec![],
                Op::Eval { input: form, .. } | Op::Sum(form) => form.terms().map(|(val, _)| val).collect(),
                Op::Clip { of, .. } => vec![*of],
            };
            prop_assert!(used.iter().all(|val| (val.0 as usize) < index && dropped[val.0 as usize] >= index));
        }
        for step in plan.steps() {
            prop_assert!([step.sample, step.output, step.denoised].iter().all(|val| dropped[val.0 as usize] >= step.next.0 as usize));
        }
        let kept: Vec<usize> = (0..dropped.len()).filter(|&val| dropped[val] == usize::MAX).collect();
        prop_assert_eq!(kept, vec![plan.result().0 as usize]);
    }

    #[test]
    fn the_noise_of_a_sample_is_recovered(sigma in 1e-3..1e3f64, clean in -3.0..3.0f64, noise in -3.0..3.0f64) {
        let x = clean + sigma * noise;
        for prediction in [Prediction::Epsilon, Prediction::Velocity, Prediction::Sample] {
            let output = exact_output(prediction, sigma, clean, noise);
            let ((p, q), (a, b)) = (prediction.denoising(sigma), prediction.epsilon(sigma));
            // The rounding of x is relative to x, up to 3 + 3·sigma; the noise divides it by sigma.
            let rounding = 20.0 * f64::EPSILON * (1.0 + sigma);
            prop_assert!((p * x + q * output - clean).abs() < rounding, "{prediction:?} clean");
            prop_assert!((a * x + b * output - noise).abs() < rounding * (1.0 + 1.0 / sigma), "{prediction:?} noise");
        }
    }

    #[test]
    fn a_network_that_knows_the_image_gives_it_back(config in any_config(), steps in 1usize..30, strength in 0.02..1.0f64, seed in -2.0..2.0f64) {
        // LCM's boundary condition keeps a part of the sample, and its steps are some of those of the distillation.
        prop_assume!(config.class() != Class::Lcm);
        let image = [0.7, -1.3, seed];
        let plan = config.plan_from_image(steps, strength, Reading::Exact).unwrap();
        let draws: Vec<Vec<f64>> = (0..plan.draws()).map(|draw| vec![0.3, -1.1, (draw as f64).sin()]).collect();
        let values = evaluate(&plan, &image, &draws, |call, t, input| {
            let Level { t: told, sigma } = plan.steps()[call].level;
            assert_eq!(t, told);
            let noise = |(x, clean): (&f64, &f64)| (x * sigma.hypot(1.0) - clean) / sigma;
            let output = |pair: (&f64, &f64)| exact_output(config.prediction(), sigma, *pair.1, noise(pair));
            input.iter().zip(&image).map(output).collect()
        });
        // The slope is constant, so every order is exact. Roundings of x remain, up to the largest sigma, 1e4; weights of LMS up to 10
        // multiply them.
        let mut rounding = 1e-8;
        if config.class() == Class::Pndm {
            // Each of the three guesses of Runge-Kutta divides a rounding by the small sigma that it ends at, and multiplies the
            // quotient by the large distance again.
            let steps = plan.steps().chunk_by(|one, next| one.index == next.index);
            let leap = steps.map(|step| step[0].level.sigma / step[step.len() - 1].level.sigma).fold(1.0f64, f64::max);
            rounding += f64::EPSILON * plan.steps()[0].level.sigma * leap.powi(3);
        }
        let error = gap(&values[plan.result().0 as usize], &image);
        prop_assert!(error < rounding, "{error:.1e}");
        for step in plan.steps() {
            let error = gap(&values[step.denoised.0 as usize], &image);
            prop_assert!(error < rounding, "{error:.1e} denoised at {:?}", step.level);
        }
    }

    /// For data N(mean, spread²) the probability-flow ODE is `x(sigma) − mean = c·√(spread² +
    /// sigma²)`, and an Euler step of length h leaves it by ½h²·max|x''| at most, with `x'' =
    /// c·spread²/(spread² + sigma²)^1.5` largest at the end.
    #[test]
    fn an_euler_step_leaves_the_exact_path_by_its_bound(config in any_config(), steps in 1usize..40, mean in -1.0..1.0f64, spread in 0.05..2.0f64) {
        let config = config.with("beta_schedule", "linear").unwrap().with_class("lms").unwrap().with("order", 1).unwrap();
        let plan = config.plan(steps, Reading::Exact).unwrap();
        let values = ideal_run(&plan, config.prediction(), mean, spread, &[vec![1.7]]);
        let mut ends: Vec<f64> = plan.steps().iter().skip(1).map(|step| step.level.sigma).collect();
        ends.push(0.0);
        for (step, end) in plan.steps().iter().zip(ends) {
            let (x, next) = (values[step.sample.0 as usize][0], values[step.next.0 as usize][0]);
            let c = (x - mean) / spread.hypot(step.level.sigma);
            let bound = 0.5 * (end - step.level.sigma).powi(2) * c.abs() * spread.powi(2) / spread.hypot(end).powi(3);
            let error = (next - mean - c * spread.hypot(end)).abs();
            // The second term is for roundings of x, which is up to 1e4 here.
            prop_assert!(error <= bound + 1e-10, "at {:?}: {error:.3e} over {bound:.3e}", step.level);
        }
    }

    #[test]
    fn lms_of_order_one_is_euler(config in any_config(), reading in any_reading(), steps in 1usize..40) {
        let config = config.with("beta_schedule", "linear").unwrap().with_class("lms").unwrap().with("order", 1).unwrap();
        let Ok(plan) = config.plan(steps, reading) else { return Ok(()) };
        let sigmas: Vec<f64> = plan.steps().iter().map(|step| step.level.sigma).chain([0.0]).collect();
        for (step, pair) in plan.steps().iter().zip(sigmas.windows(2)) {
            let Op::Sum(form) = &plan.ops()[step.next.0 as usize] else { panic!("a sum makes the next sample") };
            // x' = x + (sigma' − sigma)·(x − denoised)/sigma, about ten roundings of numbers up to 1.
            let kept = pair[1] / pair[0];
            prop_assert!((form.coefficient(step.sample) - kept).abs() < 1e-14);
            prop_assert!((form.coefficient(step.denoised) - (1.0 - kept)).abs() < 1e-14);
            prop_assert!(form.terms().count() <= 2);
        }
    }

    /// For standard normal data the large variance is that of the true posterior, so each sample
    /// has exactly the variance 1 + sigma² of its level, and the last estimate `x/(1 + sigma²)`
    /// has 1/(1 + sigma²).
    #[test]
    fn ddpm_keeps_the_variance_of_standard_normal_data(config in any_config(), steps in 1usize..30) {
        let config = config.with_class("ddpm").unwrap().with("variance_type", "fixed_large_log").unwrap();
        let plan = config.plan(steps, Reading::Exact).unwrap();
        let values = ideal_run(&plan, config.prediction(), 0.0, 1.0, &units(plan.draws()));
        for step in plan.steps() {
            // A few roundings per step, thirty steps, relative to the variance.
            let want = 1.0 + step.level.sigma.powi(2);
            prop_assert!((variance(&values[step.sample.0 as usize]) / want - 1.0).abs() < 1e-11, "{:?}", step.level);
        }
        // The estimate is as small as 1/sigma and the difference of two numbers as large as sigma.
        let last = plan.steps()[steps - 1].level.sigma.powi(2);
        let ratio = variance(&values[plan.result().0 as usize]) * (1.0 + last);
        prop_assert!((ratio - 1.0).abs() < 1e-11 + 10.0 * f64::EPSILON * last, "{ratio}");
    }
}

/// Runs a plan with the ideal network for data N(mean, spread²).
fn ideal_run(plan: &Plan, prediction: Prediction, mean: f64, spread: f64, draws: &[Vec<f64>]) -> Vec<Vec<f64>> {
    evaluate(plan, &[], draws, |call, _, input| {
        let sigma = plan.steps()[call].level.sigma;
        let share = spread.powi(2) / (spread.powi(2) + sigma.powi(2));
        let output = |u: &f64| {
            let x = u * sigma.hypot(1.0);
            let clean = mean + share * (x - mean);
            exact_output(prediction, sigma, clean, (x - clean) / sigma)
        };
        input.iter().map(output).collect()
    })
}

/// Draws as unit vectors, so that a value is the list of its weights on the draws.
fn units(draws: usize) -> Vec<Vec<f64>> {
    (0..draws).map(|draw| (0..draws).map(|other| f64::from(u8::from(draw == other))).collect()).collect()
}

fn variance(weights: &[f64]) -> f64 {
    weights.iter().map(|weight| weight * weight).sum()
}

fn stable_diffusion(class: &str, options: Value) -> Config {
    let base = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": false}"#;
    let config = Config::from_json_as(base, class).unwrap();
    options.as_object().unwrap().iter().fold(config, |config, (name, value)| config.with(name, value.clone()).unwrap())
}

/// The error of the first sample at time `until` or below it, compared with the exact path from the same start, for data
/// N(0, 0.5²).
fn path_error(config: &Config, steps: usize, until: f64, reading: Reading) -> f64 {
    let plan = config.plan(steps, reading).unwrap();
    let values = ideal_run(&plan, config.prediction(), 0.0, 0.5, &units(1));
    let first = plan.steps()[0];
    let last = plan.steps().iter().find(|step| step.level.t <= until + 1e-6).unwrap();
    let x = values[first.sample.0 as usize][0];
    let exact = x * 0.5f64.hypot(last.level.sigma) / 0.5f64.hypot(first.level.sigma);
    (values[last.sample.0 as usize][0] / exact - 1.0).abs()
}

#[test]
fn lms_errors_shrink_by_its_order() {
    for order in 1..=4 {
        let options = json!({"use_exponential_sigmas": true, "order": order});
        let config = stable_diffusion("lms", options);
        let error = |steps: usize| path_error(&config, steps, 0.0, Reading::Exact);
        // Doubling the steps divides the error by 2 to the order, in the limit; at 80 steps order
        // 4 shows 3.65.
        let observed = (error(80) / error(160)).log2();
        assert!((observed - f64::from(order)).abs() < 0.4, "order {order}: {observed:.2}");
    }
}

#[test]
fn pndm_errors_shrink_by_two_orders_unless_velocities_mix() {
    // Trailing times of 50, 100 and 200 steps all contain 99, and strides divide the training times, so that times and levels agree.
    // Weights for even steps are exact to second order on the uneven sigmas of even times.
    let error = |prediction: &str, warm_up: bool, steps: usize, reading: Reading| {
        let options =
            json!({"timestep_spacing": "trailing", "skip_prk_steps": !warm_up, "prediction_type": prediction});
        path_error(&stable_diffusion("pndm", options), steps, 99.0, reading)
    };
    for warm_up in [false, true] {
        let observed = |prediction: &str, reading: Reading| {
            let errors = [100, 200].map(|steps| error(prediction, warm_up, steps, reading));
            (errors[0] / errors[1]).log2()
        };
        for (prediction, reading) in
            [("epsilon", Reading::Exact), ("epsilon", Reading::Diffusers), ("v_prediction", Reading::Exact)]
        {
            let order = observed(prediction, reading); // 1.90 in each case
            assert!((order - 2.0).abs() < 0.15, "{prediction} {reading:?} {warm_up}: {order:.2}");
        }
        let order = observed("v_prediction", Reading::Diffusers);
        assert!((order - 1.0).abs() < 0.05, "mixed velocities {warm_up}: {order:.2}");
        let worse =
            error("v_prediction", warm_up, 50, Reading::Diffusers) / error("v_prediction", warm_up, 50, Reading::Exact);
        assert!((250.0..300.0).contains(&worse), "mixed velocities {warm_up}: {worse:.0} times the error");
    }
}

#[test]
fn ddpm_loses_variance_in_proportion_to_the_step() {
    let config = stable_diffusion("ddpm", json!({}));
    let lost = [25, 50, 100, 200, 400].map(|steps| {
        let plan = config.plan(steps, Reading::Exact).unwrap();
        let values = ideal_run(&plan, config.prediction(), 0.0, 0.5, &units(plan.draws()));
        1.0 - variance(&values[plan.result().0 as usize]) / 0.25
    });
    // The small variance ignores that of the clean sample, which is proportional to the step: at 50 steps 19% of the variance of the
    // result is missing. Doubling the steps halves the loss in the limit; the largest steps, where the sample is all noise, lose
    // less.
    assert!(lost[1] > 0.15 && lost[1] < 0.22, "{lost:?}");
    for pair in lost.windows(2) {
        assert!((1.5..2.1).contains(&(pair[0] / pair[1])), "{lost:?}");
    }
}

#[test]
fn the_readings_agree_where_nothing_is_at_fault() {
    let leading = [
        ("ddpm", json!({})),
        ("lms", json!({"timestep_spacing": "leading"})),
        ("pndm", json!({"set_alpha_to_one": true, "skip_prk_steps": true})),
    ];
    for (class, options) in leading {
        for steps in [2, 5, 20, 50] {
            let config = stable_diffusion(class, options.clone());
            let rows = [Reading::Diffusers, Reading::Exact].map(|reading| config.plan(steps, reading).unwrap().rows());
            assert_eq!(rows[0].len(), rows[1].len());
            let mut furthest = 0.0f64;
            for (single, double) in rows[0].iter().zip(&rows[1]) {
                let size = double.terms().fold(0.0f64, |size, (_, coefficient)| size.max(coefficient.abs()));
                let worst = single.clone() - double.clone();
                let worst = worst.terms().fold(0.0f64, |worst, (_, coefficient)| worst.max(coefficient.abs())) / size;
                furthest = furthest.max(worst);
            }
            // Single precision moves sigma by up to 1.3e-5 of itself, at the first times.
            assert!(furthest > 1e-9 && furthest < 2e-5, "{class} {steps}: {furthest:.1e}");
        }
    }
}

proptest! {
    #[test]
    fn calls_are_counted_by_step(config in any_config(), steps in 4usize..40, reading in any_reading()) {
        let Ok(plan) = config.plan(steps, reading) else { return Ok(()) };
        let mut before = None;
        for step in plan.steps() {
            let place = (step.index, step.evaluation);
            let follows = match before {
                None => place == (0, 0),
                Some((index, evaluation)) => place == (index, evaluation + 1) || place == (index + 1, 0),
            };
            prop_assert!(follows, "{place:?} after {before:?}");
            before = Some(place);
        }
        prop_assert_eq!(before.map(|(index, _)| index + 1), Some(steps));
    }
}

proptest! {
    #[test]
    fn a_plan_from_a_sample_is_the_rest_of_a_plan(config in any_config(), steps in 3usize..30, at in 0usize..1000, x in -3.0..3.0f64) {
        prop_assume!(config.class() != Class::Lcm); // keeps some of the sample
        let (Ok(whole), Ok(levels)) = (config.plan(steps, Reading::Exact), config.levels(steps)) else { return Ok(()) };
        let from = levels[at % steps];
        let Ok(rest) = config.plan_from_sample(steps, from) else { return Ok(()) };
        prop_assert_eq!(rest.steps()[0].level, from);
        prop_assert_eq!(rest.steps().last().unwrap().level, whole.steps().last().unwrap().level);
        // With a network that knows the image, any sample ends there, as in the property above.
        let clean = 0.25;
        let draws = vec![vec![0.6]; rest.draws()];
        let values = evaluate(&rest, &[x * from.sigma], &draws, |call, _, input| {
            let sigma = rest.steps()[call].level.sigma;
            vec![exact_output(config.prediction(), sigma, clean, (input[0] * sigma.hypot(1.0) - clean) / sigma)]
        });
        let reached = values[rest.result().0 as usize][0];
        // Each of the three guesses of Runge-Kutta divides the rounding of a sample at large sigma by the small sigma that it ends at,
        // and multiplies the quotient by the large distance again.
        let leap = from.sigma / rest.steps().get(1).map_or(from.sigma, |step| step.level.sigma);
        let tolerance = 1e-8 + f64::EPSILON * from.sigma * leap.powi(3);
        prop_assert!((reached - clean).abs() < tolerance, "{reached} within {tolerance}");
    }
}

/// Parts of a mixture: weight, mean, deviation.
type Parts = Vec<(f64, f64, f64)>;

fn any_mixture() -> impl Strategy<Value = Parts> {
    prop::collection::vec((0.1..1.0f64, -2.0..2.0f64, 0.2..1.0f64), 1..4)
}

/// The end of a plan from a sample with the perfect network of a mixture.
fn end(plan: &Plan, prediction: Prediction, parts: &Parts, sample: f64) -> f64 {
    let draws: Vec<Vec<f64>> = (0..plan.draws()).map(|draw| vec![(draw as f64 + 0.7).sin()]).collect();
    let values = Mixture::new(parts.clone()).run(plan, prediction, &[sample], &draws);
    values[plan.result().0 as usize][0]
}

proptest! {
    #[test]
    fn the_text_of_a_plan_is_the_plan(config in any_config(), reading in any_reading(), steps in 1usize..40, strength in 0.3..1.0f64, clip in any::<bool>()) {
        let config = config.with("thresholding", clip).unwrap_or(config);
        let plans = [config.plan(steps, reading), config.plan_from_image(steps, strength, reading)];
        for plan in plans.into_iter().flatten() {
            prop_assert_eq!(format!("{plan:#}").parse::<Plan>(), Ok(plan.clone()));
            prop_assert_eq!(format!("{plan}").lines().count(), plan.ops().len() + 1);
        }
    }

    #[test]
    fn a_resolved_config_is_the_config(config in any_config(), reading in any_reading(), steps in 1usize..20, name in prop::sample::select(Class::names().collect::<Vec<_>>()), share in 0.0..1.0f64) {
        // Also with another name, which sets options that diffusers does not read from files.
        let other = config.with_class(name).and_then(|other| if name == "edm_sde" { other.with("s_churn", 30.0 * share) } else { Ok(other) });
        for config in [Ok(config), other].into_iter().flatten() {
            let again = Config::from_resolved(&config.resolved()).unwrap();
            prop_assert_eq!(again.plan(steps, reading), config.plan(steps, reading));
            prop_assert_eq!(again.resolved(), config.resolved());
        }
    }

    #[test]
    fn any_text_is_a_plan_or_an_error_of_one_line(config in any_config(), edits in prop::collection::vec(any::<Edit>(), 1..4)) {
        let config = config.with("thresholding", true).unwrap_or(config);
        let text = format!("{:#}", config.plan(4, Reading::Exact).unwrap());
        match mutated(&text, edits).parse::<Plan>() {
            // A plan that was read can be evaluated: no value is used before it is computed.
            Ok(plan) => {
                prop_assert_eq!((plan.rows().len(), plan.last_uses().len()), (plan.calls() + 1, plan.ops().len()));
                let values = evaluate(&plan, &[0.3], &vec![vec![-0.7]; plan.draws()], |call, _, _| vec![plan.steps()[call].level.t]);
                prop_assert_eq!(values.len(), plan.ops().len());
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n') && error.to_string().len() < 300, "{error}"),
        }
    }

    /// If the data moves by some distance, the samples move by the same distance: the weights of the clean estimates add up to what the
    /// sample loses.
    #[test]
    fn samples_move_with_the_data(config in any_config(), steps in 2usize..30, parts in any_mixture(), at in 0usize..30, x in -2.0..2.0f64, by in -3.0..3.0f64) {
        prop_assume!(config.class() != Class::Lcm); // keeps some of the sample, which is at unit variance
        let from = config.levels(steps).unwrap()[at % steps];
        let Ok(plan) = config.plan_from_sample(steps, from) else { return Ok(()) };
        let moved = parts.iter().map(|(weight, mean, spread)| (*weight, mean + by, *spread)).collect();
        let x = x * from.sigma.hypot(1.0);
        let (here, there) = (end(&plan, config.prediction(), &parts, x), end(&plan, config.prediction(), &moved, x + by));
        // Roundings of x, up to 1e4 for the largest sigmas. A solver of third order multiplies them by about the ratio of two steps,
        // and PNDM's Runge-Kutta steps by 1e5.
        prop_assert!((there - here - by).abs() < 1e-9 * (1.0 + from.sigma + here.abs()), "{here} and {there}, {by} apart");
    }

    /// If the data and the noise levels are scaled, the samples are scaled too.
    #[test]
    fn samples_grow_with_the_data(config in any_config(), ratios in prop::collection::vec(0.3..0.9f64, 2..12), first in 0.5..4.0f64, parts in any_mixture(), x in -2.0..2.0f64, by in 0.5..2.0f64) {
        // These depend on the time, which does not scale: LCM and TCD, PNDM's Runge-Kutta steps, SA-Solver in the middle of the run, and
        // DEIS at a clean end. The large variance is that of data of size one.
        prop_assume!(!matches!(config.class(), Class::Lcm | Class::Tcd));
        let mut config = config;
        let given = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"].map(|option| (option, json!(false)));
        let timeless = [("skip_prk_steps", json!(true)), ("tau", json!(0.7)), ("variance_type", json!("fixed_small"))];
        for (option, value) in given.into_iter().chain(timeless) {
            // Classes without the option stay as they are; `variance_type` is another option in DPM-Solver.
            config = config.with(option, value).unwrap_or(config);
        }
        let mut sigmas = vec![first];
        ratios.iter().for_each(|ratio| sigmas.push(sigmas[sigmas.len() - 1] * ratio));
        if config.class() != Class::Deis {
            sigmas.push(0.0);
        }
        let ended = |size: f64, parts: &Parts| {
            let sigmas: Vec<f64> = sigmas.iter().map(|sigma| sigma * size).collect();
            let config = config.with("sigmas", sigmas.clone()).unwrap();
            let plan = config.plan_from_sample(sigmas.len() - 1, config.levels(sigmas.len() - 1).unwrap()[0]).unwrap();
            end(&plan, config.prediction(), parts, size * x * first.hypot(1.0))
        };
        let grown = parts.iter().map(|(weight, mean, spread)| (*weight, mean * by, spread * by)).collect();
        let (here, there) = (ended(1.0, &parts), ended(by, &grown));
        prop_assert!((there - here * by).abs() < 1e-9 * (1.0 + here.abs()), "{there} is not {by} times {here}");
    }

    /// The run is the same whatever form a perfect network predicts.
    #[test]
    fn predictions_are_one_run(config in any_config(), steps in 1usize..30, parts in any_mixture(), x in -2.0..2.0f64) {
        let ends = ["epsilon", "v_prediction", "sample"].map(|prediction| {
            let config = config.with("prediction_type", prediction).unwrap();
            let plan = config.plan(steps, Reading::Exact).unwrap();
            let draws: Vec<Vec<f64>> = (0..plan.draws()).map(|draw| vec![x * (draw as f64 + 1.0).cos()]).collect();
            let values = Mixture::new(parts.clone()).run(&plan, config.prediction(), &[], &draws);
            let largest = values.iter().fold(1.0f64, |size, value| size.max(value[0].abs()));
            (values[plan.result().0 as usize][0], largest)
        });
        for (end, size) in ends {
            // A clean estimate from the noise is a difference of two numbers as large as sigma, 1e4 at most; and PNDM's Runge-Kutta steps
            // overshoot to 1e9 there.
            prop_assert!((end - ends[2].0).abs() < 1e-10 * size, "{ends:?}");
        }
    }

    /// If the clean estimate is always `c`, the flow is `x = c + sigma·n` and the result is `c`: the weights of the outputs add up to one,
    /// and those of all draws to zero.
    #[test]
    fn constant_outputs_are_the_result(config in any_config(), steps in 1usize..40) {
        prop_assume!(config.class() != Class::Lcm);
        let config = config.with("prediction_type", "sample").unwrap();
        let plan = config.plan(steps, Reading::Exact).unwrap();
        let is_output = |val: Val| matches!(plan.ops()[val.0 as usize], Op::Eval { .. });
        let row = plan.row(plan.result());
        let sum = |outputs: bool| row.terms().filter(|(val, _)| is_output(*val) == outputs).fold((0.0, 0.0f64), |(sum, size), (_, weight)| (sum + weight, size.max(weight.abs())));
        let ((outputs, most), (_, drawn)) = (sum(true), sum(false));
        // Weights of both signs, which cancel up to rounding.
        prop_assert!((outputs - 1.0).abs() < 1e-9 * (1.0 + most) && drawn < 1e-9 * (1.0 + most), "{outputs} {drawn}");
    }

    /// With eight times the steps, every sampler without fresh noise is closer to the exact flow, down to sigma ½. How much closer depends
    /// on its order, and on the distance of the first sigmas of the schedule.
    #[test]
    fn refinement_converges(config in any_config(), parts in any_mixture(), x in 0.5..2.0f64) {
        let config = ["eta", "tau"].into_iter().fold(config, |config, option| config.with(option, 0.0).unwrap_or(config));
        prop_assume!(!matches!(config.class(), Class::Ddpm | Class::Lcm | Class::Tcd));
        let mixture = Mixture::new(parts);
        // The sigmas of the squared cosine and laplace schedules fall by a large factor at their last training time, which more steps do
        // not divide. Beta quantiles have too few steps between sigma 2 and ½ for the interpolation of the errors (orders.rs measures
        // them on another schedule). And PNDM's Runge-Kutta steps overshoot from sigma 1e4.
        let has = |option: &str, value: Value| config.values().any(|(name, found, _)| name == option && found == value);
        let is_steep = ["squaredcos_cap_v2", "laplace"].into_iter().any(|name| has("beta_schedule", json!(name)));
        let config = if is_steep { config.with("beta_schedule", "sigmoid").unwrap() } else { config };
        let config = config.with("use_beta_sigmas", false).unwrap();
        let config = config.with("skip_prk_steps", true).unwrap_or(config);
        let config = config.with("num_train_timesteps", 1200).unwrap();
        let strays = [20, 30, 40, 320].map(|steps| {
            let plan = config.plan(steps, Reading::Exact).unwrap();
            let strays = mixture.strays(&config, &plan, &[x, -x], &[2.0, 1.0, 0.5]);
            strays.into_iter().fold(0.0, f64::max)
        });
        // A run of few steps can be close by chance.
        let (coarse, fine) = (strays[..3].iter().fold(0.0f64, |most, error| most.max(*error)), strays[3]);
        prop_assert!(fine < coarse * 0.8 + 1e-5, "{coarse:.2e} then {fine:.2e}");
    }
}

/// Every plan of 50 steps: all short names in both readings.
fn every_plan() -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    for name in Class::names() {
        for reading in [Reading::Diffusers, Reading::Exact] {
            for options in
                [json!({}), json!({"skip_prk_steps": false}), json!({"thresholding": true}), json!({"solver_order": 3})]
            {
                let base = json!({"skip_prk_steps": true, "prediction_type": "v_prediction"});
                let mut all = base.as_object().unwrap().clone();
                all.extend(options.as_object().unwrap().clone());
                let config = Config::from_json_as(&Value::Object(all).to_string(), name).unwrap();
                plans.extend(config.plan(50, reading).map(|plan| (format!("{name} {reading:?} {options}"), plan)));
            }
        }
    }
    plans
}

#[test]
fn a_run_keeps_few_tensors_and_has_the_result_of_the_plan() {
    let plans = every_plan();
    let mut most = 0;
    for (name, plan) in &plans {
        let draw = |number: usize| vec![(number as f64).sin(), (number as f64).cos()];
        let network =
            |time: f64, input: &[f64]| -> Vec<f64> { input.iter().map(|x| (x + time / 500.0).sin()).collect() };
        let given = plan.ops().contains(&Op::Given).then(|| vec![0.3, -0.8]);
        let draws: Vec<Vec<f64>> = (0..plan.draws()).map(draw).collect();
        let every = evaluate(plan, given.as_deref().unwrap_or_default(), &draws, |_, time, input| network(time, input));
        let mut drawn = 0..;
        let mut run = Run::new(plan.clone(), given, || Ok(draw(drawn.next().unwrap()))).unwrap();
        while let Some(step) = run.call().copied() {
            assert_eq!(run.sample().unwrap(), &every[step.sample.0 as usize], "{name}");
            let input = run.input().unwrap();
            // The input and the output are kept as well while the network runs.
            most = most.max(run.alive() + 2);
            run.step(network(step.level.t, &input)).unwrap();
        }
        assert_eq!(run.alive(), 1, "{name}");
        assert!(run.step(vec![0.0, 0.0]).is_err(), "{name}: a step after the end");
        assert_eq!(run.finish().unwrap(), every[plan.result().0 as usize], "{name}");
    }
    assert!(plans.len() > 150, "{} plans", plans.len());
    assert!(most <= 14, "{most} tensors alive");
}

#[test]
fn a_run_without_what_it_needs_is_an_error() {
    let config = stable_diffusion("ddim_inverse", json!({}));
    let plan = config.plan(3, Reading::Exact).unwrap();
    let none = Run::new(plan.clone(), None, || Ok(vec![0.0])).err().unwrap();
    assert_eq!(none.to_string(), "the plan starts from an image, and none is given");
    let waiting = Run::new(plan, Some(vec![0.0]), || Ok(vec![0.0])).unwrap();
    assert_eq!(waiting.finish().unwrap_err(), RunError::NotAtEnd);
}
