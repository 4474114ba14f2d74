//! What the `cell.json` of a run says of it. It is read once, and handed on.

use anyhow::{Context, Result};
use latentrace_runs::{Cell, Provenance, RunFolder};
use serde::Deserialize;
use std::collections::BTreeMap;

/// How a run was made, and what that took.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct About {
    #[serde(flatten)]
    pub(crate) provenance: Provenance,
    pub(crate) seconds: Option<f64>,
    /// How many rows the network computed; earlier versions did not keep it.
    pub(crate) evaluations: Option<usize>,
    /// How many calls were taken over from each other cell, by its key.
    #[serde(default)]
    taken_over: BTreeMap<String, usize>,
}

impl About {
    /// Reads what a run's folder says.
    ///
    /// # Errors
    /// The file is missing or damaged.
    pub(crate) fn read(run: &RunFolder) -> Result<About> {
        serde_json::from_value(run.settings()?)
            .with_context(|| format!("{}: the settings of this run", run.path().display()))
    }

    /// How many calls were taken over from other cells.
    pub(crate) fn taken(&self) -> usize {
        self.taken_over.values().sum()
    }

    /// A setting, as it was used.
    pub(crate) fn setting(&self, cell: &Cell, name: &str) -> Option<String> {
        let Provenance { used, program, .. } = &self.provenance;
        if name == "device" {
            return Some(program.device.clone()).filter(|device| !device.is_empty()).or_else(|| cell.written(name));
        }
        cell.written(name).or_else(|| match name {
            "sampler" => used.scheduler["_class_name"].as_str().map(str::to_string),
            "height" => Some(used.size[0].to_string()),
            "width" => Some(used.size[1].to_string()),
            _ => None,
        })
    }
}
