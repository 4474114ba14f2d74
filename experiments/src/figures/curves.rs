//! The figure `curves`: numbers of every run over its network calls.

use super::Finished;
use anyhow::Result;
use latentrace_plot::{Chart, ChartAxis, Panels, Series, write};
use latentrace_runs::Scalars;
use std::path::PathBuf;

/// Writes the curves of sigma, sample, predicted noise and guidance over the network calls, for every cell.
///
/// # Errors
/// A table cannot be read, or a file cannot be written.
pub fn curves(finished: &Finished) -> Result<Vec<PathBuf>> {
    let Finished { root, title, cells, .. } = finished;
    let tables: Vec<(String, Scalars)> =
        cells.iter().map(|cell| Ok((cell.label.clone(), Scalars::read(cell.run.trace())?))).collect::<Result<_>>()?;
    let chart = |heading: &str, column: &str, y: ChartAxis| Chart {
        title: heading.into(),
        x: ChartAxis::linear("network call"),
        y,
        series: tables
            .iter()
            .map(|(label, table)| {
                let points = table.column("call").into_iter().zip(table.column(column)).collect();
                Series::new(label.clone(), points)
            })
            .collect(),
        ..Chart::default()
    };
    let panels = Panels {
        title: title.to_string(),
        charts: vec![
            chart("noise level", "sigma", ChartAxis::log("sigma")),
            chart("sample |x|", "rms_x", ChartAxis::log("rms of x")),
            chart("predicted noise |ε|", "rms_epsilon", ChartAxis::linear("rms of ε")),
            chart("what the prompt changes |εc − εu|", "rms_epsilon_difference", ChartAxis::log("rms of εc − εu")),
        ],
        columns: 2,
    };
    Ok(write(root, "curves", &panels)?)
}
