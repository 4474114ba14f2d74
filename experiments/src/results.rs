//! What a sweep came to, as rows; and `results.csv`, which holds them.

use crate::about::About;
use crate::done::Done;
use crate::experiment::Experiment;
use crate::figures::{Finished, errors};
use crate::measure::Sight;
use crate::page::remove_stale;
use crate::parallel::of_each;
use crate::progress::{OfRuns, Progress};
use crate::shown::in_title;
use crate::spec::{Axis, Spec};
use crate::store::Store;
use crate::sweep::{Made, Sweep, Task};
use crate::tables;
use anyhow::Result;
use latentrace_runs::{Cell, Event, FIELDS, PREFIX, RunFolder};
use std::path::{Path, PathBuf};

/// What a sweep came to.
#[derive(Debug)]
pub struct Results {
    /// What varies.
    pub axes: Vec<Axis>,
    /// A row for each cell that is done, in the order of the spec.
    pub rows: Vec<Row>,
    /// Cells that could not be made.
    pub failed: Vec<Failed>,
    /// How many cells there are, with references and those that failed.
    pub cells: usize,
    /// How many of them nobody has made yet, where this process was not to make them.
    pub missing: usize,
    /// How many pictures are new.
    pub new: usize,
    /// How many rows the network computed: a row is one sample with one text.
    pub evaluations: usize,
    /// The tables and figures.
    pub files: Vec<PathBuf>,
}

/// A cell that is done.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the legend calls it.
    pub label: String,
    /// For each axis, the cell's value as a label shows it.
    pub values: Vec<String>,
    /// What was measured, by name; NaN where a number is not defined.
    pub numbers: Vec<(String, f64)>,
    /// The call from which its clean estimates alternate, if they do.
    pub alternates: Option<usize>,
    /// Where it is.
    pub run: RunFolder,
    /// What its settings say of it.
    pub(crate) about: About,
}

/// A cell that could not be made.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its settings.
    pub cell: Cell,
    /// The name of its folder, if it had one.
    pub key: String,
    /// For each axis, which of its values it has; empty for a reference.
    pub place: Vec<usize>,
    /// Whether it is a fine solution that cells are held against.
    pub is_reference: bool,
    /// What the legend calls it.
    pub label: String,
    /// Why.
    pub error: String,
}

/// Measures and draws a sweep whose cells are made. The caller holds the lease on tables and figures.
pub(crate) fn finish(
    sweep: &mut Sweep,
    (root, store): (&Path, &Store),
    (cells, references): (Vec<Done>, Vec<Done>),
    made: Made,
    tell: &dyn Fn(Progress),
) -> Result<Results> {
    let title = title(sweep);
    let sights = Sight::of_all(&cells, &sweep.spec.measure)?;
    let finished = Finished {
        root,
        title: &title,
        axes: &sweep.axes,
        columns: sweep.spec.columns,
        measures: &sweep.spec.measure,
        cells: &cells,
        sights: &sights,
        references: &references,
    };
    let failed: Vec<Failed> = store.at_once(|| sweep.tasks.iter().filter_map(|task| failure(task, store)).collect());
    let rows = rows(&finished)?;
    let unstable: Vec<&str> =
        rows.iter().filter(|row| row.alternates.is_some()).map(|row| row.label.as_str()).collect();
    if !unstable.is_empty() {
        tell(Progress::Unstable { labels: &unstable, cells: rows.len() });
    }
    let path = root.join("results.csv");
    tables::results(&finished, &rows, &failed).with_even_columns().write(&path)?;
    let mut files = vec![path];
    let has_changed = Experiment::write(&finished)?;
    if has_changed || made.new > 0 {
        without_report(root, tell)?;
    }
    if !cells.is_empty() {
        for figure in &sweep.spec.figures {
            files.extend(figure.draw(&finished, &mut sweep.loaded, &OfRuns(tell))?);
        }
    }
    let Made { new, evaluations } = made;
    let all = sweep.tasks.len();
    let missing = all.saturating_sub(cells.len() + references.len() + failed.len());
    Ok(Results { axes: sweep.axes.clone(), rows, failed, cells: all, missing, new, evaluations, files })
}

/// What a sweep came to of which only a part was to be made: nothing is measured or drawn.
pub(crate) fn of_part(sweep: &Sweep, store: &Store, places: &[usize], made: Made) -> Results {
    let tasks = places.iter().map(|&place| &sweep.tasks[place]);
    let Made { new, evaluations } = made;
    Results {
        axes: sweep.axes.clone(),
        rows: Vec::new(),
        failed: store.at_once(|| tasks.filter_map(|task| failure(task, store)).collect()),
        cells: places.len(),
        missing: 0,
        new,
        evaluations,
        files: Vec::new(),
    }
}

/// A cell that could not be made, if it is one.
fn failure(task: &Task, store: &Store) -> Option<Failed> {
    let key = task.key(store);
    let error = store.failure(key).or_else(|| store.fault(key))?;
    let (cell, label, place) = (task.cell.clone(), task.label.clone(), task.place.clone());
    Some(Failed { cell, key: key.into(), place, is_reference: task.is_reference, label, error })
}

/// Removes the page of an earlier state of the experiment, and says so.
fn without_report(root: &Path, tell: &dyn Fn(Progress)) -> Result<()> {
    if let Some(removed) = remove_stale(root)? {
        tell(Progress::Run(Event::Note(&removed.said(root))));
    }
    Ok(())
}

/// What is the same everywhere and not the default, for a title; of prompts that differ in a word or two, what they are made from.
fn title(sweep: &Sweep) -> String {
    let spec: &Spec = sweep.spec;
    let cells: Vec<&Cell> = sweep.tasks.iter().filter(|task| !task.is_reference).map(|task| &task.cell).collect();
    let Some(cell) = cells.first() else { return String::new() };
    let same = |field: &str| cells.iter().all(|other| other.written(field) == cell.written(field));
    let mut parts = Vec::new();
    if let Some(prompt) = if same("prompt") { Some(cell.prompt.as_str()) } else { spec.prompt() } {
        let mut shown: String = prompt.chars().take(120).collect();
        if shown.len() < prompt.len() {
            shown.push('…');
        }
        parts.push(format!("“{shown}”"));
    }
    if same("negative") && !cell.negative.is_empty() {
        parts.push(format!("not “{}”", cell.negative));
    }
    let standard = Cell::default();
    let options = cell.scheduler.keys().map(|option| format!("{PREFIX}{option}"));
    let fields = FIELDS.into_iter().filter(|field| !["prompt", "negative", "scheduler"].contains(field));
    for field in fields.map(str::to_string).chain(options) {
        let is_told = ALWAYS_TOLD.contains(&field.as_str()) || cell.written(&field) != standard.written(&field);
        if let Some(value) = cell.written(&field).filter(|_| is_told && same(&field)) {
            parts.push(format!("{field} {}", in_title(&field, &value)));
        }
    }
    parts.join(", ")
}

/// The settings that a title has, also where they are the default.
const ALWAYS_TOLD: [&str; 3] = ["seed", "steps", "guidance"];

/// The number that says how far a run ends from its reference.
pub(crate) const ERROR: &str = "error";

/// What each cell has and measures.
fn rows(finished: &Finished) -> Result<Vec<Row>> {
    let errors = if finished.references.is_empty() { Vec::new() } else { errors(finished)? };
    of_each(finished.cells, |place, done| {
        let sight = finished.sights.get(place); // none if nothing is measured
        let of_cell = |sight| finished.measures.iter().flat_map(move |measure| measure.of_cell(sight));
        let error = errors.get(place).map(|error| (ERROR.to_string(), error.unwrap_or(f64::NAN)));
        let numbers = sight.into_iter().flat_map(of_cell).chain(error).collect();
        let value = |(index, axis): (&usize, &Axis)| axis.values[*index].clone();
        let values = done.place.iter().zip(finished.axes).map(value).collect();
        let alternates = done.run.alternates();
        let about = About::read(&done.run)?;
        Ok(Row { label: done.label.clone(), values, numbers, alternates, run: done.run.clone(), about })
    })
}
