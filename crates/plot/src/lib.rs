//! Charts, grids and strips: data in, files out.
//!
//! [`Chart`] draws curves, [`Panels`] several charts in one figure, and [`HeatMap`] a table as coloured cells;
//! [`write()`] puts each of them on disk as SVG, PNG and CSV. [`Grid`] sets pictures in labelled rows and columns,
//! [`strip`] in one row, and [`overlay()`] lays a map over a picture; these are pixels, which [`save_png`] writes with
//! text chunks. [`Tile::with_scale`] puts a map's colour bar under it.
//!
//! One decision: a chart is first laid out as a list of marks in plain numbers, and then painted from that list as SVG
//! or as pixels. So both outputs agree, and tests can check that no two labels overlap. The font is bundled, because a
//! GPU machine has none. Letters that it lacks (Chinese, Arabic, emoji) are drawn with a font of the machine that has
//! outlines for them, and spelt as code points if there is none, such as U+1F534. The crate knows no tensor and nothing
//! about diffusion, and prints nothing.
//!
//! ```
//! use latentrace_plot::{ChartAxis, Chart, Drawable, Series};
//!
//! let chart = Chart {
//!     title: "half-lives".into(),
//!     x: ChartAxis::linear("day"),
//!     y: ChartAxis::log("activity"),
//!     series: vec![Series::new("iodine", vec![(0.0, 1.0), (8.0, 0.5), (16.0, 0.25), (24.0, 0.0)])],
//!     notes: vec!["the last value, zero, is a gap on this axis".into()],
//!     ..Chart::default()
//! };
//! assert_eq!(chart.csv(), "day,iodine\n0,1\n8,0.5\n16,0.25\n24,0\n");
//! assert!(chart.svg(640, 400).contains("iodine"));
//! assert_eq!(chart.png(640, 400).dimensions(), (640, 400));
//! ```

mod bar;
mod chart;
mod colours;
mod csv;
mod drawing;
mod face;
mod figure;
mod fonts;
mod glyphs;
mod grid;
mod heatmap;
mod inks;
mod key;
mod layout;
mod overlay;
mod pages;
mod paint;
mod panels;
mod scale;
mod text;

pub use chart::{Chart, ChartAxis, Series};
pub use colours::Colours;
pub use figure::{Drawable, write};
pub use grid::{Grid, Tile, strip};
pub use heatmap::{HeatMap, ValueScale};
pub use inks::Ink;
pub use latentrace_files::png::{open_image, read_png_text, save_png};
pub use latentrace_files::{Error, PARTIAL};
pub use overlay::{colourise, overlay};
pub use panels::Panels;

/// The pixels that every picture of this crate is made of, from the `image` crate that it was built with.
pub use image::RgbImage;
