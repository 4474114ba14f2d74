//! The size of a network's tensors, and their distance to overflow in f16.

use anyhow::Result;
use latentrace_measures::headroom;
use latentrace_pipeline::nn::Part;
use latentrace_plot::{HeatMap, ValueScale, write};
use latentrace_trace::{Entry, Trace};
use std::path::{Path, PathBuf};

/// Draws the size and the f16 headroom of every recorded tap of the UNet, by call. Returns the files.
///
/// # Errors
/// A file cannot be written.
pub fn health(folder: &Path, trace: &Trace) -> Result<Vec<PathBuf>> {
    let of_networks: Vec<&Entry> =
        trace.entries().iter().filter(|entry| entry.role().part() == Some(Part::Unet)).collect();
    let mut taps: Vec<(String, Vec<&Entry>)> = Vec::new();
    let mut calls: Vec<usize> = Vec::new();
    for entry in of_networks {
        match taps.iter_mut().find(|(tap, _)| *tap == entry.tap) {
            Some((_, entries)) => entries.push(entry),
            None => taps.push((entry.tap.clone(), vec![entry])),
        }
        if calls.last() != Some(&entry.call) && !calls.contains(&entry.call) {
            calls.push(entry.call);
        }
    }
    if taps.is_empty() {
        return Ok(Vec::new());
    }
    let short = |tap: &str| tap.trim_start_matches("unet.").to_string();
    let figure = |title: &str, value_label: &str, scale, of: &dyn Fn(&Entry) -> f64| HeatMap {
        title: title.into(),
        rows: taps.iter().map(|(tap, _)| short(tap)).collect(),
        columns: calls.iter().map(usize::to_string).collect(),
        values: taps
            .iter()
            .map(|(_, entries)| {
                let worst = |call: &usize| {
                    entries.iter().filter(|entry| entry.call == *call).map(|entry| of(entry)).reduce(f64::max)
                };
                calls.iter().map(|call| worst(call).unwrap_or(f64::NAN)).collect()
            })
            .collect(),
        x_label: "network call".into(),
        value_label: value_label.into(),
        scale,
        ..HeatMap::default()
    };
    let unsound = |entry: &Entry, sound: f64| if entry.statistics.is_finite() { sound } else { f64::INFINITY };
    let size = figure("size of every tensor", "root mean square", ValueScale::Log, &|entry| {
        unsound(entry, entry.statistics.rms)
    });
    let mut made = write(folder, "health-rms", &size)?;
    let room =
        figure("how near every tensor is to the end of f16", "log2(absmax / 65504)", ValueScale::Linear, &|entry| {
            unsound(entry, -headroom(entry.statistics.absmax()))
        });
    made.extend(write(folder, "health-f16", &room)?);
    Ok(made)
}
