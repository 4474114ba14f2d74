//! Sweeps of the tiny checkpoint from the command line, and what their folders have.

#[path = "../../../../experiments/tests/common/mod.rs"]
mod files;

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

/// Checks that two folders have the same files.
pub fn same(one: &Path, other: &Path) {
    let differing = files::differing(one, other);
    assert!(differing.is_empty(), "other bytes, or in one of them alone: {:?}", &differing[..differing.len().min(5)]);
}
