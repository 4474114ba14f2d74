//! `latentrace schedule`: what a sampler does, before any model is loaded.

mod figures;

use crate::printer::{self, aside, line};
use anyhow::{Context, Result, anyhow, bail};
use latentrace::files::read_text;
use latentrace::pipeline::checkpoints::SchedulerFile;
use latentrace::pipeline::schedulers::{Class, Config, Plan, Reading, Step, class_of, named};
use latentrace::runs::{PREFIX, Sampler, bundled, configured, set_by_pipeline};
use latentrace_studies::stability::remark;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Print a sampler's times, noise levels and coefficients
///
/// With --plot, also draw them.
#[derive(clap::Args)]
pub struct Schedule {
    /// A sampler by its short name or diffusers' class name, or a scheduler_config.json [default: the one that the config names]
    name: Option<String>,
    /// List every sampler
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// How many steps
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// A scheduler_config.json, or the folder of a checkpoint [default: the bundled model]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Replace an option: --set timestep_spacing=trailing, --set use_karras_sigmas=true, --set "timesteps=[999, 500, 100]"
    #[arg(long, value_name = "OPTION=VALUE")]
    set: Vec<String>,
    /// Follow the mathematics where diffusers departs from it
    #[arg(long)]
    exact: bool,
    /// As StableDiffusionPipeline runs it, and `latentrace generate` without --exact: its steps_offset, clip_sample and eta, and
    /// the class that model_index.json names; without, the class by itself
    #[arg(long, conflicts_with = "exact")]
    pipeline: bool,
    /// The last part of the steps, as from an image
    #[arg(long, value_name = "0 TO 1")]
    strength: Option<f64>,
    /// Every option with its origin, and the program with its coefficients
    #[arg(long)]
    explain: bool,
    /// The program alone, to the last bit, as `Plan` reads it again
    #[arg(long, conflicts_with_all = ["explain", "compare", "json"])]
    program: bool,
    /// Other samplers beside it
    #[arg(long, value_name = "SAMPLER", num_args = 1..)]
    compare: Vec<String>,
    /// Draw sigma, log signal-to-noise ratio, step lengths and coefficients into a folder
    #[arg(long, value_name = "FOLDER")]
    plot: Option<PathBuf>,
    /// One JSON object a network call
    #[arg(long, conflicts_with_all = ["explain", "compare"])]
    json: bool,
}

/// A sampler and what it does.
struct Shown {
    name: String,
    config: Config,
    plan: Plan,
}

impl Schedule {
    /// Prints and draws.
    pub fn run(self) -> Result<()> {
        if self.list {
            return list();
        }
        let shown = self.shown()?;
        let plan = &shown[0].plan;
        if self.program {
            line!("{plan:#}");
        } else if self.json {
            plan.steps().iter().for_each(|step| line!("{}", row(step)));
        } else {
            printer::text(self.text(&shown));
        }
        if let Some(folder) = &self.plot {
            figures::write_all(&shown, folder)?.iter().for_each(|path| aside!("  {}", path.display()));
        }
        Ok(())
    }

    /// The sampler, and those beside it. `--compare A B` without a name is A beside B.
    fn shown(&self) -> Result<Vec<Shown>> {
        let first = (self.name.is_some() || self.compare.len() < 2).then_some(self.name.as_deref());
        let names = first.into_iter().chain(self.compare.iter().map(|name| Some(name.as_str())));
        let shown = |name: Option<&str>| {
            let config = self.read(name)?;
            let plan = self.plan(&config).with_context(|| config.class().to_string())?;
            Ok(Shown { name: name.map_or_else(|| config.class().name().into(), str::to_owned), config, plan })
        };
        names.map(shown).collect()
    }

    /// The config for a sampler, with what is replaced.
    fn read(&self, name: Option<&str>) -> Result<Config> {
        let options = self.set.iter().map(|set| option(set)).collect::<Result<Vec<_>>>()?;
        match name.map(Sampler::read).transpose()? {
            None => configured(&self.own(self.config.as_deref(), None)?, None, options),
            Some(Sampler::Config(text)) if name.is_some_and(|name| name.starts_with('{')) => {
                let config = Config::from_json(&text)?;
                configured(&if self.pipeline { config.in_pipeline()? } else { config }, None, options)
            }
            // A file, or a folder that holds one, in place of `--config`.
            Some(Sampler::Config(_)) => configured(&self.own(name.map(Path::new), None)?, None, options),
            Some(Sampler::Named(name)) => {
                // A name that was typed is not in a file.
                class_of(&name).map_err(|error| anyhow!("{error}\nhint: --list names them all"))?;
                let own = self.own(self.config.as_deref(), Some(&name))?;
                configured(&own, Some(&Sampler::Named(name)), options)
            }
        }
    }

    /// The scheduler of a checkpoint or of a file, in its pipeline or by itself. A class that is to be read from the file need not
    /// be the one that the file names.
    fn own(&self, path: Option<&Path>, name: Option<&str>) -> Result<Config> {
        let path = path.map_or_else(bundled, |path| Ok(path.into()))?;
        if self.pipeline && path.join("scheduler").is_dir() {
            let scheduler = SchedulerFile::of(&path)?;
            return Ok(scheduler.read()?.in_pipeline_of(scheduler.pipeline)?);
        }
        let inside = ["scheduler/scheduler_config.json", "scheduler_config.json"].map(|name| path.join(name));
        let file = inside.into_iter().find(|file| file.is_file()).unwrap_or(path);
        let text = read_text(&file)?;
        let config = match name {
            Some(name) if !self.pipeline => Config::from_json_as(&text, name),
            _ => Config::from_json(&text),
        };
        let config = config.with_context(|| file.display().to_string())?;
        if self.pipeline { Ok(config.in_pipeline()?) } else { Ok(config) }
    }

    /// What is known of a sampler's stability with the checkpoint. A sampler with other options is another.
    fn stability(&self, sampler: &str) -> Option<String> {
        let model = self.config.clone().map_or_else(bundled, Ok).ok()?;
        let is_known = self.set.is_empty() && self.strength.is_none();
        is_known.then(|| remark(&model, sampler, self.steps).ok().flatten())?
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

    /// What is to be said, then the table of levels, then the program.
    fn text(&self, shown: &[Shown]) -> String {
        let reading = match (self.exact, self.pipeline) {
            (true, _) => "exact reading",
            (false, true) => "diffusers reading in its pipeline",
            (false, false) => "diffusers reading",
        };
        let mut text = String::new();
        for Shown { name, config, plan } in shown {
            let draws = plan.draws().saturating_sub(1);
            text += &format!("{name}: {}, {} steps, {reading}: ", config.class(), self.steps);
            text += &format!("{} network calls, {draws} draws of noise on the way\n", plan.calls());
            if self.explain {
                text += &format!("{config}\n");
                let ignored: Vec<&str> = config.ignored().collect();
                if !ignored.is_empty() {
                    text += &format!("  not read by this class: {}\n", ignored.join(", "));
                }
                text += "\n";
            }
        }
        text += &table(shown);
        for Shown { name, plan, .. } in shown.iter().filter(|_| self.explain) {
            text += &format!("\n{name}\n{plan}\n");
        }
        let remarks = |one: &Shown| -> Vec<String> {
            let whose = if shown.len() > 1 { format!("{}: ", one.name) } else { String::new() };
            let remarks = one.config.remarks(&one.plan, self.reading()).into_iter();
            let remarks = remarks.map(|remark| remark.to_string()).chain(self.stability(&one.name));
            let remarks = remarks.map(|remark| format!("note: {whose}{remark}\n"));
            set_by_pipeline(&one.config).into_iter().map(|said| format!("warning: {said}\n")).chain(remarks).collect()
        };
        let remarks: String = shown.iter().flat_map(remarks).collect();
        if remarks.is_empty() { text } else { text + "\n" + &remarks }
    }
}

/// An option with its value: `use_karras_sigmas=true`, with or without `scheduler.` before it. What is no JSON is a word.
fn option(assignment: &str) -> Result<(String, Value)> {
    let Some((option, value)) = assignment.split_once('=') else {
        bail!("--set {assignment}: expected OPTION=VALUE");
    };
    let option = option.trim().trim_start_matches(PREFIX);
    Ok((option.into(), serde_json::from_str(value.trim()).unwrap_or_else(|_| value.trim().into())))
}

/// Time, sigma, log signal-to-noise ratio and its change, a line for each network call, the samplers side by side.
fn table(shown: &[Shown]) -> String {
    const WIDTH: usize = 50;
    let line = |cells: Vec<String>| format!("{}\n", cells.join("  |").trim_end());
    let mut text = String::from("\n");
    if shown.len() > 1 {
        text += &line(shown.iter().map(|shown| format!("{:>WIDTH$}", shown.name)).collect());
    }
    text += &line(vec![" step call      time      sigma   log SNR    change".into(); shown.len()]);
    let most = shown.iter().map(|shown| shown.plan.calls()).max().unwrap_or(0);
    for call in 0..most {
        let cell = |shown: &Shown| {
            let steps = shown.plan.steps();
            let Some(Step { index, evaluation, level, .. }) = steps.get(call) else { return " ".repeat(WIDTH) };
            let log_snr = 2.0 * level.lambda();
            let before = call.checked_sub(1).map(|before| 2.0 * steps[before].level.lambda());
            let change = before.map_or(String::new(), |before| format!("{:.3}", log_snr - before));
            format!("{index:>5} {evaluation:>4} {:>9.3} {:>10.5} {log_snr:>9.3} {change:>9}", level.t, level.sigma)
        };
        text += &line(shown.iter().map(cell).collect());
    }
    text
}

fn list() -> Result<()> {
    for name in Class::names() {
        let (class, options) = named(name)?;
        let options: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let about = if options.is_empty() { class.about().to_owned() } else { options.join(" ").replace('"', "") };
        let only = if class.is_in_diffusers() { "" } else { "; with --exact alone" };
        line!("{name:<15} {:<32} {about}{only}", class.to_string());
    }
    Ok(())
}

fn row(step: &Step) -> Value {
    json!({ "step": step.index, "evaluation": step.evaluation, "time": step.level.t, "sigma": step.level.sigma,
        "log_snr": 2.0 * step.level.lambda() })
}
