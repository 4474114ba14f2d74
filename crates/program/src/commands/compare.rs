//! `latentrace compare`: two recorded runs, tensor by tensor.

use crate::arguments::parse_tolerance;
use crate::printer::{self, aside, line};
use anyhow::{Result, ensure};
use latentrace::experiments::views;
use latentrace::files::create_folder;
use latentrace::plot::write;
use latentrace::runs::RunFolder;
use latentrace::trace::{Comparison, compare};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Compare two recorded runs, tensor by tensor
///
/// Prints the first tensor that differs, and how much each does.
#[derive(clap::Args)]
pub struct Compare {
    /// A run: its folder, or its record
    first: PathBuf,
    /// Another; it may come from Python, see tools/dump_diffusers.py
    second: PathBuf,
    /// The largest difference that is none, relative to a tensor's largest magnitude
    #[arg(long, default_value_t = 1e-5, value_parser = parse_tolerance)]
    tolerance: f64,
    /// Draw the differences into this folder: compare.svg, .png and .csv
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Fail where something differs, or only one of the two holds it
    #[arg(long)]
    check: bool,
    /// With --check, let pass what only one of the two holds
    #[arg(long, requires = "check")]
    common: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Compare {
    /// Prints the first difference and the worst of every tap.
    pub fn run(self) -> Result<()> {
        let read = |path: &Path| RunFolder::find(path)?.read();
        let (first, second) = (read(&self.first)?, read(&self.second)?);
        for problem in first.problems().iter().chain(second.problems()) {
            aside!("problem: {problem}");
        }
        let found = compare(&first, &second)?;
        ensure!(
            !found.differences.is_empty(),
            "{} and {}: no tensor is in both",
            self.first.display(),
            self.second.display()
        );
        let beyond = found.first_beyond(self.tolerance);
        if self.json {
            line!(
                "{}",
                json!({ "tensors": found.differences.len(), "only_first": found.only_first, "only_second": found.only_second,
                "first_beyond": beyond.map(|difference| json!({ "tensor": difference.key.name(), "relative": difference.relative })),
                "worst": found.worst().map(|difference| json!({ "tensor": difference.key.name(), "relative": difference.relative })) })
            );
        } else {
            self.report(&found);
        }
        if let Some(folder) = &self.output {
            create_folder(folder)?;
            printer::files(&write(folder, "compare", &views::compare(&found))?);
        }
        if let Some(difference) = beyond.filter(|_| self.check) {
            let (first, second, tensor) = (self.first.display(), self.second.display(), difference.key.name());
            anyhow::bail!("{first} and {second} differ by more than {:.1e}, first in {tensor}", self.tolerance);
        }
        ensure!(
            !self.check || self.common || found.missing() == 0,
            "{} tensors are only in the first and {} only in the second\nhint: --common checks only those that both hold",
            found.only_first,
            found.only_second
        );
        Ok(())
    }

    fn report(&self, found: &Comparison) {
        line!(
            "{} tensors in both, {} only in the first, {} only in the second",
            found.differences.len(),
            found.only_first,
            found.only_second
        );
        match found.first_beyond(self.tolerance) {
            Some(difference) => line!(
                "first to differ by more than {:.1e}: {} (step {}), by {:.2e}",
                self.tolerance,
                difference.key.name(),
                difference.step,
                difference.relative
            ),
            None => line!("none differs by more than {:.1e}", self.tolerance),
        }
        line!("\n{:>10} {:>6} {:>10}  tap", "worst", "call", "first");
        for (tap, calls) in views::by_tap(found) {
            let worst = calls.iter().max_by(|a, b| a.1.total_cmp(b.1));
            let first = calls.iter().find(|(_, relative)| **relative > self.tolerance);
            let Some((call, relative)) = worst else { continue };
            let first = first.map_or("-".into(), |(call, _)| format!("call {call}"));
            line!("{relative:>10.1e} {call:>6} {first:>10}  {tap}");
        }
    }
}
