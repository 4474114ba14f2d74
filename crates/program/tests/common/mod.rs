//! Runs of the tiny checkpoint from the command line.
#![allow(dead_code, reason = "each test uses a part of this")]

pub mod sweep;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file of the fixtures.
pub fn golden(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    root.join("data/golden").join(path).display().to_string()
}

/// The outcome of a command, which may fail but not panic.
pub fn command(arguments: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("latentrace").unwrap();
    command.args(arguments).env("OMP_NUM_THREADS", "1").assert().stderr(contains("panicked").not())
}

/// A run of two steps on the tiny checkpoint, in a folder of its own.
pub struct Run(TempDir);

impl Run {
    pub fn of(prompt: &str, more: &[&str]) -> Run {
        let run = Run(tempfile::tempdir().unwrap());
        let model = golden("networks/sd1");
        let output = run.0.path().display().to_string();
        let own = ["generate", prompt, "--model", &model, "--steps", "2", "--seed", "7", "--output", &output];
        command(&[&own, more].concat()).success();
        run
    }

    pub fn folder(&self) -> PathBuf {
        let inside = std::fs::read_dir(self.0.path()).unwrap().flatten().map(|entry| entry.path());
        inside.into_iter().find(|path| path.is_dir()).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.folder().join(name)).unwrap()).unwrap()
    }

    pub fn key(&self) -> String {
        self.json("cell.json")["key"].as_str().unwrap().to_string()
    }

    pub fn pixels(&self) -> Vec<u8> {
        latentrace::plot::open_image(&self.folder().join("image.png")).unwrap().into_raw()
    }

    /// Makes the picture again from what it says of itself, and verifies the record.
    pub fn is_made_again(&self) {
        let picture = self.folder().join("image.png").display().to_string();
        let again = tempfile::tempdir().unwrap();
        let output = again.path().display().to_string();
        command(&["generate", "--like", &picture, "--output", &output])
            .success()
            .stdout(contains("the same pixels as"));
        command(&["verify", &self.folder().display().to_string()]).success();
    }
}
