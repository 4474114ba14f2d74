//! `latentrace fork`: a recorded run goes on from a step with something changed.

use crate::arguments::{CaptureArguments, RULES};
use crate::conditioning::ConditioningArguments;
use crate::estimate::estimate;
use crate::headings;
use crate::interrupt;
use crate::printer::{self, Printer, line};
use anyhow::Result;
use latentrace::experiments::keep;
use latentrace::files::slug;
use latentrace::pipeline::{Checkpoint, Guidance};
use latentrace::runs::{
    Cell, Description, Job, Kept, RunFolder, Sampler, call_of_step, lost, open_recorded, parse_guidance, take, unstable,
};
use latentrace::trace::{EditRule, Layout};

use std::path::PathBuf;

/// Go on from a step of a recorded run with something changed
///
/// Another prompt, guidance, seed, sampler, number of steps, or an edit.
#[derive(clap::Args)]
#[command(after_long_help = RULES)]
pub struct Fork {
    /// The run: its folder, or its record
    run: PathBuf,
    /// The first step that is made anew, counted from 0
    #[arg(long, value_name = "STEP")]
    at: usize,
    /// What to show from there on
    #[arg(long, allow_hyphen_values = true, help_heading = headings::TEXT)]
    prompt: Option<String>,
    /// What guidance leads away from
    #[arg(long, allow_hyphen_values = true, help_heading = headings::TEXT)]
    negative: Option<String>,
    /// w in u + w (c - u)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_guidance, help_heading = headings::SAMPLING)]
    guidance: Option<Guidance>,
    /// Seed of the noise that is drawn from there on
    #[arg(long, help_heading = headings::SAMPLING)]
    seed: Option<u64>,
    /// Another scheduler: pndm, euler, dpm++2m, ... or a scheduler_config.json
    ///
    /// It begins at the sample of that step, without a history. `latentrace schedule --list` lists all names.
    #[arg(long, value_parser = Sampler::parse, help_heading = headings::SAMPLING)]
    sampler: Option<Sampler>,
    /// Another number of steps; those below that step's noise are made
    #[arg(long, help_heading = headings::SAMPLING)]
    steps: Option<usize>,
    /// Where the checkpoint of the run is now [default: where it was]
    ///
    /// Where it was: from the root or from the record.
    #[arg(long, value_name = "FOLDER", help_heading = headings::MODEL)]
    model: Option<PathBuf>,
    #[command(flatten)]
    conditioning: ConditioningArguments,
    #[command(flatten)]
    capture: CaptureArguments,
    /// The new run's folder [default: beside the old one, named for what changed]
    #[arg(long, value_name = "FOLDER", help_heading = headings::OUTPUT)]
    output: Option<PathBuf>,
}

impl Fork {
    /// Makes the rest of the run, and records all of it.
    pub fn run(self) -> Result<()> {
        let run = RunFolder::find(&self.run)?;
        let trace = run.read()?;
        let description = Description::of(&trace)?;
        trace.check_idle()?;
        let call = call_of_step(&trace, &description, self.at)?;
        self.output.as_deref().map_or(Ok(()), |folder| RunFolder::new(folder).check_free())?;
        let (edits, kept) = (self.capture.edits()?, self.kept(&description)?);
        let printer = Printer::new();
        let model = open_recorded(&description, run.trace(), self.model.as_deref(), &printer)?;
        let cell = |before: &Cell| self.cell(before, edits, &model.checkpoint);
        let (job, left_out) = Job::fork(&model, &trace, call, cell, Some(kept))?;
        job.check()?;
        lost::warn(job.description(), &printer);
        self.conditioning.kept_prompt(self.prompt.as_ref(), &job.description().cell).iter().for_each(printer::note);
        for edit in left_out {
            printer::note(format_args!(
                "{edit} counts the steps of the other sampler and is left out\nhint: --edit gives it anew"
            ));
        }
        if self.capture.dry_run {
            return estimate(&job, 1);
        }
        job.fires().notes().iter().for_each(printer::note);
        let new = match &self.output {
            Some(folder) => RunFolder::new(folder),
            None => take(&run.beside(), &self.stem(&run), &job.description().cell, &printer)?,
        };
        interrupt::says(format!("latentrace resume {} goes on with it", new.path().display()));
        let printer = Printer::with_bar(job.calls());
        let recorded = job.record(new.trace(), Layout::LIVE, &printer)?;
        printer.end();
        keep(&new, &recorded, &model, &printer)?;
        line!("{} ({:.1} s)", new.picture().display(), recorded.elapsed.as_secs_f64());
        unstable::warn(&new, &recorded.description, &printer);
        Ok(())
    }

    /// What is kept besides the sampler's values: the default is what the other run kept.
    fn kept(&self, before: &Description) -> Result<Kept> {
        let Kept { mut capture, budget } = self.capture.kept()?;
        if capture.is_empty() {
            capture.clone_from(&before.capture);
        }
        Ok(Kept { capture, budget: budget.or(before.budget) })
    }

    fn cell(&self, before: &Cell, edits: Vec<EditRule>, checkpoint: &Checkpoint) -> Cell {
        let mut cell = self.conditioning.over(before.clone());
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
        cell.edits.extend(edits);
        let names_none = self.negative.as_deref() == Some("") && !self.conditioning.says_empty_negative();
        if names_none { cell.with_empty_text(checkpoint) } else { cell }
    }

    /// `a-cat-7` becomes `a-cat-7-at-25-guidance-3`.
    fn stem(&self, run: &RunFolder) -> String {
        let mut name = format!("{}-at-{}", run.name(), self.at);
        let changes = [
            self.guidance.as_ref().map(|guidance| format!("guidance {guidance}")),
            self.prompt.clone(),
            self.negative.as_ref().map(|negative| format!("not {negative}")),
            self.seed.map(|seed| format!("seed {seed}")),
            self.sampler.as_ref().map(Sampler::to_string),
            self.steps.map(|steps| format!("{steps} steps")),
            self.capture.edit.first().cloned(),
        ];
        let words: Vec<String> = changes.into_iter().flatten().chain(self.conditioning.words()).collect();
        name += "-";
        name += &slug(&words.join(" "));
        name.trim_end_matches('-').to_string()
    }
}
