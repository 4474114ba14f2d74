//! `latentrace resume` and `latentrace fork`: a recorded run goes on.

use crate::capture::{CaptureArguments, RULES, estimate};
use crate::cell::Cell;
use crate::description::Description;
use crate::free::Stem;
use crate::interrupt;
use crate::lost;
use crate::models;
use crate::phases::Phased;
use crate::provenance::{Provenance, What};
use crate::record::{Job, Recorded, bar, pixels};
use crate::sampler::Sampler;
use crate::store::keep_scalars;
use anyhow::{Result, bail, ensure};
use latentrace_pipeline::Guidance;
use latentrace_plot::save_png;
use latentrace_trace::{Layout, Trace};
use std::path::{Path, PathBuf};

/// Go on with a recorded run that was cut off
#[derive(clap::Args)]
pub struct Resume {
    /// The trace
    trace: PathBuf,
    /// Where the checkpoint of the run is now [default: where it was, from the root or from the trace]
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
}

impl Resume {
    /// Makes the calls that are missing, into the same trace; and the picture, where that alone is missing.
    pub fn run(self) -> Result<()> {
        let trace = Trace::open(&self.trace)?;
        let description = Description::of(&trace)?;
        trace.check_idle()?;
        let is_whole = trace.end().is_some_and(|end| end.error.is_none());
        let picture = beside(&self.trace);
        if is_whole && (picture.exists() || is_of_cell(&self.trace)) {
            println!("{}: all {} calls are there", self.trace.display(), trace.complete());
            return Ok(());
        }
        let model = models::open_recorded(&description, &self.trace, self.model.as_deref())?;
        let taken_over = Phased::new(&model, &trace, None)?.taken_over()?;
        let job = Job::resume(&model, &trace, taken_over.as_ref().map(|(_, past)| past))?;
        lost::say(job.description());
        println!("{} of {} calls are there", trace.complete(), description.calls);
        if is_whole {
            return keep(&job.again()?, &picture);
        }
        let bar = bar(job.calls());
        let recorded = job.record_on(&trace, &bar)?;
        bar.finish_and_clear();
        keep(&recorded, &picture)
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
    /// Where the checkpoint of the run is now [default: where it was, from the root or from the trace]
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
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
        trace.check_idle()?;
        let call = self.call(&trace, &description)?;
        self.check_output()?;
        let model = models::open_recorded(&description, &self.trace, self.model.as_deref())?;
        let rules = if self.capture.capture.is_empty() { &description.capture } else { &self.capture.capture };
        let (job, left_out) = Job::fork(&model, &trace, call, |before| self.cell(before))?;
        let job = job.capturing(rules, self.capture.budget.or(description.budget));
        let fires = job.check()?;
        lost::say(job.description());
        for edit in left_out {
            eprintln!("note: {edit} counts the steps of the other sampler and is left out\nhint: --edit gives it anew");
        }
        if self.capture.dry_run {
            return estimate(&job, &fires, 1);
        }
        fires.say();
        let folder = self.folder(&job.description().cell)?;
        interrupt::says(format!("latentrace resume {} goes on with it", folder.display()));
        let bar = bar(job.calls());
        let recorded = job.record(&folder, Layout::LIVE, &bar)?;
        bar.finish_and_clear();
        keep(&recorded, &beside(&folder))
    }

    /// Checks that nothing is in the way of what is asked for, before a model is opened.
    fn check_output(&self) -> Result<()> {
        let Some(folder) = &self.output else { return Ok(()) };
        let picture = beside(folder);
        ensure!(!picture.exists(), "{}: there is a picture here already\nhint: name another trace", picture.display());
        ensure!(
            !folder.join("run.json").exists(),
            "{}: there is a trace here already\nhint: name another folder",
            folder.display()
        );
        let is_empty = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        ensure!(is_empty, "{}: this folder holds other files\nhint: name a new folder for the trace", folder.display());
        Ok(())
    }

    /// The new trace's folder: as named, or a new one beside the old.
    fn folder(&self, cell: &Cell) -> Result<PathBuf> {
        let beside = self.trace.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.output.clone().map_or_else(|| Ok(Stem::take(beside, &self.stem(), cell)?.trace), Ok)
    }

    /// The call that begins the step.
    fn call(&self, trace: &Trace, description: &Description) -> Result<usize> {
        let first = trace.entries().iter().find(|entry| entry.step == self.at && entry.evaluation == 0);
        let call = first.map(|entry| entry.call).filter(|call| *call < description.calls);
        let whole = |call: &usize| *call <= trace.complete();
        match call.filter(whole) {
            Some(call) => Ok(call),
            None => {
                let begins = trace.entries().iter().filter(|entry| entry.evaluation == 0);
                let last = begins.filter(|entry| whole(&entry.call) && entry.call < description.calls);
                match last.map(|entry| entry.step).max() {
                    Some(last) => bail!("--at {}: this record can be forked at the steps 0 to {last}", self.at),
                    None => bail!("--at {}: this record holds no step that can be made anew", self.at),
                }
            }
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

    /// `a-cat-7.trace` becomes `a-cat-7-at-25-guidance-3`.
    fn stem(&self) -> String {
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
        name.trim_end_matches('-').to_string()
    }
}

/// `x.trace` goes with `x.png`.
fn beside(trace: &Path) -> PathBuf {
    trace.with_extension("png")
}

/// Whether a record is that of a cell in a store, which keeps its picture elsewhere.
fn is_of_cell(trace: &Path) -> bool {
    trace.parent().is_some_and(|cell| cell.join("image.png").is_file())
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
