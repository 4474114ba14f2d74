//! `latentrace report`: one page that shows runs.

use crate::printer::{Printer, line};
use anyhow::Result;
use latentrace::experiments::page::{Beside, Options, Written, write_with};
use latentrace::files::counted;
use latentrace::runs::Observer;
use std::path::PathBuf;

/// Write one HTML page that shows runs
///
/// It has pictures at every noise level, differences, curves and numbers. The page is a single file that needs no
/// network. Runs are put in rows and columns by what differs between them. Pictures that are too large for the page are
/// thumbnails in it; it shows the full ones from the folders of the runs, so keep it where they are.
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
    /// Copy full pictures into a folder beside the page (report-pictures), so that it can also count differences
    #[arg(long)]
    full: bool,
}

impl Report {
    /// Reads the runs and writes the page.
    pub fn run(self) -> Result<()> {
        let printer = Printer::new();
        let options = Options { output: self.output, frames: self.frames, full: self.full };
        let Written { path, pictures, bytes, beside } = write_with(&self.runs, &options, &printer)?;
        line!("{} ({}, {:.1} MB)", path.display(), counted(pictures, "picture"), bytes as f64 / 1e6);
        match beside {
            Some(Beside { folder, files, bytes }) => {
                line!("{} ({}, {:.1} MB)", folder.display(), counted(files, "file"), bytes as f64 / 1e6);
            }
            None if options.full => printer.note("--full: the page itself has every full picture"),
            None => {}
        }
        Ok(())
    }
}
