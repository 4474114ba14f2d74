//! The name of a cell: the hash of all that can change its pixels or what is kept of its run.

use crate::cell::Cell;
use crate::inputs::{Inputs, by_content};
use anyhow::{Context, Result};
use latentrace_pipeline::Model;
use latentrace_pipeline::nn::LIBTORCH;
use latentrace_trace::Rule;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The hash of everything that can change a cell's pixels or what is kept of its run: the cell, the content of the files that
/// it reads, libtorch, the mode, and the rules of what is kept.
pub fn key(cell: &Cell, inputs: &Inputs, kept: &Kept, mode: Mode) -> Result<String> {
    let mut about = by_content(cell, inputs)?;
    about["libtorch"] = json!(LIBTORCH);
    about["format"] = json!(FORMAT);
    if mode == Mode::Batched {
        about["mode"] = json!("fast");
    }
    if !kept.capture.is_empty() {
        about["kept"] = json!(kept);
    }
    Ok(blake3::hash(about.to_string().as_bytes()).to_hex()[..16].into())
}

/// What is kept of a run besides the sampler's values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<Rule>,
    /// How many bytes of it at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
}

/// How a cell is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Alone: its bytes do not depend on the other cells of its sweep.
    Alone,
    /// In a batch with others, up to the rounding of other batch sizes.
    Batched,
}

/// Changes when a cell's folder gets another shape, or its settings come to mean other numbers (a sampler mended), so that
/// old ones are made again.
const FORMAT: usize = 6;

/// The hash of the files that decide what a checkpoint computes, made once for each folder.
pub fn hash(folder: &Path) -> Result<String> {
    hash_once(folder, || Ok(Model::files(folder)?))
}

/// The hash of what a record holds, made once for each: its index, with the checksum of every tensor, and its shards.
pub fn hash_of_trace(folder: &Path) -> Result<String> {
    hash_once(folder, || {
        let shards = folder.join("shards");
        let found = std::fs::read_dir(&shards).with_context(|| shards.display().to_string())?.flatten();
        let mut files: Vec<PathBuf> = found.map(|found| found.path()).collect();
        files.sort();
        files.insert(0, folder.join("index.jsonl"));
        Ok(files)
    })
}

/// The hash of files one after the other, made once for each folder.
fn hash_once(folder: &Path, files: impl FnOnce() -> Result<Vec<PathBuf>>) -> Result<String> {
    static KNOWN: Mutex<Option<HashMap<PathBuf, String>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(hash) = known.get(folder) {
        return Ok(hash.clone());
    }
    let mut hasher = blake3::Hasher::new();
    for path in files()? {
        hasher.update_mmap_rayon(&path).with_context(|| path.display().to_string())?;
    }
    let hash = hasher.finalize().to_hex().to_string();
    known.insert(folder.into(), hash.clone());
    Ok(hash)
}
