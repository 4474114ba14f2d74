//! The tables of a sweep: `results.csv`, a row for each cell; `curves.csv`, a row for each call of each cell.

use crate::figures::Finished;
use crate::results::{ERROR, Failed, Row};
use latentrace_files::{Field, Table};
use latentrace_runs::{COLUMNS, Cell, FIELDS, PREFIX, Provenance, Scalars};
use std::collections::BTreeSet;
use std::path::Path;

/// The settings that every table has, whether they are set or left to the model.
const ALWAYS: [&str; 8] = ["prompt", "negative", "seed", "steps", "guidance", "sampler", "height", "width"];

/// The columns between the measures and the settings.
const OF_RUN: [&str; 3] = ["alternates_from", "prompt_lost", "negative_lost"];

/// The columns at the end.
const OF_CELL: [&str; 8] = ["calls", "evaluations", "taken_over", "seconds", "failure", "cell", "trace", "picture"];

/// `results.csv`: what varies, what was measured, the other settings, and where the run is. A row for each cell that is done,
/// then one for each that failed. A field is empty if there is nothing to say.
pub(crate) fn results(finished: &Finished, rows: &[Row], failed: &[Failed]) -> Table {
    let varied = varied(finished);
    let measured: Vec<&str> =
        rows.first().into_iter().flat_map(|row| &row.numbers).map(|(name, _)| name.as_str()).collect();
    let cells = finished.cells.iter().map(|done| &done.cell).chain(failed.iter().map(|failed| &failed.cell));
    let settings = settings(cells, &varied);
    let names = varied.iter().copied().chain(measured.iter().copied()).chain(OF_RUN);
    let names = names.map(str::to_string).chain(settings.iter().cloned());
    let mut table = Table::new(names.chain(OF_CELL.map(str::to_string)));
    for (done, row) in finished.cells.iter().zip(rows) {
        let about = &row.about;
        let Provenance { words_lost, .. } = &about.provenance;
        let path = |path: &Path| path.strip_prefix(finished.root).unwrap_or(path).display().to_string();
        let mut fields = values(finished, &done.place);
        fields.extend(row.numbers.iter().map(|(_, number)| Field::from(*number)));
        fields.extend([row.alternates.into(), (&words_lost.prompt).into(), (&words_lost.negative).into()]);
        fields.extend(settings.iter().map(|name| Field::from(about.setting(&done.cell, name))));
        fields.extend([about.provenance.calls.into(), about.evaluations.into(), about.taken().into()]);
        fields.extend([about.seconds.map(|seconds| (seconds * 1e3).round() / 1e3).into(), Field::default()]);
        fields.extend([row.run.name().into(), path(row.run.trace()).into(), path(row.run.picture()).into()]);
        table.row(fields);
    }
    for Failed { place, cell, key, error, .. } in failed.iter().filter(|failed| !failed.is_reference) {
        let mut fields = values(finished, place);
        fields.resize_with(varied.len() + measured.len() + OF_RUN.len(), Field::default);
        fields.extend(settings.iter().map(|name| Field::from(cell.written(name))));
        fields.resize_with(table.columns().count() - 4, Field::default);
        fields.extend([error.into(), key.into(), Field::default(), Field::default()]);
        table.row(fields);
    }
    table
}

/// `curves.csv`: what varies, and every number of every call. A row for each call of each cell.
///
/// # Errors
/// The table of a run cannot be read.
pub(crate) fn curves(finished: &Finished, tables: &[Scalars]) -> Table {
    let varied = varied(finished);
    // Tables of models with other numbers of channels have other columns at the end.
    let mut columns: Vec<&String> = Vec::new();
    for name in tables.iter().flat_map(|table| &table.columns) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let names = varied.iter().map(|name| name.to_string()).chain(["cell".into()]);
    let mut table = Table::new(names.chain(columns.iter().map(|name| name.to_string())));
    let is_integer = |name: &str| INTEGERS.contains(&name);
    let whole: Vec<bool> = columns.iter().map(|name| is_integer(name)).collect();
    let names: Vec<String> = columns.into_iter().cloned().collect();
    for (done, scalars) in finished.cells.iter().zip(tables) {
        let own = values(finished, &done.place).into_iter().chain([Field::from(done.run.name())]);
        let own: Vec<Field> = own.collect();
        for numbers in scalars.only(&names) {
            let number = |(number, is_whole): (&f64, &bool)| match *is_whole && number.is_finite() {
                true => Field::from(*number as i64),
                false => Field::from(*number),
            };
            table.row(own.iter().cloned().chain(numbers.iter().zip(&whole).map(number)));
        }
    }
    table
}

/// The columns of a run's table that count.
const INTEGERS: [&str; 3] = ["call", "step", "evaluation"];

/// Whether a word of a prompt would have the name of a column.
pub(crate) fn is_column(name: &str) -> bool {
    let of_measures = ["number", "n", "value", "low", "high", "interval"];
    let all = OF_RUN.iter().chain(&OF_CELL).chain(&COLUMNS).chain(&of_measures);
    all.into_iter().any(|column| *column == name) || name == ERROR || crate::measure::is_number(name)
}

/// The names of all fields that vary.
pub(crate) fn varied<'a>(finished: &Finished<'a>) -> Vec<&'a str> {
    finished.axes.iter().flat_map(|axis| &axis.fields).map(|field| field.name.as_str()).collect()
}

/// The values of all fields that vary, at a place.
pub(crate) fn values(finished: &Finished, place: &[usize]) -> Vec<Field> {
    let of = |(axis, index): (&crate::spec::Axis, &usize)| {
        axis.fields.iter().map(|field| Field::from(&field.values[*index])).collect::<Vec<_>>()
    };
    finished.axes.iter().zip(place).flat_map(of).collect()
}

/// The names of the settings that are in the table and do not vary: [`ALWAYS`], and whatever is set in a cell. An option of the
/// scheduler is one by itself.
fn settings<'a>(cells: impl Iterator<Item = &'a Cell>, varied: &[&str]) -> Vec<String> {
    let (mut set, mut options): (BTreeSet<&str>, BTreeSet<String>) = Default::default();
    for cell in cells {
        set.extend(FIELDS.into_iter().filter(|field| cell.written(field).is_some()));
        options.extend(cell.scheduler.keys().map(|option| format!("{PREFIX}{option}")));
    }
    let is_in = |field: &&str| ALWAYS.contains(field) || (set.contains(field) && *field != "scheduler");
    let fields = FIELDS.into_iter().filter(is_in).map(str::to_string);
    fields.chain(options).filter(|name| !varied.contains(&name.as_str())).collect()
}
