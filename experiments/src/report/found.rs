//! Which runs a report is about, and how they differ.

use crate::cell::FIELDS;
use crate::description::Description;
use crate::experiment::Experiment;
use crate::figures::Done;
use crate::measure::Measure;
use crate::store::trace_of;
use anyhow::{Context, Result, bail, ensure};
use latentrace_plot::ReportAxis;
use latentrace_trace::Trace;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Default)]
pub struct Found {
    /// What is the same everywhere.
    pub title: String,
    /// How the runs differ.
    pub axes: Vec<ReportAxis>,
    /// The runs.
    pub runs: Vec<Run>,
    /// What the experiments measure.
    pub measures: Vec<Measure>,
}

/// A run that is done.
pub struct Run {
    /// Its settings and its place; its folder is that of the cell, or the one that the record is in.
    pub done: Done,
    /// Its record.
    pub trace: PathBuf,
    /// Its picture, which may not be there.
    pub picture: PathBuf,
}

/// The runs in these folders: experiments, recorded runs, or folders of those.
pub fn find(folders: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    for folder in folders {
        ensure!(folder.exists(), "{}: no such folder", folder.display());
        let before = found.runs.len();
        found.add(folder)?;
        if found.runs.len() == before {
            bail!(
                "{}: no run that is done in it\nhint: name the folder of an experiment, such as runs/sweep-guidance, or of \
                 recorded runs, such as runs/generate",
                folder.display()
            );
        }
    }
    // A single experiment knows best what varies in it.
    if found.axes.is_empty() || folders.len() > 1 {
        found.arrange();
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, folder: &Path) -> Result<()> {
        if let Some(experiment) = Experiment::read(folder)? {
            return self.add_experiment(folder, experiment);
        }
        if is_record(folder) {
            self.runs.push(Run::of(folder)?);
            return Ok(());
        }
        let mut inside: Vec<PathBuf> = std::fs::read_dir(folder)
            .with_context(|| folder.display().to_string())?
            .flatten()
            .flat_map(|entry| [trace_of(&entry.path()), entry.path()])
            .filter(|path| is_record(path))
            .collect();
        inside.sort();
        for path in inside {
            let is_whole = Trace::open(&path).is_ok_and(|trace| trace.end().is_some());
            if is_whole {
                self.runs.push(Run::of(&path)?);
            }
        }
        Ok(())
    }

    fn add_experiment(&mut self, folder: &Path, experiment: Experiment) -> Result<()> {
        for member in experiment.cells {
            let cell = folder.join(&member.folder);
            let mut run = Run::of(&trace_of(&cell))?;
            (run.done.label, run.done.place) = (member.label, member.place);
            self.runs.push(run);
        }
        self.title = experiment.title;
        self.axes =
            experiment.axes.into_iter().map(|axis| ReportAxis { name: axis.name, values: axis.values }).collect();
        for name in experiment.measures {
            let measure = name.parse()?;
            if !self.measures.contains(&measure) {
                self.measures.push(measure);
            }
        }
        Ok(())
    }

    /// Finds what differs, each field with its values in the order in which they come; runs that are alike are numbered.
    fn arrange(&mut self) {
        let value = |run: &Run, field: &str| run.done.cell.value(field);
        self.axes.clear();
        self.runs.iter_mut().for_each(|run| run.done.place.clear());
        for field in FIELDS {
            let mut values: Vec<String> = Vec::new();
            for run in &self.runs {
                let own = value(run, field);
                if !values.contains(&own) {
                    values.push(own);
                }
            }
            if values.len() > 1 {
                for run in &mut self.runs {
                    let own = value(run, field);
                    run.done.place.push(values.iter().position(|known| *known == own).unwrap_or_default());
                }
                self.axes.push(ReportAxis { name: field.into(), values });
            }
        }
        self.number_the_alike();
        for run in &mut self.runs {
            let part = |(axis, place): (&ReportAxis, &usize)| format!("{} {}", axis.name, axis.values[*place]);
            let parts: Vec<String> = self.axes.iter().zip(&run.done.place).map(part).collect();
            run.done.label = if parts.is_empty() { format!("seed {}", run.done.cell.seed) } else { parts.join(", ") };
        }
        self.title = match self.runs.as_slice() {
            [first, ..] if !self.axes.iter().any(|axis| axis.name == "prompt") => {
                format!("“{}”", first.done.cell.prompt)
            }
            runs => format!("{} runs", runs.len()),
        };
    }

    fn number_the_alike(&mut self) {
        let places: Vec<Vec<usize>> = self.runs.iter().map(|run| run.done.place.clone()).collect();
        let numbers: Vec<usize> = (0..places.len())
            .map(|index| places[..index].iter().filter(|place| **place == places[index]).count())
            .collect();
        let most = numbers.iter().copied().max().unwrap_or_default();
        if most > 0 {
            self.runs.iter_mut().zip(numbers).for_each(|(run, number)| run.done.place.push(number));
            let values = (1..=most + 1).map(|number| number.to_string()).collect();
            self.axes.push(ReportAxis { name: "run".into(), values });
        }
    }
}

impl Run {
    /// The run of a record: in a cell's folder with `image.png` beside it, or beside a picture of its own name.
    fn of(trace: &Path) -> Result<Run> {
        let cell = Description::of(&Trace::open(trace)?)?.cell;
        let folder = trace.parent().unwrap_or(Path::new(".")).to_path_buf();
        let picture = if trace_of(&folder) == trace { folder.join("image.png") } else { trace.with_extension("png") };
        Ok(Run { done: Done { cell, label: String::new(), place: Vec::new(), folder }, trace: trace.into(), picture })
    }
}

fn is_record(folder: &Path) -> bool {
    folder.join("run.json").is_file()
}
