//! `latentrace trace`: what is in a record, and pictures of it.

use crate::bytes::human;
use crate::printer::{self, Printer, line};
use anyhow::Result;
use latentrace::experiments::views;
use latentrace::files::create_folder;
use latentrace::runs::{Description, RunFolder, Scalars};
use latentrace::trace::Trace as Record;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Say what is in a recorded run, and draw it
#[derive(clap::Args)]
pub struct Trace {
    /// The run, its folder or its record; others are drawn into the same plane of the trajectory
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Draw into this folder [default: figures, in the run]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Only say what is there
    #[arg(long)]
    no_figures: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Trace {
    /// Prints what is there, then draws every view that the record holds enough for.
    pub fn run(self) -> Result<()> {
        let run = RunFolder::find(&self.runs[0])?;
        let traces: Vec<Record> = self.runs.iter().map(|path| RunFolder::find(path)?.read()).collect::<Result<_>>()?;
        let trace = &traces[0];
        let described = Description::of(trace);
        if self.json {
            line!("{}", about(trace));
        } else {
            report(trace, described.as_ref());
        }
        if self.no_figures {
            return Ok(());
        }
        let description = described?;
        let folder = self.output.clone().unwrap_or_else(|| run.path().join("figures"));
        create_folder(&folder)?;
        let scalars = Scalars::of(trace, &description)?;
        let mut made = vec![scalars.write(&folder)?];
        made.extend(views::curves(&folder, &scalars, &description)?);
        made.extend(views::commitment(&folder, trace, &description)?);
        made.extend(views::spectrum(&folder, trace, &description)?);
        made.extend(views::trajectory(&folder, &traces)?);
        made.extend(views::words(&folder, trace, &description, &Printer::new())?);
        made.extend(views::health(&folder, trace)?);
        if !self.json {
            printer::files(&made);
        }
        Ok(())
    }
}

fn report(trace: &Record, described: std::result::Result<&Description, &anyhow::Error>) {
    let description = described.ok();
    if let Some(Description { cell, calls, model, program, fork, .. }) = description {
        line!("“{}”, seed {}, {} steps, guidance {}", cell.prompt, cell.seed, cell.steps, cell.guidance);
        let commit = program.commit.as_deref().unwrap_or("no commit");
        line!("{}, on {}, by latentrace {} ({commit})", model.folder.display(), program.device, program.latentrace);
        for (index, edit) in cell.edits.iter().enumerate() {
            match description.and_then(|description| description.fires.as_ref()?.edits.get(index).copied()) {
                Some(0) => line!("not edited, for it has nothing to do in this run: {edit}"),
                Some(tensors) => line!("edited, {tensors} tensors: {edit}"),
                None => line!("edited: {edit}"),
            }
        }
        if let Some(fork) = fork {
            line!("from call {} of {}", fork.call, fork.trace.display());
        }
        line!("{} of {calls} calls", trace.complete());
    }
    match trace.end() {
        None if trace.live().is_some() => {
            trace.live().into_iter().for_each(|owner| line!("a live run: {owner} is writing it"))
        }
        None if description.is_some() => {
            line!("cut off; `latentrace resume {}` goes on", trace.folder().display())
        }
        None => line!("it has no end: cut off, or not yet written"),
        Some(end) => {
            end.error.iter().for_each(|error| line!("stopped: {error}"));
            if end.beyond_budget > 0 {
                line!("{} tensors were beyond the budget", end.beyond_budget);
            }
        }
    }
    if let Err(error) = described {
        line!("problem: {error:#}");
    }
    for problem in trace.problems() {
        line!("problem: {problem}");
    }
    line!("{:>9} {:>9}  taps", "tensors", "bytes");
    for (group, (count, bytes)) in groups(trace) {
        line!("{count:>9} {:>9}  {group}", human(bytes));
    }
}

fn about(trace: &Record) -> serde_json::Value {
    let groups: Vec<_> = groups(trace)
        .into_iter()
        .map(|(group, (count, bytes))| json!({ "taps": group, "tensors": count, "bytes": bytes }))
        .collect();
    json!({ "run": trace.run(), "complete": trace.complete(), "end": trace.end(), "live": trace.live(), "problems": trace.problems(), "kept": groups })
}

/// Tensors and bytes by the first parts of the taps' names.
fn groups(trace: &Record) -> BTreeMap<String, (usize, u64)> {
    let mut groups: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for entry in trace.entries() {
        let parts: Vec<&str> = entry.tap.split('.').take(3).collect();
        let kept = if entry.kept.is_empty() { String::new() } else { format!(" | {}", entry.kept) };
        let place = groups.entry(parts.join(".") + &kept).or_default();
        *place = (place.0 + 1, place.1.saturating_add(entry.bytes()));
    }
    groups
}
