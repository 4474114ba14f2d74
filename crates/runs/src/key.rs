//! The key of a cell: a hash of everything that decides its pixels or its record.

use crate::cell::Cell;
use crate::inputs::{Inputs, by_content};
use crate::kept_hashes;
use crate::models::checkpoint;
use anyhow::{Context, Result, anyhow};
use latentrace_files::said;
pub use latentrace_pipeline::Mode;
use latentrace_pipeline::nn::{Kernels, LIBTORCH};
use latentrace_pipeline::{Choice, Lora};
use latentrace_trace::Rule;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The key of a cell: a hash of everything that decides its pixels or its record. That is the cell, the content of the
/// files that it reads, the version of libtorch, how it is computed, the mode, and the capture rules.
///
/// # Errors
/// The cell cannot be written as JSON.
pub fn key(cell: &Cell, inputs: &Inputs, kept: &Kept, mode: Mode, computed: Computed) -> Result<String> {
    let mut about = by_content(cell, inputs)?;
    about["libtorch"] = json!(LIBTORCH);
    about["format"] = json!(FORMAT);
    let Computed { kernels, threads } = computed;
    if kernels != Kernels::PLAIN {
        about["kernels"] = json!(kernels);
    }
    if let Some(threads) = threads.filter(|threads| *threads != 1) {
        about["threads"] = json!(threads);
    }
    if mode == Mode::Batched {
        about["mode"] = json!("fast");
    }
    if !kept.capture.is_empty() {
        about["kept"] = json!(kept);
    }
    Ok(blake3::hash(about.to_string().as_bytes()).to_hex()[..16].into())
}

/// What of the computation of a cell changes rounding, besides its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Computed {
    /// The kernels of UNet and VAE.
    pub kernels: Kernels,
    /// The number of CPU threads; `None` on a GPU, and in a store of a version whose keys do not have it.
    pub threads: Option<usize>,
}

/// What a run records besides the sampler's values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The capture rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<Rule>,
    /// The largest number of bytes that they may keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
}

/// The version of cells in a store. It changes if the files in a cell's folder change, or if the same settings lead to
/// other numbers (a corrected sampler), so that old cells are made again.
const FORMAT: usize = 6;

/// The hash of a checkpoint: of all files that its output depends on, see
/// [`Checkpoint::files`](latentrace_pipeline::Checkpoint::files). Computed once for each place and choice, until a file
/// changes.
///
/// # Errors
/// The place is not a checkpoint, or a file is missing or cannot be read.
pub fn hash(place: &Path, choice: &Choice) -> Result<String> {
    hash_once((place.into(), choice.clone()), || Ok(checkpoint(place, choice)?.files()?))
}

/// The hash of a record: of its index, which has the checksum of every tensor, and of its shards. Computed once for
/// each folder.
///
/// # Errors
/// A file is missing or cannot be read.
pub fn hash_of_trace(folder: &Path) -> Result<String> {
    hash_once((folder.into(), Choice::default()), || {
        let shards = folder.join("shards");
        let found = std::fs::read_dir(&shards).with_context(|| shards.display().to_string())?.flatten();
        let mut files: Vec<PathBuf> = found.map(|found| found.path()).collect();
        files.sort();
        files.insert(0, folder.join("index.jsonl"));
        Ok(files)
    })
}

/// The hash of the files of a LoRA. Computed once for each, until a file changes.
///
/// # Errors
/// A file is missing or cannot be read.
pub(crate) fn hash_of_lora(lora: &Lora) -> Result<String> {
    hash_once((lora.file.clone(), Choice::default()), || Ok(lora.files()))
}

/// The hash of the concatenation of files.
fn hash_of(files: &[PathBuf]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for path in files {
        hasher.update_mmap_rayon(path).map_err(|error| anyhow!("{}: {}", path.display(), said(&error)))?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// A hash of this process, with the files that it is of as they were then.
struct Known {
    files: Vec<PathBuf>,
    identity: Option<Vec<String>>,
    hash: String,
}

/// The hash of the concatenation of files, computed once for each place and choice, until a file changes; that of large
/// files once for all processes.
fn hash_once(of: (PathBuf, Choice), files: impl FnOnce() -> Result<Vec<PathBuf>>) -> Result<String> {
    static KNOWN: Mutex<Option<HashMap<(PathBuf, Choice), Known>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(Known { files, identity, hash }) = known.get(&of)
        && identity.is_some()
        && kept_hashes::identity(files) == *identity
    {
        return Ok(hash.clone());
    }
    let files = files()?;
    let identity = kept_hashes::identity(&files);
    let hash = match kept_hashes::folder().zip(kept_hashes::stamp(&files)) {
        None => hash_of(&files)?,
        Some((folder, stamp)) => match stamp.find(&folder) {
            Some(hash) => hash,
            None => {
                let hash = hash_of(&files)?;
                // If a file was changed while it was read, nobody knows what was hashed.
                if kept_hashes::stamp(&files).as_ref() == Some(&stamp) {
                    stamp.keep(&folder, &hash);
                }
                hash
            }
        },
    };
    known.insert(of, Known { files, identity, hash: hash.clone() });
    Ok(hash)
}
