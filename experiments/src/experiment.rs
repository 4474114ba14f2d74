//! `experiment.json`: what a sweep consisted of when it was last run, for whoever reads its folder.

use crate::done::Done;
use crate::figures::Finished;
use crate::spec::Axis;
use anyhow::{Context, Result};
use latentrace_files::{read_text, replace};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A sweep that was run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Experiment {
    /// What is the same everywhere.
    pub title: String,
    /// What varies.
    pub axes: Vec<Axis>,
    /// What is measured, by its names in a spec.
    pub measures: Vec<String>,
    /// The cells that are done.
    pub cells: Vec<Member>,
}

/// A cell of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its folder, from the experiment's.
    pub folder: PathBuf,
    /// What the legend calls it.
    pub label: String,
    /// For each field that varies, which of its values it has.
    pub place: Vec<usize>,
}

const FILE: &str = "experiment.json";

impl Experiment {
    /// Writes what is done. Returns whether that has changed.
    pub fn write(finished: &Finished) -> Result<bool> {
        let member = |done: &Done| Member {
            folder: done.run.path().strip_prefix(finished.root).unwrap_or(done.run.path()).into(),
            label: done.label.clone(),
            place: done.place.clone(),
        };
        let experiment = Experiment {
            title: finished.title.into(),
            axes: finished.axes.to_vec(),
            measures: finished.measures.iter().map(|measure| measure.name().to_string()).collect(),
            cells: finished.cells.iter().map(member).collect(),
        };
        let path = finished.root.join(FILE);
        let text = serde_json::to_string_pretty(&experiment)? + "\n";
        let has_changed = std::fs::read(&path).ok().as_deref() != Some(text.as_bytes());
        replace(&path, text.as_bytes()).with_context(|| path.display().to_string())?;
        Ok(has_changed)
    }

    /// Reads what a folder says of its last sweep; nothing where there was none.
    pub fn read(root: &Path) -> Result<Option<Experiment>> {
        let path = root.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_text(&path)?;
        serde_json::from_str(&text).map(Some).with_context(|| path.display().to_string())
    }
}
