//! `latentrace scheduler-atlas`: every sampler measured on data whose exact flow is known, as a page.

use crate::printer;
use anyhow::Result;
use latentrace_studies::atlas;
use std::path::PathBuf;

/// Measure every sampler on data whose exact flow is known
///
/// Writes the page docs/schedulers/README.md.
#[derive(clap::Args)]
pub struct SchedulerAtlas {
    /// Folder of the page
    #[arg(long, default_value = "docs/schedulers", value_name = "FOLDER")]
    output: PathBuf,
    /// File of the table of readings, which the documentation of the schedulers' crate holds
    #[arg(long, default_value = "crates/schedulers/docs/readings.md", value_name = "FILE")]
    readings: PathBuf,
}

impl SchedulerAtlas {
    /// Writes the page and its figures.
    pub fn run(self) -> Result<()> {
        printer::files(&atlas::measure(&self.output, &self.readings)?);
        Ok(())
    }
}
