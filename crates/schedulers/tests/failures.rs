//! The cases in which diffusers 0.42.1 raises or makes NaN, and what happens here; `data/golden/schedulers/make.py` found them. Writes
//! the page `docs/schedulers/failures.md`.

use latentrace_schedulers::{Config, Form, Plan, Reading};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn plan(case: &Value, reading: Reading) -> Result<Plan, String> {
    let config = Config::from_json(&case["config"].to_string()).map_err(|error| error.to_string())?;
    let steps = case["steps"].as_u64().unwrap() as usize;
    let plan = match case["strength"].as_f64() {
        None => config.plan(steps, reading),
        Some(strength) => config.plan_from_image(steps, strength, reading),
    };
    plan.map_err(|error| error.to_string())
}

fn cases() -> Vec<Value> {
    let path = format!("{}/../../data/golden/schedulers/failures.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
#[allow(clippy::print_stdout)] // the counts, for `--nocapture`
fn what_fails_in_diffusers_is_an_error_or_a_plan_and_never_a_nan() {
    let cases = cases();
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

const INTRODUCTION: &str = "\
# Where diffusers fails

Every case of the parity grid for which diffusers 0.42.1 (with numpy 2) raises, or computes infinity or NaN, and what happens here. *diffusers*
and *exact* are the two readings of a config; an error is one line that says what is wrong. All cases are in `data/golden/schedulers/failures.json`; `UPDATE=1 cargo test -p latentrace-schedulers --test failures` writes
this page.

| diffusers | classes | for example | cases | diffusers reading | exact reading |
|---|---|---|---|---|---|
";

/// Cases with the same failure in diffusers and the same outcome here.
#[derive(Default)]
struct Group {
    classes: BTreeSet<String>,
    /// The shortest case: its options, and the outcomes in both readings.
    example: (String, [String; 2]),
    count: usize,
}

/// The failure in diffusers, without the parts that differ from class to class.
fn failure(case: &Value) -> String {
    let text = case["failure"].as_str().unwrap();
    for (part, short) in [
        ("cosine is not implemented", "NotImplementedError: beta_schedule"),
        ("prediction_type", "an error: prediction_type"),
        ("quadratic is not", "ValueError: timestep_spacing"),
        ("linspace is not", "ValueError: timestep_spacing"),
        ("IndexError", "IndexError"),
        ("could not be broadcast", "ValueError: shapes"),
        ("Cannot ", "ValueError: `timesteps` with `use_karras_sigmas`"),
        ("Only one of", "ValueError: only one of the sigmas"),
        ("original_steps", "ValueError: more steps than `original_inference_steps`"),
        ("num_inference_steps`", "ValueError: more steps than training times"),
        ("size of tensor", "RuntimeError: shapes"),
        ("UnboundLocalError", "UnboundLocalError"),
        ("AttributeError", "AttributeError: no `add_noise`"),
        ("singular", "LinAlgError: singular"),
        ("final_sigmas_type", "ValueError: `final_sigmas_type`"),
        ("custom_timesteps", "ValueError: order of `timesteps`"),
        ("must start before", "ValueError: range of `timesteps`"),
    ] {
        if text.contains(part) {
            return short.into();
        }
    }
    text.trim_end_matches([' ', ':']).into()
}

fn outcome(case: &Value, reading: Reading) -> String {
    let class = case["config"]["_class_name"].as_str().unwrap();
    plan(case, reading).map_or_else(|error| error.replace(class, "class").replace('|', "/"), |_| "runs".into())
}

/// The options of a case, other than the schedule of Stable Diffusion.
fn asked(case: &Value) -> String {
    let base = ["_class_name", "beta_start", "beta_end", "clip_sample"];
    let options =
        case["config"].as_object().unwrap().iter().filter(|(key, value)| {
            !base.contains(&key.as_str()) && (*key != "beta_schedule" || *value != "scaled_linear")
        });
    let steps = case["steps"].as_u64().unwrap();
    let strength = case["strength"].as_f64().map(|strength| format!("strength={strength}"));
    let said = |(key, value): (&String, &Value)| match value.as_array() {
        Some(list) if list.len() > 9 => format!("{key}=[{} numbers]", list.len()),
        _ => format!("{key}={value}"),
    };
    let words = options.map(said).chain([format!("steps={steps}")]).chain(strength);
    format!("`{}`", words.collect::<Vec<_>>().join(" "))
}

fn page(cases: &[Value]) -> String {
    let mut groups: BTreeMap<[String; 3], Group> = BTreeMap::new();
    let letters = |text: &str| -> String { text.chars().filter(|c| !c.is_numeric()).collect() };
    for case in cases {
        let outcomes = [Reading::Diffusers, Reading::Exact].map(|reading| outcome(case, reading));
        let group = groups.entry([failure(case), letters(&outcomes[0]), letters(&outcomes[1])]).or_default();
        group.classes.insert(case["config"]["_class_name"].as_str().unwrap().replace("Scheduler", ""));
        group.count += 1;
        let asked = asked(case);
        if group.count == 1 || asked.len() < group.example.0.len() {
            group.example = (asked, outcomes);
        }
    }
    let row = |([failure, ..], group): (&[String; 3], &Group)| {
        let Group { classes, example: (asked, [diffusers, exact]), count } = group;
        let classes =
            if classes.len() > 8 { "most".into() } else { classes.iter().cloned().collect::<Vec<_>>().join(", ") };
        let exact = if exact == diffusers && exact != "runs" { "the same" } else { exact };
        format!("| {failure} | {classes} | {asked} | {count} | {diffusers} | {exact} |\n")
    };
    INTRODUCTION.to_owned() + &groups.iter().map(row).collect::<String>()
}

#[test]
fn the_page_of_failures_says_what_is_done() {
    let path = format!("{}/../../docs/schedulers/failures.md", env!("CARGO_MANIFEST_DIR"));
    let page = page(&cases());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "{path} is out of date: UPDATE=1 cargo test -p latentrace-schedulers --test failures");
}
