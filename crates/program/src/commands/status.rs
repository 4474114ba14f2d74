//! `latentrace status`: how far a sweep is.

use super::submit::joined;
use crate::printer::{aside, line};
use anyhow::Result;
use indicatif::HumanDuration;
use latentrace::experiments::{Counts, Listed, Running, Status as Found, There};
use latentrace::files::counted;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Say how far a sweep is: cells that are done, running, failed and left
///
/// Only the folder is looked at, so it works on any machine that sees it.
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
        match Found::of(&self.folder)? {
            Some(status) if self.json => line!("{}", in_json(&status.there, Some(&status))),
            Some(status) => {
                line!("{}", summary(&status));
                self.cells(&status.there);
            }
            None => self.without_list(&There::of(&self.folder)?),
        }
        Ok(())
    }

    /// What is there of a sweep of which nobody knows all cells.
    fn without_list(&self, there: &There) {
        if self.json {
            return line!("{}", in_json(there, None));
        }
        let There { done, running, failed } = there;
        let (running, failed) = (running.len(), failed.len());
        line!("{}: {done} done, {running} running, {failed} failed, what is left is not known", self.folder.display());
        self.cells(there);
        let output = joined(&["--output".to_string(), text(&self.folder)]);
        aside!("note: this store has no list of its cells: `latentrace run SPEC {output}` writes it");
    }

    fn cells(&self, there: &There) {
        for Running { cell, holder, since } in there.running.iter().take(self.most) {
            let since = age(*since).map(|age| format!(" for {}", HumanDuration(age)));
            line!("running: {}: {holder}{}", cell.label, since.unwrap_or_default());
        }
        self.rest(there.running.len(), "running");
        for (cell, error) in there.failed.iter().take(self.most) {
            line!("failed: {}: {}", cell.label, error.lines().next().unwrap_or_default());
        }
        self.rest(there.failed.len(), "failed");
        if there.done > 0 {
            let command = joined(&["latentrace".into(), "store".into(), "verify".into(), text(&self.folder)]);
            aside!("note: the files of cells that are done were not read: `{command}` checks them");
        }
    }

    fn rest(&self, count: usize, what: &str) {
        if count > self.most {
            line!("and {} more {what}", count - self.most);
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The numbers of a status, in a line.
pub fn summary(status: &Found) -> String {
    said(&status.name, status.counts(), status.eta)
}

/// How many cells of an experiment are in each state, and how long the rest may take, in a line.
pub fn said(name: &str, counts: Counts, eta: Option<Duration>) -> String {
    let Counts { cells, done, running, failed, left } = counts;
    let eta = eta.map(|eta| format!(", about {} to go", HumanDuration(eta))).unwrap_or_default();
    format!("{name}: {}: {done} done, {running} running, {failed} failed, {left} left{eta}", counted(cells, "cell"))
}

/// How long ago something was.
fn age(since: Option<SystemTime>) -> Option<Duration> {
    SystemTime::now().duration_since(since?).ok()
}

/// A status as JSON. Where the store has no list, the name, all cells and those that are left are null.
fn in_json(there: &There, status: Option<&Found>) -> serde_json::Value {
    let cell = |cell: &Listed| json!({ "key": cell.key, "label": cell.label });
    let running = |Running { cell, holder, since }: &Running| {
        json!({ "key": cell.key, "label": cell.label, "host": holder.host, "pid": holder.pid,
            "seconds": age(*since).map(|age| age.as_secs_f64()) })
    };
    let failed = |(cell, error): &(Listed, String)| json!({ "key": cell.key, "label": cell.label, "error": error });
    json!({
        "name": status.map(|status| &status.name),
        "cells": status.map(|status| status.cells),
        "done": there.done,
        "running": there.running.iter().map(running).collect::<Vec<_>>(),
        "failed": there.failed.iter().map(failed).collect::<Vec<_>>(),
        "left": status.map(|status| status.left.iter().map(cell).collect::<Vec<_>>()),
        "eta_seconds": status.and_then(|status| status.eta).map(|eta| eta.as_secs_f64()),
    })
}
