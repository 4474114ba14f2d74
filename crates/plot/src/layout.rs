//! The layout of a chart: title, notes and legend are placed first, and the plot gets the room that is left.

use crate::bar;
use crate::drawing::{Anchor, BLACK, Colour, Drawing, FAINT, FAINTER, GREY, Mark, Point, Rect, Text, WHITE};
use crate::inks::{Inks, Look, Shape};
use crate::scale::{Scale, Tick, drawable};
use crate::text::{self, ASCENT, LEADING, Weight};
use crate::{Chart, Series};

pub(crate) const NOTE: f64 = 11.0; // font sizes
pub(crate) const TICK: f64 = 12.0;
pub(crate) const LABEL: f64 = 13.0;
pub(crate) const TITLE: f64 = 15.0;
const LEGEND: f64 = 260.0; // width above which the names in a legend are shortened together
const KEY: f64 = 30.0; // width of the line in a legend entry
pub(crate) const ENTRY: f64 = 19.0; // height of a legend entry
const TICKS: f64 = TICK * 1.25 + 8.0; // from the plot to the label below its ticks

/// Draws a chart into a part of a drawing, in the colours of its figure, with a legend of its own or without.
pub(crate) fn chart(drawing: &mut Drawing, chart: &Chart, outer: Rect, (inks, with_legend): (&Inks, bool)) {
    let mut room = outer.inset(12.0);
    room.top = heading(drawing, &chart.title, room, TITLE);
    let dense: Vec<bool> = chart.series.iter().map(|series| is_dense(chart, series, outer)).collect();
    let remark = dense.contains(&true).then(|| DENSE.to_owned());
    room.bottom = notes(drawing, &chart.notes.iter().cloned().chain(remark).collect::<Vec<_>>(), room);
    if with_legend {
        if let Some((label, shades)) = inks.bar.as_ref().filter(|_| chart.series.iter().any(|one| inks.is_on_bar(one)))
        {
            room = bar::beside(drawing, label, shades, room);
        }
        room = legend(drawing, chart, inks, room);
    }
    let labels = (chart.x.label.as_str(), chart.y.label.as_str());
    let Some((mut x, mut y)) = scales(chart) else {
        let plot = plot_area(labels, room, &[]);
        frame(drawing, plot);
        axis_labels(drawing, labels, plot, room, TICKS);
        return no_data(drawing, plot);
    };
    let most = ((room.height() - 50.0) / 34.0) as usize;
    let mut rows = row_ticks(&y, most, room);
    let mut plot = plot_area(labels, room, &rows);
    while let Some(wider) = Scale::equal(&x, &y, (plot.width(), plot.height())).filter(|_| chart.equal) {
        rows = row_ticks(&wider.1, most, room);
        let narrower = plot_area(labels, room, &rows);
        if narrower.left <= plot.left {
            (x, y) = wider;
            break;
        }
        plot = narrower; // for wider labels; it is never widened again
    }
    frame(drawing, plot);
    let columns = fitting_ticks(&x, plot);
    grid_lines(drawing, plot, &columns, &rows);
    tick_labels(drawing, plot, outer, &columns, &rows);
    axis_labels(drawing, labels, plot, room, TICKS);
    curves(drawing, chart, inks, plot, (&x, &y), &dense);
}

/// Draws all curves: first the faint points of dense curves, then whiskers, then the curves.
fn curves(drawing: &mut Drawing, chart: &Chart, inks: &Inks, plot: Rect, (x, y): (&Scale, &Scale), dense: &[bool]) {
    let look = |index: usize| inks.look(&chart.series[index]);
    let sides = sides(chart);
    let places = |(series, side): (&Series, &f64)| -> Vec<Option<Point>> {
        let place = |(px, py): (f64, f64)| {
            let (across, up) = (x.place(px)?, y.place(py)?);
            Some((plot.left + across * plot.width() + side, plot.bottom - up * plot.height()))
        };
        series.points.iter().map(|point| place(*point)).collect()
    };
    let all: Vec<_> = chart.series.iter().zip(&sides).map(places).collect();
    for (index, places) in all.iter().enumerate().filter(|(index, _)| dense[*index]) {
        for run in runs(places) {
            drawing.line(&extremes(&run), 1.0, tint(look(index).colour));
        }
    }
    for (index, series) in chart.series.iter().enumerate() {
        let Look { colour, outlined, .. } = look(index);
        whiskers(drawing, series, &all[index], (plot, y), if outlined { GREY } else { colour });
    }
    for (index, series) in chart.series.iter().enumerate() {
        let mut runs: Vec<_> = runs(&all[index]).map(|run| if dense[index] { medians(&run) } else { run }).collect();
        if !chart.x.names.is_empty() {
            runs = runs.concat().into_iter().map(|point| vec![point]).collect(); // no line between two names
        }
        curve(drawing, &runs, look(index), series, plot.width(), all.len());
    }
}

/// How far each series is moved sideways: 0 unless several series have whiskers, and little enough that whiskers of one
/// x stay together.
fn sides(chart: &Chart) -> Vec<f64> {
    const APART: f64 = 3.0;
    const TOGETHER: f64 = 9.0;
    let with = |series: &&Series| !series.intervals.is_empty();
    let count = chart.series.iter().filter(with).count();
    let apart = APART.min(TOGETHER / (count as f64 - 1.0).max(1.0));
    let mut before = 0;
    let side = |series: &Series| {
        let place = before;
        before += usize::from(with(&series));
        if with(&series) { apart * (place as f64 - (count as f64 - 1.0) / 2.0) } else { 0.0 }
    };
    chart.series.iter().map(side).collect()
}

/// Draws a series' intervals: a thin line through each point, with a cap at each end that can be drawn.
fn whiskers(
    drawing: &mut Drawing,
    series: &Series,
    places: &[Option<Point>],
    (plot, y): (Rect, &Scale),
    colour: Colour,
) {
    let up = |value: f64| y.place(value).map(|up| plot.bottom - up * plot.height());
    for (index, place) in places.iter().enumerate() {
        let (Some((x, _)), (low, high)) = (place, series.interval(index)) else { continue };
        if low.is_nan() || high.is_nan() {
            continue;
        }
        let ends = [up(low), up(high)];
        let line = [(*x, ends[0].unwrap_or(plot.bottom)), (*x, ends[1].unwrap_or(plot.top))];
        drawing.line(&line, 1.0, colour);
        for end in ends.into_iter().flatten() {
            drawing.line(&[(x - 3.0, end), (x + 3.0, end)], 1.0, colour);
        }
    }
}

/// Draws a title at the top of the room, and returns the top of what is left.
pub(crate) fn heading(drawing: &mut Drawing, title: &str, room: Rect, size: f64) -> f64 {
    let most = if room.height() < 300.0 { 1 } else { 3 };
    let lines = lines(title, size, Weight::Bold, room.width(), most);
    for (index, line) in lines.iter().enumerate() {
        let baseline = room.top + size * (ASCENT + LEADING * index as f64);
        drawing.texts.push(Text {
            weight: Weight::Bold,
            anchor: Anchor::Middle,
            ..Text::new(line, (room.centre().0, baseline), size)
        });
    }
    room.top + if lines.is_empty() { 0.0 } else { size * LEADING * lines.len() as f64 + 6.0 }
}

/// Draws a legend at the bottom of the room, and returns the room that is left.
pub(crate) fn legend_below(drawing: &mut Drawing, chart: &Chart, inks: &Inks, room: Rect) -> Rect {
    let entries = entries(chart, inks);
    let widest = entries.iter().map(Entry::width).fold(0.0, f64::max).min(room.width());
    let columns = ((room.width() / (widest + 18.0)) as usize).clamp(1, entries.len().max(1));
    let most = (room.height() * 0.5).min(room.height() - 110.0) / ENTRY;
    let rows = entries.len().div_ceil(columns).min(most as usize).max(1);
    let top = room.bottom - rows as f64 * ENTRY;
    let left = room.centre().0 - (columns as f64 * (widest + 18.0) - 18.0).min(room.width()) / 2.0;
    let at = |index: usize| (left + (index % columns) as f64 * (widest + 18.0), top + (index / columns) as f64 * ENTRY);
    list(drawing, &entries, rows * columns, widest, at);
    Rect { bottom: top - 8.0, ..room }
}

/// The height of a legend with all entries below a chart of this width; 0 if it may be beside the chart and fits there.
pub(crate) fn legend_height(chart: &Chart, inks: &Inks, width: f64, beside: bool) -> f64 {
    let entries = entries(chart, inks);
    if beside && is_beside(&entries, width, 400.0) {
        return 0.0;
    }
    let widest = entries.iter().map(Entry::width).fold(0.0, f64::max).min(width);
    let columns = ((width / (widest + 18.0)) as usize).max(1);
    entries.len().div_ceil(columns) as f64 * ENTRY + 8.0
}

/// Draws "no data" in the middle of the room.
pub(crate) fn no_data(drawing: &mut Drawing, room: Rect) {
    let (x, y) = room.centre();
    let text = Text::new("no data", (x, y + 5.0), TITLE);
    drawing.texts.push(Text { anchor: Anchor::Middle, colour: GREY, ..text });
}

/// Draws notes at the bottom of the room, and returns the bottom of what is left.
pub(crate) fn notes(drawing: &mut Drawing, notes: &[String], room: Rect) -> f64 {
    let most = ((room.height() * 0.2 / (NOTE * LEADING)) as usize).max(1);
    let lines = lines(&notes.join("\n"), NOTE, Weight::Regular, room.width(), most);
    let height = NOTE * LEADING * lines.len() as f64;
    for (index, line) in lines.iter().enumerate() {
        let baseline = room.bottom - height + NOTE * (LEADING * index as f64 + 1.0);
        drawing.texts.push(Text { colour: GREY, ..Text::new(line, (room.left, baseline), NOTE) });
    }
    room.bottom - if lines.is_empty() { 0.0 } else { height + 6.0 }
}

/// The lines of a text, at most `most` of them; the last is shortened if there are more.
pub(crate) fn lines(words: &str, size: f64, weight: Weight, limit: f64, most: usize) -> Vec<String> {
    let mut lines = text::wrap(words, size, weight, limit);
    if lines.len() > most {
        let rest = lines.split_off(most - 1).join(" ");
        lines.push(text::shorten(&rest, size, weight, limit));
    }
    lines
}

// --- legend ---

/// A legend entry: the index of its series, and the text.
struct Entry {
    look: Look,
    dashed: bool,
    marked: bool,
    words: String,
}

impl Entry {
    fn width(&self) -> f64 {
        KEY + 6.0 + text::width(&self.words, TICK, Weight::Regular)
    }
}

/// Places the legend beside the plot if that leaves enough room for the plot, otherwise below.
fn legend(drawing: &mut Drawing, chart: &Chart, inks: &Inks, room: Rect) -> Rect {
    let entries = entries(chart, inks);
    let widest = entries.iter().map(Entry::width).fold(0.0, f64::max);
    if entries.is_empty() {
        return room;
    }
    if !is_beside(&entries, room.width(), room.height()) {
        return legend_below(drawing, chart, inks, room);
    }
    let left = room.right - widest;
    list(drawing, &entries, entries.len(), widest, |index| (left, room.top + 4.0 + index as f64 * ENTRY));
    Rect { right: left - 2.0, ..room }
}

fn is_beside(entries: &[Entry], width: f64, height: f64) -> bool {
    entries.iter().all(|entry| entry.width() <= width * 0.3) && entries.len() as f64 * ENTRY <= height - 60.0
}

fn entries(chart: &Chart, inks: &Inks) -> Vec<Entry> {
    let single = chart.series.len() == 1;
    let plain = |series: &Series| series.name.is_empty() || (single && series.name == chart.y.label);
    let shown = |point: &(f64, f64)| drawable(&chart.x, point.0) && drawable(&chart.y, point.1);
    let named = chart.series.iter().filter(|series| !plain(series) && !inks.is_on_bar(series));
    let named: Vec<&Series> = named.collect();
    let names: Vec<&str> = named.iter().map(|series| series.name.as_str()).collect();
    let names = text::apart(&names, TICK, Weight::Regular, LEGEND);
    named
        .into_iter()
        .zip(names)
        .map(|(series, name)| Entry {
            look: inks.look(series),
            dashed: series.dashed,
            marked: series.marked,
            words: if series.points.iter().any(shown) { name } else { format!("{name} (no data)") },
        })
        .collect()
}

/// Draws the entries that fit, and the number of the others.
fn list(drawing: &mut Drawing, entries: &[Entry], most: usize, width: f64, at: impl Fn(usize) -> Point) {
    let shown = if entries.len() > most { most - 1 } else { entries.len() };
    for (index, entry) in entries[..shown].iter().enumerate() {
        let (left, top) = at(index);
        let middle = top + ENTRY / 2.0;
        stroke(drawing, &[(left, middle), (left + KEY, middle)], entry.dashed, entry.look);
        match entry.marked {
            false => marker(drawing, (left + KEY / 2.0, middle), entry.look),
            true => path(
                drawing,
                &[(left + 4.0, middle), (left + KEY / 2.0, middle), (left + KEY - 3.0, middle)],
                entry.look,
            ),
        }
        let words = text::shorten(&entry.words, TICK, Weight::Regular, width - KEY - 6.0);
        drawing.texts.push(Text::new(&words, (left + KEY + 6.0, middle + TICK * 0.36), TICK));
    }
    if shown < entries.len() {
        let (left, top) = at(shown);
        let words = format!("… and {} more", entries.len() - shown);
        drawing.texts.push(Text::new(&words, (left, top + ENTRY / 2.0 + TICK * 0.36), TICK));
    }
}

// --- axes ---

/// Both scales; `None` if no point can be drawn.
fn scales(chart: &Chart) -> Option<(Scale, Scale)> {
    let shown = |point: (f64, f64)| drawable(&chart.x, point.0) && drawable(&chart.y, point.1);
    let of = |series: &Series| {
        let ends = |place: usize| [series.interval(place).0, series.interval(place).1];
        let points = series.points.iter().copied().enumerate().filter(|(_, point)| shown(*point));
        points.map(|(place, (x, y))| (x, y, ends(place))).collect::<Vec<_>>()
    };
    let points: Vec<_> = chart.series.iter().flat_map(of).collect();
    if points.is_empty() {
        return None;
    }
    let reach = |axis: &crate::ChartAxis| axis.reach.into_iter().flat_map(|(low, high)| [low, high]);
    let across = 0.02 + sides(chart).into_iter().fold(0.0, f64::max) / 150.0;
    let x = Scale::fit(&chart.x, points.iter().map(|point| point.0).chain(reach(&chart.x)), across)?;
    let up = points.iter().flat_map(|(_, y, ends)| ends.iter().copied().chain([*y]));
    let y = Scale::fit(&chart.y, up.chain(reach(&chart.y)), 0.05)?;
    Some((x, y))
}

/// The rectangle of the plot: the room without the labels.
fn plot_area((below, beside): (&str, &str), room: Rect, rows: &[Tick]) -> Rect {
    let bottom = room.bottom - label_below(below, room).len() as f64 * LABEL * LEADING - TICKS;
    let widest = rows.iter().map(|tick| text::width(&tick.label, TICK, Weight::Regular)).fold(0.0, f64::max);
    let (top, bottom) = (room.top + 8.0, bottom.max(room.top + 38.0));
    let beside = lines(beside, LABEL, Weight::Regular, bottom - top, 2).len() as f64 * LABEL * LEADING;
    let left = (room.left + beside + widest + 12.0).floor() + 0.5;
    Rect { left, top, right: (room.right - 14.0).max(left + 40.0), bottom: bottom.floor() + 0.5 }
}

/// Draws the plot's two lines.
fn frame(drawing: &mut Drawing, plot: Rect) {
    drawing.line(&[(plot.left, plot.top), (plot.left, plot.bottom), (plot.right, plot.bottom)], 1.0, BLACK);
}

/// The lines of the label below a plot.
pub(crate) fn label_below(label: &str, room: Rect) -> Vec<String> {
    let most = if room.height() < 200.0 { 1 } else { 2 };
    lines(label, LABEL, Weight::Regular, room.width() * 0.75, most)
}

/// The ticks of the y axis; names take at most a third of the room.
fn row_ticks(scale: &Scale, most: usize, room: Rect) -> Vec<Tick> {
    let mut rows = scale.ticks(most.max(if scale.share().is_some() { (room.height() / 22.0) as usize } else { 0 }));
    if scale.share().is_some() {
        let short = |label: &str| text::shorten(label, TICK, Weight::Regular, room.width() * 0.35);
        rows.iter_mut().for_each(|tick| tick.label = short(&tick.label));
    }
    rows
}

/// The most ticks of the x axis whose labels fit.
fn fitting_ticks(scale: &Scale, plot: Rect) -> Vec<Tick> {
    if let Some(room) = scale.share().map(|share| share * plot.width() - 12.0).filter(|room| *room >= 28.0) {
        let ticks = scale.ticks(usize::MAX);
        let labels: Vec<&str> = ticks.iter().map(|tick| tick.label.as_str()).collect();
        let labels = text::apart(&labels, TICK, Weight::Regular, room);
        let short = |label: &String| text::shorten(label, TICK, Weight::Regular, room);
        return ticks.iter().zip(&labels).map(|(tick, label)| Tick { at: tick.at, label: short(label) }).collect();
    }
    let apart = |ticks: &[Tick]| {
        let mut boxes: Vec<_> = ticks
            .iter()
            .filter(|tick| !tick.label.is_empty())
            .map(|tick| (tick.at * plot.width(), text::width(&tick.label, TICK, Weight::Regular) / 2.0))
            .collect();
        boxes.sort_by(|a, b| a.0.total_cmp(&b.0));
        boxes.windows(2).all(|pair| pair[0].0 + pair[0].1 + 10.0 < pair[1].0 - pair[1].1)
    };
    let most = (plot.width() / 50.0).clamp(2.0, 14.0) as usize;
    let mut tries = (2..=most).rev().map(|most| scale.ticks(most));
    tries.find(|ticks| apart(ticks)).unwrap_or_else(|| {
        // Not even two labels fit: draw one.
        let mut ticks = scale.ticks(2);
        ticks.iter_mut().filter(|tick| !tick.label.is_empty()).skip(1).for_each(|tick| tick.label.clear());
        ticks
    })
}

fn grid_lines(drawing: &mut Drawing, plot: Rect, columns: &[Tick], rows: &[Tick]) {
    let colour = |tick: &Tick| if tick.label.is_empty() { FAINTER } else { FAINT };
    let mut lines = Vec::new();
    for tick in columns {
        let x = (plot.left + tick.at * plot.width()).floor() + 0.5;
        lines.push(Mark::Line { points: vec![(x, plot.top), (x, plot.bottom)], width: 1.0, colour: colour(tick) });
    }
    for tick in rows {
        let y = (plot.bottom - tick.at * plot.height()).floor() + 0.5;
        lines.push(Mark::Line { points: vec![(plot.left, y), (plot.right, y)], width: 1.0, colour: colour(tick) });
    }
    // The faint lines first, and all of them before the frame, which is the last mark so far.
    lines.sort_by_key(|line| matches!(line, Mark::Line { colour, .. } if *colour == FAINT));
    let frame = drawing.marks.pop();
    drawing.marks.extend(lines.into_iter().chain(frame));
}

fn tick_labels(drawing: &mut Drawing, plot: Rect, outer: Rect, columns: &[Tick], rows: &[Tick]) {
    for tick in columns.iter().filter(|tick| !tick.label.is_empty()) {
        let x = plot.left + tick.at * plot.width();
        drawing.line(&[(x.floor() + 0.5, plot.bottom), (x.floor() + 0.5, plot.bottom + 4.0)], 1.0, BLACK);
        let text = Text::new(&tick.label, (x, plot.bottom + 7.0 + TICK * ASCENT), TICK);
        let half = text.width() / 2.0;
        if x - half >= outer.left + 2.0 && x + half <= outer.right - 2.0 {
            drawing.texts.push(Text { anchor: Anchor::Middle, ..text });
        }
    }
    for tick in rows.iter().filter(|tick| !tick.label.is_empty()) {
        let y = plot.bottom - tick.at * plot.height();
        drawing.line(&[(plot.left - 4.0, y.floor() + 0.5), (plot.left, y.floor() + 0.5)], 1.0, BLACK);
        let text = Text::new(&tick.label, (plot.left - 7.0, y + TICK * 0.36), TICK);
        drawing.texts.push(Text { anchor: Anchor::End, ..text });
    }
}

/// Draws the x label `depth` below the plot, and the y label at the left edge of the room.
pub(crate) fn axis_labels(drawing: &mut Drawing, (below, beside): (&str, &str), plot: Rect, room: Rect, depth: f64) {
    let below = label_below(below, room);
    for (index, line) in below.iter().enumerate() {
        let baseline = plot.bottom + depth + LABEL * (ASCENT + LEADING * index as f64);
        let half = text::width(line, LABEL, Weight::Regular) / 2.0;
        let x = plot.centre().0.min(room.right + 12.0 - half).max(room.left + half);
        drawing.texts.push(Text { anchor: Anchor::Middle, ..Text::new(line, (x, baseline), LABEL) });
    }
    label_upwards(drawing, &lines(beside, LABEL, Weight::Regular, plot.height(), 2), (room.left, plot.centre().1));
}

/// Draws lines of text that read upwards. The first is the leftmost; `middle` is the y of their centres.
pub(crate) fn label_upwards(drawing: &mut Drawing, lines: &[String], (left, middle): Point) {
    for (index, line) in lines.iter().enumerate() {
        let x = left + LABEL * (ASCENT + LEADING * index as f64);
        let text = Text::new(line, (x, middle), LABEL);
        drawing.texts.push(Text { anchor: Anchor::Middle, upwards: true, ..text });
    }
}

// --- curves ---

/// The note of a chart that has a curve with far more points than pixels.
const DENSE: &str = "Faint: every point. Line: the median of the points in every 4 pixels.";

/// Whether a series has far more points than pixels, sorted by x.
fn is_dense(chart: &Chart, series: &Series, outer: Rect) -> bool {
    let shown = |point: &&(f64, f64)| drawable(&chart.x, point.0) && drawable(&chart.y, point.1);
    let across: Vec<f64> = series.points.iter().filter(shown).map(|point| point.0).collect();
    across.len() as f64 > 3.0 * outer.width() && across.is_sorted()
}

/// The runs of points between the gaps of a curve.
fn runs(places: &[Option<Point>]) -> impl Iterator<Item = Vec<Point>> {
    let stretches = places.split(Option::is_none).filter(|run| !run.is_empty());
    stretches.map(|run| run.iter().flatten().copied().collect())
}

/// A run with fewer points and the same look: the first, lowest, highest and last of every half pixel.
fn extremes(run: &[Point]) -> Vec<Point> {
    let column = |point: &Point| (point.0 * 2.0).floor();
    let ends = |points: &[Point]| {
        let order = |a: &Point, b: &Point| a.1.total_cmp(&b.1);
        let (low, high) = (points.iter().copied().min_by(order), points.iter().copied().max_by(order));
        [points.first().copied(), low, high, points.last().copied()].into_iter().flatten().collect::<Vec<_>>()
    };
    run.chunk_by(|a, b| column(a) == column(b)).flat_map(ends).collect()
}

/// The median of every four pixels of a run. It is the same on a log axis.
fn medians(run: &[Point]) -> Vec<Point> {
    let column = |point: &Point| (point.0 / 4.0).floor();
    let median = |points: &[Point]| {
        let mut heights: Vec<f64> = points.iter().map(|point| point.1).collect();
        heights.sort_by(f64::total_cmp);
        ((points[0].0 + points[points.len() - 1].0) / 2.0, heights[heights.len() / 2])
    };
    run.chunk_by(|a, b| column(a) == column(b)).map(median).collect()
}

fn tint(colour: Colour) -> Colour {
    colour.map(|part| 255 - (255 - part) / 3)
}

/// Draws a curve through its runs, with markers on all points if there are few, otherwise on some.
fn curve(drawing: &mut Drawing, runs: &[Vec<Point>], look: Look, series: &Series, room: f64, of: usize) {
    for run in runs {
        match run[..] {
            [] => {}
            [alone] => marker(drawing, alone, look),
            _ => stroke(drawing, run, series.dashed, look),
        }
    }
    let drawn = runs.concat();
    if series.marked {
        return path(drawing, &drawn, look);
    }
    let few = drawn.len() <= 40 && drawn.len() as f64 * 10.0 <= room;
    if few {
        drawn.iter().for_each(|point| marker(drawing, *point, look));
    } else if of > 1 {
        let stride = drawn.len() as f64 / 8.0;
        // The position of the first marker depends on the colour, so that the markers of curves do not coincide.
        let phase = (f64::from(look.colour[0]) + 2.0 * f64::from(look.colour[1])) / 100.0 % 1.0;
        let some = (0..8).filter_map(|index| drawn.get((stride * (f64::from(index) + phase)) as usize));
        some.for_each(|point| marker(drawing, *point, look));
    }
}

/// Draws the markers of a path: dots, a ring at the start, and the look's own marker at the end.
fn path(drawing: &mut Drawing, points: &[Point], look: Look) {
    let mut disc = |centre, radius, colour| drawing.marks.push(Mark::Disc { centre, radius, colour });
    points.iter().for_each(|point| disc(*point, 2.3, look.colour));
    if let [first, .., last] = points {
        disc(*first, 4.8, look.colour);
        disc(*first, 3.0, WHITE);
        marker(drawing, *last, look);
    }
}

fn stroke(drawing: &mut Drawing, points: &[Point], dashed: bool, look: Look) {
    let lines = if dashed { dashes(points, 7.0, 4.0) } else { vec![points.to_vec()] };
    if look.outlined {
        lines.iter().for_each(|line| drawing.line(line, 3.5, GREY));
    }
    lines.iter().for_each(|line| drawing.line(line, 2.0, look.colour));
}

/// The dashes of a line: `on` long, with gaps of `off`, measured along the line.
fn dashes(points: &[Point], on: f64, off: f64) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    let mut piece = vec![points[0]];
    let (mut drawing, mut left) = (true, on);
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let length = (x1 - x0).hypot(y1 - y0);
        let mut gone = 0.0;
        while length - gone > left {
            gone += left;
            let at = (x0 + (x1 - x0) * gone / length, y0 + (y1 - y0) * gone / length);
            piece.push(at);
            if drawing {
                pieces.push(std::mem::take(&mut piece));
            }
            drawing = !drawing;
            left = if drawing { on } else { off };
            piece = vec![at];
        }
        left -= length - gone;
        piece.push((x1, y1));
    }
    if drawing {
        pieces.push(piece);
    }
    pieces
}

fn marker(drawing: &mut Drawing, at: Point, look: Look) {
    if look.outlined {
        mark(drawing, at, Look { colour: GREY, ..look }, 1.35);
    }
    mark(drawing, at, look, 1.0);
}

/// Draws a marker of the look's shape and colour, so many times as large.
fn mark(drawing: &mut Drawing, (x, y): Point, look: Look, size: f64) {
    let colour = look.colour;
    let around =
        |corners: &[Point]| -> Vec<Point> { corners.iter().map(|(dx, dy)| (x + dx * size, y + dy * size)).collect() };
    let mark = match look.shape {
        Shape::Circle => Mark::Disc { centre: (x, y), radius: 3.5 * size, colour },
        Shape::Square => Mark::Area { points: around(&[(-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)]), colour },
        Shape::Triangle => Mark::Area { points: around(&[(0.0, -4.6), (4.3, 3.0), (-4.3, 3.0)]), colour },
        Shape::Wedge => Mark::Area { points: around(&[(0.0, 4.6), (4.3, -3.0), (-4.3, -3.0)]), colour },
        Shape::Diamond => Mark::Area { points: around(&[(0.0, -4.8), (4.8, 0.0), (0.0, 4.8), (-4.8, 0.0)]), colour },
        Shape::Cross => {
            let width = 2.0 * size * size;
            drawing.line(&around(&[(-3.6, -3.6), (3.6, 3.6)]), width, colour);
            Mark::Line { points: around(&[(-3.6, 3.6), (3.6, -3.6)]), width, colour }
        }
    };
    drawing.marks.push(mark);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChartAxis;

    fn series(count: usize, name: &str) -> Vec<Series> {
        let points = |i: usize| (0..50).map(|x| (f64::from(x), (i as f64 + 1.0) * 0.9f64.powi(x))).collect();
        (0..count).map(|i| Series::new(format!("{name} {i}"), points(i))).collect()
    }

    fn charts() -> Vec<Chart> {
        let long = "a label that goes on and on, for far longer than there is any room for it in a chart of this width";
        let mut charts = Vec::new();
        let names = |count: usize| ChartAxis::names("a name", (0..count).map(|i| format!("{long} {i}")));
        for count in [1, 2, 7, 40] {
            charts.push(Chart { x: names(count), y: names(count / 2), series: series(2, "s"), ..Chart::default() });
        }
        for (count, name) in [(0, ""), (1, "s"), (3, "karras"), (12, "guidance"), (60, "seed"), (4, long)] {
            for log in [false, true] {
                for words in ["", "step", long] {
                    let axis = |reversed| ChartAxis { label: words.into(), log, reversed, ..ChartAxis::default() };
                    let notes = vec![words.to_owned(); 2];
                    charts.push(Chart {
                        title: words.into(),
                        x: axis(true),
                        y: axis(false),
                        series: series(count, name),
                        notes,
                        equal: count == 3,
                        colours: None,
                    });
                }
            }
        }
        charts
    }

    /// Draws a chart that is a figure by itself.
    fn whole(drawing: &mut Drawing, drawn: &Chart, frame: Rect, with_legend: bool) {
        chart(drawing, drawn, frame, (&Inks::of(std::slice::from_ref(drawn)), with_legend));
    }

    #[test]
    fn no_two_texts_overlap_and_none_is_clipped() {
        for (width, height) in [(820, 480), (470, 330), (320, 260), (1600, 900)] {
            for drawn in charts() {
                let mut drawing = Drawing::new(width, height);
                let frame = drawing.frame();
                whole(&mut drawing, &drawn, frame, true);
                drawing.check_texts_apart();
            }
        }
    }

    #[test]
    fn a_dense_curve_is_drawn_in_few_points_with_its_extremes_and_says_so() {
        let wave = |i: u32| if i == 50_000 { 9.0 } else { f64::from(i % 7) / 7.0 };
        let points = (0..100_000).map(|i| (f64::from(i), wave(i))).collect();
        let drawn = Chart { series: vec![Series::new("loss", points)], ..Chart::default() };
        let mut drawing = Drawing::new(820, 480);
        let frame = drawing.frame();
        whole(&mut drawing, &drawn, frame, true);
        let count = |mark: &Mark| if let Mark::Line { points, .. } = mark { points.len() } else { 0 };
        assert!(drawing.marks.iter().map(count).sum::<usize>() < 10 * 820);
        let highest = |mark: &Mark| match mark {
            Mark::Line { points, colour, .. } if *colour == tint(crate::inks::look(0).colour) => {
                points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min)
            }
            _ => f64::INFINITY,
        };
        assert!(drawing.marks.iter().map(highest).fold(f64::INFINITY, f64::min) < 60.0, "the one spike is there");
        assert!(drawing.texts.iter().any(|text| text.words == DENSE));
    }

    #[test]
    fn on_equal_axes_a_circle_is_round() {
        let circle = |i: i32| (100.0 + f64::from(i).cos(), 3.0 * f64::from(i).sin());
        for (width, height) in [(820, 480), (320, 260), (400, 900)] {
            for log in [false, true] {
                let axis = ChartAxis { log, ..ChartAxis::default() };
                let points = (0..100).map(circle).map(|(x, y)| if log { (x.exp(), y.exp()) } else { (x, y) }).collect();
                let series = vec![Series::new("", points)];
                let drawn = Chart { series, x: axis.clone(), y: axis, equal: true, ..Chart::default() };
                let mut drawing = Drawing::new(width, height);
                let frame = drawing.frame();
                whole(&mut drawing, &drawn, frame, true);
                let curve = drawing.marks.iter().find_map(|mark| match mark {
                    Mark::Line { points, .. } if points.len() == 100 => Some(points),
                    _ => None,
                });
                let extent = |of: fn(&Point) -> f64| {
                    let places = curve.unwrap().iter().map(of);
                    places.clone().fold(f64::MIN, f64::max) - places.fold(f64::MAX, f64::min)
                };
                let ratio = extent(|point| point.1) / extent(|point| point.0);
                assert!((ratio - 3.0).abs() < 0.02, "{ratio} in {width} x {height}");
            }
        }
    }

    /// The lines of a chart without those of its frame, grid and ticks.
    fn coloured(drawn: &Chart) -> Vec<Vec<Point>> {
        let mut drawing = Drawing::new(820, 480);
        let frame = drawing.frame();
        whole(&mut drawing, drawn, frame, false);
        let of = |mark: &Mark| match mark {
            Mark::Line { points, colour, .. } if ![BLACK, FAINT, FAINTER].contains(colour) => Some(points.clone()),
            _ => None,
        };
        drawing.marks.iter().filter_map(of).collect()
    }

    #[test]
    fn a_whisker_spans_its_interval_and_the_axis_makes_room() {
        let series = |name: &str| Series::new(name, vec![(0.0, 2.0), (1.0, 4.0)]);
        let drawn = |log, within: Vec<(f64, f64)>| Chart {
            y: ChartAxis { log, ..ChartAxis::default() },
            series: vec![series("").within(within)],
            ..Chart::default()
        };
        for log in [false, true] {
            // The points are at 2 and 4; the first whisker goes from 1 to 8, the second has no end below.
            let lines = coloured(&drawn(log, vec![(1.0, 8.0), (f64::NEG_INFINITY, 4.0)]));
            let [first, caps @ .., curve] = lines.as_slice() else { panic!("{lines:?}") };
            assert_eq!(caps.len(), 2 + 1 + 1, "caps, the other whisker, and its one cap");
            let height = |value: f64| if log { value.ln() } else { value };
            let unit = (curve[0].1 - curve[1].1) / (height(4.0) - height(2.0));
            assert_eq!(first[0].0, curve[0].0);
            for (end, value) in [(first[0].1, 1.0), (first[1].1, 8.0)] {
                assert!((end - (curve[0].1 - unit * (height(value) - height(2.0)))).abs() < 1e-9, "{value}, log {log}");
                assert!((0.0..480.0).contains(&end));
            }
            assert!(lines[3][0].1 > lines[0][0].1, "an end that cannot be drawn is at the plot's edge");
        }
        let bare = coloured(&drawn(false, vec![(f64::NAN, f64::NAN)]));
        assert_eq!(bare.len(), 1, "no interval, no whisker");
    }

    #[test]
    fn whiskers_at_one_x_stand_side_by_side() {
        let with = |y: f64| Series::new("", vec![(1.0, y), (2.0, y)]).within(vec![(0.0, 9.0); 2]);
        let plain = Series::new("", vec![(1.0, 5.0), (2.0, 5.0)]);
        let lines = coloured(&Chart { series: vec![with(3.0), plain, with(4.0)], ..Chart::default() });
        let upright: Vec<f64> = lines.iter().filter(|line| line[0].0 == line[1].0).map(|line| line[0].0).collect();
        let curves: Vec<f64> = lines[lines.len() - 3..].iter().map(|line| line[0].0).collect();
        assert_eq!(upright.len(), 4);
        assert_eq!((curves[2] - curves[0], curves[1] * 2.0), (3.0, curves[0] + curves[2]));
        assert!(upright.contains(&curves[0]) && upright.contains(&curves[2]));
    }

    #[test]
    fn no_line_leads_from_name_to_name() {
        let points = vec![(0.0, 1.0), (1.0, 2.0), (2.0, 5.0)];
        let over =
            |x: ChartAxis| coloured(&Chart { x, series: vec![Series::new("", points.clone())], ..Chart::default() });
        assert_eq!(over(ChartAxis::linear("")).len(), 1);
        assert!(over(ChartAxis::names("", ["a", "b", "c"])).is_empty());
    }

    #[test]
    fn an_axis_reaches_what_it_is_told_to() {
        let y = |axis: ChartAxis| Chart {
            y: axis,
            series: vec![Series::new("", vec![(0.0, 0.4), (1.0, 0.6)])],
            ..Chart::default()
        };
        let height = |lines: Vec<Vec<Point>>| lines[0][0].1 - lines[0][1].1;
        let (free, held) = (coloured(&y(ChartAxis::linear(""))), coloured(&y(ChartAxis::linear("").showing(0.0, 1.0))));
        assert!((height(free) / height(held) - 5.0).abs() < 1e-9, "a fifth of 0 to 1");
    }

    #[test]
    fn a_path_has_a_ring_where_it_starts_and_a_dot_at_every_point() {
        let points = [(0.0, 0.0), (1.0, 2.0), (3.0, 1.0)];
        let drawn = Chart { series: vec![Series::new("", points.to_vec()).marked()], ..Chart::default() };
        let mut drawing = Drawing::new(820, 480);
        let frame = drawing.frame();
        whole(&mut drawing, &drawn, frame, true);
        let discs = drawing.marks.iter().filter_map(|mark| match mark {
            Mark::Disc { centre, radius, colour } => Some((*centre, *radius, *colour)),
            _ => None,
        });
        let discs: Vec<_> = discs.collect();
        assert_eq!(discs.len(), 3 + 2 + 1);
        let white: Vec<_> = discs.iter().filter(|disc| disc.2 == WHITE).collect();
        assert_eq!((white.len(), white[0].0), (1, discs[0].0), "hollow at the first point alone");
        assert_eq!(discs[5].0, discs[2].0, "the look's own mark at the last");
    }

    #[test]
    fn dashes_have_their_lengths_and_cover_their_share() {
        let points = [(0.0, 0.0), (30.0, 40.0), (30.0, 100.0)]; // 50 + 60 long
        let length = |piece: &[Point]| piece.windows(2).map(|p| (p[1].0 - p[0].0).hypot(p[1].1 - p[0].1)).sum::<f64>();
        let pieces = dashes(&points, 7.0, 4.0);
        assert_eq!(pieces.len(), 10);
        assert!(pieces.iter().all(|piece| (length(piece) - 7.0).abs() < 1e-9));
    }
}
