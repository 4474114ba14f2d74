//! The files of two sweeps, or of two cells, compared byte for byte.

use latentrace_files::{Field, Table};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is not the same each time: the seconds that a cell took, and what it took over from others.
const CHANGING: [&str; 3] = ["seconds", "evaluations", "taken_over"];

/// The files that differ between two folders, or are in one of them alone. What is not the same each time does not count.
pub fn differing(one: &Path, other: &Path) -> Vec<PathBuf> {
    let (one, other) = (contents(one), contents(other));
    let paths: BTreeSet<&PathBuf> = one.keys().chain(other.keys()).collect();
    paths.into_iter().filter(|path| one.get(*path) != other.get(*path)).cloned().collect()
}

/// Every file with its bytes, but for [`CHANGING`].
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(inner) = left.pop() {
        for entry in std::fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_path_buf(), lasting(&path));
            }
        }
    }
    found
}

/// The bytes of a file, but for [`CHANGING`].
fn lasting(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    match path.file_name().and_then(|name| name.to_str()) {
        Some("cell.json") => {
            let mut settings: Value = serde_json::from_slice(&bytes).unwrap();
            assert!(settings["seconds"].is_number());
            CHANGING.iter().for_each(|name| _ = settings.as_object_mut().unwrap().remove(*name));
            settings.to_string().into_bytes()
        }
        Some("manifest.json") => {
            let mut hashes: Value = serde_json::from_slice(&bytes).unwrap();
            hashes["blake3"].as_object_mut().unwrap().remove("cell.json").unwrap(); // it has the seconds
            hashes.to_string().into_bytes()
        }
        Some("results.csv") => {
            let table = Table::read(path).unwrap();
            let stays = table.columns().filter(|name| !CHANGING.contains(name));
            let columns: Vec<Vec<&Field>> = stays.map(|name| table.column(name).unwrap().collect()).collect();
            format!("{columns:?}").into_bytes()
        }
        _ => bytes,
    }
}
