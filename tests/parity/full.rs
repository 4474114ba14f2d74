//! At full size, and on the bundled checkpoint: only where `tools/parity.py` has made something to compare with.

use crate::fixture::{Fixture, Table, list, open, root, threads};
use crate::{networks, runs};
use std::io::Write;
use std::path::PathBuf;

#[test]
fn a_checkpoint_of_the_size_of_stable_diffusion_1_computes_what_diffusers_computes() {
    let Some(folder) = folder("LATENTRACE_PARITY", "tools/parity.py prepare") else { return };
    threads(std::thread::available_parallelism().map_or(1, usize::from));
    let model = open(&folder);
    let fixture = Fixture::read(&folder.join("expected"));
    let mut table = Table::new("full size: largest difference / largest magnitude");
    networks::compare(&model, &fixture, &mut table);
    let after_networks = peak();
    let mut latents = Table::new("full size: largest difference of latents, and of bytes");
    for case in list(&fixture.cases, "runs") {
        runs::compare(&model, &fixture, case, &mut latents);
    }
    say(&format!("peak resident memory: networks one by one {after_networks}, with a whole run {}", peak()));
    table.finish();
    latents.finish();
}

#[test]
fn the_bundled_checkpoint_computes_what_diffusers_computes() {
    let Some(folder) = folder("LATENTRACE_PARITY_SHAPES", "tools/parity.py shapes") else { return };
    let model = open(&root("data/models/shapes"));
    let fixture = Fixture::read(&folder.join("expected"));
    let mut table = Table::new("bundled checkpoint: largest difference of latents, and of bytes");
    for case in list(&fixture.cases, "runs") {
        runs::compare(&model, &fixture, case, &mut table);
    }
    table.finish();
}

/// The folder that a variable of the environment names.
fn folder(variable: &str, maker: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if folder.is_none() {
        say(&format!("skipped: {variable} does not name a folder made by {maker}"));
    }
    folder
}

/// The most memory that this process ever held, mapped weights included, where the system tells.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".into(), |line| line.trim().into())
}

/// Says something that the test harness does not swallow.
fn say(line: &str) {
    let mut terminal = std::io::stderr().lock();
    writeln!(terminal, "{line}").unwrap();
}
