//! The figure `curves`: numbers of every run over its network calls.

use super::Finished;
use super::inking::Inking;
use crate::tables;
use anyhow::Result;
use latentrace_plot::{Chart, ChartAxis, HeatMap, Panels, Series, ValueScale, write};
use latentrace_runs::Scalars;
use std::path::PathBuf;

/// What is drawn: a title, a column of the table, its label, and whether its scale is logarithmic.
const DRAWN: [(&str, &str, &str, bool); 4] = [
    ("noise level", "sigma", "sigma", true),
    ("sample |x|", "rms_x", "rms of x", true),
    ("predicted noise |ε|", "rms_epsilon", "rms of ε", false),
    ("what the prompt changes |εc − εu|", "rms_epsilon_difference", "rms of εc − εu", true),
];

/// Writes the curves of sigma, sample, predicted noise and guidance over the network calls, for every cell; `curves.csv` has all
/// numbers of every run. Where colours cannot tell so many cells apart, each is a row of heat maps.
///
/// # Errors
/// A table cannot be read, or a file cannot be written.
pub fn curves(finished: &Finished) -> Result<Vec<PathBuf>> {
    let Finished { root, title, cells, .. } = finished;
    let tables: Vec<Scalars> = cells.iter().map(|cell| Scalars::read(cell.run.trace())).collect::<Result<_>>()?;
    let inking = Inking::of(finished);
    let panels = Panels { title: title.to_string(), columns: 2, ..Panels::default() };
    let panels = match inking.tells_apart(cells.len()) {
        true => Panels { charts: DRAWN.map(|drawn| chart(finished, &tables, &inking, drawn)).into(), ..panels },
        false => Panels { maps: DRAWN.map(|drawn| map(finished, &tables, drawn)).into(), ..panels },
    };
    let made = write(root, "curves", &panels)?;
    tables::curves(finished, &tables).with_even_columns().write(&root.join("curves.csv"))?; // in place of the figure's, which has less
    Ok(made)
}

fn chart(
    finished: &Finished,
    tables: &[Scalars],
    inking: &Inking,
    (title, column, label, is_log): (&str, &str, &str, bool),
) -> Chart {
    let besides = inking.besides(finished);
    let note = (!besides.is_empty()).then(|| format!("curves of one colour differ in {}", besides.join(" and ")));
    let series = |(done, table): (&crate::done::Done, &Scalars)| {
        let points = table.column("call").into_iter().zip(table.column(column)).collect();
        inking.ink(done, Series::new(done.label.clone(), points))
    };
    Chart {
        title: title.into(),
        x: ChartAxis::whole("network call"),
        y: ChartAxis { log: is_log, ..ChartAxis::linear(label) },
        series: finished.cells.iter().zip(tables).map(series).collect(),
        colours: inking.scale(),
        notes: note.into_iter().collect(),
        ..Chart::default()
    }
}

fn map(finished: &Finished, tables: &[Scalars], (title, column, label, is_log): (&str, &str, &str, bool)) -> HeatMap {
    let values: Vec<Vec<f64>> = tables.iter().map(|table| table.column(column)).collect();
    let calls = values.iter().map(Vec::len).max().unwrap_or(0);
    HeatMap {
        title: title.into(),
        rows: finished.cells.iter().map(|done| done.label.clone()).collect(),
        columns: (0..calls).map(|call| call.to_string()).collect(),
        values,
        x_label: "network call".into(),
        value_label: label.into(),
        scale: if is_log { ValueScale::Log } else { ValueScale::Linear },
        ..HeatMap::default()
    }
}
