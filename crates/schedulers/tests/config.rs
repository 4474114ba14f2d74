//! Reading configs: origins, absent keys, messages, and arbitrary text.

mod support;

use latentrace_schedulers::{Class, Config, Error, Level, Op, Origin, Pipeline, Prediction, Reading, class_of};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::{Edit, mutated};

const STABLE_DIFFUSION: &str = r#"{"_class_name": "PNDMScheduler", "_diffusers_version": "0.7.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false,
    "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null, "clip_sample": false}"#;

fn times(config: &Config, steps: usize) -> Vec<f64> {
    config.plan(steps, Reading::Diffusers).unwrap().steps().iter().map(|step| step.level.t).collect()
}

#[test]
fn stable_diffusion_takes_51_calls_and_the_class_defaults_59() {
    let shipped = times(&Config::from_json(STABLE_DIFFUSION).unwrap(), 50);
    assert_eq!(
        (shipped.len(), &shipped[..4], &shipped[49..]),
        (51, &[981.0, 961.0, 961.0, 941.0][..], &[21.0, 1.0][..])
    );
    let default = times(&Config::from_json_as("{}", "pndm").unwrap(), 50);
    assert_eq!((default.len(), &default[..5]), (59, &[980.0, 970.0, 970.0, 960.0, 960.0][..]));
}

/// The weight of the first noise in the first sample.
fn start(config: &Config) -> f64 {
    let plan = config.plan(50, Reading::Diffusers).unwrap();
    plan.row(plan.steps()[0].sample).terms().next().unwrap().1
}

#[test]
fn an_absent_key_takes_the_default_of_the_class_that_reads() {
    let pndm = Config::from_json(STABLE_DIFFUSION).unwrap();
    let lms = pndm.with_class("lms").unwrap();
    let origin = |config: &Config, key: &str| config.values().find(|(name, ..)| *name == key).unwrap();
    assert_eq!(origin(&pndm, "timestep_spacing"), ("timestep_spacing", json!("leading"), Origin::Default));
    assert_eq!(origin(&lms, "timestep_spacing"), ("timestep_spacing", json!("linspace"), Origin::Default));
    assert_eq!(origin(&lms, "steps_offset"), ("steps_offset", json!(1), Origin::File));
    let held = lms.with("timestep_spacing", "leading").unwrap();
    assert_eq!(origin(&held, "timestep_spacing"), ("timestep_spacing", json!("leading"), Origin::Override));
    // diffusers prints these with six digits.
    assert!((start(&lms) - 14.6146).abs() < 5e-5 && (start(&held) - 13.1585).abs() < 5e-5);

    // The same file, saved with every value.
    let saved = STABLE_DIFFUSION.replacen('{', r#"{"timestep_spacing": "leading", "#, 1);
    let saved = Config::from_json(&saved).unwrap().with_class("LMSDiscreteScheduler").unwrap();
    assert_eq!(origin(&saved, "timestep_spacing").2, Origin::File);
    assert_eq!(start(&saved), start(&held));
    // And with the list of values that are only defaults.
    let listed = STABLE_DIFFUSION.replacen(
        '{',
        r#"{"timestep_spacing": "leading", "_use_default_values": ["timestep_spacing"], "#,
        1,
    );
    assert_eq!(start(&Config::from_json(&listed).unwrap().with_class("lms").unwrap()), start(&lms));

    assert_eq!(lms.ignored().collect::<Vec<_>>(), ["clip_sample", "set_alpha_to_one", "skip_prk_steps"]);
    assert_eq!(
        held.to_string().lines().nth(7).unwrap().split_whitespace().collect::<Vec<_>>(),
        ["timestep_spacing", "\"leading\"", "override"]
    );
}

#[test]
fn the_configs_that_diffusers_saves_are_read() {
    let path = format!("{}/../../data/golden/schedulers/configs.json", env!("CARGO_MANIFEST_DIR"));
    let texts: Vec<String> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(texts.len(), Class::ALL.iter().filter(|class| class.is_in_diffusers()).count());
    for text in texts {
        let config = Config::from_json(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        // The file contains every default of diffusers, so it is the same as an empty file.
        let bare = Config::from_json_as("{}", config.class().name()).unwrap();
        assert_eq!(config.plan(9, Reading::Exact), bare.plan(9, Reading::Exact), "{}", config.class());
        assert_eq!(config.plan(9, Reading::Diffusers), bare.plan(9, Reading::Diffusers), "{}", config.class());
        // The keys that it does not read are for flow-matching networks.
        let foreign = ["flow_shift", "shift_terminal", "time_shift_type", "use_dynamic_shifting"];
        assert!(
            config.ignored().all(|key| foreign.contains(&key)),
            "{}: {:?}",
            config.class(),
            config.ignored().collect::<Vec<_>>()
        );
    }
}

/// The configs that `StableDiffusionPipeline` and `from_config` make of files; `data/golden/schedulers/make.py` ran diffusers.
#[test]
fn a_pipeline_sets_what_diffusers_pipeline_sets() {
    let path = format!("{}/../../data/golden/schedulers/pipelines.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut counts = [0; 3];
    for case in &cases {
        let kind = case["kind"].as_str().unwrap();
        let own = Config::from_json_as(&case["file"].to_string(), kind).unwrap().in_pipeline().unwrap();
        let options = case["options"].as_object().unwrap();
        let other = case["other"].as_str().or((!options.is_empty()).then_some(kind));
        let mut config = other.map_or(own.clone(), |name| own.with_class(name).unwrap());
        for (key, value) in options {
            config = config.with(key, value.clone()).unwrap();
        }
        let found: Map<String, Value> = config.values().map(|(key, value, _)| (key.to_owned(), value)).collect();
        for (key, value) in case["values"].as_object().unwrap() {
            // `-Infinity` and `null` are both no limit; a class of diffusers can have options that it does not have here.
            let Some(found) = found.get(key).filter(|_| value != "-Infinity") else { continue };
            let same = value == found || value.is_number() && value.as_f64() == found.as_f64();
            assert!(same, "{key}: {found}, diffusers has {value}: {case}");
            counts[0] += 1;
        }
        let resolved = Config::from_resolved(&config.resolved()).unwrap();
        assert_eq!(resolved.plan(9, Reading::Diffusers), config.plan(9, Reading::Diffusers));
        counts[1] += usize::from(!config.set_by_pipeline().is_empty());
        counts[2] += 1;
    }
    assert!(counts[0] > 5000 && counts[1] > 50 && counts[2] > 500, "{counts:?}");
}

#[test]
fn the_options_that_a_pipeline_changes_are_listed() {
    let ddim = r#"{"_class_name": "DDIMScheduler", "steps_offset": 0}"#;
    let own = Config::from_json(ddim).unwrap();
    assert!(own.set_by_pipeline().is_empty());
    let piped = own.in_pipeline().unwrap();
    let set = [("clip_sample", json!(true), json!(false)), ("steps_offset", json!(0), json!(1))];
    let mut said = piped.set_by_pipeline();
    said.sort_by_key(|(key, ..)| *key);
    assert_eq!(said, set);
    // An override stays, and a value that the pipeline does not change is not listed.
    let set = piped.with("clip_sample", true).unwrap();
    assert_eq!(set.set_by_pipeline(), [("steps_offset", json!(0), json!(1))]);
    let tcd = piped.with_class("tcd").unwrap().set_by_pipeline();
    assert!(tcd.contains(&("eta", json!(0.3), json!(0.0))), "{tcd:?}");
    assert!(Config::from_json(STABLE_DIFFUSION).unwrap().in_pipeline().unwrap().set_by_pipeline().is_empty());
    // The pipelines of SDXL change neither, also in another class or with another file.
    let xl = own.in_pipeline_of(Pipeline::StableDiffusionXl).unwrap();
    for config in [xl.clone(), xl.with_class("pndm").unwrap(), xl.with_file(ddim).unwrap()] {
        assert_eq!(config.set_by_pipeline(), [], "{config}");
    }
    assert_eq!(xl.with_class("tcd").unwrap().set_by_pipeline(), [("eta", json!(0.3), json!(0.0))]);
}

#[test]
fn without_the_noisiest_times_there_are_fewer_calls() {
    let cosine =
        r#"{"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -1.0, "timestep_spacing": "trailing"}"#;
    let config = Config::from_json_as(cosine, "dpm_multistep").unwrap();
    // As diffusers 0.42.1 counts them.
    let (whole, half) = (times(&config, 20), config.plan_from_image(20, 0.5, Reading::Diffusers).unwrap());
    assert_eq!((whole.len(), whole[0], whole[15]), (16, 772.0, 22.0));
    assert_eq!((half.calls(), half.steps()[0].level.t), (6, 272.0));
    assert!(matches!(config.plan_from_image(20, 0.05, Reading::Diffusers), Err(Error::Strength { .. })));
    assert_eq!(config.plan(20, Reading::Exact).unwrap().calls(), 20);
}

#[test]
fn a_class_has_a_short_name_and_a_long_one() {
    for class in Class::ALL {
        assert_eq!((class_of(class.name()), class_of(&class.to_string())), (Ok(class), Ok(class)));
    }
    let mut names: Vec<&str> = Class::names().collect();
    for name in &names {
        // Every name makes a plan with its options and the defaults of the class.
        assert!(Config::from_json_as("{}", name).unwrap().plan(10, Reading::Exact).is_ok(), "{name}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Class::names().count(), "no name twice");
}

/// A resolved config has the defaults of its class, as a file that diffusers saved: `variance_type` is null where no network learns it.
#[test]
fn a_resolved_config_of_any_class_is_read_by_ddpm_and_one_of_ddpm_by_any() {
    let read = |from: &str, by: &str| {
        let own = Config::from_json(STABLE_DIFFUSION).unwrap().with_class(from).unwrap();
        let read = Config::from_resolved(&own.resolved()).unwrap().with_class(by).map_err(|error| error.to_string());
        assert_eq!(
            read.map(|read| read.schedule().betas().to_vec()),
            Ok(own.schedule().betas().to_vec()),
            "{from} by {by}"
        );
    };
    let same_betas = |class: &&Class| Config::from_json(STABLE_DIFFUSION).unwrap().with_class(class.name()).is_ok();
    for class in Class::ALL.iter().filter(same_betas) {
        read(class.name(), "ddpm");
        read("ddpm", class.name());
    }
    let ddpm = |variance: Value| {
        let config = Config::from_json_as(STABLE_DIFFUSION, "ddpm").unwrap();
        config.with("variance_type", variance).unwrap().plan(20, Reading::Diffusers).unwrap()
    };
    assert_eq!(ddpm(json!(null)), ddpm(json!("fixed_small")), "as in diffusers, whose outputs are equal");
}

#[test]
fn a_short_name_sets_options_below_overrides() {
    let value = |config: &Config, name: &str| config.values().find(|(known, ..)| *known == name).unwrap();
    let config = Config::from_json_as(STABLE_DIFFUSION, "dpm++3m_sde").unwrap();
    assert_eq!(value(&config, "solver_order"), ("solver_order", 3.into(), Origin::Name));
    assert_eq!(value(&config, "algorithm_type"), ("algorithm_type", "sde-dpmsolver++".into(), Origin::Name));
    let second = config.with("solver_order", 2).unwrap();
    assert_eq!(value(&second, "solver_order"), ("solver_order", 2.into(), Origin::Override));
    // Another name sets its own options, and overrides stay.
    let other = config.with_class("dpm++2m").unwrap();
    assert_eq!(value(&other, "solver_order"), ("solver_order", 2.into(), Origin::Name));
    assert_eq!(value(&second.with_class("dpm++3m").unwrap(), "solver_order").1, 2);
    assert_eq!(value(&config.with_class("unipc").unwrap(), "solver_order").2, Origin::Default);
}

#[test]
fn with_file_keeps_the_training_of_the_network() {
    let own = STABLE_DIFFUSION.replacen('{', r#"{"prediction_type": "v_prediction", "#, 1);
    let own = Config::from_json(&own).unwrap();
    let other = r#"{"_class_name": "UniPCMultistepScheduler", "solver_order": 3, "beta_end": 0.011}"#;
    let both = own.with_file(other).unwrap();
    let value = |name: &str| both.values().find(|(known, ..)| *known == name).unwrap();
    assert_eq!(both.class(), Class::UniPc);
    assert_eq!(value("solver_order"), ("solver_order", 3.into(), Origin::File));
    // Values of the file count; options of the training that are not in it are the network's.
    assert_eq!((value("beta_end").1, value("beta_start").1), (json!(0.011), json!(0.00085)));
    assert_eq!(value("prediction_type").1, "v_prediction");
    // The other options are not kept: the class has its own default.
    assert_eq!(value("steps_offset"), ("steps_offset", 0.into(), Origin::Default));
    // A value that the file lists as a default does not count; overrides are the network's too.
    let listed =
        r#"{"_class_name": "DDIMScheduler", "prediction_type": "epsilon", "_use_default_values": ["prediction_type"]}"#;
    assert_eq!(own.with_file(listed).unwrap().prediction(), Prediction::Velocity);
    let sample = own.with("beta_schedule", "linear").unwrap().with("prediction_type", "epsilon").unwrap();
    assert_eq!(sample.with_file(other).unwrap().prediction(), Prediction::Epsilon);
    let black = Config::from_json(&STABLE_DIFFUSION.replace("PNDM", "DDIM"))
        .unwrap()
        .with("rescale_betas_zero_snr", true)
        .unwrap();
    assert_eq!(black.with_file(other).unwrap().schedule().sigmas()[999], Level::PURE_NOISE);
    // `trained_betas` would take precedence over the betas in the file.
    let trained = own.with("trained_betas", vec![0.01; 1000]).unwrap();
    assert_eq!(trained.with_file(other).unwrap().schedule().betas()[999] as f32, 0.011);
    assert_eq!(trained.with_file(r#"{"_class_name": "DDIMScheduler"}"#).unwrap().schedule().betas()[999] as f32, 0.01);
    assert!(own.with_file("{}").unwrap_err().to_string().ends_with("_class_name is missing"));
}

#[test]
fn options_that_diffusers_lacks_are_read_from_overrides_only() {
    // A file can contain options of another class, which `from_config` of diffusers passes on.
    let file = r#"{"use_karras_sigmas": true, "clip_sample": false}"#;
    let config = Config::from_json_as(file, "ddim").unwrap();
    assert_eq!(config.ignored().collect::<Vec<_>>(), ["use_karras_sigmas"]);
    let bare = Config::from_json_as(r#"{"clip_sample": false}"#, "ddim").unwrap();
    assert_eq!(config.plan(7, Reading::Exact), bare.plan(7, Reading::Exact));
    let karras = config.with("use_karras_sigmas", true).unwrap();
    assert_ne!(karras.plan(7, Reading::Exact), bare.plan(7, Reading::Exact));
    assert_eq!(
        karras.plan(7, Reading::Diffusers).unwrap_err().to_string(),
        "use_karras_sigmas: true is not in diffusers' DDIMScheduler; the exact reading has it"
    );
}

#[test]
fn infinities_as_python_writes_them_are_read() {
    let file =
        r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "_note": "NaN Infinity"}"#;
    let config = Config::from_json(file).unwrap();
    assert_eq!(
        config.plan(9, Reading::Diffusers),
        Config::from_json_as("{}", "dpm++2m").unwrap().plan(9, Reading::Diffusers)
    );
    assert!(Config::from_json(r#"{"_class_name": "PNDMScheduler", "beta_start": NaN}"#).is_err());
}

#[test]
fn the_error_of_a_wrong_config_is_one_line() {
    let check = |class: &str, text: &str, want: &str| {
        let found = Config::from_json_as(text, class).expect_err(text).to_string();
        assert_eq!(found, want, "{text}");
    };
    check("ddpm", "[1]", "scheduler config: expected a JSON object, found [1]");
    let unknown = |name: &str, nearest: &str| {
        let want =
            format!("scheduler class: expected a short name, or diffusers' name of a class, found {name}{nearest}");
        check(name, "{}", &want);
    };
    unknown("sde-vp-by-hand", " (`latentrace schedule --list` lists all names)");
    unknown("LMSDiscreteSchedular", " (nearest: LMSDiscreteScheduler)");
    unknown("dpm++2m-sde", " (nearest: dpm++2m_sde)");
    check(
        "pndm",
        r#"{"prediction_type": "samples"}"#,
        r#"prediction_type: expected epsilon, v_prediction, sample, found "samples" (nearest: sample)"#,
    );
    check("ddim", r#"{"eta": 1.5}"#, "eta: expected a number in 0..=1, found 1.5");
    check("dpm_multistep", r#"{"solver_order": 4}"#, "solver_order: expected a whole number in 1..=3, found 4");
    check(
        "unipc",
        r#"{"use_flow_sigmas": true}"#,
        "use_flow_sigmas: true is for flow-matching networks, whose samples are not x₀ + sigma·noise",
    );
    check(
        "euler",
        r#"{"sigmas": [1, 2, 0]}"#,
        "sigmas: expected null or a falling list of two numbers or more in 0..=1e7, one more than there are steps, found [1,2,0]",
    );
    check("euler", r#"{"sigma_min": 2, "sigma_max": 1}"#, "sigma_max: expected a number above sigma_min, 2, found 1");
    check(
        "lms",
        r#"{"timestep_spacing": "linspaced"}"#,
        r#"timestep_spacing: expected leading, linspace, trailing, ays, found "linspaced" (nearest: linspace)"#,
    );
    check(
        "lms",
        r#"{"beta_schedule": 3}"#,
        "beta_schedule: expected linear, scaled_linear, squaredcos_cap_v2, sigmoid, laplace, exp, found 3",
    );
    check("lms", r#"{"beta_start": 1.5}"#, "beta_start: expected a number above 0 and below 1, found 1.5");
    check(
        "lms",
        r#"{"num_train_timesteps": 1}"#,
        "num_train_timesteps: expected a whole number in 2..=100000, found 1",
    );
    check("lms", r#"{"order": 5}"#, "order: expected a whole number in 1..=4, found 5");
    check(
        "lms",
        r#"{"use_karras_sigmas": true, "use_beta_sigmas": true}"#,
        "use_karras_sigmas, use_beta_sigmas: expected one of them at most, found both",
    );
    check(
        "euler",
        r#"{"use_karras_sigmas": true, "timesteps": [900, 500]}"#,
        "timesteps, use_karras_sigmas: expected one of them at most, found both",
    );
    check(
        "lms",
        r#"{"trained_betas": [0.1]}"#,
        "trained_betas: expected 1000 numbers, as num_train_timesteps says, found 1 numbers",
    );
    check(
        "lms",
        r#"{"trained_betas": [0.1, 1.0], "num_train_timesteps": 2}"#,
        "betas: 1 at time 1: expected a number above 0 and below 1",
    );
    check(
        "lms",
        r#"{"beta_start": 1e-9}"#,
        "betas: 0.000000001 at time 0: there is no noise, or no signal left, that single precision could hold",
    );
    check("ddpm", r#"{"clip_sample": "yes"}"#, r#"clip_sample: expected true or false, found "yes""#);
    check(
        "ddpm",
        r#"{"variance_type": "learned_range"}"#,
        "variance_type: learned_range needs a network that predicts its own variance, and latent diffusion networks do not",
    );
    check(
        "ddpm",
        r#"{"timesteps": [5, 7]}"#,
        "timesteps: expected null or a falling list of whole numbers in 0..=999, found [5,7]",
    );

    check(
        "lms",
        r#"{"beta_scedule": "linear"}"#,
        "beta_scedule: no scheduler has such an option (nearest: beta_schedule)",
    );
    check(
        "lms",
        r#"{"predict_epsilon": false}"#,
        "predict_epsilon: false is the old form of \"prediction_type\": \"sample\", which works",
    );
    let first = r#"{"tensor_format": "pt", "predict_epsilon": true}"#;
    assert!(Config::from_json_as(first, "lms").is_ok(), "as files of 2022 have them");
    // Options of other classes, and those that a newer diffusers saves, are allowed.
    let saved =
        r#"{"solver_order": 3, "flow_shift": 1.0, "use_dynamic_shifting": false, "_diffusers_version": "0.42.1"}"#;
    let others = Config::from_json_as(saved, "lms").unwrap();
    assert_eq!(others.ignored().collect::<Vec<_>>(), ["flow_shift", "solver_order", "use_dynamic_shifting"]);

    let named = |text: &str| Config::from_json(text).unwrap_err().to_string();
    assert!(named("{}").ends_with("_class_name is missing"));
    assert!(named(r#"{"_class_name": "DDIMScheduller"}"#).ends_with("found DDIMScheduller (nearest: DDIMScheduler)"));
}

#[test]
fn the_error_of_an_impossible_plan_is_one_line() {
    let config = |class: &str| Config::from_json(STABLE_DIFFUSION).unwrap().with_class(class).unwrap();
    let check = |found: Result<latentrace_schedulers::Plan, Error>, want: &str| {
        assert_eq!(found.map(|_| ()).unwrap_err().to_string(), want)
    };
    let both = [Reading::Diffusers, Reading::Exact];
    for reading in both {
        check(config("pndm").plan(0, reading), "steps: expected 1 to 1000, the training times, found 0");
        check(config("lms").plan(1001, reading), "steps: expected 1 to 1000, the training times, found 1001");
        check(config("ddpm").plan(1000, reading), "timesteps: 1000 is outside the training times 0 to 999");
        check(
            config("pndm").plan_from_image(5, 1.5, reading),
            "strength: expected a number that leaves 1 to 5 steps of 5, found 1.5",
        );
        let black =
            config("ddpm").with("rescale_betas_zero_snr", true).unwrap().with("timestep_spacing", "trailing").unwrap();
        check(
            black.plan(4, reading),
            "prediction_type: epsilon gives no estimate at zero signal (rescale_betas_zero_snr), where sigma is infinite",
        );
        assert!(black.with("prediction_type", "v_prediction").unwrap().plan(4, reading).is_ok());
        let timed = config("ddpm").with("timesteps", vec![900, 400]).unwrap();
        check(timed.plan(3, reading), "steps: expected 2, the length of timesteps, found 3");
    }
    check(
        config("lms").with("timestep_spacing", "leading").unwrap().plan(1000, Reading::Diffusers),
        "step 1 of 1000: a coefficient is not finite: two noise levels are equal, or a step of higher order ends at sigma 0",
    );
    check(
        config("pndm").with("skip_prk_steps", false).unwrap().plan(3, Reading::Diffusers),
        "steps: expected 4 or more while skip_prk_steps is false, found 3",
    );
    check(
        config("lms").with("timestep_spacing", "trailing").unwrap().plan(61, Reading::Diffusers),
        "steps: 61 with trailing spacing makes diffusers call the network once more, at time -1; the exact reading does not",
    );
    let large = config("ddpm").with("variance_type", "fixed_large_log").unwrap();
    check(
        large.plan(4, Reading::Diffusers),
        "variance_type: fixed_large_log is the square root of a negative number in diffusers; the exact reading reads it as fixed_large",
    );
    let ipndm = config("ipndm").with("prediction_type", "v_prediction").unwrap();
    let refuses = |config: &Config, steps: usize, want: &str| check(config.plan(steps, Reading::Diffusers), want);
    let untrained = "is read as v_prediction by diffusers' IPNDMScheduler; v_prediction works, and the exact reading reads each as it is";
    refuses(&config("ipndm"), 5, &format!("prediction_type: epsilon {untrained}"));
    let sample = ipndm.with("prediction_type", "sample").unwrap();
    refuses(&sample, 5, &format!("prediction_type: sample {untrained}"));
    let unread = [
        ("beta_schedule", json!("linear")),
        ("beta_start", json!(0.001)),
        ("timestep_spacing", json!("trailing")),
        ("order", json!(2)),
        ("timesteps", json!([900, 400])),
        ("sigmas", json!([9, 1, 0])),
        ("use_karras_sigmas", json!(true)),
    ];
    for (name, value) in unread {
        let want = format!("{name}: {value} is not in diffusers' IPNDMScheduler; the exact reading has it");
        let other = ipndm.with(name, value).unwrap();
        refuses(&other, 2, &want);
        assert!(other.plan(2, Reading::Exact).is_ok(), "{name}");
    }
    check(
        ipndm.plan_from_image(10, 0.5, Reading::Diffusers),
        "strength: 0.5 needs noise added to an image, which diffusers' IPNDMScheduler cannot do; the exact reading can",
    );
    refuses(
        &ipndm,
        1,
        "steps: expected 2 or more, because diffusers' IPNDMScheduler returns zeros after one step, found 1",
    );
    refuses(&ipndm, 1001, "steps: expected 1 to 1000, the training times, found 1001");
    refuses(
        &ipndm.with("num_train_timesteps", 10000).unwrap(),
        7000,
        "steps: expected fewer, because the first two times are equal in single precision, and diffusers begins at the wrong step, found 7000",
    );
    let given = |levels: Value| {
        ipndm
            .with("num_train_timesteps", levels.as_array().unwrap().len())
            .unwrap()
            .with("trained_betas", levels)
            .unwrap()
    };
    refuses(
        &given(json!([0.9, 0.5, 0.1])),
        3,
        "steps: expected 2, one less than trained_betas, which diffusers' IPNDMScheduler uses as its levels, found 3",
    );
    refuses(
        &given(json!([0.1, 0.5, 0.9])),
        2,
        "trained_betas: numbers that do not fall cannot be levels down from noise; the exact reading uses them as variances",
    );
    assert_eq!(
        config("lms").with("ordre", 2).unwrap_err().to_string(),
        "ordre: LMSDiscreteScheduler has no such option (nearest: order)"
    );
}

#[test]
fn the_exact_reading_corrects_the_faults() {
    let pndm = Config::from_json(STABLE_DIFFUSION).unwrap();
    let result = |plan: &latentrace_schedulers::Plan| plan.row(plan.result());
    // Ends clean: the weight of the last output is −sigma, not sigma(0) − sigma.
    let plans = [Reading::Diffusers, Reading::Exact].map(|reading| pndm.plan(1, reading).unwrap());
    let outputs = plans.each_ref().map(|plan| result(plan).coefficient(plan.steps()[0].output));
    let sigma = plans[1].steps()[0].level.sigma;
    assert!((outputs[1] + sigma).abs() < 1e-15 && (outputs[0] + sigma).abs() > 0.02);
    // One step of linspace starts from noise.
    let lms = pndm.with_class("lms").unwrap();
    assert_eq!(
        [Reading::Diffusers, Reading::Exact].map(|reading| lms.plan(1, reading).unwrap().steps()[0].level.t),
        [0.0, 999.0]
    );
    // The result of IPNDM depends on its first output, and on its second.
    let ipndm = pndm.with_class("ipndm").unwrap().with("prediction_type", "v_prediction").unwrap();
    let used = [Reading::Diffusers, Reading::Exact].map(|reading| {
        let plan = ipndm.plan(10, reading).unwrap();
        let result = result(&plan);
        [0, 1].map(|call: usize| result.coefficient(plan.steps()[call].output) != 0.0)
    });
    assert_eq!(used, [[false, true], [true, true]]);
    // Runs of fewer steps than the Runge-Kutta start of diffusers needs.
    let warm = pndm.with("skip_prk_steps", false).unwrap();
    assert_eq!([1, 2, 3, 4, 10].map(|steps| warm.plan(steps, Reading::Exact).unwrap().calls()), [1, 5, 9, 13, 19]);
    // The first step from an image makes both calls.
    assert_eq!(pndm.plan_from_image(10, 0.5, Reading::Exact).unwrap().calls(), 6);
    // The last draw, which has no use, is left out: with offset 1 the last time is 1.
    let ddpm = pndm.with_class("ddpm").unwrap();
    assert_eq!([Reading::Diffusers, Reading::Exact].map(|reading| ddpm.plan(7, reading).unwrap().draws()), [8, 7]);
    // Both readings draw the noise of the image first.
    for reading in [Reading::Diffusers, Reading::Exact] {
        assert_eq!(ddpm.plan_from_image(7, 0.5, reading).unwrap().ops()[..2], [Op::Given, Op::Noise]);
    }
}

#[test]
fn a_strength_is_truncated_to_whole_steps_as_in_python() {
    let ddpm = Config::from_json(STABLE_DIFFUSION).unwrap().with_class("ddpm").unwrap();
    let calls = |steps, strength| ddpm.plan_from_image(steps, strength, Reading::Diffusers).map(|plan| plan.calls());
    // 3.6 steps, and twice 28.999999999999996
    assert_eq!([calls(12, 0.3), calls(50, 0.58), calls(100, 0.29)].map(Result::unwrap), [3, 28, 28]);
    for strength in [0.0, 0.08, 1.01, -0.5, f64::NAN, f64::INFINITY] {
        assert!(matches!(calls(12, strength), Err(Error::Strength { .. })), "{strength}");
    }
}

#[test]
fn the_exact_reading_does_not_round_a_strength() {
    let lms = Config::from_json(STABLE_DIFFUSION).unwrap().with_class("lms").unwrap();
    let levels = lms.levels(10).unwrap();
    let start = |strength| {
        let plan = lms.plan_from_image(10, strength, Reading::Exact).unwrap();
        (plan.calls(), plan.steps()[0].level)
    };
    for taken in 1..=10 {
        assert_eq!(start(taken as f64 / 10.0), (taken, levels[10 - taken]), "whole steps are whole steps");
    }
    // 3.4 steps begin 0.4 of the way from the level with 3 steps left to that with 4, in log sigma; 3.6 steps 0.6 of the way.
    for (strength, calls, share) in [(0.34, 3, 0.4), (0.36, 4, 0.6)] {
        let sigma = levels[7].sigma * (levels[6].sigma / levels[7].sigma).powf(share);
        let (found, level) = start(strength);
        assert!(
            found == calls && (level.sigma / sigma - 1.0).abs() < 1e-12,
            "{strength}: {found} calls from {level:?}"
        );
        assert_eq!(level.t, lms.schedule().time(level.sigma));
    }
    // The last step is linear in sigma down to 0, and so is a share of it.
    let (calls, level) = start(0.01);
    assert!(calls == 1 && (level.sigma / levels[9].sigma - 0.1).abs() < 1e-12, "{calls} calls from {level:?}");
    for strength in [0.0, 1.01, -0.5, f64::NAN, f64::INFINITY] {
        assert!(matches!(lms.plan_from_image(10, strength, Reading::Exact), Err(Error::Strength { .. })), "{strength}");
    }
    for reading in [Reading::Diffusers, Reading::Exact] {
        assert!(matches!(lms.plan_from_image(0, 0.5, reading), Err(Error::Steps { found: 0, .. })));
    }
    // It is an error if there is no level below.
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        for class in Class::ALL {
            let found = lms.with_class(class.name()).unwrap().plan_from_sample(10, Level { t: 0.0, sigma });
            assert!(matches!(found, Err(Error::Value { .. } | Error::Inverse)), "{class} at {sigma}");
        }
    }
    // From an image at any level: noise is added up to that level, then come the levels below.
    let plan = lms.plan_from_image_at(10, level).unwrap();
    assert_eq!((plan.ops()[..2].to_vec(), plan.calls(), plan.steps()[0].level), (vec![Op::Given, Op::Noise], 1, level));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u64..2000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0.0..1.0f64).prop_map(Value::from),
        prop::sample::select(vec![
            "linear",
            "sigmoid",
            "laplace",
            "sample",
            "v_prediction",
            "trailing",
            "linspace",
            "fixed_large",
            "LMSDiscreteScheduler",
            "DDPMScheduler",
            "DPMSolverMultistepScheduler",
            "UniPCMultistepScheduler",
            "SASolverScheduler",
            "sde-dpmsolver++",
            "heun",
            "sigma_min",
            "é"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,4}", inner, 0..3).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

fn exercise(config: &Config, steps: usize) {
    for class in Class::ALL {
        let Ok(config) = config.with_class(class.name()) else { continue };
        for reading in [Reading::Diffusers, Reading::Exact] {
            for plan in [config.plan(steps, reading), config.plan_from_image(steps, 0.6, reading)].into_iter().flatten()
            {
                assert!(plan.rows().iter().all(latentrace_schedulers::Form::is_finite), "{config}");
            }
        }
    }
}

proptest! {
    // Ten thousand configs: random values and mutated text.
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_value_is_a_config_or_an_error(changes in prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..4), steps in 1usize..20) {
        let mut file: Value = serde_json::from_str(STABLE_DIFFUSION).unwrap();
        let keys = ["_class_name", "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
            "timestep_spacing", "steps_offset", "variance_type", "clip_sample", "clip_sample_range", "thresholding",
            "dynamic_thresholding_ratio", "sample_max_value", "rescale_betas_zero_snr", "timesteps", "skip_prk_steps",
            "set_alpha_to_one", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "order", "_use_default_values",
            "solver_order", "solver_type", "algorithm_type", "final_sigmas_type", "lower_order_final", "lambda_min_clipped", "eta",
            "s_churn", "s_tmax", "sigmas", "interpolation_type", "timestep_type", "original_inference_steps", "predictor_order",
            "corrector_order", "predict_x0", "disable_corrector", "sigma_min", "sigma_max"];
        for (key, value) in changes {
            file[*key.get(&keys)] = value;
        }
        match Config::from_json(&file.to_string()) {
            Ok(config) => exercise(&config, steps),
            Err(error) => prop_assert!(!error.to_string().contains('\n') && error.to_string().len() < 700, "{error}"),
        }
    }

    #[test]
    fn any_text_is_a_config_or_an_error(edits in prop::collection::vec(any::<Edit>(), 1..6)) {
        if let Ok(config) = Config::from_json(&mutated(STABLE_DIFFUSION, edits)) {
            exercise(&config, 5);
        }
    }
}
