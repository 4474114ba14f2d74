//! One HTML page that a browser opens from a file: pictures in a grid, two of them compared, curves and numbers.

mod sources;

use serde_json::{Value, json};
use std::path::Path;

use image::RgbImage;
use latentrace_files::{Error, replace_unsynced};
use latentrace_plot::Colours;
use sources::{base64, picture, sheet};

/// An HTML page that needs no network and no other file.
///
/// It shows the runs in a grid whose rows and columns are the fields that the reader chooses, at any noise level that
/// has frames; a comparison of any two runs; attention to words; the curves and numbers of all runs; and the figures,
/// each with its CSV. Text is always shown as text: it cannot become markup.
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
}

/// A field that varies, with its values as the page shows them.
#[derive(Clone, Debug, Default)]
pub struct PageAxis {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Vec<String>,
}

/// A run: its picture, and everything that the page shows about it.
#[derive(Clone, Debug, Default)]
pub struct PageRun {
    /// Its name on the page.
    pub label: String,
    /// For each axis, the index of the run's value.
    pub place: Vec<usize>,
    /// The picture.
    pub picture: RgbImage,
    /// The run at some of its network calls, in their order: from high noise to low.
    pub frames: Vec<PageFrame>,
    /// The noise level of each network call.
    pub sigmas: Vec<f64>,
    /// For each network call one number for each of the page's columns; NaN where it is not defined.
    pub curves: Vec<Vec<f64>>,
    /// One number for each of the page's `numbers`; NaN where it is not defined.
    pub numbers: Vec<f64>,
    /// The attention to each word of the prompt.
    pub words: Vec<WordMap>,
    /// Everything that is needed to make the picture again, as text.
    pub provenance: String,
}

/// A run at one of its network calls.
#[derive(Clone, Debug, Default)]
pub struct PageFrame {
    /// The noise level.
    pub sigma: f64,
    /// The index of the call, from 0.
    pub call: usize,
    /// The decoded sample.
    pub sample: RgbImage,
    /// The decoded clean estimate.
    pub clean: RgbImage,
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
    /// An SVG document.
    pub svg: String,
    /// Its numbers as CSV.
    pub csv: Option<String>,
}

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        const STYLE: &str = include_str!("page.css");
        let script = [
            include_str!("state.js"),
            include_str!("frames.js"),
            include_str!("grid.js"),
            include_str!("pair.js"),
            include_str!("curves.js"),
            include_str!("table.js"),
            include_str!("main.js"),
        ]
        .concat();
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
        let side = frame_side(self.cells.iter().map(|cell| cell.frames.len()).sum());
        let size = self.cells.first().map_or((64, 64), |cell| sources::within(&cell.picture, sources::PICTURE_SIDE));
        let palette: Vec<[u8; 3]> = (0..=255).map(|level| Colours::Sequential.at(f64::from(level) / 255.0)).collect();
        let axis = |axis: &PageAxis| json!({ "name": axis.name, "values": axis.values });
        let column = |(name, label): &(String, String)| json!({ "name": name, "label": label });
        let figure = |figure: &PageFigure| {
            let source = format!("data:image/svg+xml;base64,{}", base64(figure.svg.as_bytes()));
            json!({ "name": figure.name, "source": source, "csv": figure.csv })
        };
        json!({
            "title": self.title, "size": [size.0, size.1], "palette": palette,
            "numbers": self.numbers,
            "axes": self.axes.iter().map(axis).collect::<Vec<_>>(),
            "columns": self.columns.iter().map(column).collect::<Vec<_>>(),
            "cells": self.cells.iter().map(|cell| cell.data(side)).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
        })
    }
}

impl PageRun {
    fn data(&self, side: u32) -> Value {
        let frame = |frame: &PageFrame| json!({ "sigma": rounded(frame.sigma), "call": frame.call });
        let clean: Vec<&RgbImage> = self.frames.iter().map(|frame| &frame.clean).collect();
        let sample: Vec<&RgbImage> = self.frames.iter().map(|frame| &frame.sample).collect();
        let size = clean.first().map_or((64, 64), |first| sources::within(first, side));
        json!({
            "label": self.label, "place": self.place, "picture": picture(&self.picture),
            "frames": self.frames.iter().map(frame).collect::<Vec<_>>(),
            "frameSize": [size.0, size.1],
            "sheets": { "clean": sheet(&clean, size), "sample": sheet(&sample, size) },
            "sigmas": self.sigmas.iter().copied().map(rounded).collect::<Vec<_>>(),
            "curves": self.curves.iter().map(|row| row.iter().copied().map(rounded).collect()).collect::<Vec<Vec<_>>>(),
            "numbers": self.numbers.iter().copied().map(rounded).collect::<Vec<_>>(),
            "words": self.words.iter().map(WordMap::data).collect::<Vec<_>>(),
            "provenance": self.provenance,
        })
    }
}

impl WordMap {
    fn data(&self) -> Value {
        let numbers: Vec<f64> = self.map.iter().flatten().copied().collect();
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let level = |number: &f64| (255.0 * (number - low) / (high - low)).round() as u8; // 0 if all are equal
        let levels: Vec<u8> = numbers.iter().map(level).collect();
        let columns = self.map.first().map_or(0, Vec::len);
        json!({ "word": self.word, "rows": self.map.len(), "columns": columns, "map": base64(&levels) })
    }
}

/// Six significant digits: more than a screen shows, in a third of the bytes. `None` if the number is not finite.
fn rounded(number: f64) -> Option<f64> {
    if number.is_finite() { format!("{number:.5e}").parse().ok() } else { None }
}

/// The longer side of a frame: shorter the more there are, so that the page stays within a few megabytes.
fn frame_side(frames: usize) -> u32 {
    match frames {
        0..=200 => 160,
        201..=500 => 128,
        501..=1200 => 96,
        _ => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        let cell = PageRun { label: text.into(), provenance: text.into(), ..PageRun::default() };
        let axes = vec![PageAxis { name: text.into(), values: vec![text.into()] }];
        Page { title: text.into(), axes, cells: vec![cell], ..Page::default() }
    }

    #[test]
    fn no_text_becomes_markup_or_ends_the_data() {
        for text in ["</script><script>alert(1)</script>", "<!-- <script>", "{{script}} & \"quoted\" \u{2028}"] {
            let page = page(text).html();
            let data = page.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
            assert!(!data.contains('<'));
            let value: Value = serde_json::from_str(data).unwrap();
            for at in ["/title", "/cells/0/label", "/cells/0/provenance", "/axes/0/name"] {
                assert_eq!(value.pointer(at).unwrap(), text);
            }
            assert_eq!(page.matches("<script").count(), 2, "{text}");
            let title = page.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
            assert!(!title.contains('<'));
        }
    }

    #[test]
    fn a_page_asks_for_no_other_file() {
        let page = page("a").html();
        for asks in ["http://", "https://", "src=\"", "href=\"", "@import", "url(", "fetch("] {
            let left = page.replace("http://www.w3.org/2000/svg", ""); // a name, not an address
            assert!(!left.contains(asks), "{asks}");
        }
    }

    #[test]
    fn numbers_that_are_not_defined_are_null_and_maps_are_bytes() {
        let words = vec![WordMap { word: "red".into(), map: vec![vec![0.0, 0.5], vec![0.25, 1.0]] }];
        let cell = PageRun { numbers: vec![f64::NAN, 1.0 / 3.0], words, ..PageRun::default() };
        let data = cell.data(64);
        assert_eq!(data["numbers"], json!([null, 0.333333]));
        assert_eq!(
            data["words"][0],
            json!({ "word": "red", "rows": 2, "columns": 2, "map": base64(&[0, 128, 64, 255]) })
        );
    }
}
