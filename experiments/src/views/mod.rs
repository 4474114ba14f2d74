//! Figures of one recorded run. Each has its numbers as CSV.

mod attention;
mod causal;
mod compare;
mod health;
pub(crate) mod paths;

pub use attention::{word_maps, words};
pub use causal::causal;
pub use compare::{by_tap, compare};
pub use health::health;

use crate::previews::enlargement;
use crate::views::paths::{RunPath, geometry, plane};
use anyhow::{Context, Result};
use latentrace_measures::{Commitment, KAPPA, spectrum as power};
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_plot::{
    Chart, ChartAxis, Colours, Grid, HeatMap, Panels, RgbImage, Series, Tile, ValueScale, open_image, overlay,
    save_png, write,
};
use latentrace_runs::Description;
use latentrace_runs::{RunFolder, Scalars};
use latentrace_trace::{Entry, Trace};
use std::path::{Path, PathBuf};

/// Draws the curves of [`Scalars`]: sizes, the decomposition of guidance, whether the predicted noise is normal, and
/// when the result is decided. Returns the files.
///
/// # Errors
/// A file cannot be written.
pub fn curves(folder: &Path, scalars: &Scalars, description: &Description) -> Result<Vec<PathBuf>> {
    let series = |name: &str, column: &str| {
        let place = scalars.columns.iter().position(|known| known == column).unwrap_or_default();
        Series::new(name, scalars.rows.iter().map(|row| (row[0], row[place])).collect())
    };
    let chart = |title: &str, y: ChartAxis, series: Vec<Series>| Chart {
        title: title.into(),
        x: ChartAxis::whole("network call"),
        y,
        series,
        ..Chart::default()
    };
    let means: Vec<Series> = (0..description.latents[0])
        .map(|channel| series(&format!("channel {channel}"), &format!("mean_{channel}")))
        .collect();
    let panels = Panels {
        title: title(description),
        columns: 2,
        charts: vec![
            chart(
                "size",
                ChartAxis::log("root mean square"),
                vec![
                    series("sigma", "sigma"),
                    series("sample x", "rms_x"),
                    series("predicted noise", "rms_epsilon"),
                    series("clean estimate", "rms_denoised"),
                ],
            ),
            chart(
                "what the prompt changes: ε_c − ε_u",
                ChartAxis::log("root mean square"),
                vec![
                    series("all", "rms_epsilon_difference"),
                    series("along the clean estimate", "guidance_parallel"),
                    series("across it", "guidance_orthogonal"),
                ],
            ),
            chart(
                "guidance",
                ChartAxis::linear("ratio"),
                vec![
                    series("cos(ε_c, ε_u)", "guidance_cosine"),
                    series("std ε_c / std ε_guided", "guidance_rescale"),
                    series("ε_c · ε_u / |ε_u|²", "guidance_projection"),
                ],
            ),
            chart(
                "is the predicted noise noise?",
                ChartAxis::linear("0 for white normal noise"),
                vec![
                    series("excess kurtosis", "kurtosis_epsilon"),
                    series("lag-1 autocorrelation", "autocorrelation_epsilon"),
                ],
            ),
            chart(
                "how much is undecided",
                ChartAxis::linear("distance to the result, first = 1"),
                vec![series("clean estimate", "commitment")],
            ),
            chart(
                "does the clean estimate alternate?",
                ChartAxis::linear("unstable: share ≥ 0.1, cosine near −1").showing(-1.0, 1.0),
                vec![series("share that alternates", "alternation"), series("cosine of changes", "alternation_cosine")],
            ),
            chart("mean of the clean estimate", ChartAxis::linear("mean"), means),
        ],
        ..Panels::default()
    };
    Ok(write(folder, "curves", &panels)?)
}

/// Draws when each latent pixel is decided: the first call from which its clean estimate stays within [`KAPPA`] of its
/// first distance to the result. Returns the files.
///
/// # Errors
/// The record cannot be read, or a file cannot be written.
pub fn commitment(folder: &Path, trace: &Trace, description: &Description) -> Result<Vec<PathBuf>> {
    let estimates = tensors(trace, trace.values(SamplerValue::Denoised))?;
    let Some(result) = trace.values(SamplerValue::Latents).next() else { return Ok(Vec::new()) };
    let Some(found) = Commitment::of(&estimates, &trace.tensor(result)?, KAPPA) else { return Ok(Vec::new()) };
    let map: Vec<Vec<f64>> = found.step.outer_iter().map(|row| row.iter().map(|&step| step as f64).collect()).collect();
    let figure = HeatMap {
        title: format!("decided at which call: {}", title(description)),
        rows: (0..map.len()).map(|row| row.to_string()).collect(),
        columns: (0..map[0].len()).map(|column| column.to_string()).collect(),
        values: map.clone(),
        x_label: "latent column".into(),
        y_label: "latent row".into(),
        value_label: format!("first call within {KAPPA} of the first distance"),
        low: Some(0.0),
        high: Some(estimates.len() as f64),
        ..HeatMap::default()
    };
    let mut made = write(folder, "commitment", &figure)?;
    if let Some(picture) = picture(trace) {
        let limits = (0.0, estimates.len() as f64);
        let laid = overlay(&picture, &map, limits, Colours::Sequential, 0.6);
        let laid = Tile::new(laid, "the call at which it is decided").with_scale(limits, Colours::Sequential);
        let cells = vec![Tile::new(picture, "the picture"), laid];
        made.push(grid(folder, "commitment-on-picture.png", &title(description), cells, 2)?);
    }
    Ok(made)
}

/// Draws the power of the clean estimate and of the sample at every spatial frequency and call. Returns the files.
///
/// # Errors
/// The record cannot be read, or a file cannot be written.
pub fn spectrum(folder: &Path, trace: &Trace, description: &Description) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for (stem, value, what) in [
        ("spectrum-denoised", SamplerValue::Denoised, "clean estimate"),
        ("spectrum-sample", SamplerValue::Sample, "sample"),
    ] {
        let entries: Vec<&Entry> = trace.values(value).collect();
        let columns: Vec<Vec<f64>> = tensors(trace, entries.iter().copied())?.iter().map(power).collect();
        let Some(rings) = columns.first().map(Vec::len) else { continue };
        let figure = HeatMap {
            title: format!("spectrum of the {what}: {}", title(description)),
            rows: (0..rings).map(|ring| ring.to_string()).collect(),
            columns: entries.iter().map(|entry| entry.call.to_string()).collect(),
            values: (0..rings).map(|ring| columns.iter().map(|column| column[ring]).collect()).collect(),
            x_label: "network call".into(),
            y_label: "cycles per picture".into(),
            value_label: "power".into(),
            scale: ValueScale::Log,
            ..HeatMap::default()
        };
        made.extend(write(folder, stem, &figure)?);
    }
    Ok(made)
}

/// Draws the samples of one or several runs in the plane of their first two principal components, and writes a table of
/// how straight each path is. Returns the files.
///
/// # Errors
/// A record cannot be read, or a file cannot be written.
pub fn trajectory(folder: &Path, traces: &[Trace]) -> Result<Vec<PathBuf>> {
    let name = |trace: &Trace| match Description::of(trace) {
        Ok(Description { cell, .. }) if traces.len() > 1 => {
            format!("“{}”, seed {}, w {}", short(&cell.prompt, 30), cell.seed, cell.guidance)
        }
        _ => RunFolder::find(trace.folder()).map(|run| run.name()).unwrap_or_default(),
    };
    let path = |trace: &Trace| RunPath::of(trace, SamplerValue::Sample, name(trace));
    let paths: Vec<RunPath> = traces.iter().map(path).collect::<Result<_>>()?;
    let Some(chart) = plane("the sample on its way, x = x0 + sigma · noise", &paths) else { return Ok(Vec::new()) };
    let mut made = write(folder, "trajectory", &chart)?;
    let place = folder.join("trajectory-geometry.csv");
    geometry(&paths).write(&place)?;
    made.push(place);
    Ok(made)
}

/// The picture of a trace's run, if there is one.
fn picture(trace: &Trace) -> Option<RgbImage> {
    let run = RunFolder::find(trace.folder()).ok()?;
    open_image(run.picture()).ok()
}

fn tensors<'a>(trace: &Trace, entries: impl Iterator<Item = &'a Entry>) -> Result<Vec<Tensor>> {
    entries.map(|entry| Ok(trace.tensor(entry)?)).collect()
}

fn grid(folder: &Path, name: &str, title: &str, cells: Vec<Tile>, columns: usize) -> Result<PathBuf> {
    let images: Vec<RgbImage> = cells.iter().take(1).map(|cell| cell.image.clone()).collect();
    let scale = if cells.len() > 2 { enlargement(&images) } else { 2 * enlargement(&images) };
    let grid = Grid { title: Some(title.into()), columns, scale, cells, ..Grid::default() };
    let path = folder.join(name);
    save_png(&path, &grid.render(), &[("Description".into(), title.into())]).context("a grid")?;
    Ok(path)
}

fn title(description: &Description) -> String {
    let cell = &description.cell;
    let second = cell.prompt_2.as_ref().map(|text| format!(" and “{}”", short(text, 100))).unwrap_or_default();
    let prompt = short(&cell.prompt, 100);
    format!("“{prompt}”{second}, seed {}, {} steps, guidance {}", cell.seed, cell.steps, cell.guidance)
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.into() } else { text.chars().take(most).chain(['…']).collect() }
}
