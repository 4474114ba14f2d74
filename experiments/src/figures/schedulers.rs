//! The figures of `schedulers`: the error of each sampler against its work.

use super::Finished;
use super::inking::NAMES;
use super::reference::errors;
use super::trajectory::{short, spread};
use crate::about::About;
use crate::done::Done;
use crate::figures::tile::tile;
use crate::measure::axes;
use crate::previews::enlargement;
use anyhow::{Result, ensure};
use latentrace_measures::Estimate;
use latentrace_pipeline::nn::SamplerValue;
use latentrace_plot::{Chart, ChartAxis, Grid, HeatMap, Panels, Series, ValueScale, save_png, write};
use latentrace_runs::Cell;
use latentrace_runs::Description;
use latentrace_runs::{Loaded, Observer};
use latentrace_trace::{Entry, Trace};
use std::path::PathBuf;

/// The number of columns of the pictures at equal noise.
const COLUMNS: usize = 7;

/// Writes `compare-schedulers`, the error `‖x − x_ref‖ / ‖x_ref‖` of the final latents against network calls and
/// against time, or maps of both over the steps where there are more samplers than colours; and
/// `compare-schedulers-sigma.png`, the clean estimates of every sampler at equal noise.
///
/// The reference of a cell has the same settings except for sampler, steps and reading: it is an accurate solution of
/// the ordinary differential equation that the samplers solve.
///
/// # Errors
/// No cell has a reference, a record cannot be read, or a file cannot be written.
pub fn schedulers(finished: &Finished, loaded: &mut Loaded, observer: &dyn Observer) -> Result<Vec<PathBuf>> {
    let results = results(finished)?;
    let mut made = write(finished.root, "compare-schedulers", &panels(finished, &results))?;
    made.extend(at_equal_sigma(finished, loaded, observer)?);
    Ok(made)
}

/// A cell, compared with its reference.
struct Outcome {
    /// The sampler, with the other fields that vary except for steps, seeds and prompts.
    name: String,
    is_random: bool,
    steps: usize,
    calls: f64,
    seconds: f64,
    error: f64,
}

fn results(finished: &Finished) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (done, error) in finished.cells.iter().zip(errors(finished)?) {
        let Some(error) = error else { continue };
        let (calls, seconds) = work(done)?;
        let name = name(finished, done);
        let is_random = Description::of(&done.run.read()?)?.draws_noise()?;
        outcomes.push(Outcome { name, is_random, steps: done.cell.steps, calls, seconds, error });
    }
    ensure!(
        !outcomes.is_empty(),
        "{}: no reference has the prompt, seed and guidance of a cell, so there is no error to show\nhint: first make a reference with the same settings and many steps",
        finished.root.display()
    );
    Ok(outcomes)
}

fn name(finished: &Finished, done: &Done) -> String {
    let mut fields = axes(&finished.cells.iter().map(|done| &done.cell).collect::<Vec<_>>());
    fields.retain(|field| !["steps", "seed", "prompt"].contains(field));
    let value = |field: &&str| match *field {
        "sampler" => done.cell.value(field),
        _ => format!("{field} {}", done.cell.value(field)),
    };
    let parts: Vec<String> = fields.iter().map(value).collect();
    if parts.is_empty() { done.cell.value("sampler") } else { parts.join(", ") }
}

/// The number of network calls, and the seconds of the recorded run; NaN if it did not make all its calls itself.
fn work(done: &Done) -> Result<(f64, f64)> {
    let about = About::read(&done.run)?;
    let seconds = about.seconds.filter(|_| about.taken() == 0).unwrap_or(f64::NAN);
    Ok((about.provenance.calls as f64, seconds))
}

/// The cells of one name and number of steps: their mean work, and the geometric mean of their errors.
struct Point {
    steps: usize,
    calls: f64,
    seconds: f64,
    error: Estimate,
}

fn points(outcomes: &[&Outcome]) -> Vec<Point> {
    let mut steps: Vec<usize> = outcomes.iter().map(|outcome| outcome.steps).collect();
    steps.sort_unstable();
    steps.dedup();
    let at = |steps: usize| {
        let same: Vec<&&Outcome> = outcomes.iter().filter(|outcome| outcome.steps == steps).collect();
        let of = |number: fn(&Outcome) -> f64| same.iter().map(|outcome| number(outcome)).collect::<Vec<f64>>();
        let mean = |number| Estimate::mean(&of(number)).value;
        let Estimate { value, low, high } = Estimate::mean(&of(|outcome| outcome.error.ln()));
        let error = Estimate { value: value.exp(), low: low.exp(), high: high.exp() };
        let seconds: Vec<f64> =
            of(|outcome| outcome.seconds).into_iter().filter(|seconds| seconds.is_finite()).collect();
        Point { steps, calls: mean(|outcome| outcome.calls), seconds: Estimate::mean(&seconds).value, error }
    };
    steps.into_iter().map(at).collect()
}

fn panels(finished: &Finished, outcomes: &[Outcome]) -> Panels {
    let mut names: Vec<(&str, bool)> = Vec::new();
    for outcome in outcomes {
        if !names.iter().any(|(name, _)| *name == outcome.name) {
            names.push((&outcome.name, outcome.is_random));
        }
    }
    let lines: Vec<(&str, bool, Vec<Point>)> = names
        .into_iter()
        .map(|(name, is_random)| {
            let of: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.name == name).collect();
            (name, is_random, points(&of))
        })
        .collect();
    if lines.len() > NAMES {
        return maps(finished, &lines, outcomes);
    }
    let chart = |title: &str, x: &str, of: fn(&Point) -> f64| Chart {
        title: title.into(),
        x: ChartAxis::log(x),
        y: ChartAxis::log("|x − x_ref| / |x_ref|"),
        series: lines.iter().map(|(name, is_random, points)| series(name, *is_random, points, of)).collect(),
        ..Chart::default()
    };
    let mut charts = vec![
        chart("error against work", "network calls", |point| point.calls),
        chart("error against time", "seconds", |point| point.seconds),
    ];
    charts[0].notes = remarks(&lines, outcomes);
    charts[0].notes.push(SPACING.into());
    charts[1].notes = of_time(outcomes);
    Panels { title: finished.title.into(), charts, columns: 2, ..Panels::default() }
}

/// More samplers than there are colours: a map of the error and one of the time, with a row for each sampler.
fn maps(finished: &Finished, lines: &[(&str, bool, Vec<Point>)], outcomes: &[Outcome]) -> Panels {
    let mut steps: Vec<usize> = outcomes.iter().map(|outcome| outcome.steps).collect();
    steps.sort_unstable();
    steps.dedup();
    let map = |title: &str, label: &str, of: fn(&Point) -> f64| HeatMap {
        title: title.into(),
        rows: lines
            .iter()
            .map(|(name, is_random, _)| format!("{name}{}", if *is_random { " *" } else { "" }))
            .collect(),
        columns: steps.iter().map(ToString::to_string).collect(),
        values: lines
            .iter()
            .map(|(.., points)| {
                let at = |steps: &usize| points.iter().find(|point| point.steps == *steps).map_or(f64::NAN, of);
                steps.iter().map(at).collect()
            })
            .collect(),
        x_label: "steps".into(),
        value_label: label.into(),
        scale: ValueScale::Log,
        ..HeatMap::default()
    };
    let mut maps = vec![
        map("error", "|x − x_ref| / |x_ref|", |point| point.error.value),
        map("time", "seconds", |point| point.seconds),
    ];
    let random = lines.iter().any(|(_, is_random, _)| *is_random);
    let star = "* noise is drawn at every step, so the distance to the solution does not vanish".to_string();
    let mean = repeats(lines, outcomes).map(|runs| format!("geometric mean of {runs} runs"));
    maps[0].notes = random.then_some(star).into_iter().chain(mean).chain([SPACING.to_string()]).collect();
    maps[1].notes = of_time(outcomes);
    Panels { title: finished.title.into(), maps, columns: 2, ..Panels::default() }
}

/// What is to be known of errors.
const SPACING: &str =
    "A spacing that leaves out the last training times starts lower with fewer steps: an error of its own.";

/// What is to be known of the times.
fn of_time(outcomes: &[Outcome]) -> Vec<String> {
    let mut notes = vec!["the whole recorded run, decoding and writing included, as it ran here".to_string()];
    let taken = outcomes.iter().filter(|outcome| !outcome.seconds.is_finite()).count();
    if taken > 0 {
        notes.push(format!("left out: {taken} runs that took over calls of other cells"));
    }
    notes
}

fn series(name: &str, is_random: bool, points: &[Point], x: fn(&Point) -> f64) -> Series {
    let points: Vec<&Point> = points.iter().filter(|point| x(point).is_finite()).collect();
    let series = Series::new(name, points.iter().map(|point| (x(point), point.error.value)).collect());
    let several = points.iter().any(|point| point.error.low.is_finite());
    let within = points.iter().map(|point| (point.error.low, point.error.high)).collect();
    let series = if several { series.within(within) } else { series };
    if is_random { series.dashed() } else { series }
}

fn remarks(lines: &[(&str, bool, Vec<Point>)], outcomes: &[Outcome]) -> Vec<String> {
    let mut notes = Vec::new();
    let orders: Vec<String> = lines
        .iter()
        .filter(|(_, is_random, _)| !is_random)
        .filter_map(|(name, _, points)| Some(format!("{name} {:.1}", order(points)?)))
        .collect();
    if !orders.is_empty() {
        notes.push(format!("order between the two finest: {}", orders.join(", ")));
    }
    if lines.iter().any(|(_, is_random, _)| *is_random) {
        notes.push("dashed: noise is drawn at every step, so the distance to the solution does not vanish".into());
    }
    let mean = repeats(lines, outcomes);
    notes.extend(
        mean.map(|runs| format!("geometric mean of {runs} runs with Student's 95 % interval of its logarithm")),
    );
    notes
}

/// The number of runs that a point is the mean of, if it is one of several.
fn repeats(lines: &[(&str, bool, Vec<Point>)], outcomes: &[Outcome]) -> Option<usize> {
    let most = lines.iter().flat_map(|(name, ..)| {
        let steps = outcomes.iter().filter(move |outcome| outcome.name == *name).map(|outcome| outcome.steps);
        let count =
            |steps: usize| outcomes.iter().filter(|outcome| outcome.name == *name && outcome.steps == steps).count();
        steps.map(count).max()
    });
    most.max().filter(|most| *most > 1)
}

/// The order of convergence between the last two points: the error falls as the number of calls to the power of -order.
fn order(points: &[Point]) -> Option<f64> {
    let [.., before, last] = points else { return None };
    let order = (before.error.value / last.error.value).ln() / (last.calls / before.calls).ln();
    order.is_finite().then_some(order)
}

/// Writes the clean estimates of every sampler at the calls nearest to some noise levels, for the largest number of
/// steps that all samplers have.
fn at_equal_sigma(finished: &Finished, loaded: &mut Loaded, observer: &dyn Observer) -> Result<Vec<PathBuf>> {
    let Some(chosen) = rows(finished).filter(|rows| !rows.is_empty()) else { return Ok(Vec::new()) };
    let traces: Vec<Trace> = chosen.iter().map(|(_, done)| done.run.read()).collect::<Result<_>>()?;
    let levels: Vec<Vec<f64>> =
        traces.iter().map(|trace| trace.values(SamplerValue::Denoised).map(|entry| entry.sigma).collect()).collect();
    let Some(wanted) = common(&levels) else { return Ok(Vec::new()) };
    let mut cells = Vec::new();
    for ((_, done), trace) in chosen.iter().zip(&traces) {
        let model = loaded.get(&done.cell, observer)?;
        for sigma in &wanted {
            let away = |entry: &&Entry| (entry.sigma / sigma).ln().abs();
            let Some(entry) = trace.values(SamplerValue::Denoised).min_by(|a, b| away(a).total_cmp(&away(b))) else {
                continue;
            };
            cells.push(tile(model, &trace.tensor(entry)?, format!("σ {}", short(entry.sigma)))?);
        }
    }
    let Cell { steps, seed, prompt, .. } = &chosen[0].1.cell;
    let title = format!("“{prompt}”, seed {seed}, {steps} steps: the clean estimate at equal noise");
    let scale = enlargement(cells.iter().map(|cell| &cell.image));
    let grid = Grid {
        title: Some(title.clone()),
        columns: wanted.len(),
        cells,
        row_labels: chosen.iter().map(|(name, _)| name.clone()).collect(),
        column_labels: wanted.iter().map(|sigma| format!("near σ {}", short(*sigma))).collect(),
        scale,
    };
    let path = finished.root.join("compare-schedulers-sigma.png");
    save_png(&path, &grid.render(), &[("Description".into(), title)])?;
    Ok(vec![path])
}

/// The first cell of each name at the largest number of steps that every name has.
fn rows<'a>(finished: &'a Finished) -> Option<Vec<(String, &'a Done)>> {
    let mut names: Vec<(String, Vec<&Done>)> = Vec::new();
    for done in finished.cells {
        let name = name(finished, done);
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, of)) => of.push(done),
            None => names.push((name, vec![done])),
        }
    }
    let has = |of: &[&'a Done], steps: usize| of.iter().find(|done| done.cell.steps == steps).copied();
    let (_, first) = names.first()?;
    let every = |steps: &usize| names.iter().all(|(_, of)| has(of, *steps).is_some());
    let steps = first.iter().map(|done| done.cell.steps).filter(every).max()?;
    names.into_iter().map(|(name, of)| Some((name, has(&of, steps)?))).collect()
}

/// Noise levels within the range of every run, evenly spaced in their logarithm. `None` if there are none.
fn common(levels: &[Vec<f64>]) -> Option<Vec<f64>> {
    let end = |pick: fn(f64, f64) -> f64| {
        move |levels: &Vec<f64>| levels.iter().copied().filter(|sigma| *sigma > 0.0).reduce(pick)
    };
    let most = levels.iter().map(end(f64::max)).collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)?;
    let least = levels.iter().map(end(f64::min)).collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)?;
    let at = |place: usize| most * (least / most).powf(place as f64 / (COLUMNS - 1) as f64);
    let even: Vec<f64> = (0..COLUMNS).map(at).collect();
    Some(spread(&even, COLUMNS).into_iter().map(|place| even[place]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(steps: usize, error: f64) -> Outcome {
        Outcome { name: "lms".into(), is_random: false, steps, calls: steps as f64, seconds: 0.5, error }
    }

    #[test]
    fn a_second_order_method_has_order_two() {
        let outcomes = [10, 20, 40].map(|steps| outcome(steps, 3.0 / (steps * steps) as f64));
        let points = points(&outcomes.iter().collect::<Vec<_>>());
        assert!((order(&points).unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(order(&points[..1]), None);
        assert!(points[0].error.low.is_nan() && (points[0].calls - 10.0).abs() < 1e-12);
    }

    #[test]
    fn several_seeds_give_their_geometric_mean() {
        let outcomes = [outcome(10, 0.1), outcome(10, 0.4)];
        let [point] = points(&outcomes.iter().collect::<Vec<_>>()).try_into().ok().unwrap();
        let Point { error: Estimate { value, low, high }, .. } = point;
        assert!((value - 0.2).abs() < 1e-12 && (low * high - 0.04).abs() < 1e-9 && high > 0.4);
    }

    #[test]
    fn a_run_that_took_over_calls_has_no_time() {
        let taken = Outcome { seconds: f64::NAN, ..outcome(10, 0.1) };
        let both = points(&[&outcome(10, 0.1), &taken]);
        assert_eq!((both[0].seconds, series("lms", false, &both, |point| point.seconds).points.len()), (0.5, 1));
        let alone = points(&[&taken]);
        assert!(series("lms", false, &alone, |point| point.seconds).points.is_empty());
        assert_eq!(series("lms", false, &alone, |point| point.calls).points.len(), 1);
    }

    #[test]
    fn more_samplers_than_colours_are_rows_of_maps() {
        let finished = Finished {
            root: std::path::Path::new(""),
            title: "",
            axes: &[],
            columns: None,
            measures: &[],
            cells: &[],
            sights: &[],
            references: &[],
        };
        let of = |count: usize| -> Vec<Outcome> {
            let one = |index: usize| Outcome {
                name: index.to_string(),
                is_random: index == 1,
                ..outcome(10 + index % 2, 0.1)
            };
            (0..count).map(one).collect()
        };
        let few = panels(&finished, &of(NAMES));
        assert_eq!((few.charts.len(), few.maps.len()), (2, 0));
        let many = panels(&finished, &of(NAMES + 1));
        assert_eq!((many.charts.len(), many.maps.len()), (0, 2));
        let map = &many.maps[0];
        assert_eq!((map.rows[1].as_str(), map.rows.len(), map.columns.join(" ")), ("1 *", NAMES + 1, "10 11".into()));
        assert!((map.values[0][0] - 0.1).abs() < 1e-12 && map.values[0][1].is_nan());
    }

    #[test]
    fn columns_lie_within_what_every_run_passes() {
        let wanted = common(&[vec![16.0, 4.0, 0.25], vec![8.0, 0.125]]).unwrap();
        assert_eq!(wanted.len(), COLUMNS);
        assert!((wanted[0] - 8.0).abs() < 1e-12 && (wanted[COLUMNS - 1] - 0.25).abs() < 1e-12);
        assert_eq!(common(&[vec![], vec![1.0]]), None);
    }
}
