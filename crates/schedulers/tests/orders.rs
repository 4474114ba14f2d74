//! The order of convergence of every deterministic sampler to the exact probability flow.

use latentrace_schedulers::truth::Mixture;
use latentrace_schedulers::{Config, Reading, Remark};
use serde_json::{Value, json};
use std::ops::RangeInclusive;

/// A sampler, its options, and the order of its error.
struct Case {
    name: &'static str,
    options: Value,
    order: f64,
    /// The sigma to start from. The first steps of a multistep sampler are of lower orders, which matters less at large sigma, where
    /// the flow is nearly straight; the Runge-Kutta steps of PNDM need times of the schedule, below 14.6.
    from: f64,
}

fn case(name: &'static str, options: Value, order: f64) -> Case {
    Case { name, options, order, from: 20.0 }
}

/// Every sampler that draws no noise, or has an option to draw none.
fn cases() -> Vec<Case> {
    let (one, two, three) = (json!({"solver_order": 1}), json!({"solver_order": 2}), json!({"solver_order": 3}));
    let long = |options: Value| {
        let mut options = options;
        options["lower_order_final"] = json!(false); // a last step of first order would limit the order to two
        options
    };
    let started = |name, options, order| Case { name, options, order, from: 200.0 };
    vec![
        case("ddim", json!({}), 1.0),
        case("euler", json!({}), 1.0),
        case("euler_a", json!({"eta": 0.0}), 1.0),
        case("heun", json!({}), 2.0),
        case("dpm2", json!({}), 2.0),
        case("dpm2_a", json!({"eta": 0.0}), 2.0),
        case("dpm++2s_a", json!({"eta": 0.0}), 2.0),
        case("dpm++2s_a", json!({"eta": 0.0, "r": 0.8}), 2.0),
        case("dpm++sde", json!({"eta": 0.0}), 2.0),
        case("dpm++sde", json!({"eta": 0.0, "r": 0.3}), 2.0),
        case("dpm++2m_sde", json!({"eta": 0.0}), 2.0),
        started("dpm++3m_sde", json!({"eta": 0.0}), 3.0),
        case("dpm_fast", json!({}), 3.0),
        // Weights for even steps are exact to second order on others.
        case("pndm", json!({"skip_prk_steps": true}), 2.0),
        Case { from: 10.0, ..case("pndm", json!({"skip_prk_steps": false}), 2.0) },
        case("ipndm", json!({}), 2.0),
        case("lms", json!({"order": 1}), 1.0),
        case("lms", json!({"order": 2}), 2.0),
        started("lms", json!({"order": 3}), 3.0),
        started("lms", json!({"order": 4}), 4.0),
        case("deis", one.clone(), 1.0),
        case("deis", two.clone(), 2.0),
        case("dpm_multistep", one.clone(), 1.0),
        case("dpm++2m", json!({}), 2.0),
        case("dpm++2m", json!({"solver_type": "heun"}), 2.0),
        started("dpm++3m", json!({}), 3.0),
        case("dpm_solver_2m", json!({}), 2.0),
        case("dpm++2s", long(json!({})), 2.0),
        case("dpm++2s", long(json!({"solver_type": "heun"})), 2.0),
        case("dpm++3s", long(json!({})), 3.0),
        case("dpm++3s", long(json!({"solver_type": "heun"})), 3.0),
        // The corrector adds one.
        case("unipc", long(one), 2.0),
        case("unipc", long(two), 3.0),
        case("unipc_bh1", long(json!({})), 3.0),
        case("unipc", long(json!({"predict_x0": false})), 3.0),
        case("unipc", long(three), 4.0),
        case("sa_solver", long(json!({"tau": 0.0})), 2.0),
    ]
}

/// The error of the last sample, compared with the exact flow from the first, on levels even in log sigma.
fn error(case: &Case, prediction: &str, reading: Reading, steps: usize, mixture: &Mixture) -> f64 {
    let (most, least) = (case.from.ln(), 0.1f64.ln());
    let sigmas: Vec<f64> = (0..=steps).map(|step| (most + (least - most) * step as f64 / steps as f64).exp()).collect();
    let base = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": false}"#;
    let mut config = Config::from_json_as(base, case.name).unwrap().with("prediction_type", prediction).unwrap();
    for (key, value) in case.options.as_object().unwrap() {
        config = config.with(key, value.clone()).unwrap();
    }
    let plan = match reading {
        Reading::Exact => config.with("sigmas", json!(sigmas)).unwrap().plan(steps, reading),
        Reading::Diffusers => config.with("use_exponential_sigmas", true).unwrap().plan(steps, reading),
    };
    let plan = plan.unwrap();
    let values = mixture.run(&plan, config.prediction(), &[], &vec![vec![1.3]; plan.draws()]);
    let sample = |index: usize| values[plan.steps()[index].sample.0 as usize][0];
    // diffusers takes another step to sigma 0, which hides the order: the sample before it is compared.
    let (end, sigma) = match reading {
        Reading::Exact => (values[plan.result().0 as usize][0], sigmas[steps]),
        Reading::Diffusers => (sample(steps - 1), plan.steps()[steps - 1].level.sigma),
    };
    (end - mixture.flow(sample(0), plan.steps()[0].level.sigma, sigma)).abs()
}

fn observed(case: &Case, prediction: &str, reading: Reading, mixture: &Mixture) -> f64 {
    // With two calls more than a multiple of three, dpm_fast has no step of first order, which would limit its order to two.
    let counts = if case.name == "dpm_fast" { [59, 119] } else { [60, 120] };
    let [coarse, fine] = counts.map(|steps| error(case, prediction, reading, steps, mixture));
    (coarse / fine).log2()
}

fn mixtures() -> [Mixture; 2] {
    [Mixture::normal(0.7, 0.5), Mixture::new(vec![(0.4, -1.0, 0.3), (0.6, 0.8, 0.4)])]
}

#[test]
fn every_sampler_has_its_order_whatever_the_network_predicts() {
    let mut off = Vec::new();
    for case in cases() {
        for mixture in mixtures() {
            for prediction in ["epsilon", "v_prediction", "sample"] {
                let order = observed(&case, prediction, Reading::Exact, &mixture);
                // Between 60 and 120 steps the next term of the error is still visible.
                if (order - case.order).abs() > 0.35 {
                    off.push(format!(
                        "{} {} {prediction}: {order:.2}, expected {}",
                        case.name, case.options, case.order
                    ));
                }
            }
        }
    }
    assert!(off.is_empty(), "{}", off.join("\n"));
}

const SPACINGS: [&str; 7] = ["leading", "linspace", "trailing", "ays", "karras", "exponential", "beta"];

/// A sampler on the schedule of Stable Diffusion, as for pictures.
fn spaced(case: &Case, spacing: &str) -> Config {
    let base = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": false}"#;
    let mut config = Config::from_json_as(base, case.name).unwrap();
    for (key, value) in case.options.as_object().unwrap() {
        config = config.with(key, value.clone()).unwrap();
    }
    match spacing {
        "karras" | "exponential" | "beta" => {
            let linspace = config.with("timestep_spacing", "linspace").unwrap();
            linspace.with(&format!("use_{spacing}_sigmas"), true).unwrap()
        }
        _ => config.with("timestep_spacing", spacing).unwrap(),
    }
}

/// The range of the observed order of a sampler from 100 to 200 steps, starting at sigma 14.6.
///
/// Orders one and two are observed as they are. A multistep sampler of higher order begins with steps of first order, whose error is
/// of second order, though small: on evenly spaced times it is still visible, so the observed order is between the two.
fn expected(case: &Case, spacing: &str) -> RangeInclusive<f64> {
    let is_multistep = !["dpm++3s", "dpm_fast"].contains(&case.name);
    match (case.order, spacing) {
        // Weights for even steps need smoothly spaced levels. Rounded times are not, and the error falls irregularly; the knots of AYS
        // and the ends of beta sigmas have less effect.
        (order, "linspace") if case.name == "pndm" => order - 1.0..=order + 2.0,
        (order, "ays") if ["pndm", "ipndm"].contains(&case.name) => order - 0.35..=order + 0.6,
        (order, "beta") if ["pndm", "ipndm", "sa_solver"].contains(&case.name) => order - 0.35..=order + 1.1,
        // The corrector brings it half-way to the next order.
        (order, _) if case.name == "sa_solver" => order - 0.35..=order + 0.5,
        (order, _) if order < 3.0 => order - 0.35..=order + 0.35,
        // Few steps are near sigma 1 here, so the next terms of the error are visible, of either sign.
        (order, "beta") => 1.5..=order + 1.5,
        (order, "karras" | "exponential") if is_multistep => order - 0.9..=order + 0.35,
        (order, "karras" | "exponential") => order - 0.35..=order + 0.35,
        (order, _) if is_multistep => 1.7..=order + 0.35,
        (order, _) => order - 0.35..=order + 1.0,
    }
}

#[test]
fn every_sampler_has_its_order_on_every_spacing() {
    let mut off = Vec::new();
    for case in cases() {
        for spacing in SPACINGS {
            for mixture in mixtures() {
                let order = mixture.order(&spaced(&case, spacing)).unwrap();
                if !expected(&case, spacing).contains(&order) {
                    let wanted = expected(&case, spacing);
                    off.push(format!("{} {} {spacing}: {order:.2}, expected {wanted:?}", case.name, case.options));
                }
                for prediction in ["v_prediction", "sample"] {
                    let config = spaced(&case, spacing).with("prediction_type", prediction).unwrap();
                    let other = mixture.order(&config).unwrap();
                    // In double precision all predictions give the same run, up to rounding; errors go down to 1e-9.
                    if (other - order).abs() > 1e-3 {
                        off.push(format!("{} {spacing} {prediction}: {other:.4}, not {order:.4}", case.name));
                    }
                }
            }
        }
    }
    assert!(off.is_empty(), "{}", off.join("\n"));
}

#[test]
fn the_third_order_of_diffusers_is_of_second_order() {
    let case = |name| Case { name, options: json!({}), order: 3.0, from: 14.614647 };
    let [normal, _] = mixtures();
    let three = observed(&case("dpm++3m"), "epsilon", Reading::Diffusers, &normal);
    assert!((three - 2.0).abs() < 0.3, "{three:.2}");
}

/// The numbers in the remarks of `Config::remarks` on the third order.
#[test]
fn the_exact_third_order_pays_with_short_steps() {
    let [_, mixture] = mixtures();
    let karras = |name, order: usize| {
        let case = Case { name, options: json!({"solver_order": order}), order: 3.0, from: 14.6 };
        spaced(&case, "karras")
    };
    let end = |order: usize, reading: Reading, steps: usize| {
        let config = karras("dpm++3m", order);
        let plan = config.plan(steps, reading).unwrap();
        let starts: Vec<f64> = (0..32).map(|i| -2.0 + (f64::from(i) + 0.5) / 8.0).collect();
        let values = mixture.run(&plan, config.prediction(), &[], &[starts]);
        let (first, from) = (&values[plan.steps()[0].sample.0 as usize], plan.steps()[0].level.sigma);
        let ends = &values[plan.result().0 as usize];
        let squares = first.iter().zip(ends).map(|(x, end)| (end - mixture.flow(*x, from, 0.0)).powi(2));
        (squares.sum::<f64>() / 32.0).sqrt()
    };
    let [second, theirs, mended] = [(2, Reading::Exact), (3, Reading::Diffusers), (3, Reading::Exact)]
        .map(|(order, reading)| end(order, reading, 20));
    assert!(2.0 * theirs < mended && mended < second, "{theirs:.1e} {mended:.1e} {second:.1e}");
    let strays = |reading, steps| {
        let config = karras("dpm++3m", 3);
        mixture.strays(&config, &config.plan(steps, reading).unwrap(), &[1.3, -0.4], &[0.25])[0]
    };
    assert!(strays(Reading::Exact, 60) < strays(Reading::Diffusers, 60));
    // The variance of the result over that of the data, for normal data of deviation one half.
    let variance = |steps: usize| {
        let config = karras("dpm++3m_sde", 3);
        let plan = config.plan(steps, Reading::Exact).unwrap();
        let units: Vec<Vec<f64>> =
            (0..plan.draws()).map(|i| (0..plan.draws()).map(|j| f64::from(u8::from(i == j))).collect()).collect();
        let values = Mixture::normal(0.0, 0.5).run(&plan, config.prediction(), &[], &units);
        values[plan.result().0 as usize].iter().map(|weight| weight * weight).sum::<f64>() / 0.25
    };
    assert!((variance(10) - 2.24).abs() < 0.01 && (variance(20) - 1.0).abs() < 0.01);
    assert!((variance(200) - 1.0).abs() < 0.01);
    let said = |steps: usize| {
        let config = karras("dpm++3m", 3);
        let remarks = config.remarks(&config.plan(steps, Reading::Exact).unwrap(), Reading::Exact);
        remarks.contains(&Remark::ThirdOrder { is_stochastic: false })
    };
    assert_eq!([said(20), said(50)], [true, false]);
}
