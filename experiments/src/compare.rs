//! `latentrace compare`: two recorded runs, tensor by tensor.

use anyhow::{Result, ensure};
use latentrace_plot::{HeatMap, ValueScale, write};
use latentrace_trace::{Comparison, Trace, compare};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Hold two recorded runs against each other: the first tensor that differs, and how much each does
#[derive(clap::Args)]
pub struct Compare {
    /// A trace
    first: PathBuf,
    /// Another; it may come from Python, see tools/dump_diffusers.py
    second: PathBuf,
    /// The largest difference that is none, relative to a tensor's largest magnitude
    #[arg(long, default_value_t = 1e-5)]
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
        let (first, second) = (Trace::open(&self.first)?, Trace::open(&self.second)?);
        for problem in first.problems().iter().chain(second.problems()) {
            eprintln!("problem: {problem}");
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
            println!(
                "{}",
                json!({ "tensors": found.differences.len(), "only_first": found.only_first, "only_second": found.only_second,
                "first_beyond": beyond.map(|difference| json!({ "tensor": difference.key.name(), "relative": difference.relative })),
                "worst": found.worst().map(|difference| json!({ "tensor": difference.key.name(), "relative": difference.relative })) })
            );
        } else {
            self.report(&found);
        }
        if let Some(folder) = &self.output {
            std::fs::create_dir_all(folder)?;
            for path in write(folder, "compare", &self.picture(&found))? {
                println!("  {}", path.display());
            }
        }
        ensure!(!self.check || beyond.is_none(), "the runs differ by more than {:.1e}", self.tolerance);
        ensure!(
            !self.check || self.common || found.missing() == 0,
            "{} tensors are only in the first and {} only in the second\nhint: --common checks only those that both hold",
            found.only_first,
            found.only_second
        );
        Ok(())
    }

    fn report(&self, found: &Comparison) {
        println!(
            "{} tensors in both, {} only in the first, {} only in the second",
            found.differences.len(),
            found.only_first,
            found.only_second
        );
        match found.first_beyond(self.tolerance) {
            Some(difference) => println!(
                "first to differ by more than {:.1e}: {} (step {}), by {:.2e}",
                self.tolerance,
                difference.key.name(),
                difference.step,
                difference.relative
            ),
            None => println!("none differs by more than {:.1e}", self.tolerance),
        }
        println!("\n{:>10} {:>6} {:>10}  tap", "worst", "call", "first");
        for (tap, calls) in table(found) {
            let worst = calls.iter().max_by(|a, b| a.1.total_cmp(b.1));
            let first = calls.iter().find(|(_, relative)| **relative > self.tolerance);
            let Some((call, relative)) = worst else { continue };
            let first = first.map_or("-".into(), |(call, _)| format!("call {call}"));
            println!("{relative:>10.1e} {call:>6} {first:>10}  {tap}");
        }
    }

    /// Taps by calls.
    fn picture(&self, found: &Comparison) -> HeatMap {
        let table = table(found);
        let calls: Vec<usize> = {
            let mut calls: Vec<usize> = found.differences.iter().map(|difference| difference.key.call).collect();
            calls.sort_unstable();
            calls.dedup();
            calls
        };
        let row = |of: &BTreeMap<usize, f64>| {
            calls.iter().map(|call| of.get(call).map_or(f64::NAN, |relative| relative.max(NONE))).collect()
        };
        HeatMap {
            title: "relative difference, tensor by tensor".into(),
            rows: table.iter().map(|(tap, _)| tap.clone()).collect(),
            columns: calls.iter().map(usize::to_string).collect(),
            values: table.iter().map(|(_, of)| row(of)).collect(),
            x_label: "network call".into(),
            value_label: "max |a − b| / max |a|".into(),
            scale: ValueScale::Log,
            low: Some(1e-8),
            notes: vec![format!("no difference at all is drawn, and listed, as {NONE:e}")],
            ..HeatMap::default()
        }
    }
}

/// No difference, on a logarithmic scale.
const NONE: f64 = 1e-16;

/// The worst relative difference of every tap (and branch) at every call, in the order in which taps pass.
fn table(found: &Comparison) -> Vec<(String, BTreeMap<usize, f64>)> {
    let mut rows: Vec<(String, BTreeMap<usize, f64>)> = Vec::new();
    for difference in &found.differences {
        let key = &difference.key;
        let name = match key.branch {
            Some(branch) => format!("{} {}", key.tap, branch.name()),
            None => key.tap.clone(),
        };
        let row = match rows.iter().position(|(known, _)| *known == name) {
            Some(row) => row,
            None => {
                rows.push((name, BTreeMap::new()));
                rows.len() - 1
            }
        };
        let worst = rows[row].1.entry(key.call).or_insert(0.0);
        *worst = worst.max(difference.relative);
    }
    rows
}
