//! `results.csv`: a row for each cell, with what varies and what was measured.

use crate::figures::{Done, Finished};
use crate::measure::Sight;
use crate::provenance::Lost;
use anyhow::{Context, Result};
use latentrace_pipeline::nn::replace;
use std::path::PathBuf;

/// A cell that could not be made.
pub struct Failed {
    /// For each field that varies, which of its values it has; empty for a reference.
    pub place: Vec<usize>,
    /// What the legend calls it.
    pub label: String,
    /// Why.
    pub error: String,
}

/// Writes the table. What takes another time each time, as the seconds do, is in the cells' own files.
pub fn write(finished: &Finished, failed: &[Failed]) -> Result<PathBuf> {
    let lost: Vec<Lost> = finished.cells.iter().map(lost).collect::<Result<_>>()?;
    // Two columns more, where a text did not fit.
    let lost_columns = if lost.iter().any(|lost| *lost != Lost::default()) { &LOST[..] } else { &[] };
    let of_lost = |lost: &Lost| [lost.prompt.clone(), lost.negative.clone()].into_iter().take(lost_columns.len());
    let numbers: Vec<Vec<(String, f64)>> =
        finished.cells.iter().map(|done| measured(finished, done)).collect::<Result<_>>()?;
    let names: Vec<&String> = numbers.first().into_iter().flatten().map(|(name, _)| name).collect();
    let axes = finished.axes.iter().map(|axis| axis.name.clone());
    let names_of_lost = lost_columns.iter().map(|name| name.to_string());
    let measured = axes.chain(names.iter().map(|name| name.to_string()));
    let mut csv = line(measured.chain(names_of_lost).chain(["picture".into(), "error".into()]));
    for ((done, numbers), lost) in finished.cells.iter().zip(&numbers).zip(&lost) {
        let numbers =
            numbers.iter().map(|(_, number)| if number.is_finite() { number.to_string() } else { String::new() });
        let picture = done.folder.join("image.png");
        let picture = picture.strip_prefix(finished.root).unwrap_or(&picture).display().to_string();
        csv += &line(place(finished, &done.place).chain(numbers).chain(of_lost(lost)).chain([picture, String::new()]));
    }
    for failed in failed.iter().filter(|failed| failed.place.len() == finished.axes.len()) {
        let none = names.iter().map(|_| String::new()).chain(of_lost(&Lost::default()));
        csv += &line(place(finished, &failed.place).chain(none).chain([String::new(), failed.error.clone()]));
    }
    let path = finished.root.join("results.csv");
    replace(&path, csv.as_bytes()).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// The columns of what texts lost.
const LOST: [&str; 2] = ["prompt_lost", "negative_lost"];

/// What a cell's texts lost.
fn lost(done: &Done) -> Result<Lost> {
    let path = done.folder.join("cell.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let about: serde_json::Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    serde_json::from_value(about["words_lost"].clone()).with_context(|| format!("{}: words_lost", path.display()))
}

/// What the spec measures, of one picture.
fn measured(finished: &Finished, done: &Done) -> Result<Vec<(String, f64)>> {
    if finished.measures.is_empty() {
        return Ok(Vec::new());
    }
    let sight = Sight::of(done)?;
    Ok(finished.measures.iter().flat_map(|measure| measure.of_cell(&sight)).collect())
}

fn place(finished: &Finished, place: &[usize]) -> impl Iterator<Item = String> {
    place.iter().zip(finished.axes).map(|(index, axis)| axis.values[*index].clone())
}

/// One line of comma-separated values, as RFC 4180 has them.
pub fn line(fields: impl IntoIterator<Item = String>) -> String {
    let quoted = |field: String| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    };
    fields.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}
