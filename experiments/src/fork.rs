//! `latentrace resume` and `latentrace fork`: a recorded run goes on.

use crate::capture::{CaptureArguments, RULES, estimate};
use crate::cell::Cell;
use crate::description::Description;
use crate::lost;
use crate::models;
use crate::provenance::{Provenance, What};
use crate::record::{Job, Recorded, bar, kept, pixels};
use crate::sampler::Sampler;
use crate::store::keep_scalars;
use anyhow::{Context, Result, bail, ensure};
use latentrace_pipeline::{Guidance, Model};
use latentrace_plot::save_png;
use latentrace_trace::{Layout, Trace};
use std::path::{Path, PathBuf};

/// Go on with a recorded run that was cut off
#[derive(clap::Args)]
pub struct Resume {
    /// The trace
    trace: PathBuf,
}

impl Resume {
    /// Makes the calls that are missing, into the same trace.
    pub fn run(self) -> Result<()> {
        let trace = Trace::open(&self.trace)?;
        let description = Description::of(&trace)?;
        if trace.end().is_some_and(|end| end.error.is_none()) {
            println!("{}: all {} calls are there", self.trace.display(), trace.complete());
            return Ok(());
        }
        let model = open(&description)?;
        let job = Job::resume(&model, &trace)?;
        lost::say(job.description());
        let bar = bar(job.calls());
        println!("{} of {} calls are there", trace.complete(), description.calls);
        let recorded = job.record_on(&trace, &bar).with_context(|| kept(&self.trace))?;
        bar.finish_and_clear();
        keep(&recorded, &beside(&self.trace))
    }
}

/// Go on from a step of a recorded run with another prompt, guidance, sampler or edit
#[derive(clap::Args)]
#[command(after_help = RULES)]
pub struct ForkRun {
    /// The trace
    trace: PathBuf,
    /// The first step that is made anew, counted from 0
    #[arg(long, value_name = "STEP")]
    at: usize,
    /// What to show from there on
    #[arg(long, allow_hyphen_values = true)]
    prompt: Option<String>,
    /// What guidance leads away from
    #[arg(long, allow_hyphen_values = true)]
    negative: Option<String>,
    /// w in u + w (c - u)
    #[arg(long, allow_negative_numbers = true, value_parser = crate::cell::parse_guidance)]
    guidance: Option<Guidance>,
    /// Seed of the noise that is drawn from there on
    #[arg(long)]
    seed: Option<u64>,
    /// Another scheduler: pndm, lms, euler, dpm++2m, ... (see `latentrace schedule --list`), or a scheduler_config.json. It begins at the sample of that step, without a history
    #[arg(long, value_parser = Sampler::parse)]
    sampler: Option<Sampler>,
    /// Another number of steps, of which those below that step's noise are made
    #[arg(long)]
    steps: Option<usize>,
    #[command(flatten)]
    capture: CaptureArguments,
    /// The new trace [default: beside the old one, named for what changed]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl ForkRun {
    /// Makes the rest of the run, and records all of it.
    pub fn run(self) -> Result<()> {
        let trace = Trace::open(&self.trace)?;
        let description = Description::of(&trace)?;
        let model = open(&description)?;
        let call = self.call(&trace, &description)?;
        let cell = self.cell(&description.cell);
        let rules = if self.capture.capture.is_empty() { &description.capture } else { &self.capture.capture };
        let job = Job::fork(&model, &cell, &trace, call)?.capturing(rules, self.capture.budget.or(description.budget));
        let fires = job.check()?;
        lost::say(job.description());
        if self.capture.dry_run {
            return estimate(&job, &fires, 1);
        }
        fires.say();
        let folder = self.output.clone().unwrap_or_else(|| self.named());
        let bar = bar(job.calls());
        let recorded = job.record(&folder, Layout::LIVE, &bar).with_context(|| kept(&folder))?;
        bar.finish_and_clear();
        keep(&recorded, &beside(&folder))
    }

    /// The call that begins the step.
    fn call(&self, trace: &Trace, description: &Description) -> Result<usize> {
        let first = trace.entries().iter().find(|entry| entry.step == self.at && entry.evaluation == 0);
        let call = first.map(|entry| entry.call).filter(|call| *call < description.calls);
        let whole = |call: &usize| *call <= trace.complete();
        match call.filter(whole) {
            Some(call) => Ok(call),
            None => bail!(
                "step {}: the record holds {} whole calls of {}, of {} steps",
                self.at,
                trace.complete(),
                description.calls,
                description.cell.steps
            ),
        }
    }

    fn cell(&self, before: &Cell) -> Cell {
        let mut cell = before.clone();
        let set = |to: &mut String, from: &Option<String>| from.iter().for_each(|text| to.clone_from(text));
        set(&mut cell.prompt, &self.prompt);
        set(&mut cell.negative, &self.negative);
        if let Some(guidance) = &self.guidance {
            cell.guidance.clone_from(guidance);
        }
        cell.seed = self.seed.unwrap_or(cell.seed);
        cell.steps = self.steps.unwrap_or(cell.steps);
        if self.sampler.is_some() {
            cell.sampler.clone_from(&self.sampler);
            cell.scheduler.clear(); // options of the other
        }
        cell.edits.extend(self.capture.edit.iter().cloned());
        cell
    }

    /// `a-cat-7.trace` becomes `a-cat-7-at-25-guidance-3.trace`.
    fn named(&self) -> PathBuf {
        let mut name = self.trace.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        name += &format!("-at-{}", self.at);
        let changes = [
            self.guidance.as_ref().map(|guidance| format!("guidance {guidance}")),
            self.prompt.clone(),
            self.negative.as_ref().map(|negative| format!("not {negative}")),
            self.seed.map(|seed| format!("seed {seed}")),
            self.sampler.as_ref().map(Sampler::to_string),
            self.steps.map(|steps| format!("{steps} steps")),
            self.capture.edit.first().cloned(),
        ];
        let words: Vec<String> = changes.into_iter().flatten().collect();
        name += "-";
        name += &crate::store::slug(&words.join(" "));
        let name = name.trim_end_matches('-').to_string();
        let folder = self.trace.parent().unwrap_or(Path::new("."));
        let free = |name: &String| !folder.join(format!("{name}.trace")).exists();
        let numbered = (2..1000).map(|number| format!("{name}-{number}"));
        let name = std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or(name);
        folder.join(format!("{name}.trace"))
    }
}

/// Opens the model of a run, and holds that it is the same.
fn open(description: &Description) -> Result<Model> {
    let folder = &description.model.folder;
    let model = models::open(folder, description.cell.options())
        .with_context(|| format!("the model of this run, {}", folder.display()))?;
    let found = crate::store::hash(folder)?;
    ensure!(
        found == description.model.blake3,
        "{}: its files are not those that the run was made with\nhint: put them back, or run anew",
        folder.display()
    );
    Ok(model)
}

/// `x.trace` goes with `x.png`.
fn beside(trace: &Path) -> PathBuf {
    trace.with_extension("png")
}

/// Writes the numbers and the picture of a run.
fn keep(recorded: &Recorded, picture: &Path) -> Result<()> {
    let folder = recorded.trace.folder();
    keep_scalars(recorded)?;
    let text = Provenance::of_run(recorded)?.chunks(What::Picture);
    save_png(picture, &pixels(&recorded.outcome.picture), &text)?;
    println!("{} ({:.1} s), recorded in {}", picture.display(), recorded.elapsed.as_secs_f64(), folder.display());
    Ok(())
}
