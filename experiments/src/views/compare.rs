//! The figure of a comparison of two runs, tensor by tensor.

use latentrace_plot::{HeatMap, ValueScale};
use latentrace_trace::Comparison;
use std::collections::BTreeMap;

/// A heat map of the relative difference of each tap at each call.
pub fn compare(found: &Comparison) -> HeatMap {
    let table = by_tap(found);
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

/// The value for no difference, on a logarithmic scale.
const NONE: f64 = 1e-16;

/// The largest relative difference of every tap and branch, by call. Taps are in the order in which tensors pass them.
pub fn by_tap(found: &Comparison) -> Vec<(String, BTreeMap<usize, f64>)> {
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
