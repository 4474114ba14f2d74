//! `latentrace experiments`: what is there to be run.

use crate::printer::line;
use anyhow::{Context, Result};
use latentrace::experiments::Spec;
use latentrace::runs::home;
use std::path::PathBuf;

/// List the experiments that are brought along
#[derive(clap::Args)]
pub struct Experiments {
    #[command(subcommand)]
    list: Option<List>,
}

#[derive(clap::Subcommand)]
enum List {
    /// List them, as without a word
    List,
}

impl Experiments {
    /// Prints each with what it is about.
    pub fn run(self) -> Result<()> {
        for path in specs()? {
            let spec = Spec::open(&path, &[])?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            line!("{stem:20} {:>4} pictures  {}", spec.count(), spec.about);
        }
        line!("\n`latentrace run NAME` runs one, `latentrace run NAME --dry-run` says what that would cost");
        Ok(())
    }
}

/// The specs in `experiments/specs`, by name.
pub(super) fn specs() -> Result<Vec<PathBuf>> {
    let home = home().context("experiments/specs: not beside the program")?;
    let folder = home.join("experiments/specs");
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?.flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    Ok(paths)
}
