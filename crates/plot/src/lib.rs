//! Pictures from data: [`Grid`] sets pictures in labelled rows and columns, [`Chart`] draws curves, and [`write()`] puts a
//! figure on disk as SVG, PNG and CSV under one name. [`Panels`] is several charts in one figure, [`HeatMap`] a table as
//! coloured cells, [`overlay()`] a map laid over a picture, [`strip`] a film strip, and [`save_png`] keeps what made a picture (prompt, seed, ...) inside the picture's own file.
//!
//! One decision: a chart is first laid out as a list of marks in plain numbers, and only then painted, as SVG or as
//! pixels, from the same list. So both outputs agree, and the tests can ask whether two labels overlap. The font is
//! bundled, because a GPU machine has none. The crate knows no tensor and prints nothing.
//!
//! ```
//! use latentrace_plot::{Axis, Chart, Figure, Series};
//!
//! let chart = Chart {
//!     title: "noise levels".into(),
//!     x: Axis::linear("step"),
//!     y: Axis::log("sigma"),
//!     series: vec![Series::new("Karras", vec![(0.0, 14.6), (1.0, 1.7), (2.0, 0.03), (3.0, 0.0)])],
//!     notes: vec!["the last level, zero, is a gap on this axis".into()],
//!     ..Chart::default()
//! };
//! assert_eq!(chart.csv(), "step,Karras\n0,14.6\n1,1.7\n2,0.03\n3,0\n");
//! assert!(chart.svg(640, 400).contains("Karras"));
//! assert_eq!(chart.png(640, 400).dimensions(), (640, 400));
//! ```

mod chart;
mod colours;
mod csv;
mod figure;
mod grid;
mod heatmap;
mod layout;
mod overlay;
mod pages;
mod paint;
mod panels;
mod report;
mod scale;
mod scene;
mod text;

pub use chart::{Axis, Chart, Series};
pub use colours::Colours;
pub use figure::{Figure, write};
pub use grid::{Cell, Grid, strip};
pub use heatmap::{HeatMap, ValueScale};
pub use latentrace_files::png::{open_image, read_png_text, save_png};
pub use latentrace_files::{Error, PARTIAL};
pub use overlay::{colourise, overlay};
pub use panels::Panels;
pub use report::{Report, ReportAxis, ReportCell, ReportFigure, ReportFrame, WordMap};

/// The pixels that every picture of this crate is made of, from the `image` crate that it was built with.
pub use image::RgbImage;
