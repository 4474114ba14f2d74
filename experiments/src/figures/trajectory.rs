//! The figures of `trajectory`: decoded samples of a run, and the path of its samples.

use super::Finished;
use super::inking::NAMES;
use crate::done::Done;
use crate::figures::tile::tile;
use crate::previews::enlargement;
use crate::views::paths::{RunPath, geometry, plane};
use anyhow::Result;
use latentrace_measures::{Moments, Trajectory};
use latentrace_pipeline::Model;
use latentrace_pipeline::nn::SamplerValue;
use latentrace_plot::{Chart, ChartAxis, Grid, Panels, Series, Tile, save_png, write};
use latentrace_runs::{Loaded, Observer};
use latentrace_trace::{Entry, Trace};
use std::path::PathBuf;

/// The largest numbers of cells with film strips, and of curves: as many as there are colours.
const MOST_STRIPS: usize = 4;
const MOST_CURVES: usize = NAMES;
/// The number of pictures in a strip.
const FRAMES: usize = 9;

/// Writes `trajectory-strips.png`, two rows for each of the first cells: the decoded sample, scaled to unit variance by
/// `1 / √(1 + sigma²)`, and the decoded clean estimate. Writes `trajectory` for up to seven cells: the paths of both in
/// the plane of their first two principal components, the size of the sample, and its distance from a straight line.
///
/// # Errors
/// A record cannot be read, a latent cannot be decoded, or a file cannot be written.
pub fn trajectory(finished: &Finished, loaded: &mut Loaded, observer: &dyn Observer) -> Result<Vec<PathBuf>> {
    let mut made = vec![strips(finished, loaded, observer)?];
    let shown = &finished.cells[..finished.cells.len().min(MOST_CURVES)];
    let along = |value| -> Result<Vec<RunPath>> {
        let path = |done: &Done| RunPath::of(&done.run.read()?, value, done.label.clone());
        shown.iter().map(path).collect()
    };
    let (samples, estimates) = (along(SamplerValue::Sample)?, along(SamplerValue::Denoised)?);
    let planes = [("the sample x on its way", &samples), ("the clean estimate of x0 on its way", &estimates)];
    let mut charts: Vec<Chart> = planes.into_iter().filter_map(|(title, paths)| plane(title, paths)).collect();
    charts.extend([size(&samples), bend(&samples)]);
    if shown.len() < finished.cells.len() {
        let note = format!("the first {} of {} cells", shown.len(), finished.cells.len());
        charts.iter_mut().for_each(|chart| chart.notes.push(note.clone()));
    }
    made.extend(write(
        finished.root,
        "trajectory",
        &Panels { title: finished.title.into(), charts, columns: 2, ..Panels::default() },
    )?);
    let place = finished.root.join("trajectory-geometry.csv");
    geometry(&samples).write(&place)?;
    made.push(place);
    Ok(made)
}

/// The size of the sample against its noise level.
fn size(samples: &[RunPath]) -> Chart {
    let rms = |path: &RunPath| {
        let points = path.points.iter().zip(&path.levels).map(|(point, sigma)| (*sigma, Moments::of(point).rms));
        Series::new(path.name.clone(), points.collect()).marked()
    };
    Chart {
        title: "the size of the sample |x| / √n".into(),
        x: ChartAxis::log("sigma").reversed(),
        y: ChartAxis::log("root mean square of x"),
        series: samples.iter().map(rms).collect(),
        notes: vec!["the final latents, at sigma 0, are not on this axis".into()],
        ..Chart::default()
    }
}

/// The distance of each path from its chord, and for the first paths the ratio of length to chord.
fn bend(samples: &[RunPath]) -> Chart {
    let deviation = |path: &RunPath| {
        let found = Trajectory::of(&path.points, &path.levels);
        let away = found.map(|found| found.relative_deviation()).unwrap_or_default();
        let points = path.levels.iter().copied().zip(away).filter(|(sigma, _)| *sigma > 0.0).collect();
        Series::new(path.name.clone(), points).marked()
    };
    let detours: Vec<String> =
        samples.iter().map(|path| format!("{} {:.3}", path.name, detour(path))).take(MOST_STRIPS).collect();
    let few = if detours.len() < samples.len() { "of the first, " } else { "" };
    let length = format!("{few}path / chord: {}", detours.join("; "));
    Chart {
        title: "how far from a straight line".into(),
        x: ChartAxis::log("sigma").reversed(),
        y: ChartAxis::linear("distance from the chord, in chords"),
        series: samples.iter().map(deviation).collect(),
        notes: vec![length],
        ..Chart::default()
    }
}

/// The length of a path over the distance between its ends.
fn detour(path: &RunPath) -> f64 {
    let apart = |pair: &[_]| -> f64 { Trajectory::of(pair, &[1.0, 0.0]).map_or(f64::NAN, |found| found.chord) };
    let ends: Vec<_> = path.points.first().into_iter().chain(path.points.last()).collect();
    let steps: f64 = path.points.windows(2).map(|pair| apart(&[&pair[0], &pair[1]])).sum();
    if ends.len() < 2 { f64::NAN } else { steps / apart(&ends) }
}

/// Writes the film strips: two rows for each of the first cells, its samples and its clean estimates.
fn strips(finished: &Finished, loaded: &mut Loaded, observer: &dyn Observer) -> Result<PathBuf> {
    let shown = &finished.cells[..finished.cells.len().min(MOST_STRIPS)];
    let (mut cells, mut row_labels) = (Vec::new(), Vec::new());
    for done in shown {
        let trace = done.run.read()?;
        let model = loaded.get(&done.cell, observer)?;
        for (value, what) in [(SamplerValue::Sample, "sample"), (SamplerValue::Denoised, "clean estimate")] {
            let entries: Vec<&Entry> = trace.values(value).collect();
            let levels: Vec<f64> = entries.iter().map(|entry| entry.sigma).collect();
            let frames: Vec<Tile> = spread(&levels, FRAMES)
                .into_iter()
                .map(|place| frame(&trace, entries[place], model, value == SamplerValue::Sample))
                .collect::<Result<_>>()?;
            cells.push(frames);
            row_labels.push(format!("{}: {what}", done.label));
        }
    }
    let columns = cells.iter().map(Vec::len).max().unwrap_or(1);
    let flat: Vec<Tile> = cells
        .into_iter()
        .flat_map(|mut row| {
            row.resize_with(columns, || Tile::missing(""));
            row
        })
        .collect();
    let scale = enlargement(flat.iter().map(|cell| &cell.image));
    let few = if shown.len() < finished.cells.len() { first(shown.len(), finished) } else { String::new() };
    let title = format!("{}: the sample at unit variance, and the clean estimate in it{few}", finished.title);
    let grid = Grid { title: Some(title.clone()), columns, cells: flat, row_labels, scale, ..Grid::default() };
    let path = finished.root.join("trajectory-strips.png");
    save_png(&path, &grid.render(), &[("Description".into(), title)])?;
    Ok(path)
}

/// What a title says where only some of the cells are shown.
fn first(shown: usize, finished: &Finished) -> String {
    format!("; the first {shown} of {} cells", finished.cells.len())
}

/// One decoded tensor. A sample is scaled to unit variance first.
fn frame(trace: &Trace, entry: &Entry, model: &Model, is_sample: bool) -> Result<Tile> {
    let scale = if is_sample { 1.0 / entry.sigma.hypot(1.0) } else { 1.0 };
    tile(model, &(trace.tensor(entry)? * scale), format!("σ {}", short(entry.sigma)))
}

/// A noise level with three digits.
pub fn short(sigma: f64) -> String {
    let digits = if sigma >= 1.0 { 2 - (sigma.log10().floor() as i32).clamp(0, 2) } else { 3 };
    format!("{sigma:.*}", digits as usize)
}

/// The indices of at most `most` levels, evenly spaced in their logarithm, from the first to the last.
pub fn spread(levels: &[f64], most: usize) -> Vec<usize> {
    let logs: Vec<f64> = levels.iter().map(|sigma| sigma.max(1e-6).ln()).collect();
    let [first, .., last] = logs.as_slice() else { return (0..levels.len()).collect() };
    let at = |index: usize| first + (last - first) * index as f64 / (most.max(2) - 1) as f64;
    let nearest = |wanted: f64| {
        let far = |place: &usize| (logs[*place] - wanted).abs();
        (0..logs.len()).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or_default()
    };
    let mut places: Vec<usize> = (0..most).map(|index| nearest(at(index))).collect();
    places.sort_unstable();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_pipeline::nn::tch::Tensor;

    #[test]
    fn frames_are_even_in_the_logarithm() {
        let levels: Vec<f64> = (0..=12).map(|power| 1000.0 * 0.5f64.powi(power)).collect();
        assert_eq!(spread(&levels, 4), [0, 4, 8, 12]);
        assert_eq!(spread(&levels, 99), (0..=12).collect::<Vec<_>>());
        assert_eq!(spread(&[14.6, 3.0], 9), [0, 1]);
        assert_eq!((spread(&[14.6], 9), spread(&[], 9)), (vec![0], vec![]));
    }

    #[test]
    fn a_detour_is_longer_than_the_line() {
        let points = [[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]].map(|point: [f64; 2]| Tensor::from_slice(&point));
        let path = RunPath { name: String::new(), points: points.into(), levels: vec![2.0, 1.0, 0.0] };
        assert!((detour(&path) - 7.0 / 5.0).abs() < 1e-12);
        assert!(detour(&RunPath { name: String::new(), points: vec![], levels: vec![] }).is_nan());
    }

    #[test]
    fn levels_have_three_digits() {
        assert_eq!([14.61, 1.5, 0.0291, 157.4].map(short), ["14.6", "1.50", "0.029", "157"]);
    }
}
