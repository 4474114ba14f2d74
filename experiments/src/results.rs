//! `results.csv`: a row for each cell, with what varies and what was measured.

use crate::figures::{Done, Finished};
use crate::measure::Sight;
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
    let numbers: Vec<Vec<(String, f64)>> =
        finished.cells.iter().map(|done| measured(finished, done)).collect::<Result<_>>()?;
    let names: Vec<&String> = numbers.first().into_iter().flatten().map(|(name, _)| name).collect();
    let axes = finished.axes.iter().map(|axis| axis.name.clone());
    let mut csv = line(axes.chain(names.iter().map(|name| name.to_string())).chain(["picture".into(), "error".into()]));
    for (done, numbers) in finished.cells.iter().zip(&numbers) {
        let numbers =
            numbers.iter().map(|(_, number)| if number.is_finite() { number.to_string() } else { String::new() });
        let picture = done.folder.join("image.png");
        let picture = picture.strip_prefix(finished.root).unwrap_or(&picture).display().to_string();
        csv += &line(place(finished, &done.place).chain(numbers).chain([picture, String::new()]));
    }
    for failed in failed.iter().filter(|failed| failed.place.len() == finished.axes.len()) {
        let none = names.iter().map(|_| String::new());
        csv += &line(place(finished, &failed.place).chain(none).chain([String::new(), failed.error.clone()]));
    }
    let path = finished.root.join("results.csv");
    replace(&path, csv.as_bytes()).with_context(|| path.display().to_string())?;
    Ok(path)
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
