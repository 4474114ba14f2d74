//! `latentrace status`: how far a sweep is.

use super::submit::joined;
use crate::printer::{aside, line};
use anyhow::Result;
use indicatif::HumanDuration;
use latentrace::experiments::{Listed, Running, Status as Found};
use latentrace::files::counted;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Say how far a sweep is: cells that are done, running, failed and left
///
/// Only the folder is read, so it works on any machine that sees it.
#[derive(clap::Args)]
pub struct Status {
    /// Folder of the sweep, such as runs/sweep-guidance
    folder: PathBuf,
    /// Print at most so many cells of each kind
    #[arg(long, value_name = "CELLS", default_value_t = 20)]
    most: usize,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Prints the status.
    pub fn run(self) -> Result<()> {
        let status = Found::of(&self.folder)?;
        match self.json {
            true => line!("{}", in_json(&status)),
            false => self.in_words(&status),
        }
        Ok(())
    }

    fn in_words(&self, status: &Found) {
        line!("{}", summary(status));
        for Running { cell, holder, since } in status.running.iter().take(self.most) {
            let since = age(*since).map(|age| format!(" for {}", HumanDuration(age)));
            line!("running: {}: {holder}{}", cell.label, since.unwrap_or_default());
        }
        self.rest(status.running.len(), "running");
        for (cell, error) in status.failed.iter().take(self.most) {
            line!("failed: {}: {}", cell.label, error.lines().next().unwrap_or_default());
        }
        self.rest(status.failed.len(), "failed");
        if status.done > 0 {
            let command = joined(&["latentrace", "store", "verify", &self.folder.to_string_lossy()].map(String::from));
            aside!("note: the files of cells that are done were not read: `{command}` checks them");
        }
    }

    fn rest(&self, count: usize, what: &str) {
        if count > self.most {
            line!("and {} more {what}", count - self.most);
        }
    }
}

/// The numbers of a status, in a line.
pub fn summary(status: &Found) -> String {
    let Found { name, cells, done, running, failed, left, eta } = status;
    let eta = eta.map(|eta| format!(", about {} to go", HumanDuration(eta))).unwrap_or_default();
    format!(
        "{name}: {}: {done} done, {} running, {} failed, {} left{eta}",
        counted(*cells, "cell"),
        running.len(),
        failed.len(),
        left.len()
    )
}

/// How long ago something was.
fn age(since: Option<SystemTime>) -> Option<Duration> {
    SystemTime::now().duration_since(since?).ok()
}

fn in_json(status: &Found) -> serde_json::Value {
    let Found { name, cells, done, running, failed, left, eta } = status;
    let cell = |cell: &Listed| json!({ "key": cell.key, "label": cell.label });
    let running: Vec<_> = running
        .iter()
        .map(|Running { cell, holder, since }| {
            json!({ "key": cell.key, "label": cell.label, "host": holder.host, "pid": holder.pid,
                "seconds": age(*since).map(|age| age.as_secs_f64()) })
        })
        .collect();
    let failed: Vec<_> =
        failed.iter().map(|(cell, error)| json!({ "key": cell.key, "label": cell.label, "error": error })).collect();
    let left: Vec<_> = left.iter().map(cell).collect();
    json!({ "name": name, "cells": cells, "done": done, "running": running, "failed": failed, "left": left,
        "eta_seconds": eta.map(|eta| eta.as_secs_f64()) })
}
