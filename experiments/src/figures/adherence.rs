//! The figure `adherence`: the measures of pictures against the fields that vary.

use super::Finished;
use crate::measure::{Measure, Sight, Statistic, axes, groups};
use anyhow::Result;
use latentrace_files::{Field, Table, fields};
use latentrace_measures::Estimate;
use latentrace_plot::{Chart, ChartAxis, Panels, Series, write};
use std::path::PathBuf;

/// Writes the measures: `measures-cells.csv` of every picture, `measures.csv` of every combination of the fields that
/// vary besides the seed, and the charts `adherence`.
///
/// The horizontal axis is the first numeric field that varies, or the first field if none is numeric. If a second field
/// has few values, each value is a panel of the rates and a curve of the amounts. All other fields, such as prompts,
/// are pooled.
///
/// # Errors
/// A picture cannot be read, or a file cannot be written.
pub fn adherence(finished: &Finished) -> Result<Vec<PathBuf>> {
    let measures = finished.measures;
    let sights: Vec<Sight> = finished.cells.iter().map(Sight::of).collect::<Result<_>>()?;
    if sights.is_empty() || measures.is_empty() {
        return Ok(Vec::new());
    }
    let tables = [("measures-cells.csv", of_cells(&sights, measures)), ("measures.csv", of_groups(&sights, measures))];
    let mut made = Vec::new();
    for (name, table) in tables {
        let path = finished.root.join(name);
        table.write(&path)?;
        made.push(path);
    }
    let layout = Layout::of(&sights);
    let panels = Panels { title: finished.title.into(), columns: 2, charts: layout.charts(&sights, measures) };
    made.extend(write(finished.root, "adherence", &panels)?);
    Ok(made)
}

/// The assignment of fields to axes, panels and curves.
struct Layout {
    /// The field of the horizontal axis.
    x: Option<&'static str>,
    /// The field with a panel or a curve for each value.
    beside: Option<&'static str>,
    /// The values of `x`, with their positions on the axis: the number, or the index in a list of names.
    values: Vec<(String, f64)>,
    axis: ChartAxis,
    notes: Vec<String>,
}

/// The largest number of panels.
const MOST_PANELS: usize = 6;

impl Layout {
    fn of(sights: &[Sight]) -> Layout {
        let mut fields = axes(&sights.iter().map(|sight| &sight.done.cell).collect::<Vec<_>>());
        fields.retain(|field| *field != "seed");
        let values = |field: &str| groups(sights, &[field]).into_iter().map(|(values, _)| values.concat());
        let is_numeric = |field: &str| values(field).all(|value| value.parse::<f64>().is_ok());
        // Numeric fields first, and prompts last.
        fields.sort_by_key(|field| if is_numeric(field) { 0 } else { 1 + u8::from(*field == "prompt") });
        let x = fields.first().copied();
        let few = |field: &&str| values(field).count() <= if *field == "prompt" { 2 } else { MOST_PANELS };
        let beside = fields.iter().skip(1).copied().find(few);
        let pooled: Vec<&str> = fields.into_iter().skip(1).filter(|field| Some(*field) != beside).collect();
        let numbers: Option<Vec<f64>> =
            x.filter(|x| is_numeric(x)).map(|x| values(x).filter_map(|v| v.parse().ok()).collect());
        let names: Vec<String> = x.map_or(vec!["all".into()], |x| values(x).collect());
        let axis = match &numbers {
            Some(numbers) if spans_decades(numbers) => ChartAxis::log(x.unwrap_or_default()),
            Some(_) => ChartAxis::linear(x.unwrap_or_default()),
            None => ChartAxis::names(
                x.unwrap_or_default(),
                names.iter().map(|name| if name.is_empty() { "(none)" } else { name }),
            ),
        };
        let places = numbers.unwrap_or_else(|| (0..names.len()).map(|place| place as f64).collect());
        let mut values: Vec<(String, f64)> = names.into_iter().zip(places).collect();
        values.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut layout = Layout { x, beside, values, axis, notes: Vec::new() };
        layout.notes = layout.remarks(sights, &pooled);
        layout
    }

    fn remarks(&self, sights: &[Sight], pooled: &[&str]) -> Vec<String> {
        let counts: Vec<usize> = self.groups(sights, None).iter().map(|(_, group)| group.len()).collect();
        let panels = self.beside.map_or(1, |field| groups(sights, &[field]).len());
        let each = counts.iter().max().copied().unwrap_or(0) / panels;
        let over = if pooled.is_empty() { String::new() } else { format!(", over every {}", pooled.join(" and ")) };
        vec![format!("{each} pictures a point{over}")]
    }

    /// The pictures at each value of `x`, of those with one value of `beside` if it is given.
    fn groups<'a, 'b>(&self, sights: &'a [Sight<'b>], beside: Option<&str>) -> Vec<(f64, Vec<&'a Sight<'b>>)> {
        let belongs = |sight: &&Sight, x: &str| {
            self.x.is_none_or(|field| sight.done.cell.value(field) == x)
                && self.beside.zip(beside).is_none_or(|(field, value)| sight.done.cell.value(field) == value)
        };
        let at = |(name, place): &(String, f64)| (*place, sights.iter().filter(|sight| belongs(sight, name)).collect());
        self.values.iter().map(at).collect()
    }

    /// Every statistic of a measure, with its curve over `x`.
    fn curves(&self, sights: &[Sight], beside: Option<&str>, measure: Measure) -> Vec<(Statistic, Series)> {
        let groups = self.groups(sights, beside).into_iter().filter(|(_, group)| !group.is_empty());
        let table: Vec<(f64, Vec<Statistic>)> = groups.map(|(x, group)| (x, measure.of_group(&group))).collect();
        let Some((_, first)) = table.first() else { return Vec::new() };
        let of = |(index, first): (usize, &Statistic)| {
            let points = table.iter().map(|(x, found)| (*x, found[index].estimate.value)).collect();
            let within =
                table.iter().map(|(_, found)| (found[index].estimate.low, found[index].estimate.high)).collect();
            (first.clone(), Series::new(first.name.clone(), points).within(within))
        };
        first.iter().enumerate().map(of).collect()
    }

    fn charts(&self, sights: &[Sight], measures: &[Measure]) -> Vec<Chart> {
        let beside: Vec<Option<String>> = match self.beside {
            Some(field) => groups(sights, &[field]).into_iter().map(|(values, _)| Some(values.concat())).collect(),
            None => vec![None],
        };
        let is_rate = |measure: &Measure| matches!(measure, Measure::Adherence | Measure::Colours);
        let mut charts = Vec::new();
        for measure in measures.iter().copied().filter(is_rate) {
            charts.extend(beside.iter().map(|value| self.rates(sights, value.as_deref(), measure)));
        }
        for measure in measures.iter().copied().filter(|measure| !is_rate(measure)) {
            charts.extend(self.amounts(sights, &beside, measure));
        }
        charts
    }

    /// A chart of the shares of a measure, with a curve for each.
    fn rates(&self, sights: &[Sight], beside: Option<&str>, measure: Measure) -> Chart {
        let (what, y) = match measure {
            Measure::Colours => ("colours that are seen", "share of the pictures"),
            _ => ("what is asked and seen", "share that is right"),
        };
        let of = self.beside.zip(beside).map_or(String::new(), |(field, value)| format!("{field} {value}: "));
        let drawn = |series: &Series| {
            series.points.iter().any(|(_, y)| if measure == Measure::Colours { *y > 0.0 } else { y.is_finite() })
        };
        let curves = self
            .curves(sights, beside, measure)
            .into_iter()
            .map(|(_, series)| Series { name: series.name.trim_start_matches("sees.").into(), ..series });
        let mut notes = self.notes.clone();
        notes.push("whiskers: Wilson's 95 % interval".into());
        Chart {
            title: format!("{of}{what}"),
            x: self.axis.clone(),
            y: ChartAxis::linear(y).showing(0.0, 1.0),
            series: curves.filter(drawn).collect(),
            notes,
            ..Chart::default()
        }
    }

    /// A chart for each amount of a measure, with a curve for each value of `beside`.
    fn amounts(&self, sights: &[Sight], beside: &[Option<String>], measure: Measure) -> Vec<Chart> {
        let found: Vec<_> = beside.iter().map(|value| self.curves(sights, value.as_deref(), measure)).collect();
        let Some(numbers) = found.first() else { return Vec::new() };
        let chart = |(index, (statistic, _)): (usize, &(Statistic, Series))| {
            let (title, y) = words(&statistic.name);
            let name = |value: &Option<String>| {
                self.beside.zip(value.as_ref()).map(|(field, value)| format!("{field} {value}"))
            };
            let curves = found.iter().zip(beside).filter_map(|(curves, value)| {
                let (_, series) = curves.get(index)?;
                Some(Series { name: name(value).unwrap_or_default(), ..series.clone() })
            });
            let mut notes = self.notes.clone();
            notes.push(match statistic.interval {
                "none" => "of these pictures; n pictures have at most log2 n bits".into(),
                "Student" => "whiskers: Student's 95 % interval".into(),
                other => format!("whiskers: the {other}'s 95 % interval"),
            });
            Chart {
                title: title.into(),
                x: self.axis.clone(),
                y: ChartAxis::linear(y),
                series: curves.collect(),
                notes,
                ..Chart::default()
            }
        };
        let is_drawn =
            |(_, (_, series)): &(usize, &(Statistic, Series))| series.points.iter().any(|(_, y)| y.is_finite());
        numbers.iter().enumerate().filter(is_drawn).map(chart).collect()
    }
}

/// Whether numbers need a logarithmic axis.
fn spans_decades(numbers: &[f64]) -> bool {
    let (least, most) = numbers.iter().fold((f64::INFINITY, 0.0f64), |(least, most), n| (least.min(*n), most.max(*n)));
    least > 0.0 && most / least >= 12.0
}

/// The title of a statistic's chart, and the label of its axis.
fn words(name: &str) -> (&'static str, &'static str) {
    match name {
        "saturation" => ("saturation", "mean chroma, 0 to 1"),
        "contrast" => ("contrast", "standard deviation of the luma"),
        "clipped" => ("clipped pixels", "share of the pixels at 0 or 255"),
        "diversity" => ("how far seeds are apart", "mean rms difference of two pictures"),
        _ => ("how much seeds show", "bits of what is seen"),
    }
}

/// A row for each picture: its values of the fields that vary, and its numbers.
fn of_cells(sights: &[Sight], measures: &[Measure]) -> Table {
    let fields = axes(&sights.iter().map(|sight| &sight.done.cell).collect::<Vec<_>>());
    let numbers = |sight: &Sight| measures.iter().flat_map(|measure| measure.of_cell(sight)).collect::<Vec<_>>();
    let names = sights.first().map(numbers).unwrap_or_default().into_iter().map(|(name, _)| name);
    let mut table = Table::new(fields.iter().map(|field| field.to_string()).chain(names));
    for sight in sights {
        let values = fields.iter().map(|field| Field::from(sight.done.cell.value(field)));
        table.row(values.chain(numbers(sight).into_iter().map(|(_, value)| value.into())));
    }
    table
}

/// A row for each number of each group of pictures that differ in the seed alone.
fn of_groups(sights: &[Sight], measures: &[Measure]) -> Table {
    let mut fields = axes(&sights.iter().map(|sight| &sight.done.cell).collect::<Vec<_>>());
    fields.retain(|field| *field != "seed");
    let mut table = Table::new(fields.iter().copied().chain(["number", "n", "value", "low", "high", "interval"]));
    for (values, group) in groups(sights, &fields) {
        for Statistic { name, count, estimate, interval } in measures.iter().flat_map(|it| it.of_group(&group)) {
            let Estimate { value, low, high } = estimate;
            let row = values.iter().map(Field::from);
            table.row(row.chain(fields![name, count, value, low, high, interval]));
        }
    }
    table
}
