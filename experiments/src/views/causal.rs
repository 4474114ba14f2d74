//! The figure of activation patching.

use anyhow::Result;
use latentrace_plot::{Colours, HeatMap, write};
use latentrace_runs::{CausalTracing, Description};
use latentrace_trace::Trace;
use std::path::{Path, PathBuf};

/// Draws the result of [`CausalTracing::measure`]: sites by blocks of steps.
///
/// # Errors
/// The figure cannot be written.
pub fn causal(
    folder: &Path,
    base: &Description,
    source: &Trace,
    run: &CausalTracing,
    values: Vec<Vec<f64>>,
) -> Result<Vec<PathBuf>> {
    let to =
        Description::of(source).map_or_else(|_| "the other run".into(), |source| format!("“{}”", source.cell.prompt));
    let figure = HeatMap {
        title: "how far each site leads one run to another".into(),
        rows: run.sites.clone(),
        columns: run.blocks.iter().map(|(first, last)| format!("{first}–{}", last - 1)).collect(),
        values,
        x_label: "steps in which the site is taken from the other run".into(),
        value_label: "part of the way".into(),
        notes: vec![
            format!("the run: “{}”", base.cell.prompt),
            format!("led to: {to}"),
            "1 is the other run, 0 the run itself".into(),
        ],
        colours: Colours::Diverging,
        low: Some(-1.0),
        high: Some(1.0),
        ..HeatMap::default()
    };
    Ok(write(folder, "causal", &figure)?)
}
