//! What `latentrace schedule --plot` draws.

use super::Shown;
use anyhow::Result;
use latentrace::pipeline::schedulers::Op;
use latentrace::plot::{Chart, ChartAxis, Colours, HeatMap, Panels, Series, ValueScale, write};
use std::path::{Path, PathBuf};

/// The levels of all samplers in one figure, then a figure of coefficients for each.
pub fn write_all(shown: &[Shown], folder: &Path) -> Result<Vec<PathBuf>> {
    let mut made = write(folder, "schedule", &levels(shown))?;
    for (index, shown) in shown.iter().enumerate() {
        let stem = if index == 0 { "coefficients".into() } else { format!("coefficients-{}", index + 1) };
        made.extend(write(folder, &stem, &coefficients(shown))?);
    }
    Ok(made)
}

/// Sigma, log signal-to-noise ratio and step lengths over the network calls.
fn levels(shown: &[Shown]) -> Panels {
    let log_snr = |shown: &Shown, call: usize| shown.plan.steps().get(call).map(|step| 2.0 * step.level.lambda());
    let chart = |title: &str, y: ChartAxis, of: &dyn Fn(&Shown, usize) -> Option<f64>| {
        let series = |one: &Shown| {
            let points = (0..one.plan.calls()).filter_map(|call| Some((call as f64, of(one, call)?))).collect();
            // A single sampler stands in the title.
            Series::new(if shown.len() > 1 { one.name.as_str() } else { "" }, points).marked()
        };
        Chart {
            title: title.into(),
            x: ChartAxis::whole("network call"),
            y,
            series: shown.iter().map(series).collect(),
            ..Chart::default()
        }
    };
    let charts = vec![
        chart("noise level", ChartAxis::log("sigma"), &|shown, call| {
            shown.plan.steps().get(call).map(|step| step.level.sigma)
        }),
        chart("log signal-to-noise ratio", ChartAxis::linear("2 λ"), &log_snr),
        chart("step length", ChartAxis::linear("change of 2 λ"), &|shown, call| {
            Some(log_snr(shown, call + 1)? - log_snr(shown, call)?)
        }),
    ];
    let names: Vec<String> =
        shown.iter().map(|shown| format!("{}, {} network calls", shown.name, shown.plan.calls())).collect();
    Panels { title: names.join("; "), columns: 3, charts, ..Panels::default() }
}

/// How each network call's input, and the result, are made of the draws and the outputs before.
fn coefficients(shown: &Shown) -> HeatMap {
    let Shown { name, plan, .. } = shown;
    let (mut draws, mut outputs) = (0.., 0..);
    let column = |op: &Op| match op {
        Op::Sum(_) => None,
        Op::Given => Some("image".to_owned()),
        Op::Noise => draws.next().map(|number: usize| format!("noise {number}")),
        Op::Eval { .. } => outputs.next().map(|number: usize| format!("output {number}")),
        Op::Clip { .. } => Some("held".into()),
    };
    let columns: Vec<String> = plan.ops().iter().filter_map(column).collect();
    HeatMap {
        title: format!("{name}: what each call sees, and the result"),
        rows: (0..plan.calls()).map(|call| format!("call {call}")).chain(["result".into()]).collect(),
        // More names than this could not be read.
        columns: if columns.len() <= 40 { columns } else { Vec::new() },
        values: plan.matrix().rows().into_iter().map(|row| row.to_vec()).collect(),
        x_label: "draws of noise and outputs, in the order in which they are made".into(),
        value_label: "coefficient".into(),
        colours: Colours::Diverging,
        scale: ValueScale::SignedLog,
        ..HeatMap::default()
    }
}
