//! A table of numbers drawn as coloured cells.

use image::RgbImage;
use latentrace_files::Table;

use crate::bar::{self, BAR, fitting_ticks, tip};
use crate::colours::Shades;
use crate::csv::{label, or};
use crate::drawing::{Anchor, BLACK, Colour, Drawing, FAINTER, Rect, Text, WHITE};
use crate::layout::{self, ENTRY, LABEL, TICK, TITLE};
use crate::scale::Tick;
use crate::text::{self, ASCENT, LEADING, Weight};
use crate::{Colours, Drawable, csv, paint};

/// A table of numbers drawn as coloured cells, the first row at the top, with a colour bar.
///
/// A cell without a number (NaN, or a row that is too short) is hatched. An infinite number, or one that is not
/// positive on a log scale, has its own colour and sign, explained in a key. If not all labels of rows or columns fit,
/// every n-th is drawn. Every cell is drawn, so the map is meant for some hundred rows and columns, not thousands.
#[derive(Clone, Debug, Default)]
pub struct HeatMap {
    /// The title.
    pub title: String,
    /// The label of each row; may be empty.
    pub rows: Vec<String>,
    /// The label of each column; may be empty.
    pub columns: Vec<String>,
    /// The numbers, row by row.
    pub values: Vec<Vec<f64>>,
    /// The label of the columns, below the map.
    pub x_label: String,
    /// The label of the rows, on the left.
    pub y_label: String,
    /// The label of the colour bar: quantity and unit.
    pub value_label: String,
    /// Whether the colours are linear or logarithmic in the numbers.
    pub scale: ValueScale,
    /// The number at the low end of the bar. Defaults to the lowest number that can be drawn or, on a diverging map, to
    /// the mirror of `high`. Lower numbers have the same colour as the end, and the bar then has a pointed end.
    pub low: Option<f64>,
    /// The number at the high end, with the same rules.
    pub high: Option<f64>,
    /// The colour map.
    pub colours: Colours,
    /// Notes in small letters under the map.
    pub notes: Vec<String>,
}

/// How colours follow the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ValueScale {
    /// Equal steps of colour are equal differences.
    #[default]
    Linear,
    /// Equal steps of colour are equal ratios.
    Log,
    /// Equal ratios on both sides of 0, down to a thousandth of the largest number, and linear around 0: for numbers of both signs of which
    /// few are large.
    SignedLog,
}

impl HeatMap {
    /// The map as a self-contained SVG document.
    pub fn svg(&self, width: u32, height: u32) -> String {
        Drawable::svg(self, width, height)
    }

    /// The map as exactly `width` x `height` pixels (at least 240 x 180).
    pub fn png(&self, width: u32, height: u32) -> RgbImage {
        Drawable::png(self, width, height)
    }

    /// The table as CSV, with the labels in the first line and the first column. A row or column without a label has
    /// its index from 0.
    pub fn csv(&self) -> String {
        let (rows, columns) = self.shape();
        let name = |names: &[String], index: usize| names.get(index).map_or(index.into(), |name| label(name));
        let head = [label(or(&self.y_label, "row"))].into_iter();
        let mut table = Table::new(head.chain((0..columns).map(|column| name(&self.columns, column))));
        for row in 0..rows {
            let numbers = (0..columns).map(|column| csv::number(self.value(row, column)));
            table.row([name(&self.rows, row)].into_iter().chain(numbers));
        }
        table.to_string()
    }

    /// The numbers of rows and columns that have numbers or labels.
    fn shape(&self) -> (usize, usize) {
        let longest = self.values.iter().map(Vec::len).max().unwrap_or(0);
        (self.values.len().max(self.rows.len()), longest.max(self.columns.len()))
    }

    fn value(&self, row: usize, column: usize) -> f64 {
        self.values.get(row).and_then(|row| row.get(column)).copied().unwrap_or(f64::NAN)
    }

    fn shades(&self) -> Option<Shades> {
        let values = self.values.iter().flatten().copied();
        Shades::fit(self.colours, self.scale, (self.low, self.high), values)
    }

    fn drawing(&self, width: u32, height: u32) -> Drawing {
        let mut drawing = Drawing::new(width, height);
        drawing.title = self.title.clone();
        let frame = drawing.frame();
        self.draw(&mut drawing, frame);
        drawing
    }

    /// Draws the map into a part of a drawing.
    pub(crate) fn draw(&self, drawing: &mut Drawing, outer: Rect) {
        let mut room = outer.inset(12.0);
        room.top = layout::heading(drawing, &self.title, room, TITLE);
        room.bottom = layout::notes(drawing, &self.notes, room);
        let shades = self.shades();
        let cells = self.cells(shades.as_ref());
        if cells.iter().flatten().all(|cell| *cell == Shade::NoData) {
            return layout::no_data(drawing, room);
        }
        room.bottom = self.key(drawing, &cells, room);
        let plan = self.plan(shades.as_ref(), room);
        draw_cells(drawing, &cells, plan.plot);
        self.row_labels(drawing, &plan);
        self.column_labels(drawing, &plan, room);
        layout::axis_labels(drawing, (&self.x_label, &self.y_label), plan.plot, room, plan.depth);
        if let Some(shades) = &shades {
            self.bar(drawing, shades, &plan, room);
        }
    }
}

impl Drawable for HeatMap {
    fn size(&self) -> (u32, u32) {
        let (rows, columns) = self.shape();
        let label = widest(&self.columns) + 12.0; // cells are as wide as short labels
        let across = (columns as f64 * if label <= 72.0 { label.max(26.0) } else { 26.0 }).clamp(220.0, 900.0);
        let width = 24.0 + self.around() + widest(&self.rows).min(ROW_LABEL) + across;
        let title = text::wrap(&self.title, TITLE, Weight::Bold, width - 24.0).len().min(3) as f64 * TITLE * LEADING;
        let notes = text::wrap(&self.notes.join("\n"), layout::NOTE, Weight::Regular, width - 24.0);
        let down = (rows as f64 * 19.0).clamp(120.0, 1140.0);
        let below = self.turned_depth(across).unwrap_or(TICK) + 2.0 * LABEL * LEADING + ENTRY;
        let around = title + notes.len() as f64 * layout::NOTE * LEADING + below + 64.0;
        (width.ceil() as u32, (down + around).ceil() as u32)
    }

    fn svg(&self, width: u32, height: u32) -> String {
        paint::svg(&self.drawing(width, height))
    }

    fn pixels(&self, width: u32, height: u32, ratio: u32) -> RgbImage {
        paint::pixels(&self.drawing(width, height), ratio.max(1))
    }

    fn csv(&self) -> String {
        HeatMap::csv(self)
    }
}

const ROW_LABEL: f64 = 560.0; // the longest in pixels
const COLUMN_LABEL: f64 = 170.0;

/// The positions of the parts.
struct Plan {
    plot: Rect,
    /// From the plot to the label under the column labels.
    depth: f64,
    /// The longest column label, if the labels are turned upwards.
    turned: Option<f64>,
    row_label: f64, // the longest
    ticks: Vec<Tick>,
    value_label: Vec<String>,
}

// --- layout ---

impl HeatMap {
    fn plan(&self, shades: Option<&Shades>, room: Rect) -> Plan {
        let below = layout::label_below(&self.x_label, room).len() as f64 * LABEL * LEADING;
        let top = room.top + 8.0;
        let spare = room.bottom - top - below - 60.0; // room for the column labels
        let guess = room.width() - self.around();
        let guess = guess - widest(&self.rows).min(row_label(guess));
        let turned = self.turned_depth(guess).map(|depth| depth.min(spare)).filter(|depth| *depth >= 30.0);
        let depth = 8.0 + if self.columns.is_empty() { 0.0 } else { turned.unwrap_or(TICK) + TICK * 0.25 + 4.0 };
        let bottom = (room.bottom - below - depth).max(top + 38.0).floor() + 0.5;
        let height = bottom - top;

        let ticks = shades.map(|shades| fitting_ticks(shades, height)).unwrap_or_default();
        let value_label = layout::lines(&self.value_label, LABEL, Weight::Regular, height, 2);
        let numbers = bar::numbers(&ticks);
        let side = match shades {
            Some(_) => 2.0 * BAR + 8.0 + numbers + 6.0 + value_label.len() as f64 * LABEL * LEADING,
            None => 0.0,
        };
        let beside = layout::lines(&self.y_label, LABEL, Weight::Regular, height, 2).len() as f64 * LABEL * LEADING;
        let spare = room.width() - side - beside - 12.0;
        let row_label = row_label(spare);
        let left = (room.left + beside + widest(&self.rows).min(row_label) + 12.0).floor() + 0.5;
        let right = (room.right - side).max(left + 20.0).floor() + 0.5;
        Plan { plot: Rect { left, top, right, bottom }, depth, turned, row_label, ticks, value_label }
    }

    /// About the width of the labels of the rows and of the bar together.
    fn around(&self) -> f64 {
        let lines = u8::from(!self.y_label.is_empty()) + u8::from(!self.value_label.is_empty());
        132.0 + f64::from(lines) * LABEL * LEADING
    }

    /// The height of the column labels if they are turned upwards, otherwise `None`. Words that are wider than a column
    /// are turned; of numbers, every n-th is drawn instead.
    fn turned_depth(&self, across: f64) -> Option<f64> {
        let room = across / self.shape().1.max(1) as f64;
        let turned = widest(&self.columns) + 10.0 > room && !are_numbers(&self.columns);
        turned.then(|| widest(&self.columns).min(COLUMN_LABEL))
    }

    fn row_labels(&self, drawing: &mut Drawing, plan: &Plan) {
        let plot = plan.plot;
        let each = plot.height() / self.shape().0 as f64;
        let names = shortened(&self.rows, plan.row_label);
        for index in (0..names.len()).step_by(stride(&self.rows, TICK * LEADING / each)) {
            let y = plot.top + (index as f64 + 0.5) * each;
            let text = Text::new(&names[index], (plot.left - 7.0, y + TICK * 0.36), TICK);
            drawing.line(&[(plot.left - 4.0, y), (plot.left, y)], 1.0, BLACK);
            drawing.texts.push(Text { anchor: Anchor::End, ..text });
        }
    }

    fn column_labels(&self, drawing: &mut Drawing, plan: &Plan, room: Rect) {
        let plot = plan.plot;
        let each = plot.width() / self.shape().1 as f64;
        let limit = plan.turned.unwrap_or(COLUMN_LABEL);
        let needed = if plan.turned.is_some() { TICK * LEADING } else { widest(&self.columns).min(limit) + 6.0 };
        let names = shortened(&self.columns, limit);
        for index in (0..names.len()).step_by(stride(&self.columns, needed / each)) {
            let x = plot.left + (index as f64 + 0.5) * each;
            drawing.line(&[(x, plot.bottom), (x, plot.bottom + 4.0)], 1.0, BLACK);
            let text = Text::new(&names[index], (x, plot.bottom + 8.0 + TICK * ASCENT), TICK);
            let half = text.width() / 2.0;
            if plan.turned.is_some() {
                let at = (x + TICK * 0.36, plot.bottom + 8.0);
                drawing.texts.push(Text { anchor: Anchor::End, upwards: true, at, ..text });
            } else if x - half >= room.left && x + half <= room.right {
                drawing.texts.push(Text { anchor: Anchor::Middle, ..text });
            }
        }
    }

    /// Draws the colour bar with its ticks.
    fn bar(&self, drawing: &mut Drawing, shades: &Shades, plan: &Plan, room: Rect) {
        let plot = plan.plot;
        let places = self.values.iter().flatten().filter_map(|value| shades.scale.place(*value));
        let (lowest, highest) = places.fold((0.0, 1.0), |(low, high): (f64, f64), at| (low.min(at), high.max(at)));
        let tip = |beyond: f64| if beyond > 1e-9 { tip(plot.height()) } else { 0.0 };
        let (above, below) = (tip(highest - 1.0), tip(-lowest));
        let (left, right) = (plot.right + BAR, plot.right + 2.0 * BAR);
        let bar = Rect { left, top: plot.top + above, right, bottom: plot.bottom - below };
        bar::gradient(drawing, bar, shades);
        let (middle, _) = bar.centre();
        let tips = [(middle, plot.top), (bar.right, bar.top), (bar.right, bar.bottom), (middle, plot.bottom)];
        drawing.area(&[(left, bar.top), tips[0], tips[1]], shades.at(1.0));
        drawing.area(&[(left, bar.bottom), tips[3], tips[2]], shades.at(0.0));
        let outline = [(left, bar.bottom), (left, bar.top), tips[0], tips[1], tips[2], tips[3], (left, bar.bottom)];
        drawing.line(&outline, 1.0, BLACK);
        bar::ticks(drawing, bar, &plan.ticks);
        let left = room.right - plan.value_label.len() as f64 * LABEL * LEADING;
        layout::label_upwards(drawing, &plan.value_label, (left, plot.centre().1));
    }

    /// Draws the key of the cells that are not on the bar at the bottom of the room. Returns the bottom of what is
    /// left.
    fn key(&self, drawing: &mut Drawing, cells: &[Vec<Shade>], room: Rect) -> f64 {
        let below = if self.scale == ValueScale::Log { "≤ 0" } else { "−∞" };
        let all = [(Shade::NoData, "no data"), (Shade::Above, "+∞"), (Shade::Below, below)];
        let mut left = room.left;
        for (shade, words) in all.into_iter().filter(|(shade, _)| cells.iter().flatten().any(|cell| cell == shade)) {
            let top = room.bottom - ENTRY + 2.0;
            let swatch = Rect { left, top, right: left + BAR, bottom: top + BAR };
            draw_run(drawing, shade, swatch);
            drawing.line(&ring(swatch), 1.0, BLACK);
            let text = Text::new(words, (left + BAR + 6.0, top + BAR / 2.0 + TICK * 0.36), TICK);
            left += BAR + 6.0 + text.width() + 18.0;
            drawing.texts.push(text);
        }
        room.bottom - if left > room.left { ENTRY + 4.0 } else { 0.0 }
    }
}

/// The longest row label, when labels and cells share the width `spare`.
fn row_label(spare: f64) -> f64 {
    (spare - 160.0).max(spare * 0.45).min(ROW_LABEL)
}

fn widest(labels: &[String]) -> f64 {
    labels.iter().map(|label| text::width(label, TICK, Weight::Regular)).fold(0.0, f64::max)
}

/// The labels, shortened together so that what differs stays.
fn shortened(labels: &[String], width: f64) -> Vec<String> {
    let apart = text::apart(&labels.iter().map(String::as_str).collect::<Vec<_>>(), TICK, Weight::Regular, width);
    apart.iter().map(|label| text::shorten_middle(label, TICK, Weight::Regular, width)).collect()
}

fn are_numbers(labels: &[String]) -> bool {
    labels.iter().all(|label| label.replace('−', "-").parse::<f64>().is_ok())
}

/// The step between the labels that are drawn, if one label takes the space of `needed` cells. A round number if the
/// labels are numbers.
fn stride(labels: &[String], needed: f64) -> usize {
    let least = (needed - 1e-9).ceil().max(1.0) as usize;
    let round = (0..9).flat_map(|decade| [1, 2, 5].map(|digit| digit * 10usize.pow(decade)));
    let round = round.into_iter().find(|stride| *stride >= least && are_numbers(labels));
    round.unwrap_or(least)
}

// --- cells ---

/// The look of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shade {
    Number(Colour),
    NoData,
    Above,
    Below,
}

impl HeatMap {
    fn cells(&self, shades: Option<&Shades>) -> Vec<Vec<Shade>> {
        let (rows, columns) = self.shape();
        let shade = |value: f64| match shades.and_then(|shades| Some(shades.at(shades.scale.place(value)?))) {
            Some(colour) => Shade::Number(colour),
            None if value.is_nan() => Shade::NoData,
            None if value == f64::INFINITY => Shade::Above,
            None => Shade::Below,
        };
        (0..rows).map(|row| (0..columns).map(|column| shade(self.value(row, column))).collect()).collect()
    }
}

/// Draws the cells. Neighbours in a row that look the same are one shape.
fn draw_cells(drawing: &mut Drawing, cells: &[Vec<Shade>], plot: Rect) {
    let (rows, columns) = (cells.len() as f64, cells.first().map_or(0, Vec::len) as f64);
    // Each shape overlaps its right and lower neighbours a little, so that no background shows between them.
    let under = |end: f64, limit: f64| (end + 0.5).min(limit);
    for (row, shades) in cells.iter().enumerate() {
        let mut column = 0;
        for run in shades.chunk_by(|a, b| a == b && !matches!(a, Shade::Above | Shade::Below)) {
            let left = plot.left + plot.width() * column as f64 / columns;
            column += run.len();
            let right = under(plot.left + plot.width() * column as f64 / columns, plot.right);
            let top = plot.top + plot.height() * row as f64 / rows;
            let bottom = under(plot.top + plot.height() * (row + 1) as f64 / rows, plot.bottom);
            draw_run(drawing, run[0], Rect { left, top, right, bottom });
        }
    }
    drawing.line(&ring(plot), 1.0, BLACK);
}

fn draw_run(drawing: &mut Drawing, shade: Shade, place: Rect) {
    const ABOVE: Colour = [0xe5, 0x00, 0xa4]; // in neither colour map
    const BELOW: Colour = [0xff, 0x8c, 0x00];
    let (x, y) = place.centre();
    let half = (place.width().min(place.height()) * 0.3).min(6.0);
    match shade {
        Shade::Number(colour) => drawing.area(&place.corners(), colour),
        Shade::NoData => hatch(drawing, place),
        Shade::Above => {
            drawing.area(&place.corners(), ABOVE);
            drawing.area(&[(x - half, y + half), (x, y - half), (x + half, y + half)], WHITE);
        }
        Shade::Below => {
            drawing.area(&place.corners(), BELOW);
            drawing.area(&[(x - half, y - half), (x, y + half), (x + half, y - half)], BLACK);
        }
    }
}

/// Slanted lines on light grey, which continue in neighbouring cells.
fn hatch(drawing: &mut Drawing, place: Rect) {
    const APART: f64 = 7.0;
    const LINES: Colour = [0xb4; 3];
    drawing.area(&place.corners(), FAINTER);
    let (first, last) = (place.left + place.top, place.right + place.bottom);
    let mut sum = (first / APART).ceil() * APART; // x + y is constant on a line
    while sum < last {
        let (low, high) = ((sum - place.bottom).max(place.left), (sum - place.top).min(place.right));
        if high - low > 1.0 {
            drawing.line(&[(low, sum - low), (high, sum - high)], 1.0, LINES);
        }
        sum += APART;
    }
}

fn ring(place: Rect) -> [(f64, f64); 5] {
    let [a, b, c, d] = place.corners();
    [a, b, c, d, a]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::{Mark, Point};

    fn map(rows: usize, columns: usize) -> HeatMap {
        let value = |i: usize| match i % 9 {
            3 => f64::NAN,
            4 => f64::INFINITY,
            5 => f64::NEG_INFINITY,
            other => (other as f64 - 2.0) * 1.37f64.powi((i % 60) as i32),
        };
        HeatMap {
            rows: (0..rows).map(|i| format!("down_blocks.{}.attentions.1.attn2.out", i)).collect(),
            columns: (0..columns).map(|i| i.to_string()).collect(),
            values: (0..rows).map(|row| (0..columns).map(|column| value(row * 7 + column)).collect()).collect(),
            ..HeatMap::default()
        }
    }

    fn maps() -> Vec<HeatMap> {
        let long =
            "a label that goes on and on, for far longer than there is any room for it in a figure of this width";
        let words = |count: usize| (0..count).map(|i| format!("<|word of a prompt {i}|>")).collect();
        let mut maps = Vec::new();
        for (rows, columns) in [(0, 0), (1, 1), (6, 9), (40, 77), (200, 50)] {
            for scale in [ValueScale::Linear, ValueScale::Log] {
                for label in ["", "step", long] {
                    let text = || label.to_owned();
                    let map = HeatMap { scale, title: text(), x_label: text(), y_label: text(), ..map(rows, columns) };
                    let map = HeatMap { value_label: text(), notes: vec![text(); 2], ..map };
                    maps.push(HeatMap { columns: words(columns), low: Some(0.1), high: Some(1.0), ..map.clone() });
                    maps.push(HeatMap { rows: vec![long.repeat(2); rows], colours: Colours::Diverging, ..map.clone() });
                    maps.push(map);
                }
            }
        }
        maps
    }

    #[test]
    fn no_two_texts_overlap_and_none_is_clipped() {
        for map in maps() {
            for (width, height) in [map.size(), (820, 480), (470, 330), (320, 260), (240, 180)] {
                map.drawing(width, height).check_texts_apart();
            }
        }
    }

    #[test]
    fn no_mark_lies_outside_and_no_text_lies_on_a_cell() {
        for map in maps() {
            for (width, height) in [map.size(), (470, 330), (240, 180)] {
                let drawing = map.drawing(width, height);
                let marks = drawing.marks.iter().map(|mark| match mark {
                    Mark::Line { points, .. } | Mark::Area { points, .. } => {
                        (points, matches!(mark, Mark::Area { .. }))
                    }
                    Mark::Disc { .. } => unreachable!("a heat map has none"),
                });
                let texts: Vec<_> =
                    drawing.texts.iter().filter(|text| !text.words.is_empty()).map(Text::bounds).collect();
                for (points, area) in marks {
                    let over = |bounds: &&Rect| {
                        let beyond = |of: fn(&Point) -> f64, low: f64, high: f64| {
                            points.iter().all(|point| of(point) <= low) || points.iter().all(|point| of(point) >= high)
                        };
                        !beyond(|p| p.0, bounds.left, bounds.right) && !beyond(|p| p.1, bounds.top, bounds.bottom)
                    };
                    let clear = points.iter().all(|(x, y)| *x >= 0.0 && *y >= 0.0)
                        && points
                            .iter()
                            .all(|(x, y)| *x <= f64::from(drawing.width) && *y <= f64::from(drawing.height));
                    assert!(clear, "{points:?} in {width} x {height}");
                    let hidden = texts.iter().filter(|_| area).find(over);
                    assert!(hidden.is_none(), "{hidden:?} on {points:?} in {width} x {height}");
                }
            }
        }
    }

    #[test]
    fn at_its_own_size_every_label_of_few_rows_is_whole_and_many_thin_out() {
        let names = |count| {
            let name = |i| format!("down_blocks.{i}.attentions.1.transformer_blocks.0.attn2.out");
            HeatMap { rows: (0..count).map(name).collect(), ..map(count, 50) }
        };
        let shown = |map: &HeatMap| {
            let (width, height) = map.size();
            let texts = map.drawing(width, height).texts;
            texts.iter().filter(|text| map.rows.contains(&text.words)).count()
        };
        assert_eq!(shown(&names(32)), 32);
        let words = |words: &str| words.split(' ').map(String::from).collect::<Vec<_>>();
        for columns in
            [words("ddim euler pndm"), words("<|startoftext|> an oil painting of a lighthouse <|endoftext|>")]
        {
            let map = HeatMap { columns, values: vec![vec![0.0, 1.0]; 6], ..names(6) };
            let turned = HeatMap { rows: map.columns.clone(), ..map.clone() };
            let (width, height) = map.size();
            let texts = map.drawing(width, height).texts;
            assert_eq!(texts.iter().filter(|text| map.columns.contains(&text.words)).count(), map.columns.len());
            assert_eq!(shown(&turned), 2 * turned.rows.len(), "each on both axes");
        }
        assert!((40..100).contains(&shown(&names(200))), "{}", shown(&names(200)));
    }

    #[test]
    fn numbers_thin_out_in_round_steps() {
        let numbers = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!([0.5, 1.0, 1.1, 3.0, 7.0, 11.0].map(|needed| stride(&numbers(9), needed)), [1, 1, 2, 5, 10, 20]);
        assert_eq!([0.5, 1.1, 3.0].map(|needed| stride(&["a".into()], needed)), [1, 2, 3]);
    }

    #[test]
    fn every_number_is_in_the_csv() {
        let mut map = HeatMap { y_label: "layer, \"a\"".into(), ..map(4, 5) };
        map.rows.truncate(2);
        map.values[1].truncate(3);
        let table: Table = map.csv().parse().unwrap();
        let rows = table.rows();
        assert_eq!(table.columns().collect::<Vec<_>>(), ["layer, \"a\"", "0", "1", "2", "3", "4"]);
        assert_eq!(rows.len(), 4);
        assert_eq!([rows[0][0].text(), rows[3][0].text()], [&map.rows[0], "3"]);
        for (row, fields) in rows.iter().enumerate() {
            for (column, field) in fields[1..].iter().enumerate() {
                let (read, value) = (field.number(), map.value(row, column));
                assert!(read == value || (read.is_nan() && value.is_nan()), "{field:?} for {value}");
            }
        }
    }

    #[test]
    fn each_kind_of_cell_looks_different_and_the_key_names_it() {
        let values = vec![vec![1.0, 100.0, f64::NAN, f64::INFINITY, 0.0]];
        let map = HeatMap { values, scale: ValueScale::Log, ..HeatMap::default() };
        let drawing = map.drawing(500, 300);
        let plot = map.plan(map.shades().as_ref(), drawing.frame().inset(12.0)).plot;
        let image = map.png(500, 300);
        let at = |column: u32| {
            let x = plot.left + plot.width() * (f64::from(column) + 0.25) / 5.0;
            image.get_pixel(x as u32, plot.top as u32 + 20).0
        };
        let looks: std::collections::HashSet<_> = (0..5).map(at).collect();
        assert_eq!(looks.len(), 5, "{looks:?}");
        assert_eq!((at(0), at(1)), (Colours::Sequential.at(0.0), Colours::Sequential.at(1.0)));
        let words: Vec<_> = drawing.texts.iter().map(|text| text.words.as_str()).collect();
        assert!(["no data", "+∞", "≤ 0"].iter().all(|word| words.contains(word)), "{words:?}");
        let plain = HeatMap { values: vec![vec![1.0, 2.0]], ..HeatMap::default() };
        assert!(!plain.svg(500, 300).contains("no data"));
        assert!(HeatMap::default().svg(500, 300).contains("no data"));
    }

    #[test]
    fn the_bar_runs_from_dark_to_light_and_has_a_tip_only_where_numbers_lie_beyond() {
        let bar = |low| {
            let map = HeatMap { values: vec![vec![1.0, 2.0, 4.0]], low, ..HeatMap::default() };
            let (drawing, shades) = (map.drawing(500, 300), map.shades().unwrap());
            let plot = map.plan(Some(&shades), drawing.frame().inset(12.0)).plot;
            let image = map.png(500, 300);
            let x = (plot.right + 1.5 * BAR) as u32;
            let bar = (plot.top as u32 + 3..plot.bottom as u32 - 12).rev();
            let light = bar.map(|y| crate::colours::tests::lightness(image.get_pixel(x, y).0)).collect::<Vec<_>>();
            let ends = |mark: &&Mark| matches!(mark, Mark::Area { points, .. } if points.len() == 3 && points[1].1 > points[0].1 + 5.0);
            (light, drawing.marks.iter().filter(ends).count())
        };
        let (light, tips) = bar(None);
        assert!(light.windows(2).all(|pair| pair[0] <= pair[1] + 1e-4), "{light:?}");
        assert!(light[light.len() - 1] - light[0] > 0.5);
        assert_eq!((tips, bar(Some(2.0)).1), (0, 1));
    }

    #[test]
    fn the_bar_has_two_numbers_or_more_in_any_figure_worth_printing() {
        for ends in [(0.0, 1.0), (-2.5, 2.5), (0.03, 0.9), (0.9, 1.1), (3.0, 4000.0), (1e-9, 2e-9), (7.0, 7.0)] {
            for (scale, colours) in [(ValueScale::Linear, Colours::Diverging), (ValueScale::Log, Colours::Sequential)] {
                let values = vec![vec![ends.0, ends.1, 1.5 * ends.1]; 9];
                let map =
                    HeatMap { values, scale, colours, low: Some(ends.0), high: Some(ends.1), ..HeatMap::default() };
                for (width, height) in [map.size(), (470, 330), (320, 200)] {
                    let numbers = map.drawing(width, height).texts.iter().filter(|text| !text.words.is_empty()).count();
                    assert!(numbers >= 2, "{numbers} for {ends:?} on {scale:?} in {width} x {height}");
                }
            }
        }
    }

    #[test]
    fn no_background_shows_between_cells() {
        let values = vec![[1.0, 1.5].repeat(12); 17]; // two dark colours, so that neighbours are two shapes
        let map = HeatMap { values, low: Some(1.0), high: Some(9.0), ..HeatMap::default() };
        let plot = map.plan(map.shades().as_ref(), Drawing::new(613, 411).frame().inset(12.0)).plot;
        let image = map.pixels(613, 411, 2);
        for y in 2 * plot.top as u32 + 4..2 * plot.bottom as u32 - 4 {
            for x in 2 * plot.left as u32 + 4..2 * plot.right as u32 - 4 {
                assert!(image.get_pixel(x, y).0.iter().all(|part| *part < 0x78), "{x}, {y}");
            }
        }
    }

    #[test]
    fn no_number_and_no_size_panics() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 5e-324, f64::MAX, f64::MIN, 1.0, -1.0];
        for scale in [ValueScale::Linear, ValueScale::Log] {
            for colours in [Colours::Sequential, Colours::Diverging] {
                for (low, high) in odd.iter().flat_map(|low| odd.iter().map(move |high| (Some(*low), Some(*high)))) {
                    let values = vec![odd.to_vec(), vec![], vec![2.0; 3]];
                    let map = HeatMap { values, scale, colours, low, high, ..HeatMap::default() };
                    assert!(map.svg(300, 1).ends_with("</svg>\n"));
                    let one = HeatMap { values: vec![vec![low.unwrap()]], high: None, ..map };
                    assert!(one.svg(1, 300).ends_with("</svg>\n"));
                }
            }
        }
    }
}
