//! One HTML page that a browser opens from a file: pictures in a grid, two of them compared, curves and numbers.

mod interned;
mod room;
pub mod sources;

use crate::spec::Axis;
use interned::{Interned, entries};
use latentrace_files::{Error, replace_unsynced};
use latentrace_plot::Colours;
pub use room::{Room, map_side};
use serde_json::{Value, json};
use sources::base64;
use std::path::Path;

/// An HTML page that needs no network.
///
/// It shows the runs in a grid whose rows and columns are the fields that the reader chooses, at any noise level that
/// has frames; a comparison of any two runs; attention to words; the curves and numbers of all runs, also as a heat map
/// over two fields; and the figures, each with its CSV. Pictures that are too large for the page are thumbnails in it,
/// and it reads the full ones from files beside it when they are asked for. Text is always shown as text: it cannot
/// become markup.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The title of the page.
    pub title: String,
    /// The fields that vary. The last one varies fastest.
    pub axes: Vec<PageAxis>,
    /// The names of the numbers that each run has.
    pub numbers: Vec<String>,
    /// The curves that each run has: the name in the CSV, and the label on the page.
    pub columns: Vec<(String, String)>,
    /// The runs, each a cell of the grid.
    pub cells: Vec<PageRun>,
    /// The figures at the end of the page.
    pub figures: Vec<PageFigure>,
    /// What the files of full pictures are.
    pub full: Full,
}

/// What the files of full pictures are. A browser shows a page that it opened from a file the images beside it, but
/// lets it read no pixels of them; a script beside the page can hand them over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// The runs' own pictures.
    #[default]
    Links,
    /// Scripts, each with an image.
    Scripts,
}

/// A field that varies, with its values as the page shows them.
#[derive(Clone, Debug, Default)]
pub struct PageAxis {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Vec<String>,
    /// What a legend calls each of its values: `guidance 4`.
    pub labels: Vec<String>,
}

impl PageAxis {
    /// A field with its values.
    pub fn new(name: &str, values: Vec<String>) -> PageAxis {
        let labels = values.iter().map(|value| format!("{name} {value}")).collect();
        PageAxis { name: name.into(), values, labels }
    }
}

impl From<Axis> for PageAxis {
    fn from(axis: Axis) -> PageAxis {
        let labels = (0..axis.values.len()).map(|index| axis.label(index)).collect();
        PageAxis { name: axis.name, values: axis.values, labels }
    }
}

/// A run: its picture, and everything that the page shows about it.
#[derive(Clone, Debug, Default)]
pub struct PageRun {
    /// Its name on the page.
    pub label: String,
    /// For each axis, the index of the run's value.
    pub place: Vec<usize>,
    /// The picture.
    pub picture: PagePicture,
    /// The run at some of its network calls, in their order: from high noise to low.
    pub frames: PageFrames,
    /// The noise level of each network call.
    pub sigmas: Vec<f64>,
    /// For each network call one number for each of the page's columns; NaN where it is not defined.
    pub curves: Vec<Vec<f64>>,
    /// One number for each of the page's `numbers`; NaN where it is not defined.
    pub numbers: Vec<f64>,
    /// The attention to each word of the prompt.
    pub words: Vec<WordMap>,
    /// Everything that is needed to make the picture again, as indented JSON.
    pub provenance: String,
}

/// A picture.
#[derive(Clone, Debug, Default)]
pub struct PagePicture {
    /// Its width and height, in pixels of the run.
    pub size: (u32, u32),
    /// It, or a thumbnail of it, as a URL.
    pub source: String,
    /// Whether `source` has every bit of it.
    pub exact: bool,
    /// The file of the full picture, from the page's folder.
    pub full: Option<String>,
}

/// A run at some of its network calls.
#[derive(Clone, Debug, Default)]
pub struct PageFrames {
    /// The indices of the calls, from 0.
    pub calls: Vec<usize>,
    /// The size of a frame, in pixels of the run.
    pub size: (u32, u32),
    /// The size of a frame in the sheets.
    pub shown: (u32, u32),
    /// The decoded samples beside each other, as a URL.
    pub samples: String,
    /// The decoded clean estimates beside each other, as a URL.
    pub estimates: String,
    /// Whether the sheets have every bit of them.
    pub exact: bool,
    /// The file of the full frames, samples above estimates, from the page's folder.
    pub full: Option<String>,
}

/// A map of attention to a word, of any size.
#[derive(Clone, Debug, Default)]
pub struct WordMap {
    /// The word.
    pub word: String,
    /// The map, row by row. The least number is drawn faintest and the largest strongest.
    pub map: Vec<Vec<f64>>,
}

/// A figure that is already drawn.
#[derive(Clone, Debug)]
pub struct PageFigure {
    /// Its name.
    pub name: String,
    /// An SVG document; `None` if it is too large for the page.
    pub svg: Option<String>,
    /// Its numbers as CSV; `None` if there are none, or too many for the page.
    pub csv: Option<String>,
    /// The files of what is too large, from the page's folder.
    pub files: Vec<String>,
}

/// The parts of the page's script, in their order.
const SCRIPT: [&str; 17] = [
    include_str!("state.js"),
    include_str!("files.js"),
    include_str!("frames.js"),
    include_str!("full.js"),
    include_str!("roving.js"),
    include_str!("filters.js"),
    include_str!("grid.js"),
    include_str!("zoom.js"),
    include_str!("pair.js"),
    include_str!("difference.js"),
    include_str!("words.js"),
    include_str!("heatmap.js"),
    include_str!("curves.js"),
    include_str!("table.js"),
    include_str!("play.js"),
    include_str!("link.js"),
    include_str!("main.js"),
];

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        const STYLE: &str = include_str!("page.css");
        let script = SCRIPT.concat();
        // Only `</` and `<!--` can end or change a script element, and JSON can write `<` as an escape.
        let data = self.data().to_string().replace('<', "\\u003c");
        let title = self.title.replace('&', "&amp;").replace('<', "&lt;");
        let mut page = String::new();
        let mut rest = include_str!("page.html");
        for (marker, text) in
            [("{{title}}", title.as_str()), ("{{style}}", STYLE), ("{{data}}", &data), ("{{script}}", &script)]
        {
            let (before, after) = rest.split_once(marker).unwrap_or((rest, ""));
            page += before;
            page += text;
            rest = after;
        }
        page + rest
    }

    /// Writes the page. The file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        replace_unsynced(path, self.html().as_bytes())
    }

    fn data(&self) -> Value {
        let size = self.cells.first().map_or((64, 64), |cell| cell.picture.size);
        let palette: Vec<[u8; 3]> = (0..=255).map(|level| Colours::Sequential.at(f64::from(level) / 255.0)).collect();
        let axis = |axis: &PageAxis| json!({ "name": axis.name, "values": axis.values, "labels": axis.labels });
        let column = |(name, label): &(String, String)| json!({ "name": name, "label": label });
        let (mut series, mut facts) = (Interned::default(), Interned::default());
        let cells: Vec<Value> =
            self.cells.iter().map(|cell| cell.data(self.columns.len(), &mut series, &mut facts)).collect();
        json!({
            "title": self.title, "size": [size.0, size.1], "palette": palette,
            "full": match self.full { Full::Links => "links", Full::Scripts => "scripts" },
            "numbers": self.numbers,
            "axes": self.axes.iter().map(axis).collect::<Vec<_>>(),
            "columns": self.columns.iter().map(column).collect::<Vec<_>>(),
            "cells": cells,
            "series": series.into_texts(), "facts": facts.into_texts(),
            "figures": self.figures.iter().map(PageFigure::data).collect::<Vec<_>>(),
        })
    }
}

impl PageRun {
    /// Its data on a page with so many columns. Series and facts that other runs have too are in the page once.
    fn data(&self, columns: usize, series: &mut Interned, facts: &mut Interned) -> Value {
        let curve = |column: usize| self.curves.iter().map(move |row| row.get(column).copied().unwrap_or(f64::NAN));
        let (picture, frames) = (&self.picture, &self.frames);
        json!({
            "label": self.label, "place": self.place,
            "size": [picture.size.0, picture.size.1], "picture": picture.source, "exact": picture.exact,
            "calls": frames.calls, "frameSize": [frames.shown.0, frames.shown.1],
            "frameFull": [frames.size.0, frames.size.1], "framesExact": frames.exact,
            "sheets": { "clean": frames.estimates, "sample": frames.samples },
            "full": { "picture": picture.full, "frames": frames.full },
            "sigmas": series.series(self.sigmas.iter().copied()),
            "curves": (0..columns).map(|column| series.series(curve(column))).collect::<Vec<_>>(),
            "numbers": self.numbers.iter().copied().map(rounded).collect::<Vec<_>>(),
            "words": self.words.iter().map(WordMap::data).collect::<Vec<_>>(),
            "provenance": entries(&self.provenance).into_iter().map(|entry| facts.place(entry)).collect::<Vec<_>>(),
        })
    }
}

impl PageFigure {
    fn data(&self) -> Value {
        let url = |svg: &String| format!("data:image/svg+xml;base64,{}", base64(svg.as_bytes()));
        json!({ "name": self.name, "source": self.svg.as_ref().map(url), "csv": self.csv, "files": self.files })
    }
}

impl WordMap {
    /// The map with at most `side` rows and columns, each the mean of those that it stands for.
    pub fn within(self, side: usize) -> WordMap {
        let (rows, columns) = (self.map.len(), self.map.first().map_or(0, Vec::len));
        if rows.max(columns) <= side {
            return self;
        }
        let scaled = |length: usize| (length * side / rows.max(columns)).max(1);
        let part = |index: usize, length: usize| {
            index * length / scaled(length)..((index + 1) * length).div_ceil(scaled(length))
        };
        let mean = |row: usize, column: usize| {
            let cells: Vec<f64> =
                self.map[part(row, rows)].iter().flat_map(|line| line[part(column, columns)].iter().copied()).collect();
            cells.iter().sum::<f64>() / cells.len() as f64
        };
        let map = (0..scaled(rows)).map(|row| (0..scaled(columns)).map(|column| mean(row, column)).collect()).collect();
        WordMap { word: self.word, map }
    }

    fn data(&self) -> Value {
        let numbers: Vec<f64> = self.map.iter().flatten().copied().collect();
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let level = |number: &f64| (255.0 * (number - low) / (high - low)).round() as u8; // 0 if all are equal
        let levels: Vec<u8> = numbers.iter().map(level).collect();
        let columns = self.map.first().map_or(0, Vec::len);
        json!([self.word, self.map.len(), columns, base64(&levels)])
    }
}

/// Six significant digits: more than a screen shows, in a third of the bytes. `None` if the number is not finite.
fn rounded(number: f64) -> Option<f64> {
    if number.is_finite() { format!("{number:.5e}").parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        let cell = PageRun { label: text.into(), provenance: text.into(), ..PageRun::default() };
        let axes = vec![PageAxis::new(text, vec![text.into()])];
        Page { title: text.into(), axes, cells: vec![cell], ..Page::default() }
    }

    #[test]
    fn no_text_becomes_markup_or_ends_the_data() {
        for text in ["</script><script>alert(1)</script>", "<!-- <script>", "{{script}} & \"quoted\" \u{2028}"] {
            let page = page(text).html();
            let data = page.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
            assert!(!data.contains('<'));
            let value: Value = serde_json::from_str(data).unwrap();
            for at in ["/title", "/cells/0/label", "/facts/0", "/axes/0/name"] {
                assert_eq!(value.pointer(at).unwrap(), text);
            }
            assert_eq!(page.matches("<script").count(), 2, "{text}");
            let title = page.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
            assert!(!title.contains('<'));
        }
    }

    #[test]
    fn a_page_asks_for_no_other_file_when_it_is_opened() {
        let page = page("a").html();
        for asks in ["http://", "https://", "src=\"", "href=\"", "@import", "url(", "fetch("] {
            let left = page.replace("http://www.w3.org/2000/svg", ""); // a name, not an address
            assert!(!left.contains(asks), "{asks}");
        }
    }

    #[test]
    fn every_part_of_the_script_is_on_the_page() {
        let page = page("a").html();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/html");
        let files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        let parts: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "js")).collect();
        assert_eq!(parts.len(), SCRIPT.len());
        for part in parts {
            assert!(page.contains(&std::fs::read_to_string(&part).unwrap()), "{}", part.display());
        }
    }

    #[test]
    fn numbers_that_are_not_defined_are_null_and_maps_are_bytes() {
        let words = vec![WordMap { word: "red".into(), map: vec![vec![0.0, 0.5], vec![0.25, 1.0]] }];
        let curves = vec![vec![1.0, f64::NAN], vec![2.0, 3.0]];
        let cell = PageRun { numbers: vec![f64::NAN, 1.0 / 3.0], words, curves, ..PageRun::default() };
        let (mut series, mut facts) = (Interned::default(), Interned::default());
        let data = cell.data(2, &mut series, &mut facts);
        assert_eq!(data["numbers"], json!([null, 0.333333]));
        assert_eq!(data["words"][0], json!(["red", 2, 2, base64(&[0, 128, 64, 255])]));
        assert_eq!((&data["sigmas"], &data["curves"]), (&json!(0), &json!([1, 2])));
        let first = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
        assert_eq!(series.into_texts()[1], base64(&first));
    }

    #[test]
    fn maps_are_reduced_by_means() {
        let map = (0..4).map(|row| (0..6).map(|column| f64::from(10 * row + column)).collect()).collect();
        let word = WordMap { word: "red".into(), map };
        let reduced = word.clone().within(3);
        assert_eq!(reduced.map, [[5.5, 7.5, 9.5], [25.5, 27.5, 29.5]]);
        assert_eq!(word.clone().within(6).map, word.map);
    }
}
