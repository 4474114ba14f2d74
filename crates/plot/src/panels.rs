//! Several charts in one figure.

use image::RgbImage;
use latentrace_files::Table;

use crate::csv::{self, label};
use crate::drawing::{Drawing, Rect};
use crate::inks::Inks;
use crate::{Chart, Drawable, HeatMap, bar, layout, paint};

/// Several charts in one figure, row by row, and after them heat maps. If all charts have the same series, they share one legend.
#[derive(Clone, Debug, Default)]
pub struct Panels {
    /// The title.
    pub title: String,
    /// The charts.
    pub charts: Vec<Chart>,
    /// The heat maps.
    pub maps: Vec<HeatMap>,
    /// The number of columns; 0 counts as 1.
    pub columns: usize,
}

/// Maps that are wider than this stand below each other, so that their labels have room.
const WIDE: u32 = 640;

impl Panels {
    /// The figure as a self-contained SVG document.
    pub fn svg(&self, width: u32, height: u32) -> String {
        Drawable::svg(self, width, height)
    }

    /// The figure as exactly `width` x `height` pixels (at least 240 x 180).
    pub fn png(&self, width: u32, height: u32) -> RgbImage {
        Drawable::png(self, width, height)
    }

    /// The numbers as CSV: rows of `chart, series, x, y`, and `low, high` if any series has intervals. A row of a heat map is a series,
    /// and its columns are x.
    pub fn csv(&self) -> String {
        let intervals = self.charts.iter().any(Chart::has_intervals);
        let names = ["chart", "series", "x", "y"].into_iter();
        let mut table = Table::new(names.chain(["low", "high"].into_iter().filter(|_| intervals)));
        for chart in &self.charts {
            for fields in chart.lines(intervals) {
                table.row([label(&chart.title)].into_iter().chain(fields));
            }
        }
        for map in &self.maps {
            for (row, numbers) in map.rows.iter().zip(&map.values) {
                for (column, number) in map.columns.iter().zip(numbers) {
                    let fields = [label(&map.title), label(row), label(column), csv::number(*number)];
                    table.row(
                        fields
                            .into_iter()
                            .chain([csv::number(f64::NAN), csv::number(f64::NAN)].into_iter().filter(|_| intervals)),
                    );
                }
            }
        }
        table.to_string()
    }

    fn drawing(&self, width: u32, height: u32) -> Drawing {
        let mut drawing = Drawing::new(width, height);
        drawing.title = self.title.clone();
        let inks = Inks::of(&self.charts);
        let mut room = drawing.frame();
        room.top = layout::heading(&mut drawing, &self.title, room.inset(12.0), 17.0);
        let shared = self.shares_series();
        if shared {
            if let Some((label, shades)) = &inks.bar {
                room.right = bar::beside(&mut drawing, label, shades, room.inset(12.0)).right;
            }
            let legend = Rect { bottom: room.bottom - 10.0, ..room.inset(12.0) };
            room.bottom = layout::legend_below(&mut drawing, &self.charts[0], &inks, legend).bottom;
        }
        let (columns, rows) = self.shape();
        let (across, down) = (room.width() / columns as f64, room.height() / rows as f64);
        let part = |index: usize| {
            let (left, top) =
                (room.left + (index % columns) as f64 * across, room.top + (index / columns) as f64 * down);
            Rect { left, top, right: left + across, bottom: top + down }
        };
        for (index, chart) in self.charts.iter().enumerate() {
            layout::chart(&mut drawing, chart, part(index), (&inks, !shared));
        }
        for (index, map) in self.maps.iter().enumerate() {
            map.draw(&mut drawing, part(self.charts.len() + index));
        }
        if self.count() == 0 {
            layout::no_data(&mut drawing, room);
        }
        drawing
    }

    fn count(&self) -> usize {
        self.charts.len() + self.maps.len()
    }

    fn shape(&self) -> (usize, usize) {
        let are_wide = self.maps.iter().any(|map| map.size().0 > WIDE);
        let columns = if are_wide { 1 } else { self.columns.clamp(1, self.count().max(1)) };
        (columns, self.count().div_ceil(columns).max(1))
    }

    fn shares_series(&self) -> bool {
        let names =
            |chart: &Chart| chart.series.iter().map(|s| (s.name.clone(), s.dashed, s.marked)).collect::<Vec<_>>();
        self.charts.len() > 1
            && !self.charts[0].series.is_empty()
            && self.charts.windows(2).all(|pair| names(&pair[0]) == names(&pair[1]))
    }
}

impl Drawable for Panels {
    fn size(&self) -> (u32, u32) {
        let (columns, rows) = self.shape();
        let of_maps = || self.maps.iter().map(Drawable::size);
        let across = of_maps().map(|(width, _)| width).fold(470, u32::max);
        let down = of_maps().map(|(_, height)| height).fold(330, u32::max);
        let width = columns as u32 * across + 24;
        let shared = self.shares_series();
        let inks = Inks::of(&self.charts);
        let legend =
            if shared { layout::legend_height(&self.charts[0], &inks, f64::from(width) - 24.0, false) } else { 0.0 };
        let width = width + if inks.bar.is_some() { 76 } else { 0 };
        (width, rows as u32 * down + 60 + legend as u32)
    }

    fn svg(&self, width: u32, height: u32) -> String {
        paint::svg(&self.drawing(width, height))
    }

    fn pixels(&self, width: u32, height: u32, ratio: u32) -> RgbImage {
        paint::pixels(&self.drawing(width, height), ratio.max(1))
    }

    fn csv(&self) -> String {
        Panels::csv(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Series;

    fn chart(title: &str, names: &[&str]) -> Chart {
        let series = names.iter().map(|name| Series::new(*name, vec![(0.0, 1.0), (1.0, 3.0)])).collect();
        Chart { title: title.into(), series, ..Chart::default() }
    }

    #[test]
    fn charts_with_the_same_series_share_one_legend() {
        let count = |charts: Vec<Chart>| {
            let panels = Panels { charts, columns: 2, ..Panels::default() };
            let (width, height) = panels.size();
            panels.svg(width, height).matches("karras").count()
        };
        assert_eq!(count(vec![chart("a", &["karras", "ddim"]), chart("b", &["karras", "ddim"])]), 1);
        assert_eq!(count(vec![chart("a", &["karras", "ddim"]), chart("b", &["karras"])]), 2);
    }

    #[test]
    fn every_number_is_in_the_csv() {
        let panels = Panels { charts: vec![chart("a, b", &["s"]), chart("c", &["t"])], ..Panels::default() };
        assert_eq!(panels.csv(), "chart,series,x,y\n\"a, b\",s,0,1\n\"a, b\",s,1,3\nc,t,0,1\nc,t,1,3\n");
    }

    #[test]
    fn an_interval_anywhere_is_two_columns_everywhere() {
        let mut with = chart("a", &["s"]);
        with.series[0].intervals = vec![(0.5, 1.5), (2.0, 4.0)];
        let panels = Panels { charts: vec![with, chart("c", &["t"])], ..Panels::default() };
        let rows = "a,s,0,1,0.5,1.5\na,s,1,3,2,4\nc,t,0,1,NaN,NaN\nc,t,1,3,NaN,NaN\n";
        assert_eq!(panels.csv(), format!("chart,series,x,y,low,high\n{rows}"));
    }

    #[test]
    fn any_number_of_charts_and_columns_draws() {
        for count in 0..5 {
            for columns in [0, 1, 3, 9] {
                let charts = (0..count).map(|_| chart("one", &["s"])).collect();
                let panels = Panels { title: "all".into(), charts, columns, ..Panels::default() };
                assert_eq!(panels.png(300, 200).dimensions(), (300, 200));
            }
        }
    }
}
