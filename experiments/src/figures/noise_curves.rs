//! The figures of `noise-curves`: noise in training, at the sampler's levels, and in recorded samples.

use super::Finished;
use super::inking::NAMES;
use crate::done::Done;
use crate::measure::axes;
use anyhow::{Context, Result};
use latentrace_measures::Moments;
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::schedulers::{Class, Config, Schedule};
use latentrace_plot::{Chart, ChartAxis, Panels, Series, write};
use latentrace_runs::Description;
use latentrace_trace::{Entry, Trace};
use std::path::PathBuf;

const KINDS: [&str; 5] = ["scaled_linear", "linear", "squaredcos_cap_v2", "sigmoid", "laplace"];
const SPACINGS: [&str; 3] = ["leading", "linspace", "trailing"];
const SIGMAS: [&str; 3] = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"];

/// Writes `noise-curves`, the possible training schedules; `noise-levels`, the levels of each sampler and spacing at
/// the cells' number of steps; and `noise-measured`, the mean square of recorded samples over
/// `E|x|²/n = |x₀|²/n + sigma²`.
///
/// # Errors
/// A cell cannot be read, or a file cannot be written.
pub fn noise_curves(finished: &Finished) -> Result<Vec<PathBuf>> {
    let Some(first) = finished.cells.first() else { return Ok(Vec::new()) };
    let config = Description::of(&first.run.read()?)?.request()?.scheduler;
    let mut made = write(finished.root, "noise-curves", &training(&config)?)?;
    made.extend(write(finished.root, "noise-levels", &levels(finished, &config)?)?);
    made.extend(write(finished.root, "noise-measured", &measured(finished)?)?);
    Ok(made)
}

/// Charts of β, sigma, the signal-to-noise ratio and its logarithm, for each kind of schedule.
fn training(config: &Config) -> Result<Panels> {
    let own = config.values().find(|(name, ..)| *name == "beta_schedule").map(|(_, value, _)| value);
    let as_ddpm = config.with_class(Class::Ddpm.name()).context("noise-curves")?;
    let (mut schedules, mut notes) = (Vec::new(), Vec::new());
    for kind in KINDS {
        let is_own = own.as_ref().and_then(|own| own.as_str()) == Some(kind);
        let name = if is_own { format!("{kind} (this checkpoint)") } else { kind.to_string() };
        match as_ddpm.with("beta_schedule", kind) {
            Ok(other) => schedules.push((name, is_own, other.schedule().clone())),
            Err(error) => notes.push(format!("{kind}: {error}")),
        }
    }
    let chart = |title: &str, y: ChartAxis, of: &dyn Fn(&Schedule) -> Vec<f64>| Chart {
        title: title.into(),
        x: ChartAxis::linear("training time t"),
        y,
        series: schedules.iter().map(|(name, is_own, schedule)| curve(name, *is_own, of(schedule))).collect(),
        ..Chart::default()
    };
    let mut charts = vec![
        chart("variance added, β", ChartAxis::log("β"), &|schedule| schedule.betas().to_vec()),
        chart("noise level", ChartAxis::log("sigma"), &|schedule| schedule.sigmas().to_vec()),
        chart("signal-to-noise ratio", ChartAxis::log("SNR = 1 / sigma²"), &|schedule| {
            schedule.sigmas().iter().map(|sigma| sigma.powi(-2)).collect()
        }),
        chart("log signal-to-noise ratio", ChartAxis::linear("ln SNR"), &|schedule| {
            schedule.sigmas().iter().map(|sigma| -2.0 * sigma.ln()).collect()
        }),
    ];
    let end = |key: &str| as_ddpm.values().find(|(name, ..)| *name == key).map(|(_, value, _)| value.to_string());
    let ends = (end("beta_start").unwrap_or_default(), end("beta_end").unwrap_or_default());
    notes.push(format!("all but cosine and laplace from β {} to {}, as the checkpoint has it", ends.0, ends.1));
    charts[0].notes = notes;
    Ok(Panels { title: "training schedules".into(), charts, columns: 2, ..Panels::default() })
}

fn curve(name: &str, is_own: bool, values: Vec<f64>) -> Series {
    let points = values.into_iter().enumerate().map(|(t, value)| (t as f64, value)).collect();
    let series = Series::new(name, points);
    if is_own { series } else { series.dashed() }
}

/// A chart with a row of dots for each different list of levels. Samplers with the same levels share a row.
fn levels(finished: &Finished, config: &Config) -> Result<Chart> {
    let steps = finished.cells.iter().map(|done| done.cell.steps).max().unwrap_or(1);
    let used: Vec<Used> = finished.cells.iter().map(Used::of).collect::<Result<_>>()?;
    let mut rows: Vec<Row> = Vec::new();
    // These three classes have every way of spacing; the others are shown if the cells use them.
    let shown = |class: &Class| {
        [Class::Pndm, Class::Lms, Class::UniPc].contains(class) || used.iter().any(|used| used.class == *class)
    };
    for class in Class::ALL.into_iter().filter(shown) {
        let of_class = config.with_class(class.name())?;
        for spacing in SPACINGS {
            let Ok(levels) = of_class.with("timestep_spacing", spacing).and_then(|spaced| spaced.levels(steps)) else {
                continue;
            };
            let name = name_of(&used, class, spacing);
            add(&mut rows, spacing, name, levels.iter().map(|level| level.sigma));
        }
        for sigmas in SIGMAS.iter().filter(|_| class == Class::Lms) {
            let Ok(levels) = of_class.with(sigmas, true).and_then(|spread| spread.levels(steps)) else { continue };
            let spread = sigmas.trim_start_matches("use_").trim_end_matches("_sigmas");
            let name = name_of(&used, class, sigmas);
            add(&mut rows, spread, name, levels.iter().map(|level| level.sigma));
        }
    }
    let names = rows.iter().rev().map(Row::name);
    let series =
        rows.iter().rev().enumerate().map(|(place, row)| {
            Series::new("", row.sigmas.iter().map(|sigma| (*sigma, place as f64)).collect()).marked()
        });
    Ok(Chart {
        title: format!("where {steps} steps have their noise levels"),
        x: ChartAxis::log("sigma").reversed(),
        y: ChartAxis::names("", names),
        series: series.collect(),
        notes: vec![
            "A ring is the first level. What follows the last one, sigma 0 for most samplers, is not on this axis."
                .into(),
            "In double precision, without the fourth-order start of PNDM; “here” is what the cells use.".into(),
        ],
        ..Chart::default()
    })
}

/// A list of levels, with the samplers that have it.
struct Row {
    spacing: String,
    samplers: Vec<Name>,
    sigmas: Vec<f64>,
}

/// What a sampler is called: as the cells call it that use it, or by its class if none does.
enum Name {
    Used(String),
    Class(&'static str),
}

impl Row {
    /// The spacing and the samplers, those that cells use first: `leading: dpm++2m (here), pndm, lms`.
    fn name(&self) -> String {
        let used = self.samplers.iter().filter_map(|name| match name {
            Name::Used(name) => Some(format!("{name} (here)")),
            Name::Class(_) => None,
        });
        let others = self.samplers.iter().filter_map(|name| match name {
            Name::Used(_) => None,
            Name::Class(name) => Some(name.to_string()),
        });
        format!("{}: {}", self.spacing, used.chain(others).collect::<Vec<_>>().join(", "))
    }
}

fn add(rows: &mut Vec<Row>, spacing: &str, name: Name, sigmas: impl Iterator<Item = f64>) {
    let sigmas: Vec<f64> = sigmas.filter(|sigma| *sigma > 0.0).collect();
    match rows.iter_mut().find(|row| row.spacing == spacing && row.sigmas == sigmas) {
        Some(row) => row.samplers.push(name),
        None => rows.push(Row { spacing: spacing.into(), samplers: vec![name], sigmas }),
    }
}

/// The sampler and spacing of a cell.
struct Used {
    class: Class,
    /// The spacing, or the option that spreads the levels.
    spacing: String,
    /// What the cell calls the sampler.
    name: String,
}

impl Used {
    fn of(done: &Done) -> Result<Used> {
        let config = Description::of(&done.run.read()?)?.request()?.scheduler;
        let values: Vec<_> = config.values().collect();
        let spread = values.iter().find(|(name, value, _)| SIGMAS.contains(name) && value.as_bool() == Some(true));
        let spacing = values.iter().find(|(name, ..)| *name == "timestep_spacing");
        let spacing = spacing.and_then(|(_, value, _)| value.as_str()).unwrap_or_default();
        let name = done.cell.written("sampler").unwrap_or_else(|| config.class().name().into());
        Ok(Used { class: config.class(), spacing: spread.map_or(spacing, |(name, ..)| name).into(), name })
    }
}

/// What a class with a spacing is called.
fn name_of(used: &[Used], class: Class, spacing: &str) -> Name {
    let mut names: Vec<&str> = Vec::new();
    for used in used.iter().filter(|used| used.class == class && used.spacing == spacing) {
        if !names.contains(&used.name.as_str()) {
            names.push(&used.name);
        }
    }
    if names.is_empty() { Name::Class(class.name()) } else { Name::Used(names.join(", ")) }
}

/// The mean square of recorded samples over its theoretical value: a curve for each setting, the mean over its seeds.
fn measured(finished: &Finished) -> Result<Chart> {
    let cells: Vec<_> = finished.cells.iter().map(|done| &done.cell).collect();
    let mut fields = axes(&cells);
    fields.retain(|field| *field != "seed" && *field != "prompt");
    let mut groups: Vec<(String, Vec<Curve>)> = Vec::new();
    let mut elements = 0;
    for done in finished.cells {
        let Some((ratios, count)) = ratios(&done.run.read()?)? else { continue };
        elements = count;
        let name: Vec<String> = fields.iter().map(|field| format!("{field} {}", done.cell.value(field))).collect();
        let name = name.join(", ");
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, runs)) => runs.push(ratios),
            None => groups.push((name, vec![ratios])),
        }
    }
    let runs = groups.iter().map(|(_, runs)| runs.len()).max().unwrap_or(0);
    let shown = groups.len().min(MOST_CURVES);
    let mut series: Vec<Series> =
        groups.iter().take(shown).map(|(name, runs)| Series::new(name.clone(), mean(runs))).collect();
    let ends = series
        .iter()
        .flat_map(|series| &series.points)
        .fold((f64::INFINITY, 0.0f64), |(a, b), (x, _)| (a.min(*x), b.max(*x)));
    let scatter = 2.0 * (2.0 / (elements.max(1) * runs.max(1)) as f64).sqrt();
    let line = |name: &str, y| Series::new(name, vec![(ends.0, y), (ends.1, y)]).dashed().coloured(THEORY);
    series.extend([
        line("theory", 1.0),
        line("theory + 2 deviations", 1.0 + scatter),
        line("theory − 2 deviations", 1.0 - scatter),
    ]);
    let mut notes = vec![
        "Theory: |x|²/n = |x0|²/n + sigma², with the final latents as x0 and noise that does not depend on them."
            .into(),
        format!(
            "{runs} run{} a curve; {elements} normal numbers a run: ±{:.0} % in two standard deviations.",
            plural(runs),
            100.0 * scatter
        ),
    ];
    if shown < groups.len() {
        notes.push(format!("the first {shown} of {} settings", groups.len()));
    }
    Ok(Chart {
        title: "the samples' mean square, measured / theory".into(),
        x: ChartAxis::log("sigma").reversed(),
        y: ChartAxis::linear("ratio"),
        series,
        notes,
        ..Chart::default()
    })
}

/// The grey of what is not measured.
const THEORY: [u8; 3] = [110, 110, 110];

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A ratio at each sigma.
type Curve = Vec<(f64, f64)>;

/// The largest number of curves: as many as there are colours.
const MOST_CURVES: usize = NAMES;

/// `(sigma, measured / theory)` of every call, and the number of elements of a sample. `None` for an incomplete run.
fn ratios(trace: &Trace) -> Result<Option<(Curve, usize)>> {
    let Some(end) = trace.values(SamplerValue::Latents).next() else { return Ok(None) };
    let clean = trace.tensor(end)?;
    let square = Moments::of(&clean).rms.powi(2);
    let ratio = |entry: &Entry| -> Result<(f64, f64)> {
        let theory = square + entry.sigma * entry.sigma;
        Ok((entry.sigma, Moments::of(&trace.tensor(entry)?).rms.powi(2) / theory))
    };
    Ok(Some((trace.values(SamplerValue::Sample).map(ratio).collect::<Result<_>>()?, clean.numel())))
}

/// The pointwise mean of curves with the same `x`.
fn mean(runs: &[Curve]) -> Curve {
    let length = runs.iter().map(Vec::len).min().unwrap_or(0);
    let at = |place: usize| (runs[0][place].0, runs.iter().map(|run| run[place].1).sum::<f64>() / runs.len() as f64);
    (0..length).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text =
            r#"{"_class_name":"PNDMScheduler","beta_schedule":"scaled_linear","beta_start":0.00085,"beta_end":0.012}"#;
        Config::from_json(text).unwrap()
    }

    #[test]
    fn every_schedule_is_a_curve_of_its_own_and_the_checkpoints_is_marked() {
        let panels = training(&config()).unwrap();
        let names: Vec<&str> = panels.charts[0].series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names[0], "scaled_linear (this checkpoint)");
        assert_eq!(names.len() + panels.charts[0].notes.len() - 1, KINDS.len(), "a curve, or a reason: {names:?}");
        // Stable Diffusion's own: β from 0.00085 to 0.012, and sigma up to 14.6146.
        let own = |chart: usize| &panels.charts[chart].series[0].points;
        assert!((own(0)[0].1 - 0.00085).abs() < 1e-12 && (own(0)[999].1 - 0.012).abs() < 1e-12);
        assert!((own(1)[999].1 - 14.6146).abs() < 1e-3);
        assert!(own(2).iter().zip(own(3)).all(|(snr, log)| (snr.1.ln() - log.1).abs() < 1e-9));
    }

    #[test]
    fn samplers_with_the_same_levels_share_a_row() {
        let mut rows = Vec::new();
        let used = Used { class: Class::Pndm, spacing: "leading".into(), name: "plms".into() };
        let pndm = name_of(&[used], Class::Pndm, "leading");
        add(&mut rows, "leading", Name::Class("ddpm"), [2.0, 1.0, 0.0].into_iter());
        add(&mut rows, "leading", pndm, [2.0, 1.0, 0.0].into_iter());
        add(&mut rows, "leading", Name::Class("lms"), [2.0, 1.5, 0.0].into_iter());
        add(&mut rows, "trailing", Name::Class("lms"), [2.0, 1.0, 0.0].into_iter());
        let names: Vec<String> = rows.iter().map(Row::name).collect();
        assert_eq!(names, ["leading: plms (here), ddpm", "leading: lms", "trailing: lms"]);
        assert_eq!(rows[0].sigmas.len(), 2);
    }

    #[test]
    fn curves_are_averaged_point_by_point() {
        let runs = [vec![(2.0, 1.0), (1.0, 3.0)], vec![(2.0, 3.0), (1.0, 5.0), (0.5, 9.0)]];
        assert_eq!(mean(&runs), [(2.0, 2.0), (1.0, 4.0)]);
        assert!(mean(&[]).is_empty());
    }
}
