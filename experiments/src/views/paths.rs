//! The path of a recorded run: its samples or clean estimates, from call to call.

use anyhow::Result;
use latentrace_files::{Table, fields};
use latentrace_measures::{Pca, Trajectory};
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_plot::{Chart, ChartAxis, Series};
use latentrace_trace::{Entry, Trace};

/// The points of a run's path, one for each call.
pub struct RunPath {
    /// Its name in a legend.
    pub name: String,
    /// The points, in the order of the calls.
    pub points: Vec<Tensor>,
    /// The noise level of each.
    pub levels: Vec<f64>,
}

impl RunPath {
    /// A value of the sampler at every call, followed by the final latents if the record has them.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn of(trace: &Trace, value: SamplerValue, name: String) -> Result<RunPath> {
        let entries: Vec<&Entry> = trace.values(value).collect();
        let mut points: Vec<Tensor> = entries.iter().map(|entry| Ok(trace.tensor(entry)?)).collect::<Result<_>>()?;
        let mut levels: Vec<f64> = entries.iter().map(|entry| entry.sigma).collect();
        if let Some(end) = trace.values(SamplerValue::Latents).next() {
            points.push(trace.tensor(end)?);
            levels.push(0.0);
        }
        Ok(RunPath { name, points, levels })
    }
}

/// A chart of paths in the plane of their first two principal components; `None` if there are not two components.
pub fn plane(title: &str, paths: &[RunPath]) -> Option<Chart> {
    let runs: Vec<Vec<&Tensor>> = paths.iter().map(|path| path.points.iter().collect()).collect();
    let found = Pca::of(&runs, 2).filter(|found| found.explained.len() == 2)?;
    let series = paths.iter().zip(&found.runs).map(|(path, points)| {
        Series::new(path.name.clone(), points.iter().map(|point| (point[0], point[1])).collect()).marked()
    });
    let axis = |number: usize| {
        ChartAxis::linear(format!("component {}: {:.1} % of the variance", number + 1, 100.0 * found.explained[number]))
    };
    Some(Chart {
        title: title.into(),
        x: axis(0),
        y: axis(1),
        series: series.collect(),
        notes: vec!["a ring is the start, the last mark the end".into()],
        ..Chart::default()
    })
}

/// How straight each path is: a table with a row for each point.
pub fn geometry(paths: &[RunPath]) -> Table {
    let mut table = Table::new(["run", "point", "sigma", "deviation_from_chord", "turning_angle"]);
    for (number, path) in paths.iter().enumerate() {
        let Some(found) = Trajectory::of(&path.points, &path.levels) else { continue };
        for (index, deviation) in found.relative_deviation().into_iter().enumerate() {
            let turning = index.checked_sub(1).and_then(|before| found.turning.get(before)).copied();
            table.row(fields![number, index, path.levels[index], deviation, turning]);
        }
    }
    table
}
