//! The figures of the atlas.

use super::tables::{BUDGETS, Sampler, images};
use super::world::{READINGS, error, error_at, spaced, steps_for, variance};
use latentrace_pipeline::schedulers::{Config, Reading};
use latentrace_plot::{Chart, ChartAxis, Colours, HeatMap, Panels, Series, ValueScale};

/// The samplers of each panel, by kind.
const KINDS: [(&str, &[&str]); 2] = [
    ("on the slope", &["euler", "heun", "dpm2", "pndm", "ipndm", "lms", "deis"]),
    ("exponential integrators", &["dpm++2m", "dpm++3m", "dpm_solver_2m", "dpm++2s", "dpm++3s", "unipc"]),
];

/// The error against the number of calls: a panel for each kind of sampler, on trailing times and with Karras sigmas.
pub fn errors(samplers: &[Sampler]) -> Panels {
    let chart = |kind: &str, names: &[&str], spacing: &str| {
        let series = |(name, config): &Sampler| {
            let config = spaced(config, &spacing.to_lowercase());
            let point = |config: &Config, calls: usize| {
                let steps = steps_for(config, calls, Reading::Exact)?;
                let plan = config.plan(steps, Reading::Exact).ok()?;
                Some((plan.calls() as f64, error(config, &plan, None)))
            };
            let points =
                config.map_or(Vec::new(), |config| BUDGETS.iter().filter_map(|calls| point(&config, *calls)).collect());
            Series::new(*name, points)
        };
        Chart {
            title: format!("{kind}, {spacing}"),
            x: ChartAxis::log("network calls"),
            y: ChartAxis::log("error").showing(1e-4, 0.3),
            series: samplers.iter().filter(|(name, _)| names.contains(name)).map(series).collect(),
            ..Chart::default()
        }
    };
    let charts =
        ["trailing", "Karras"].into_iter().flat_map(|spacing| KINDS.map(|(kind, names)| chart(kind, names, spacing)));
    Panels { title: "Error to the exact flow".into(), columns: 2, charts: charts.collect(), ..Panels::default() }
}

/// A heat map of the error of every sampler at every number of calls.
pub fn glance(samplers: &[Sampler]) -> HeatMap {
    let row = |(_, config): &Sampler| {
        let errors = ["trailing", "karras"].map(|spacing| {
            BUDGETS.map(|calls| {
                spaced(config, spacing).and_then(|config| error_at(&config, calls, Reading::Exact)).unwrap_or(f64::NAN)
            })
        });
        errors.concat()
    };
    let columns =
        ["trailing", "Karras"].into_iter().flat_map(|spacing| BUDGETS.map(|calls| format!("{spacing} {calls}")));
    HeatMap {
        title: "Error to the exact flow".into(),
        rows: samplers.iter().map(|(name, _)| (*name).to_owned()).collect(),
        columns: columns.collect(),
        values: samplers.iter().map(row).collect(),
        x_label: "spacing and network calls".into(),
        value_label: "error".into(),
        scale: ValueScale::Log,
        ..HeatMap::default()
    }
}

/// The error of runs from an image against strength, on leading times in both readings: two samplers that diffusers
/// starts wrongly, and one that it does not.
pub fn strengths(samplers: &[Sampler]) -> Panels {
    let chart = |name: &str| {
        let config =
            samplers.iter().find(|(known, _)| *known == name).and_then(|(_, config)| spaced(config, "leading"));
        let config = config.as_ref();
        let series = |(reading, word): (Reading, &str)| {
            let point = |tenth: usize| {
                let strength = tenth as f64 / 20.0;
                let plan = config?.plan_from_image(50, strength, reading).ok()?;
                Some((strength, error(config?, &plan, Some(&images()))))
            };
            Series { dashed: reading == Reading::Diffusers, ..Series::new(word, (1..=20).filter_map(point).collect()) }
        };
        Chart {
            title: name.into(),
            x: ChartAxis::linear("strength"),
            y: ChartAxis::log("error").showing(1e-3, 0.1),
            series: READINGS.map(series).into(),
            ..Chart::default()
        }
    };
    let charts = ["lms", "pndm", "dpm++2m"].map(chart).into();
    Panels {
        title: "Error from an image: the last part of 50 steps on leading times".into(),
        columns: 3,
        charts,
        ..Panels::default()
    }
}

/// A heat map of the variance of the results of samplers that draw noise, against the number of steps, in both readings.
pub fn variances(samplers: &[Sampler]) -> HeatMap {
    const STEPS: [usize; 6] = [5, 10, 20, 50, 100, 200];
    let mut map = HeatMap {
        title: "Variance of samplers that draw noise; 1 is right".into(),
        columns: STEPS.map(|steps| steps.to_string()).into(),
        x_label: "steps".into(),
        value_label: "variance over that of the data".into(),
        scale: ValueScale::Log,
        colours: Colours::Diverging,
        ..HeatMap::default()
    };
    for (name, config) in samplers {
        for (reading, word) in READINGS.into_iter().filter(|(reading, _)| config.plan(10, *reading).is_ok()) {
            let of = |steps| config.plan(steps, reading).map_or(f64::NAN, |plan| variance(config, &plan));
            map.rows.push(format!("{name}, {word}"));
            map.values.push(STEPS.map(of).into());
        }
    }
    map
}
