//! What a sweep came to, as rows; and `results.csv`, which holds them.

use crate::done::Done;
use crate::experiment::Experiment;
use crate::figures::Finished;
use crate::measure::Sight;
use crate::progress::{OfRuns, Progress};
use crate::spec::{Axis, Spec};
use crate::store::Store;
use crate::sweep::{Made, Sweep};
use anyhow::{Context, Result};
use latentrace_files::{Field, Table};
use latentrace_runs::{Lost, RunFolder};
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
}

/// A cell that could not be made.
#[derive(Clone, Debug)]
pub struct Failed {
    /// For each field that varies, which of its values it has; empty for a reference.
    pub place: Vec<usize>,
    /// What the legend calls it.
    pub label: String,
    /// Why.
    pub error: String,
}

/// Measures and draws a sweep whose cells are made.
pub(crate) fn finish(
    sweep: &mut Sweep,
    (root, store): (&Path, &Store),
    (cells, references): (Vec<Done>, Vec<Done>),
    made: Made,
    tell: &dyn Fn(Progress),
) -> Result<Results> {
    let title = title(sweep);
    let finished = Finished {
        root,
        title: &title,
        axes: &sweep.axes,
        columns: sweep.spec.columns,
        measures: &sweep.spec.measure,
        cells: &cells,
        references: &references,
    };
    let failure = |task: &crate::sweep::Task| {
        let key = task.key(store);
        let error = store.failure(key).or_else(|| store.fault(key))?;
        Some(Failed { place: task.place.clone(), label: task.label.clone(), error })
    };
    let failed: Vec<Failed> = sweep.tasks.iter().filter_map(failure).collect();
    let _figures = store.claim_figures()?;
    let rows = rows(&finished)?;
    let unstable: Vec<&str> =
        rows.iter().filter(|row| row.alternates.is_some()).map(|row| row.label.as_str()).collect();
    if !unstable.is_empty() {
        tell(Progress::Unstable { labels: &unstable, cells: rows.len() });
    }
    let mut files = vec![write(&finished, &rows, &failed)?];
    Experiment::write(&finished)?;
    if !cells.is_empty() {
        for figure in &sweep.spec.figures {
            files.extend(figure.draw(&finished, &mut sweep.loaded, &OfRuns(tell))?);
        }
    }
    let Made { new, evaluations } = made;
    Ok(Results { axes: sweep.axes.clone(), rows, failed, cells: sweep.tasks.len(), new, evaluations, files })
}

/// What is the same everywhere, for a title; of prompts that differ in a word or two, what they are made from.
fn title(sweep: &Sweep) -> String {
    let spec: &Spec = sweep.spec;
    let cells: Vec<_> = sweep.tasks.iter().filter(|task| !task.is_reference).map(|task| &task.cell).collect();
    let Some(cell) = cells.first() else { return String::new() };
    let same = |field: &str| cells.iter().all(|other| other.value(field) == cell.value(field));
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
    for field in ["seed", "steps", "guidance"] {
        if same(field) {
            parts.push(format!("{field} {}", cell.value(field)));
        }
    }
    parts.join(", ")
}

/// What each cell has and measures.
fn rows(finished: &Finished) -> Result<Vec<Row>> {
    let row = |done: &Done| {
        let numbers = match finished.measures {
            [] => Vec::new(),
            measures => {
                let sight = Sight::of(done)?;
                measures.iter().flat_map(|measure| measure.of_cell(&sight)).collect()
            }
        };
        let values = place(finished, &done.place).collect();
        let alternates = done.run.alternates();
        Ok(Row { label: done.label.clone(), values, numbers, alternates, run: done.run.clone() })
    };
    finished.cells.iter().map(row).collect()
}

/// Writes the table. What takes another time each time, as the seconds do, is in the cells' own files.
fn write(finished: &Finished, rows: &[Row], failed: &[Failed]) -> Result<PathBuf> {
    let lost: Vec<Lost> = finished.cells.iter().map(lost).collect::<Result<_>>()?;
    // Two columns more, where a text did not fit.
    let lost_columns = if lost.iter().any(|lost| *lost != Lost::default()) { &LOST[..] } else { &[] };
    let of_lost = |lost: &Lost| [lost.prompt.clone(), lost.negative.clone()].into_iter().take(lost_columns.len());
    let names: Vec<&String> = rows.first().into_iter().flat_map(|row| &row.numbers).map(|(name, _)| name).collect();
    let axes = finished.axes.iter().map(|axis| axis.name.clone());
    // One column more, where clean estimates alternate.
    let unstable = if rows.iter().any(|row| row.alternates.is_some()) { &["alternates_from"][..] } else { &[] };
    let measured = axes.chain(names.iter().map(|name| name.to_string()));
    let columns = measured.chain(unstable.iter().chain(lost_columns).map(|name| name.to_string()));
    // And one, where a cell failed.
    let failure = if failed.is_empty() { &[][..] } else { &["failure"] };
    let mut table = Table::new(columns.chain(["picture".into()]).chain(failure.iter().map(|name| name.to_string())));
    for (row, lost) in rows.iter().zip(&lost) {
        let picture = row.run.picture();
        let picture = picture.strip_prefix(finished.root).unwrap_or(picture).display().to_string();
        let values = row.values.iter().map(Field::from);
        let numbers = row.numbers.iter().map(|(_, number)| Field::from(*number));
        let from = row.alternates.map_or(String::new(), |call| call.to_string());
        let numbers = numbers.chain(unstable.iter().map(|_| Field::from(from.clone())));
        let of_failure = failure.iter().map(|_| String::new());
        let end = of_lost(lost).chain([picture]).chain(of_failure).map(Field::from);
        table.row(values.chain(numbers).chain(end));
    }
    for failed in failed.iter().filter(|failed| failed.place.len() == finished.axes.len()) {
        let none = names
            .iter()
            .map(|_| String::new())
            .chain(unstable.iter().map(|_| String::new()))
            .chain(of_lost(&Lost::default()));
        table.row(place(finished, &failed.place).chain(none).chain([String::new(), failed.error.clone()]));
    }
    let path = finished.root.join("results.csv");
    table.write(&path)?;
    Ok(path)
}

/// The columns of what texts lost.
const LOST: [&str; 2] = ["prompt_lost", "negative_lost"];

/// What a cell's texts lost.
fn lost(done: &Done) -> Result<Lost> {
    let about = done.run.settings()?;
    let lost = serde_json::from_value(about["words_lost"].clone());
    lost.with_context(|| format!("{}: words_lost of its settings", done.run.path().display()))
}

fn place(finished: &Finished, place: &[usize]) -> impl Iterator<Item = String> {
    place.iter().zip(finished.axes).map(|(index, axis)| axis.values[*index].clone())
}
