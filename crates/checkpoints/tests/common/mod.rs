//! Checkpoints of the fixtures, and what tests ask of them.

#![allow(dead_code, reason = "each test uses a part of this")]

use latentrace_checkpoints::{Checkpoint, Choice, Difference};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder among the tiny networks.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks").join(name)
}

pub fn open(place: &Path, choice: &Choice) -> Checkpoint {
    Checkpoint::open(place, choice).unwrap_or_else(|error| panic!("{error}"))
}

pub fn error(place: &Path, choice: &Choice) -> String {
    Checkpoint::open(place, choice).expect_err("an error").to_string()
}

/// The number of tensors, and the names of those that differ.
pub fn differing(first: &Checkpoint, second: &Checkpoint) -> (usize, Vec<(String, Difference)>) {
    let (mut all, mut differing) = (0, Vec::new());
    let tell = |name: &str, difference: Option<Difference>| {
        all += 1;
        differing.extend(difference.map(|difference| (name.to_owned(), difference)));
    };
    first.differences(second, tell).unwrap();
    (all, differing)
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
