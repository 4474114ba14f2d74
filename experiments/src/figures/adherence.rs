//! The figure `adherence`: the measures of pictures against the fields that vary.

use super::Finished;
use super::ordered::{numbers, scale};
use crate::measure::{Measure, RIGHT, SEEN, Sight, Statistic};
use crate::spec::Axis;
use crate::tables::{values, varied};
use anyhow::Result;
use latentrace_files::{Field, Table, counted, fields};
use latentrace_measures::Estimate;
use latentrace_plot::{Chart, ChartAxis, Panels, Series, write};
use latentrace_shapes::Colour;
use std::path::PathBuf;

/// Writes the measures of every combination of the fields that vary besides the seed, `measures.csv`, and the charts
/// `adherence`.
///
/// The horizontal axis is the first numeric field that varies, or the first field if none is numeric. If a second field
/// has few values, each value is a panel of the rates and a curve of the amounts. All other fields, such as prompts,
/// are pooled.
///
/// # Errors
/// A picture cannot be read, or a file cannot be written.
pub fn adherence(finished: &Finished) -> Result<Vec<PathBuf>> {
    let Finished { measures, sights, .. } = finished;
    if sights.is_empty() || measures.is_empty() {
        return Ok(Vec::new());
    }
    let path = finished.root.join("measures.csv");
    of_groups(finished, sights).with_even_columns().write(&path)?;
    let mut made = vec![path];
    let layout = Layout::of(finished.axes, sights);
    let panels = Panels {
        title: finished.title.into(),
        columns: 2,
        charts: layout.charts(sights, measures),
        ..Panels::default()
    };
    made.extend(write(finished.root, "adherence", &panels)?);
    Ok(made)
}

/// The assignment of what varies to axes, panels and curves.
struct Layout<'a> {
    axes: &'a [Axis],
    /// Which of them is the horizontal axis.
    x: Option<usize>,
    /// Which of them has a panel or a curve for each value.
    beside: Option<usize>,
    /// The values of `x`, by their index, with their positions on the axis: the number, or the index in a list of names.
    values: Vec<(usize, f64)>,
    axis: ChartAxis,
    notes: Vec<String>,
}

/// The largest number of panels.
const MOST_PANELS: usize = 6;

impl<'a> Layout<'a> {
    fn of(axes: &'a [Axis], sights: &[Sight]) -> Layout<'a> {
        let mut order: Vec<usize> = (0..axes.len()).filter(|place| axes[*place].name != "seed").collect();
        // Numeric fields first, and prompts last.
        let is_prompt = |place: usize| axes[place].has("prompt");
        let is_numeric = |place: usize| numbers(&axes[place].values).is_some();
        order.sort_by_key(|&place| if is_numeric(place) { 0 } else { 1 + u8::from(is_prompt(place)) });
        let x = order.first().copied();
        let few = |&place: &usize| axes[place].values.len() <= if is_prompt(place) { 2 } else { MOST_PANELS };
        let beside = order.iter().skip(1).copied().find(few);
        let pooled = order.iter().skip(1).filter(|place| Some(**place) != beside);
        let pooled: Vec<&str> = pooled.map(|place| axes[*place].name.as_str()).collect();
        let name = x.map_or("", |x| axes[x].name.as_str());
        let names = x.map_or(vec!["all".to_string()], |x| axes[x].values.clone());
        let positions = x.and_then(|x| numbers(&axes[x].values));
        let axis = match &positions {
            Some(numbers) => scale(name, numbers),
            None => ChartAxis::names(name, &names),
        };
        let places = positions.unwrap_or_else(|| (0..names.len()).map(|place| place as f64).collect());
        let mut values: Vec<(usize, f64)> = places.into_iter().enumerate().collect();
        values.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut layout = Layout { axes, x, beside, values, axis, notes: Vec::new() };
        layout.notes = layout.remarks(sights, &pooled);
        layout
    }

    fn remarks(&self, sights: &[Sight], pooled: &[&str]) -> Vec<String> {
        let groups = self.panels().into_iter().flat_map(|panel| self.groups(sights, panel));
        let counts = || groups.clone().map(|(_, group)| group.len()).filter(|count| *count > 0);
        let each = match (counts().min().unwrap_or(0), counts().max().unwrap_or(0)) {
            (least, most) if least == most => counted(most, "picture"),
            (least, most) => format!("{least} to {}", counted(most, "picture")),
        };
        let over = if pooled.is_empty() { String::new() } else { format!(", over every {}", pooled.join(" and ")) };
        vec![format!("{each} a point{over}")]
    }

    /// The values of `beside`, by their index, or none.
    fn panels(&self) -> Vec<Option<usize>> {
        match self.beside {
            Some(axis) => (0..self.axes[axis].values.len()).map(Some).collect(),
            None => vec![None],
        }
    }

    /// What a panel or a curve is called: `sampler pndm`; nothing if there is one.
    fn name(&self, beside: Option<usize>) -> Option<String> {
        Some(self.axes[self.beside?].label(beside?))
    }

    /// The pictures at each value of `x`, of those with one value of `beside` if it is given.
    fn groups<'b, 'c>(&self, sights: &'b [Sight<'c>], beside: Option<usize>) -> Vec<(f64, Vec<&'b Sight<'c>>)> {
        let belongs = |sight: &&Sight, x: usize| {
            let has = |axis: usize, value: usize| sight.done.place.get(axis) == Some(&value);
            self.x.is_none_or(|axis| has(axis, x))
                && self.beside.zip(beside).is_none_or(|(axis, value)| has(axis, value))
        };
        let at = |&(index, place): &(usize, f64)| (place, sights.iter().filter(|one| belongs(one, index)).collect());
        self.values.iter().map(at).collect()
    }

    /// Every statistic of a measure, with its curve over `x`.
    fn curves(&self, sights: &[Sight], beside: Option<usize>, measure: Measure) -> Vec<(Statistic, Series)> {
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
        let beside = self.panels();
        let is_rate = |measure: &Measure| matches!(measure, Measure::Adherence | Measure::Colours);
        let mut charts = Vec::new();
        for measure in measures.iter().copied().filter(is_rate) {
            charts.extend(beside.iter().map(|value| self.rates(sights, *value, measure)));
        }
        for measure in measures.iter().copied().filter(|measure| !is_rate(measure)) {
            charts.extend(self.amounts(sights, &beside, measure));
        }
        charts
    }

    /// A chart of the shares of a measure, with a curve for each.
    fn rates(&self, sights: &[Sight], beside: Option<usize>, measure: Measure) -> Chart {
        let (what, y) = match measure {
            Measure::Colours => ("colours that are seen", "share of the pictures"),
            _ => ("what is asked and seen", "share that is right"),
        };
        let of = self.name(beside).map_or(String::new(), |name| format!("{name}: "));
        let drawn = |series: &Series| {
            series.points.iter().any(|(_, y)| if measure == Measure::Colours { *y > 0.0 } else { y.is_finite() })
        };
        let curves = self
            .curves(sights, beside, measure)
            .into_iter()
            .map(|(_, series)| coloured(Series { name: short(&series.name).into(), ..series }, measure));
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
    fn amounts(&self, sights: &[Sight], beside: &[Option<usize>], measure: Measure) -> Vec<Chart> {
        let found: Vec<_> = beside.iter().map(|value| self.curves(sights, *value, measure)).collect();
        let Some(numbers) = found.first() else { return Vec::new() };
        let chart = |(index, (statistic, _)): (usize, &(Statistic, Series))| {
            let (title, y) = words(&statistic.name);
            let curves = found.iter().zip(beside).filter_map(|(curves, value)| {
                let (_, series) = curves.get(index)?;
                Some(Series { name: self.name(*value).unwrap_or_default(), ..series.clone() })
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

/// The curve of a colour in that colour.
fn coloured(series: Series, measure: Measure) -> Series {
    match Colour::ALL.into_iter().find(|colour| measure == Measure::Colours && colour.to_string() == series.name) {
        Some(colour) => series.coloured(colour.rgb()),
        None => series,
    }
}

/// The name of a rate in its chart, whose title says what it is a rate of.
fn short(name: &str) -> &str {
    [RIGHT, SEEN].into_iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
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

/// A row for each number of each group of pictures that differ in the seed alone.
fn of_groups(finished: &Finished, sights: &[Sight]) -> Table {
    let kept: Vec<bool> = varied(finished).iter().map(|name| *name != "seed").collect();
    let keep = |fields: Vec<Field>| fields.into_iter().zip(&kept).filter_map(|(field, kept)| kept.then_some(field));
    let names = keep(varied(finished).into_iter().map(Field::from).collect());
    let mut table = Table::new(names.chain(fields!["number", "n", "value", "low", "high", "interval"]));
    let mut groups: Vec<(Vec<Field>, Vec<&Sight>)> = Vec::new();
    for sight in sights {
        let values: Vec<Field> = keep(values(finished, &sight.done.place)).collect();
        match groups.iter_mut().find(|(known, _)| *known == values) {
            Some((_, group)) => group.push(sight),
            None => groups.push((values, vec![sight])),
        }
    }
    for (values, group) in groups {
        let measures = finished.measures.iter();
        for Statistic { name, count, estimate, interval } in measures.flat_map(|measure| measure.of_group(&group)) {
            let Estimate { value, low, high } = estimate;
            table.row(values.iter().cloned().chain(fields![name, count, value, low, high, interval]));
        }
    }
    table
}
