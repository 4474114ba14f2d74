//! The runs of a report, and how they differ.

use super::html::PageAxis;
use crate::done::Done;
use crate::experiment::Experiment;
use crate::figures::numbers;
use crate::measure::Measure;
use crate::shown;
use crate::sound::{Fault, check};
use anyhow::{Result, bail, ensure};
use latentrace_pipeline::nn::SamplerValue;
use latentrace_runs::{Description, FIELDS, RunFolder};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The runs that were found in some folders.
#[derive(Default)]
pub struct Found {
    /// What all runs have in common.
    pub title: String,
    /// The fields in which the runs differ.
    pub axes: Vec<PageAxis>,
    /// The runs.
    pub runs: Vec<Done>,
    /// The measures of the experiments.
    pub measures: Vec<Measure>,
    /// Whether a sweep is among them that has not finished, so that its tables are not there yet.
    is_unfinished: bool,
}

/// Finds the runs in folders. Each is an experiment, a run, or a folder of runs.
///
/// # Errors
/// A folder does not exist or has no complete run, or a record cannot be read.
pub fn find(folders: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    for folder in folders {
        ensure!(folder.exists(), "{}: no such folder", folder.display());
        let is_run = folder.is_dir() || folder.extension().is_some_and(|end| end == "png"); // a run is found by its picture too
        ensure!(is_run, "{}: a file, and no folder\nhint: name the folder that it is in", folder.display());
        let before = found.runs.len();
        found.add(folder)?;
        if found.runs.len() == before {
            bail!(
                "{}: no complete run in it\nhint: name the folder of an experiment, such as runs/sweep-guidance, or of \
                 recorded runs, such as runs/generate",
                folder.display()
            );
        }
    }
    // A single experiment already has its axes.
    if found.axes.is_empty() || folders.len() > 1 {
        found.arrange();
    }
    if found.is_unfinished {
        found.title += "; the cells that are done of a sweep that has not finished";
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, folder: &Path) -> Result<()> {
        if let Some(experiment) = Experiment::read(folder)? {
            return self.add_experiment(folder, experiment);
        }
        if let Ok(run) = RunFolder::find(folder) {
            check_finished(&run)?;
            self.runs.push(done(run)?);
            return Ok(());
        }
        let mut runs = RunFolder::all_in(folder)?;
        let cells = folder.join("cells");
        if runs.is_empty() && cells.is_dir() {
            runs = RunFolder::all_in(&cells)?;
            self.is_unfinished = true;
        }
        for run in runs {
            self.runs.push(done(run)?);
        }
        Ok(())
    }

    fn add_experiment(&mut self, folder: &Path, experiment: Experiment) -> Result<()> {
        for member in experiment.cells {
            let run = RunFolder::find(&folder.join(&member.folder))?;
            check_cell(&run)?;
            let run = done(run)?;
            self.runs.push(Done { label: member.label, place: member.place, ..run });
        }
        self.title = experiment.title;
        self.axes = experiment.axes.into_iter().map(PageAxis::from).collect();
        for name in experiment.measures {
            let measure = name.parse()?;
            if !self.measures.contains(&measure) {
                self.measures.push(measure);
            }
        }
        Ok(())
    }

    /// Finds the fields that differ, each with its values: numbers in their order, others in the order of the runs. Runs that
    /// are equal are numbered.
    fn arrange(&mut self) {
        let value = |run: &Done, field: &str| shown::value(field, &run.cell.value(field));
        self.axes.clear();
        self.runs.iter_mut().for_each(|run| run.place.clear());
        for field in FIELDS {
            let mut values: Vec<String> = Vec::new();
            for run in &self.runs {
                let own = value(run, field);
                if !values.contains(&own) {
                    values.push(own);
                }
            }
            if values.len() > 1 {
                in_order(&mut values);
                for run in &mut self.runs {
                    let own = value(run, field);
                    run.place.push(values.iter().position(|known| *known == own).unwrap_or_default());
                }
                self.axes.push(PageAxis::new(field, shown::values(field, &values)));
            }
        }
        self.number_equal_runs();
        for run in &mut self.runs {
            let part = |(axis, place): (&PageAxis, &usize)| axis.labels[*place].clone();
            let parts: Vec<String> = self.axes.iter().zip(&run.place).map(part).collect();
            run.label = if parts.is_empty() { format!("seed {}", run.cell.seed) } else { parts.join(", ") };
        }
        self.title = match self.runs.as_slice() {
            [first, ..] if !self.axes.iter().any(|axis| axis.name == "prompt") => {
                format!("“{}”", first.cell.prompt)
            }
            runs => format!("{} runs", runs.len()),
        };
    }

    fn number_equal_runs(&mut self) {
        let places: Vec<Vec<usize>> = self.runs.iter().map(|run| run.place.clone()).collect();
        let numbers: Vec<usize> = (0..places.len())
            .map(|index| places[..index].iter().filter(|place| **place == places[index]).count())
            .collect();
        let most = numbers.iter().copied().max().unwrap_or_default();
        if most > 0 {
            self.runs.iter_mut().zip(numbers).for_each(|(run, number)| run.place.push(number));
            let values = (1..=most + 1).map(|number| number.to_string()).collect();
            self.axes.push(PageAxis::new("run", values));
        }
    }
}

/// Sorts values that are all numbers.
fn in_order(values: &mut [String]) {
    if let Some(numbers) = numbers(values) {
        let number: HashMap<String, f64> = values.iter().cloned().zip(numbers).collect();
        values.sort_by(|one, other| number[one].total_cmp(&number[other]));
    }
}

/// Checks that the folder of a cell has no files of another cell.
fn check_cell(run: &RunFolder) -> Result<()> {
    let key = run.name().rsplit('-').next().unwrap_or_default().to_string();
    match check(run, &key) {
        Err(fault @ Fault::Swapped { .. }) if run.settings().is_ok_and(|about| about["key"].is_string()) => {
            bail!("{}\nhint: `latentrace run` with --retry makes the cell again", fault.said(run.path(), None))
        }
        _ => Ok(()), // an earlier version may not have said it, and what is missing is noticed when it is read
    }
}

/// Checks that a run has a picture, or what one is decoded from.
fn check_finished(run: &RunFolder) -> Result<()> {
    let trace = run.read()?;
    if run.picture().is_file() || trace.values(SamplerValue::Latents).next().is_some() {
        return Ok(());
    }
    let (folder, complete) = (run.path().display(), trace.complete());
    match trace.live() {
        Some(owner) => {
            bail!("{folder}: not finished: {owner} is writing it; {complete} calls are whole\nhint: wait until it ends")
        }
        None => {
            bail!("{folder}: not finished: {complete} calls are whole\nhint: `latentrace resume {folder}` continues it")
        }
    }
}

/// A run with its settings, and without label and place.
fn done(run: RunFolder) -> Result<Done> {
    let cell = Description::of(&run.read()?)?.cell;
    Ok(Done { cell, label: String::new(), place: Vec::new(), run })
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_runs::Cell;

    #[test]
    fn a_picture_that_was_named_in_two_ways_is_one_value_called_by_its_file() {
        let run = |image: &str| Done {
            cell: Cell { image: Some(image.into()), ..Cell::default() },
            label: String::new(),
            place: Vec::new(),
            run: RunFolder::new(Path::new("")),
        };
        let runs = ["no/specs/../one.png", "no/one.png", "no/two.png"].map(run).into();
        let mut found = Found { runs, ..Found::default() };
        found.arrange();
        let axes: Vec<_> = found.axes.iter().map(|axis| (axis.name.as_str(), axis.values.join(" "))).collect();
        assert_eq!(axes, [("image", "one.png two.png".to_string()), ("run", "1 2".into())]);
        assert_eq!(found.runs[1].label, "image one.png, run 2");
    }
}
