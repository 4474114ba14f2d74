//! `latentrace report`: one page that shows runs.

use crate::printer::{Printer, line};
use anyhow::Result;
use latentrace::experiments::page::{self, Written};
use latentrace::files::counted;
use std::path::PathBuf;

/// Write one page that shows runs in a browser: pictures at every noise level, differences, curves, numbers
///
/// The page is a single file that needs no network. Runs are put in rows and columns by what differs between them.
#[derive(clap::Args)]
pub struct Report {
    /// Folders of experiments (runs/sweep-guidance) or of recorded runs (runs/generate), or single runs
    #[arg(required = true, value_name = "RUNS")]
    runs: Vec<PathBuf>,
    /// The page [default: report.html in the first folder]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many pictures may be decoded for the slider, of all runs together; a sweep's cells have some already
    #[arg(long, value_name = "PICTURES", default_value_t = 400)]
    frames: usize,
}

impl Report {
    /// Reads the runs and writes the page.
    pub fn run(self) -> Result<()> {
        let Written { path, pictures, bytes } =
            page::write(&self.runs, self.output.as_deref(), self.frames, &Printer::new())?;
        line!("{} ({}, {:.1} MB)", path.display(), counted(pictures, "picture"), bytes as f64 / 1e6);
        Ok(())
    }
}
