//! The numbers of every run over its calls.

use super::Finished;
use crate::scalars::COLUMNS;
use crate::store::trace_of;
use anyhow::{Context, Result};
use latentrace_plot::{Axis, Chart, Panels, Series, write};
use std::path::{Path, PathBuf};

/// Writes the curves of sigma, sample, predicted noise and guidance over the calls, for every cell.
pub fn curves(finished: &Finished) -> Result<Vec<PathBuf>> {
    let Finished { root, title, cells, .. } = finished;
    let tables: Vec<(String, Vec<Vec<f64>>)> = cells
        .iter()
        .map(|cell| Ok((cell.label.clone(), table(&trace_of(&cell.folder).join("scalars.csv"))?)))
        .collect::<Result<_>>()?;
    let chart = |heading: &str, column: usize, y: Axis| Chart {
        title: heading.into(),
        x: Axis::linear("network call"),
        y,
        series: tables
            .iter()
            .map(|(label, rows)| {
                let points = rows.iter().filter_map(|row| Some((*row.first()?, *row.get(column)?))).collect();
                Series::new(label.clone(), points)
            })
            .collect(),
        ..Chart::default()
    };
    let of = |name: &str| COLUMNS.iter().position(|column| *column == name).unwrap_or_default();
    let panels = Panels {
        title: title.to_string(),
        charts: vec![
            chart("noise level", of("sigma"), Axis::log("sigma")),
            chart("sample |x|", of("rms_x"), Axis::log("rms of x")),
            chart("predicted noise |ε|", of("rms_epsilon"), Axis::linear("rms of ε")),
            chart("what the prompt changes |εc − εu|", of("rms_epsilon_difference"), Axis::log("rms of εc − εu")),
        ],
        columns: 2,
    };
    Ok(write(root, "curves", &panels)?)
}

fn table(path: &Path) -> Result<Vec<Vec<f64>>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let row = |line: &str| line.split(',').map(|cell| cell.parse().unwrap_or(f64::NAN)).collect();
    Ok(text.lines().skip(1).map(row).collect())
}
