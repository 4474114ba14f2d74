//! `latentrace schedule`: what a sampler does, before any model is loaded.

use crate::models::bundled;
use anyhow::{Context, Result, bail};
use latentrace_pipeline::schedulers::{Class, Config, Plan, Reading, named};
use latentrace_plot::{Axis, Chart, Colours, HeatMap, Panels, Series, write};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Print a sampler's times, noise levels and coefficients, and draw them
#[derive(clap::Args)]
pub struct ScheduleRun {
    /// A sampler by its short name or diffusers' class name [default: the one that the config names]
    name: Option<String>,
    /// List every sampler
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// How many steps
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// A scheduler_config.json [default: that of the bundled model]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replace an option: --set timestep_spacing=trailing, --set use_karras_sigmas=true, --set "timesteps=[999, 500, 100]"
    #[arg(long, value_name = "OPTION=VALUE")]
    set: Vec<String>,
    /// Follow the mathematics where diffusers departs from it
    #[arg(long)]
    exact: bool,
    /// The last part of the steps, as from an image
    #[arg(long, value_name = "0 TO 1")]
    strength: Option<f64>,
    /// Every option with its origin, and the program with its coefficients
    #[arg(long)]
    explain: bool,
    /// Another sampler beside it
    #[arg(long, value_name = "SAMPLER")]
    compare: Option<String>,
    /// Draw sigma, log signal-to-noise ratio, step lengths and coefficients into a folder
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// One JSON object a network call
    #[arg(long, conflicts_with_all = ["explain", "compare"])]
    json: bool,
}

impl ScheduleRun {
    /// Prints and draws.
    pub fn run(self) -> Result<()> {
        if self.list {
            return list();
        }
        let config = self.read(self.name.as_deref())?;
        let plan = self.plan(&config)?;
        if self.json {
            plan.steps().iter().for_each(|step| println!("{}", row(step)));
        } else {
            print!("{}", self.table(&config, &plan)?);
        }
        if let Some(folder) = &self.plot {
            for path in [levels(&config, &plan, folder)?, coefficients(&config, &plan, folder)?].concat() {
                eprintln!("  {}", path.display());
            }
        }
        Ok(())
    }

    /// The config for a sampler, with what is replaced.
    fn read(&self, name: Option<&str>) -> Result<Config> {
        let path = match &self.config {
            Some(path) => path.clone(),
            None => bundled()?.join("scheduler/scheduler_config.json"),
        };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let config = match name {
            Some(name) => Config::from_json_as(&text, name),
            None => Config::from_json(&text),
        };
        let mut config = config.with_context(|| path.display().to_string())?;
        for assignment in &self.set {
            let Some((option, value)) = assignment.split_once('=') else {
                bail!("--set {assignment}: expected OPTION=VALUE");
            };
            // What is no JSON is a word.
            let value: Value = serde_json::from_str(value.trim()).unwrap_or_else(|_| value.trim().into());
            config = config.with(option.trim(), value)?;
        }
        Ok(config)
    }

    fn reading(&self) -> Reading {
        if self.exact { Reading::Exact } else { Reading::Diffusers }
    }

    fn plan(&self, config: &Config) -> Result<Plan> {
        let plan = match self.strength {
            Some(strength) => config.plan_from_image(self.steps, strength, self.reading()),
            None => config.plan(self.steps, self.reading()),
        };
        Ok(plan?)
    }

    fn table(&self, config: &Config, plan: &Plan) -> Result<String> {
        let mut text = String::new();
        let draws = plan.draws().saturating_sub(1);
        let reading = if self.exact { "exact" } else { "diffusers" };
        text += &format!(
            "{} with {} steps, {reading} reading: {} network calls, {draws} draws of noise on the way\n",
            config.class(),
            self.steps,
            plan.calls()
        );
        if self.explain {
            text += &format!("\n{config}\n");
        }
        let other = match &self.compare {
            Some(name) => {
                let config = self.read(Some(name))?;
                let plan = self.plan(&config)?;
                text += &format!("beside it {}: {} network calls\n", config.class(), plan.calls());
                Some(plan)
            }
            None => None,
        };
        text += "\n step call      time      sigma   log SNR   change";
        text += if other.is_some() { "  |      time      sigma   log SNR\n" } else { "\n" };
        let most = other.as_ref().map_or(0, |other| other.steps().len()).max(plan.steps().len());
        let mut before: Option<f64> = None;
        for index in 0..most {
            match plan.steps().get(index) {
                Some(step) => {
                    let log_snr = 2.0 * step.level.lambda();
                    let change = before.map_or("        ".into(), |before| format!("{:>8.3}", log_snr - before));
                    before = Some(log_snr);
                    let (t, sigma) = (step.level.t, step.level.sigma);
                    text += &format!(
                        "{:>5} {:>4} {t:>9.3} {sigma:>10.5} {log_snr:>9.3} {change}",
                        step.index, step.evaluation
                    );
                }
                None => text += &" ".repeat(50),
            }
            if let Some(step) = other.as_ref().and_then(|other| other.steps().get(index)) {
                let (t, sigma) = (step.level.t, step.level.sigma);
                text += &format!("  | {t:>9.3} {sigma:>10.5} {:>9.3}", 2.0 * step.level.lambda());
            }
            text += "\n";
        }
        if self.explain {
            text += &format!("\n{plan}\n");
        }
        let remarks = config.remarks(plan);
        if !remarks.is_empty() {
            text += "\n";
        }
        remarks.iter().for_each(|remark| text += &format!("note: {remark}\n"));
        Ok(text)
    }
}

fn list() -> Result<()> {
    for name in Class::names() {
        let (class, options) = named(name)?;
        let options: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let only = if class.is_in_diffusers() { "" } else { "with --exact alone" };
        println!("{}", format!("{name:<15} {:<34} {}{only}", class.to_string(), options.join(" ")).trim_end());
    }
    Ok(())
}

fn row(step: &latentrace_pipeline::schedulers::Step) -> Value {
    json!({ "step": step.index, "evaluation": step.evaluation, "time": step.level.t, "sigma": step.level.sigma,
        "log_snr": 2.0 * step.level.lambda() })
}

/// Draws sigma, log signal-to-noise ratio and step lengths over the network calls.
fn levels(config: &Config, plan: &Plan, folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let over = |of: &dyn Fn(usize) -> Option<f64>| -> Vec<(f64, f64)> {
        (0..plan.steps().len()).filter_map(|call| Some((call as f64, of(call)?))).collect()
    };
    let sigma = |call: usize| plan.steps().get(call).map(|step| step.level.sigma);
    let log_snr = |call: usize| plan.steps().get(call).map(|step| 2.0 * step.level.lambda());
    let length = |call: usize| Some(log_snr(call + 1)? - log_snr(call)?);
    let chart = |title: &str, y: Axis, points: Vec<(f64, f64)>| Chart {
        title: title.into(),
        x: Axis::linear("network call"),
        y,
        series: vec![Series::new("", points).marked()],
        ..Chart::default()
    };
    let charts = vec![
        chart("noise level", Axis::log("sigma"), over(&sigma)),
        chart("log signal-to-noise ratio", Axis::linear("2 λ"), over(&log_snr)),
        chart("step length", Axis::linear("change of 2 λ"), over(&length)),
    ];
    let title = format!("{}, {} network calls", config.class(), plan.calls());
    Ok(write(folder, "schedule", &Panels { title, columns: 2, charts })?)
}

/// Draws how each network call's input, and the result, are made of the draws and the outputs before.
fn coefficients(config: &Config, plan: &Plan, folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let matrix = plan.matrix();
    let calls = plan.calls();
    let map = HeatMap {
        title: format!("{}: what each call sees, and the result", config.class()),
        rows: (0..calls).map(|call| format!("call {call}")).chain(["result".into()]).collect(),
        columns: Vec::new(),
        values: matrix.rows().into_iter().map(|row| row.to_vec()).collect(),
        x_label: "draws of noise and outputs, in the order in which they are made".into(),
        y_label: String::new(),
        value_label: "coefficient".into(),
        colours: Colours::Diverging,
        ..HeatMap::default()
    };
    Ok(write(folder, "coefficients", &map)?)
}
