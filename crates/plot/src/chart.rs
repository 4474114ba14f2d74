//! Curves over two axes.

use image::RgbImage;
use latentrace_files::{Field, Table};

use crate::csv::{label, or};
use crate::drawing::Drawing;
use crate::inks::{Ink, Inks};
use crate::{Drawable, csv, layout, paint};

/// Curves over two axes, with a legend beside or below the plot.
///
/// A point that cannot be drawn (not finite, or not positive on a log axis) is a gap in its curve. A chart without any
/// drawable point shows "no data". Empty strings take no space. A series with far more points than pixels is drawn as
/// the median of every few pixels over a faint line through all points, and a note says so.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// The title.
    pub title: String,
    /// The horizontal axis.
    pub x: ChartAxis,
    /// The vertical axis.
    pub y: ChartAxis,
    /// The curves. Later ones are drawn over earlier ones.
    pub series: Vec<Series>,
    /// Whether a unit is equally long on both axes. Has no effect if only one axis is logarithmic.
    pub equal: bool,
    /// The scale of the colours of series that have a number ([`Ink::Number`]): its label, and whether it is logarithmic. In a figure of
    /// several charts the scale is that of all their numbers.
    pub colours: Option<ChartAxis>,
    /// Notes in small letters under the chart.
    pub notes: Vec<String>,
}

/// One axis of a chart.
#[derive(Clone, Debug, Default)]
pub struct ChartAxis {
    /// The label: quantity and unit.
    pub label: String,
    /// Whether the axis is logarithmic.
    pub log: bool,
    /// Whether the larger values are on the left, or at the bottom.
    pub reversed: bool,
    /// Whether the values are whole numbers, as counts are: then only whole numbers have ticks.
    pub whole: bool,
    /// Names instead of numbers: the first is at 0, the next at 1, and so on. Such an axis is never logarithmic, and no
    /// line connects points of different names.
    pub names: Vec<String>,
    /// Two values that the axis includes even if no point is there, so that charts can be compared.
    pub reach: Option<(f64, f64)>,
}

/// A curve.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its name in the legend and in the CSV.
    pub name: String,
    /// Its points `(x, y)`, in the order in which the line connects them.
    pub points: Vec<(f64, f64)>,
    /// Whether the line is dashed.
    pub dashed: bool,
    /// Whether every point has a dot, the first a ring and the last the curve's marker, as on a path.
    pub marked: bool,
    /// The interval of y for each point, in the order of the points; see [`Series::within`].
    pub intervals: Vec<(f64, f64)>,
    /// What its colour says.
    pub ink: Ink,
}

impl ChartAxis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> ChartAxis {
        ChartAxis { label: label.into(), ..ChartAxis::default() }
    }

    /// A linear axis of whole numbers.
    pub fn whole(label: impl Into<String>) -> ChartAxis {
        ChartAxis { whole: true, ..ChartAxis::linear(label) }
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> ChartAxis {
        ChartAxis { label: label.into(), log: true, ..ChartAxis::default() }
    }

    /// An axis of names, which are at 0, 1, 2, ..
    pub fn names<Name: Into<String>>(label: impl Into<String>, names: impl IntoIterator<Item = Name>) -> ChartAxis {
        ChartAxis { label: label.into(), names: names.into_iter().map(Into::into).collect(), ..ChartAxis::default() }
    }

    /// The same axis, which always includes two values.
    pub fn showing(self, low: f64, high: f64) -> ChartAxis {
        ChartAxis { reach: Some((low, high)), ..self }
    }

    /// The same axis in the other direction.
    pub fn reversed(self) -> ChartAxis {
        ChartAxis { reversed: !self.reversed, ..self }
    }
}

impl Series {
    /// A curve with a solid line.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, ..Series::default() }
    }

    /// The same curve with a dashed line.
    pub fn dashed(self) -> Series {
        Series { dashed: true, ..self }
    }

    /// The same curve with a ring at the first point, dots, and a marker at the last point.
    pub fn marked(self) -> Series {
        Series { marked: true, ..self }
    }

    /// The same curve, coloured by a number.
    pub fn by(self, number: f64) -> Series {
        Series { ink: Ink::Number(number), ..self }
    }

    /// The same curve in a colour: red, green, blue.
    pub fn coloured(self, colour: [u8; 3]) -> Series {
        Series { ink: Ink::Colour(colour), ..self }
    }

    /// The same curve with an interval of y for each point, drawn as a whisker. A point has no whisker if its interval
    /// is NaN or the list is too short.
    ///
    /// If an end cannot be drawn (infinite, or not positive on a log axis), the whisker reaches the edge of the plot
    /// and has no cap there. If several curves of a chart have intervals, each curve is moved sideways by a few pixels,
    /// so that whiskers at the same x do not cover each other.
    pub fn within(self, intervals: Vec<(f64, f64)>) -> Series {
        Series { intervals, ..self }
    }

    /// The interval of a point; NaN if it has none.
    pub(crate) fn interval(&self, point: usize) -> (f64, f64) {
        self.intervals.get(point).copied().unwrap_or((f64::NAN, f64::NAN))
    }
}

impl Chart {
    /// The chart as a self-contained SVG document.
    pub fn svg(&self, width: u32, height: u32) -> String {
        Drawable::svg(self, width, height)
    }

    /// The chart as exactly `width` x `height` pixels (at least 240 x 180).
    pub fn png(&self, width: u32, height: u32) -> RgbImage {
        Drawable::png(self, width, height)
    }

    /// The numbers as CSV: a column for x and one for each series if all series have the same x, otherwise rows of
    /// `series, x, y`. Intervals add the columns `low` and `high`. A value on an axis of names is written as its name.
    pub fn csv(&self) -> String {
        if self.shares_x() { self.wide() } else { self.long() }.to_string()
    }

    fn shares_x(&self) -> bool {
        let same = |a: &Series, b: &Series| {
            a.points.len() == b.points.len()
                && a.points.iter().zip(&b.points).all(|(a, b)| a.0.to_bits() == b.0.to_bits())
        };
        self.series.windows(2).all(|pair| same(&pair[0], &pair[1]))
    }

    fn wide(&self) -> Table {
        let mut names = vec![label(or(&self.x.label, "x"))];
        for series in &self.series {
            let name = or(&series.name, or(&self.y.label, "y"));
            names.push(label(name));
            if !series.intervals.is_empty() {
                names.extend(["low", "high"].map(|end| label(&format!("{name} {end}"))));
            }
        }
        let mut table = Table::new(names);
        let rows = self.series.first().map_or(0, |series| series.points.len());
        for row in 0..rows {
            let mut fields = vec![self.x.value(self.series[0].points[row].0)];
            for series in &self.series {
                fields.push(self.y.value(series.points[row].1));
                fields.extend(bounds(series, row).filter(|_| !series.intervals.is_empty()));
            }
            table.row(fields);
        }
        table
    }

    fn long(&self) -> Table {
        // Where no series has a name, the names of an axis say what each is.
        let unnamed = usize::from(self.series.iter().all(|series| series.name.is_empty()));
        let mut names = vec!["series", or(&self.x.label, "x"), or(&self.y.label, "y")];
        names.extend(["low", "high"].iter().filter(|_| self.has_intervals()));
        let mut table = Table::new(names.into_iter().skip(unnamed).map(label));
        self.lines(self.has_intervals()).for_each(|fields| _ = table.row(fields.into_iter().skip(unnamed)));
        table
    }

    /// `series, x, y` of every point, and `low, high` if `intervals`.
    pub(crate) fn lines(&self, intervals: bool) -> impl Iterator<Item = Vec<Field>> {
        let of = move |series: &Series, point: usize| {
            let (x, y) = series.points[point];
            let fields = [label(&series.name), self.x.value(x), self.y.value(y)];
            fields.into_iter().chain(bounds(series, point).filter(|_| intervals)).collect()
        };
        self.series.iter().flat_map(move |series| (0..series.points.len()).map(move |point| of(series, point)))
    }

    pub(crate) fn has_intervals(&self) -> bool {
        self.series.iter().any(|series| !series.intervals.is_empty())
    }

    fn drawing(&self, width: u32, height: u32) -> Drawing {
        let mut drawing = Drawing::new(width, height);
        let frame = drawing.frame();
        drawing.title = self.title.clone();
        layout::chart(&mut drawing, self, frame, (&Inks::of(std::slice::from_ref(self)), true));
        drawing
    }
}

impl ChartAxis {
    /// A value as a field: its name, if the axis has names.
    fn value(&self, value: f64) -> Field {
        let place = (value >= 0.0 && value.fract() == 0.0).then_some(value as usize);
        place.and_then(|place| self.names.get(place)).map_or_else(|| csv::number(value), |name| label(name))
    }
}

/// The ends of a point's interval as fields.
fn bounds(series: &Series, point: usize) -> impl Iterator<Item = Field> + use<> {
    let (low, high) = series.interval(point);
    [low, high].into_iter().map(csv::number)
}

impl Drawable for Chart {
    fn size(&self) -> (u32, u32) {
        (
            820,
            (if self.equal { 620 } else { 480 })
                .max(layout::legend_height(self, &Inks::of(std::slice::from_ref(self)), 796.0, true) as u32 * 2 + 190),
        )
    }

    fn svg(&self, width: u32, height: u32) -> String {
        paint::svg(&self.drawing(width, height))
    }

    fn pixels(&self, width: u32, height: u32, ratio: u32) -> RgbImage {
        paint::pixels(&self.drawing(width, height), ratio.max(1))
    }

    fn csv(&self) -> String {
        Chart::csv(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dark(image: &RgbImage) -> usize {
        image.pixels().filter(|pixel| pixel.0.iter().any(|part| *part < 0xc0)).count()
    }

    #[test]
    fn shared_x_gives_one_column_a_series() {
        let points = |factor: f64| (0..4).map(|i| (f64::from(i) / 10.0, factor * f64::from(i))).collect::<Vec<_>>();
        let series = vec![Series::new("a, \"b\"", points(0.1)), Series::new("c", points(f64::NAN))];
        let chart = Chart { x: ChartAxis::linear("t"), series, ..Chart::default() };
        let table: Table = chart.csv().parse().unwrap();
        assert_eq!(table.columns().collect::<Vec<_>>(), ["t", "a, \"b\"", "c"]);
        for (row, (x, y)) in table.rows().iter().zip(points(0.1)) {
            assert_eq!((row[0].number(), row[1].number(), row[2].text()), (x, y, "NaN"));
        }
        assert_eq!(table.rows().len(), 4);
    }

    #[test]
    fn other_x_gives_one_line_a_point() {
        let series = vec![Series::new("a", vec![(0.0, 1.0)]), Series::new("b", vec![(0.5, 2.0), (1.0, f64::INFINITY)])];
        let chart = Chart { series, ..Chart::default() };
        assert_eq!(chart.csv(), "series,x,y\na,0,1\nb,0.5,2\nb,1,inf\n");
    }

    #[test]
    fn intervals_are_two_more_columns() {
        let whole = Series::new("a", vec![(0.0, 1.0), (1.0, 2.0)]).within(vec![(0.5, 1.5), (f64::NAN, f64::NAN)]);
        let plain = Series::new("b", vec![(0.0, 3.0), (1.0, 4.0)]);
        let chart = Chart { series: vec![whole.clone(), plain], ..Chart::default() };
        assert_eq!(chart.csv(), "x,a,a low,a high,b\n0,1,0.5,1.5,3\n1,2,NaN,NaN,4\n");
        let other = Series::new("c", vec![(9.0, 3.0)]);
        let chart = Chart { series: vec![whole, other], ..Chart::default() };
        assert_eq!(chart.csv(), "series,x,y,low,high\na,0,1,0.5,1.5\na,1,2,NaN,NaN\nc,9,3,NaN,NaN\n");
    }

    #[test]
    fn names_are_read_below_the_plot_and_in_the_csv() {
        let x = ChartAxis::names("sampler", ["ddpm", "pndm", "lms"]);
        let chart = Chart { x, series: vec![Series::new("s", vec![(0.0, 5.0), (2.0, 7.0)])], ..Chart::default() };
        assert_eq!(chart.csv(), "sampler,s\nddpm,5\nlms,7\n");
        let svg = chart.svg(500, 300);
        assert!(["ddpm", "pndm", "lms"].iter().all(|name| svg.contains(name)), "a name without a point too");
    }

    #[test]
    fn every_series_is_named_in_the_svg_as_text() {
        let names = ["<b>&", "σ \"quoted\"", "plain"];
        let series = names.iter().map(|name| Series::new(*name, vec![(0.0, 1.0), (1.0, 2.0)])).collect();
        let svg = Chart { series, ..Chart::default() }.svg(820, 480);
        for name in ["&lt;b&gt;&amp;", "σ &quot;quoted&quot;", "plain"] {
            assert!(svg.contains(name), "{name}");
        }
        assert!(!svg.contains("<b>"));
        assert!(svg.contains("font-family=\"DejaVu Sans, Verdana, sans-serif\""));
    }

    #[test]
    fn a_figure_grows_until_its_legend_names_every_series() {
        let series = (0..80).map(|i| Series::new(format!("down_blocks.{i}.attentions"), vec![(0.0, 1.0)])).collect();
        let chart = Chart { title: "t".into(), x: ChartAxis::linear("x"), series, ..Chart::default() };
        let (width, height) = chart.size();
        let svg = chart.svg(width, height);
        assert!((0..80).all(|i| svg.contains(&format!("down_blocks.{i}.attentions"))), "{height}");
        assert!(chart.svg(width, 400).contains("more"));
    }

    #[test]
    fn an_empty_chart_says_so_and_a_full_one_does_not() {
        let full =
            |y| Chart { y: ChartAxis::log(""), series: vec![Series::new("a", vec![(0.0, y)])], ..Chart::default() };
        assert!(Chart::default().svg(400, 300).contains("no data"));
        assert!(full(0.0).svg(400, 300).contains("no data"));
        assert!(full(f64::NAN).svg(400, 300).contains("no data"));
        assert!(!full(1.0).svg(400, 300).contains("no data"));
        assert!(dark(&Chart::default().png(400, 300)) > 100);
    }

    #[test]
    fn no_number_and_no_size_panics() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 5e-324, f64::MAX, f64::MIN, 1.0, -1.0];
        let points: Vec<_> = odd.iter().flat_map(|x| odd.iter().map(move |y| (*x, *y))).collect();
        for log in [false, true] {
            let axis = ChartAxis { label: "an axis".into(), log, reversed: log, ..ChartAxis::default() };
            let odd = Series::new("odd", points.clone()).dashed().within(points.clone());
            let series = vec![odd, Series::new("none", vec![])];
            let chart = Chart { x: axis.clone(), y: axis, series, ..Chart::default() };
            for (width, height) in [(0, 0), (1, 900), (900, 1), (640, 400)] {
                assert_eq!(chart.png(width, height).dimensions(), (width.max(240), height.max(180)));
                assert!(chart.svg(width, height).ends_with("</svg>\n"));
            }
        }
    }

    #[test]
    fn a_gap_is_not_bridged() {
        let series =
            |middle| vec![Series::new("a", vec![(0.0, 1.0), (1.0, 1.0), (2.0, middle), (3.0, 1.0), (4.0, 1.0)])];
        let blue = |middle| {
            let chart = Chart { y: ChartAxis::log(""), series: series(middle), ..Chart::default() };
            chart.png(600, 300).pixels().filter(|pixel| pixel.0[2] > pixel.0[0].saturating_add(60)).count()
        };
        let (whole, broken) = (blue(1.0), blue(0.0));
        assert!(broken * 10 < whole * 7, "{broken} blue pixels with a gap, {whole} without");
    }
}
