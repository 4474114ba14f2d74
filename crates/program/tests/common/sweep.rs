//! Sweeps of the tiny checkpoint from the command line, and what their folders have.

use latentrace::files::{Field, Table};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The folder of the tiny checkpoint.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("data/golden/networks/sd1")
}

/// A spec on the tiny random checkpoint, three steps of PNDM, which are four calls of the network.
pub fn spec(folder: &TempDir, vary: &str) -> PathBuf {
    let path = folder.path().join("spec.toml");
    let text = format!(
        "name = \"small\"\nfigures = [\"grid\"]\n[fixed]\nprompt = \"a cat\"\nsteps = 3\nmodel = {:?}\n[vary]\n{vary}\n",
        tiny()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A sweep into a folder.
pub fn run(spec: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("latentrace"));
    command.arg("run").arg(spec).arg("--output").arg(out).args(more).env("OMP_NUM_THREADS", "1");
    command
}

/// The outcome of a command.
pub fn asserted(command: Command) -> assert_cmd::assert::Assert {
    assert_cmd::Command::from_std(command).assert()
}

/// Starts a command that nobody listens to.
pub fn quietly(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What is not the same each time: the seconds that a cell took, and what it took over from others.
pub const CHANGING: [&str; 3] = ["seconds", "evaluations", "taken_over"];

/// Every file with its bytes, but for [`CHANGING`].
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(inner) = left.pop() {
        for entry in std::fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            if path.ends_with("cell.json") {
                let mut settings: Value = serde_json::from_slice(&bytes).unwrap();
                assert!(settings["seconds"].is_number());
                CHANGING.iter().for_each(|name| _ = settings.as_object_mut().unwrap().remove(*name));
                bytes = settings.to_string().into_bytes();
            }
            if path.ends_with("manifest.json") {
                let mut hashes: Value = serde_json::from_slice(&bytes).unwrap();
                hashes["blake3"].as_object_mut().unwrap().remove("cell.json").unwrap(); // it has the seconds
                bytes = hashes.to_string().into_bytes();
            }
            if path.ends_with("results.csv") {
                let table = Table::read(&path).unwrap();
                let stays = table.columns().filter(|name| !CHANGING.contains(name));
                let columns: Vec<Vec<&Field>> = stays.map(|name| table.column(name).unwrap().collect()).collect();
                bytes = format!("{columns:?}").into_bytes();
            }
            found.insert(path.strip_prefix(folder).unwrap().to_path_buf(), bytes);
        }
    }
    found
}

/// Checks that two folders have the same files.
pub fn same(one: &Path, other: &Path) {
    let (one, other) = (contents(one), contents(other));
    let differs = |path: &&PathBuf| one.get(*path) != other.get(*path);
    let paths: Vec<&PathBuf> = one.keys().chain(other.keys()).filter(differs).take(5).collect();
    assert!(paths.is_empty(), "other bytes, or in one of them alone: {paths:?}");
}
