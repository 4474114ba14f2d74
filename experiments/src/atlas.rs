//! `latentrace scheduler-atlas`: every sampler measured on data whose exact flow is known, as a page.

use anyhow::{Context, Result};
use latentrace_pipeline::nn::replace;
use latentrace_pipeline::schedulers::truth::Mixture;
use latentrace_pipeline::schedulers::{Class, Config, Plan, Reading, run};
use latentrace_plot::{Axis, Chart, Panels, Series, write};
use std::fmt::Write;
use std::path::PathBuf;

/// Measure every sampler on data whose exact flow is known, and write the page docs/schedulers/README.md
#[derive(clap::Args)]
pub struct Atlas {
    /// Folder of the page
    #[arg(long, default_value = "docs/schedulers", value_name = "FOLDER")]
    output: PathBuf,
}

/// Stable Diffusion's training schedule, its levels laid from the last time on.
const CONFIG: &str = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing", "clip_sample": false, "skip_prk_steps": true, "set_alpha_to_one": true}"#;

/// Network calls that samplers are compared at.
const BUDGETS: [usize; 5] = [6, 10, 20, 40, 80];

/// How many starts an error is the root mean square of.
const STARTS: usize = 32;

const READINGS: [Reading; 2] = [Reading::Diffusers, Reading::Exact];

impl Atlas {
    /// Writes the page and its figures.
    pub fn run(self) -> Result<()> {
        let mut samplers = Vec::new();
        for name in Class::names() {
            let config = Config::from_json_as(CONFIG, name)?;
            // Distilled networks and inversions have another truth.
            if !matches!(config.class(), Class::Lcm | Class::Tcd | Class::DdimInverse) {
                samplers.push((name, config));
            }
        }
        let (random, straight): (Vec<_>, Vec<_>) = samplers
            .into_iter()
            .partition(|(_, config)| config.plan(10, Reading::Exact).is_ok_and(|plan| plan.draws() > 1));
        let mut page = INTRODUCTION.to_owned();
        page += &against_work(&straight)?;
        page += &against_strength(&straight)?;
        page += &in_low_precision(&straight)?;
        page += &variances(&random)?;
        let mut made = write(&self.output, "errors", &figure(&straight)).context("scheduler-atlas")?;
        let path = self.output.join("README.md");
        replace(&path, page.as_bytes())?;
        made.push(path);
        made.iter().for_each(|path| println!("  {}", path.display()));
        Ok(())
    }
}

const INTRODUCTION: &str = "\
# The samplers, measured

`./just scheduler-atlas` writes this page. The data is a mixture of two normal distributions (weights 0.4 and 0.6, means −1
and 0.8, deviations 0.3 and 0.4), whose perfect denoiser and exact probability flow are known; the schedule is Stable
Diffusion's, with trailing times. An error is the root mean square over 32 starts between where a sampler ends and where the
exact flow of its first sample ends. *diffusers* and *exact* are the two readings of a config; what sets them apart is in the
documentation of `Reading`. A dash is a plan that the reading has not.

Every run ends in a step to no noise, which is of first order in all but a few samplers: most of an error below is that
step's, and with Karras sigmas (`use_karras_sigmas`) it is shorter. What order each sampler has before that step is asserted
in `crates/schedulers/tests/orders.rs`.

![Error against network calls](errors.png)

";

type Sampler = (&'static str, Config);

/// The world of the page.
fn mixture() -> Mixture {
    Mixture::new(vec![(0.4, -1.0, 0.3), (0.6, 0.8, 0.4)])
}

/// Numbers spread as a standard normal draw is: the quantiles of the logistic distribution next to it, which has them in
/// closed form.
fn normals() -> Vec<f64> {
    let quantile = |index: usize| (index as f64 + 0.5) / STARTS as f64;
    (0..STARTS).map(quantile).map(|share| (share / (1.0 - share)).ln() / 1.702).collect()
}

/// The steps with which a config makes at most so many calls.
fn steps_for(config: &Config, calls: usize, reading: Reading) -> Option<usize> {
    (1..=calls).rev().find(|steps| config.plan(*steps, reading).is_ok_and(|plan| plan.calls() <= calls))
}

/// The error of a plan that draws its first noise alone; the network's output goes through `round`.
fn error(config: &Config, plan: &Plan, image: Option<&[f64]>, round: impl Fn(f64) -> f64) -> f64 {
    let (mixture, prediction) = (mixture(), config.prediction());
    let values = run(plan, image.unwrap_or(&[]), &vec![normals(); plan.draws()], |call, _, input| {
        let sigma = plan.steps()[call].level.sigma;
        input.iter().map(|x| round(mixture.output(prediction, *x, sigma))).collect()
    });
    let first = plan.steps()[0];
    let (starts, ends) = (&values[first.sample.0 as usize], &values[plan.result().0 as usize]);
    let square = |(start, end): (&f64, &f64)| (end - mixture.flow(*start, first.level.sigma, 0.0)).powi(2);
    (starts.iter().zip(ends).map(square).sum::<f64>() / STARTS as f64).sqrt()
}

fn shown(error: Option<f64>) -> String {
    error.map_or("–".into(), |error| format!("{error:.1e}"))
}

/// A table: its head, then a row of cells for each sampler and reading.
fn table(
    samplers: &[Sampler],
    columns: &[String],
    cell: impl Fn(&Config, usize, Reading) -> Option<f64>,
) -> Result<String> {
    let mut text = String::from("| sampler | reading |");
    columns.iter().for_each(|column| text += &format!(" {column} |"));
    writeln!(text, "\n|---|---|{}", "---|".repeat(columns.len()))?;
    for (name, config) in samplers {
        for (reading, word) in READINGS.into_iter().zip(["diffusers", "exact"]) {
            write!(text, "| {} | {word} |", if reading == Reading::Diffusers { *name } else { "" })?;
            for column in 0..columns.len() {
                write!(text, " {} |", shown(cell(config, column, reading)))?;
            }
            text.push('\n');
        }
    }
    text.push('\n');
    Ok(text)
}

fn against_work(samplers: &[Sampler]) -> Result<String> {
    let columns = BUDGETS.map(|calls| format!("{calls} calls"));
    let body = table(samplers, &columns, |config, column, reading| {
        let steps = steps_for(config, BUDGETS[column], reading)?;
        Some(error(config, &config.plan(steps, reading).ok()?, None, |output| output))
    })?;
    Ok(format!("## Error against work\nSteps are as many as the number of network calls allows.\n\n{body}"))
}

fn against_strength(samplers: &[Sampler]) -> Result<String> {
    const STRENGTHS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];
    let columns = STRENGTHS.map(|strength| format!("strength {strength}"));
    let image: Vec<f64> = (0..STARTS).map(|index| if index % 2 == 0 { -1.0 } else { 0.8 }).collect();
    let body = table(samplers, &columns, |config, column, reading| {
        let plan = config.plan_from_image(40, STRENGTHS[column], reading).ok()?;
        Some(error(config, &plan, Some(&image), |output| output))
    })?;
    Ok(format!(
        "## From an image\nThe last part of 40 steps, from a sample of the data with noise added. A multistep sampler that \
         keeps its order has no larger error here than from noise.\n\n{body}"
    ))
}

fn in_low_precision(samplers: &[Sampler]) -> Result<String> {
    let columns = ["f64", "f16", "bf16"].map(|name| format!("outputs in {name}"));
    let body = table(samplers, &columns, |config, column, reading| {
        let plan = config.plan(40, reading).ok()?;
        Some(error(config, &plan, None, |output| rounded(output, [53, 11, 8][column])))
    })?;
    Ok(format!(
        "## Networks in low precision\n40 steps; the network's outputs are rounded to 11 and to 8 significant bits, samples \
         and sums are not.\n\n{body}"
    ))
}

/// A number with so many significant bits.
fn rounded(x: f64, bits: i32) -> f64 {
    if x == 0.0 || bits >= 53 {
        return x;
    }
    let unit = 2f64.powi(x.abs().log2().floor() as i32 + 1 - bits);
    (x / unit).round_ties_even() * unit
}

fn variances(samplers: &[Sampler]) -> Result<String> {
    const STEPS: [usize; 4] = [10, 20, 50, 200];
    let columns = STEPS.map(|steps| format!("{steps} steps"));
    let body = table(samplers, &columns, |config, column, reading| {
        let plan = config.plan(STEPS[column], reading).ok()?;
        Some(variance(config, &plan))
    })?;
    Ok(format!(
        "## Variance of samplers that draw noise\nFor normal data of deviation 0.5 a plan is linear in its draws, so the \
         variance of what it makes is known without drawing: here over that of the data. 1 is right.\n\n{body}"
    ))
}

/// The variance of a plan's results over that of the data, N(0, ¼).
fn variance(config: &Config, plan: &Plan) -> f64 {
    let normal = Mixture::normal(0.0, 0.5);
    let draws = plan.draws();
    let units: Vec<Vec<f64>> =
        (0..draws).map(|draw| (0..draws).map(|other| f64::from(u8::from(draw == other))).collect()).collect();
    let values = normal.run(plan, config.prediction(), &[], &units);
    values[plan.result().0 as usize].iter().map(|weight| weight * weight).sum::<f64>() / 0.25
}

/// Error against calls, for some samplers of each kind.
fn figure(samplers: &[Sampler]) -> Panels {
    let some = |names: &[&str], title: &str| {
        let series = |(name, config): &Sampler| {
            let point = |calls: &usize| {
                let steps = steps_for(config, *calls, Reading::Exact)?;
                let plan = config.plan(steps, Reading::Exact).ok()?;
                Some((plan.calls() as f64, error(config, &plan, None, |output| output)))
            };
            Series::new(*name, BUDGETS.iter().filter_map(point).collect())
        };
        Chart {
            title: title.into(),
            x: Axis::log("network calls"),
            y: Axis::log("error"),
            series: samplers.iter().filter(|(name, _)| names.contains(name)).map(series).collect(),
            ..Chart::default()
        }
    };
    Panels {
        title: "Error to the exact flow, exact reading".into(),
        columns: 2,
        charts: vec![
            some(&["euler", "heun", "dpm2", "pndm", "ipndm", "lms"], "on the slope"),
            some(&["deis", "dpm++2m", "dpm++3m", "dpm++2s", "dpm++3s", "unipc"], "exponential integrators"),
        ],
    }
}
