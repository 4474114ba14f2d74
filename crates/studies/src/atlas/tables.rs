//! The tables of the atlas, as Markdown.

use super::world::{
    CONFIG, READINGS, SPACINGS, STARTS, distance, ends, error, error_at, mixture, rounded, spaced, variance,
};
use crate::stability::limit_at_20;
use anyhow::{Context, Result};
use latentrace_pipeline::schedulers::{Class, Config, Origin, Reading};
use std::fmt::Write;

/// The short name of a sampler, and its config.
pub type Sampler = (&'static str, Config);

/// The numbers of network calls at which samplers are compared.
pub const BUDGETS: [usize; 5] = [6, 10, 20, 40, 80];

/// The samplers of the atlas: those that draw noise only once, and those that draw more. Left out are the samplers of
/// distilled networks, which have another exact solution; inversion; `edm`, which is Heun with sigmas that have their
/// own column; and two classes whose defaults have shorter names.
pub fn samplers() -> Result<[Vec<Sampler>; 2]> {
    let (mut straight, mut random) = (Vec::new(), Vec::new());
    for name in Class::names() {
        let config = Config::from_json_as(CONFIG, name)?;
        let is_elsewhere = ["edm", "dpm_multistep", "dpm_singlestep"].contains(&name);
        if matches!(config.class(), Class::Lcm | Class::Tcd | Class::DdimInverse) || is_elsewhere {
            continue;
        }
        let draws = config.plan(10, Reading::Exact)?.draws();
        if draws > 1 { random.push((name, config)) } else { straight.push((name, config)) }
    }
    Ok([straight, random])
}

/// A small number, as the tables show it.
pub fn shown(number: Option<f64>) -> String {
    number.map_or("–".into(), |number| format!("{number:.1e}"))
}

fn head(first: &[&str], columns: &[String]) -> String {
    let mut text = String::from("|");
    first.iter().for_each(|column| text += &format!(" {column} |"));
    columns.iter().for_each(|column| text += &format!(" {column} |"));
    text + "\n|" + &"---|".repeat(first.len() + columns.len()) + "\n"
}

/// A table with a row for each sampler and reading.
fn by_reading(
    samplers: &[Sampler],
    columns: &[String],
    cell: impl Fn(&Config, usize, Reading) -> Option<f64>,
) -> Result<String> {
    let mut text = head(&["sampler", "reading"], columns);
    for (name, config) in samplers {
        for (reading, word) in READINGS {
            write!(text, "| {} | {word} |", if reading == Reading::Diffusers { *name } else { "" })?;
            for column in 0..columns.len() {
                write!(text, " {} |", shown(cell(config, column, reading)))?;
            }
            text.push('\n');
        }
    }
    Ok(text)
}

/// A table with a row for each sampler, in the exact reading.
fn exact(samplers: &[Sampler], columns: &[String], cell: impl Fn(&Config, usize) -> String) -> Result<String> {
    let mut text = head(&["sampler"], columns);
    for (name, config) in samplers {
        write!(text, "| {name} |")?;
        for column in 0..columns.len() {
            write!(text, " {} |", cell(config, column))?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// The third order of DPM-Solver at few steps: errors in both readings, compared with the second order, and variances.
pub fn third_order() -> Result<String> {
    let config = |order: usize, algorithm: &str, spread: &str| -> Result<Config> {
        let options = [("solver_order", order.into()), ("algorithm_type", algorithm.into()), (spread, true.into())];
        Ok(Config::from_json_as(CONFIG, "dpm_multistep")?.with_all(options)?)
    };
    let columns = [
        "steps",
        "second order",
        "third of diffusers",
        "third mended",
        "variance: second",
        "third of diffusers",
        "third mended",
        "third of sde-dpmsolver",
    ];
    let mut text = head(&["sigmas"], &columns.map(String::from));
    for (spread, name) in [("use_karras_sigmas", "karras"), ("use_exponential_sigmas", "exponential")] {
        for steps in [5, 10, 15, 20, 30, 40, 60, 100] {
            write!(text, "| {name} | {steps} |")?;
            for (order, reading) in [(2, Reading::Exact), (3, Reading::Diffusers), (3, Reading::Exact)] {
                let config = config(order, "dpmsolver++", spread)?;
                write!(text, " {} |", shown(Some(error(&config, &config.plan(steps, reading)?, None))))?;
            }
            let drawing = [
                (2, "sde-dpmsolver++", Reading::Exact),
                (3, "sde-dpmsolver++", Reading::Diffusers),
                (3, "sde-dpmsolver++", Reading::Exact),
                (3, "sde-dpmsolver", Reading::Exact),
            ];
            for (order, algorithm, reading) in drawing {
                let config = config(order, algorithm, spread)?;
                write!(text, " {:.2} |", variance(&config, &config.plan(steps, reading)?))?;
            }
            text.push('\n');
        }
    }
    Ok(text)
}

/// The method, cost and error of each sampler.
pub fn at_a_glance(straight: &[Sampler], random: &[Sampler]) -> Result<String> {
    let columns =
        ["what it is", "calls of 20 steps", "draws", "stable to", "order", "error", "with Karras", "variance"];
    let mut text = head(&["sampler"], &columns.map(String::from));
    for (name, config) in straight.iter().chain(random) {
        let plan = config.plan(20, Reading::Exact)?;
        let draws = plan.draws() - 1;
        write!(text, "| {name} | {}", config.class().about())?;
        let set = config.values().filter(|(.., origin)| *origin == Origin::Name);
        let set: Vec<String> =
            set.map(|(name, value, _)| format!("`{name}={}`", value.to_string().replace('"', ""))).collect();
        let stable = limit_at_20(config).map_or("–".into(), |limit| format!("{limit:.2}"));
        let separator = if set.is_empty() { "" } else { "; " };
        write!(text, "{separator}{} | {} | {draws} | {stable} |", set.join(" "), plan.calls())?;
        if draws > 0 {
            writeln!(text, " | | | {:.2} |", variance(config, &plan))?;
            continue;
        }
        let karras = spaced(config, "karras").context("Karras sigmas")?;
        let order = format!("{:.1}", mixture().order(config)?);
        let errors = [config, &karras].map(|config| shown(error_at(config, 20, Reading::Exact)));
        writeln!(text, " {order} | {} | {} | |", errors[0], errors[1])?;
    }
    Ok(text)
}

/// The error against the number of network calls.
pub fn against_work(samplers: &[Sampler]) -> Result<String> {
    let columns = BUDGETS.map(|calls| format!("{calls} calls"));
    by_reading(samplers, &columns, |config, column, reading| error_at(config, BUDGETS[column], reading))
}

/// The error with each spacing, at 20 network calls.
pub fn against_spacing(samplers: &[Sampler]) -> Result<String> {
    exact(samplers, &SPACINGS.map(String::from), |config, column| {
        shown(spaced(config, SPACINGS[column]).and_then(|config| error_at(&config, 20, Reading::Exact)))
    })
}

/// The order of convergence with each spacing.
pub fn orders(samplers: &[Sampler]) -> Result<String> {
    exact(samplers, &SPACINGS.map(String::from), |config, column| {
        let order = spaced(config, SPACINGS[column]).and_then(|config| mixture().order(&config).ok());
        order.map_or("–".into(), |order| format!("{order:.2}"))
    })
}

/// Images to start from: the two means of the data, alternating.
pub fn images() -> Vec<f64> {
    (0..STARTS).map(|index| if index % 2 == 0 { -1.0 } else { 0.8 }).collect()
}

/// The error of runs from an image, against strength.
pub fn against_strength(samplers: &[Sampler]) -> Result<String> {
    const STRENGTHS: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 1.0];
    let columns = STRENGTHS.map(|strength| format!("strength {strength}"));
    by_reading(samplers, &columns, |config, column, reading| {
        let plan = config.plan_from_image(40, STRENGTHS[column], reading).ok()?;
        Some(error(config, &plan, Some(&images())))
    })
}

/// How far rounding of the network's outputs moves the results.
pub fn in_low_precision(samplers: &[Sampler]) -> Result<String> {
    const FORMATS: [(&str, i32); 2] = [("f16", 11), ("bf16", 8)];
    const PREDICTIONS: [&str; 3] = ["epsilon", "v_prediction", "sample"];
    let column = |format: &str, prediction: &str| format!("{prediction} in {format}");
    let columns: Vec<String> =
        FORMATS.iter().flat_map(|(format, _)| PREDICTIONS.map(|prediction| column(format, prediction))).collect();
    exact(samplers, &columns, |config, column| {
        let (bits, prediction) = (FORMATS[column / 3].1, PREDICTIONS[column % 3]);
        let moved = || {
            let config = config.with("prediction_type", prediction).ok()?;
            let plan = config.plan(40, Reading::Exact).ok()?;
            let [whole, _] = ends(&config, &plan, &[], |output| output);
            let [rounded, _] = ends(&config, &plan, &[], |output| rounded(output, bits));
            Some(distance([whole, rounded]))
        };
        shown(moved())
    })
}

/// The variances of samplers that draw noise, against the number of steps.
pub fn variances(samplers: &[Sampler]) -> Result<String> {
    const STEPS: [usize; 4] = [10, 20, 50, 200];
    let mut text = head(&["sampler", "reading"], &STEPS.map(|steps| format!("{steps} steps")));
    for (name, config) in samplers {
        for (reading, word) in READINGS {
            write!(text, "| {} | {word} |", if reading == Reading::Diffusers { *name } else { "" })?;
            for steps in STEPS {
                let plan = config.plan(steps, reading).ok();
                let variance = plan.map_or("–".into(), |plan| format!("{:.2}", variance(config, &plan)));
                write!(text, " {variance} |")?;
            }
            text.push('\n');
        }
    }
    Ok(text)
}
