//! Where the pictures of an experiment are kept.

use crate::cell::Cell;
use crate::frames::{Frames, about_eight, captions};
use crate::inputs::{Inputs, by_content};
use crate::provenance::{Provenance, What};
use crate::record::{Recorded, pixels};
use crate::scalars::Scalars;
use anyhow::{Context, Result};
use latentrace_pipeline::Model;
use latentrace_pipeline::nn::{LIBTORCH, PARTIAL, replace};
use latentrace_plot::{RgbImage, save_png, strip};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// The folder of one experiment: a folder for each cell, named for what varies and for the hash of all that can change
/// its pixels. A cell's folder is written under a temporary name and renamed when it is whole, so what is there is done.
/// Beside them `failed/` says what could not be made and why, and `claims/` which cells a process has in hand.
pub struct Store {
    root: PathBuf,
}

/// The hash of everything that can change a cell's pixels or what is kept of its run: the cell, the content of the files that
/// it reads, libtorch, the mode, and the rules of what is kept.
pub fn key(cell: &Cell, inputs: &Inputs, kept: &Kept, mode: Mode) -> Result<String> {
    let mut about = by_content(cell, inputs)?;
    about["libtorch"] = json!(LIBTORCH);
    about["format"] = json!(FORMAT);
    if mode == Mode::Fast {
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
    pub capture: Vec<String>,
    /// How many bytes of it at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
}

/// How a cell is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Alone: its bytes are the same in whatever company.
    Exact,
    /// In a batch with others, up to the rounding of other batch sizes.
    Fast,
}

/// A cell that no other process makes as long as this lives.
pub struct Claim {
    path: PathBuf,
    _lock: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok(); // the lock is what counts, and ends with the file handle
    }
}

impl Store {
    /// Opens or makes the folder, and clears away what a stopped run left unfinished.
    pub fn open(root: &Path) -> Result<Store> {
        for name in ["cells", "claims", "failed"] {
            let folder = root.join(name);
            std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create", folder.display()))?;
        }
        let store = Store { root: root.to_path_buf() };
        store.clear_up()?;
        Ok(store)
    }

    /// Clears away cells and claims that no process has in hand.
    fn clear_up(&self) -> Result<()> {
        let names = |folder: &str| -> Result<Vec<String>> {
            let folder = self.root.join(folder);
            let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?.flatten();
            Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        };
        for name in names("cells")? {
            let Some(key) = name.strip_prefix(UNFINISHED).and_then(|rest| rest.split('-').next()) else { continue };
            if let Some(_claim) = self.claim(key)? {
                std::fs::remove_dir_all(self.root.join("cells").join(&name)).ok(); // it is only in the way
            }
        }
        for key in names("claims")? {
            drop(self.claim(&key)?); // which removes it
        }
        Ok(())
    }

    /// Takes a cell, unless another process has it.
    pub fn claim(&self, key: &str) -> Result<Option<Claim>> {
        let path = self.root.join("claims").join(key);
        let lock = File::create(&path).with_context(|| format!("{}: cannot create", path.display()))?;
        match lock.try_lock() {
            // Another process may have ended its claim, and removed the file, between the two.
            Ok(()) => Ok(is_at(&lock, &path).then_some(Claim { path, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{}: cannot lock", path.display())),
        }
    }

    /// Takes the folder's own files, the figures and tables, and clears away what a stopped process left of them. Waits for
    /// another process that is at it.
    pub fn claim_figures(&self) -> Result<Claim> {
        let claim = loop {
            match self.claim(FIGURES)? {
                Some(claim) => break claim,
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        for entry in std::fs::read_dir(&self.root).with_context(|| self.root.display().to_string())?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if [latentrace_plot::PARTIAL, PARTIAL].iter().any(|begin| name.starts_with(begin)) {
                std::fs::remove_file(entry.path()).ok(); // it is only in the way
            }
        }
        Ok(claim)
    }

    /// Why a cell could not be made, if that was tried.
    pub fn failure(&self, key: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.failed(key)).ok()?;
        let about: Value = serde_json::from_str(&text).ok()?;
        Some(about["error"].as_str()?.to_string())
    }

    /// Notes that a cell could not be made.
    pub fn fail(&self, cell: &Cell, key: &str, label: &str, error: &str) -> Result<()> {
        let about = json!({ "cell": cell, "key": key, "label": label, "error": error });
        Ok(replace(&self.failed(key), format!("{about:#}\n").as_bytes())?)
    }

    /// Forgets that a cell could not be made.
    pub fn forgive(&self, key: &str) {
        std::fs::remove_file(self.failed(key)).ok(); // there is mostly none
    }

    fn failed(&self, key: &str) -> PathBuf {
        self.root.join("failed").join(format!("{key}.json"))
    }

    /// The folder of a cell that is done.
    pub fn done(&self, key: &str) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.root.join("cells")).ok()?.flatten();
        let ours = |name: &str| !name.starts_with(UNFINISHED) && name.rsplit('-').next() == Some(key);
        entries
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| ours(&name.to_string_lossy())))
    }

    /// A folder for a cell that is about to be made and has been claimed; its record goes into [`trace_of`] it.
    pub fn begin(&self, key: &str) -> Result<TempDir> {
        let cells = self.root.join("cells");
        tempfile::Builder::new()
            .prefix(&format!("{UNFINISHED}{key}-"))
            .tempdir_in(&cells)
            .with_context(|| cells.display().to_string())
    }

    /// Keeps a cell: beside its record its picture, what it looked like on its way, its numbers, and all its settings.
    pub fn put(&self, folder: TempDir, key: &str, label: &str, model: &Model, recorded: &Recorded) -> Result<PathBuf> {
        let cells = self.root.join("cells");
        let at = |name: &str| folder.path().join(name);
        let provenance = Provenance::of(recorded, key);
        save_png(&at("image.png"), &pixels(&recorded.outcome.picture), &provenance.chunks(What::Picture))?;
        let frames = Frames::decode(&recorded.trace, model, &about_eight(recorded.trace.complete()))?;
        frames.save(&at("frames.png"))?;
        let captions = captions(&recorded.trace, &frames.calls);
        let previews = strip(&frames.estimates, &captions, enlargement(&frames.estimates));
        save_png(&at("previews.png"), &previews, &provenance.chunks(What::Previews))?;
        keep_scalars(recorded)?;
        let mut settings = serde_json::to_value(&provenance)?;
        settings["seconds"] = json!(recorded.elapsed.as_secs_f64());
        let settings = format!("{settings:#}\n");
        std::fs::write(at("cell.json"), settings).with_context(|| at("cell.json").display().to_string())?;
        let place = cells.join(format!("{}{key}", slug(label)));
        match std::fs::rename(folder.path(), &place) {
            Ok(()) => _ = folder.keep(),   // it has another name now, and is not to be cleared away
            Err(_) if place.is_dir() => {} // another process was first with the same pixels
            Err(error) => return Err(error).with_context(|| place.display().to_string()),
        }
        open_to_others(&place);
        Ok(place)
    }
}

/// Changes when a cell's folder gets another shape, or its settings come to mean other numbers (a sampler mended), so that
/// old ones are made again.
const FORMAT: usize = 6;

/// Stands for the figures among the claims, where all others are cells' keys.
const FIGURES: &str = "figures";

/// Begins the name of a folder that is being written; the cell's key comes next.
const UNFINISHED: &str = ".unfinished-";

/// Whether a file is still the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number = |about: std::fs::Metadata| (about.dev(), about.ino());
    let (Ok(own), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    number(own) == number(there)
}

/// Temporary folders are their maker's alone; a finished one is as open as its neighbours.
fn open_to_others(place: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let like = place.parent().and_then(|parent| std::fs::metadata(parent).ok());
    if let Some(like) = like {
        let mode = std::fs::Permissions::from_mode(like.permissions().mode());
        std::fs::set_permissions(place, mode).ok(); // only a convenience
    }
}

/// Writes the numbers of a run beside its record.
pub fn keep_scalars(recorded: &Recorded) -> Result<()> {
    let scalars = Scalars::of(&recorded.trace, &recorded.description)?.csv();
    Ok(replace(&recorded.trace.folder().join("scalars.csv"), scalars.as_bytes())?)
}

/// How much small pictures are enlarged in strips and grids.
pub fn enlargement<'a>(images: impl IntoIterator<Item = &'a RgbImage>) -> u32 {
    let there = images.into_iter().find(|image| image.width() > 0); // a missing one has no pixels
    there.map_or(1, |image| (160 / image.width()).max(1))
}

/// What a file name can hold of a label: letters and digits of every script, and the sign of a number.
pub fn slug(label: &str) -> String {
    let mut slug = String::new();
    let mut before = ' ';
    let mut letters = label.chars().flat_map(char::to_lowercase).peekable();
    while let Some(letter) = letters.next() {
        let is_sign = letter == '-' && !is_plain(before) && letters.peek().is_some_and(|next| next.is_numeric());
        if is_plain(letter) || is_sign {
            if !slug.is_empty() && !is_plain(before) {
                slug.push('-');
            }
            slug.push(letter);
        }
        before = if is_sign { '0' } else { letter };
    }
    let mut slug: String = slug.chars().take(60).collect();
    while slug.len() > MOST_BYTES {
        slug.pop();
    }
    if !slug.is_empty() {
        slug.push('-');
    }
    slug
}

/// Bytes of a label in a file's name, which may have 255 with what else is in it.
const MOST_BYTES: usize = 160;

/// Whether a file's name keeps a letter; an accent that is written by itself belongs to its letter.
fn is_plain(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '.' || ('\u{300}'..='\u{36f}').contains(&letter)
}

/// The record of a cell.
pub fn trace_of(cell: &Path) -> PathBuf {
    cell.join("trace")
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_differs() {
        for (label, name) in [
            ("A Cat, <b>", "a-cat-b-"),
            ("guidance -2.5, seed 7", "guidance--2.5-seed-7-"),
            ("guidance 2.5", "guidance-2.5-"),
            ("8 for sigma 0.3 to 5", "8-for-sigma-0.3-to-5-"),
            ("state-of-the-art", "state-of-the-art-"),
            ("ein grünes Schiff", "ein-grünes-schiff-"),
            ("赤い円", "赤い円-"),
            ("Kra\u{301}l", "kra\u{301}l-"),
            ("???", ""),
            ("../x", "..-x-"),
        ] {
            assert_eq!(slug(label), name, "{label}");
        }
        let long = slug(&"赤い".repeat(100));
        assert!(long.len() <= MOST_BYTES + 1, "{} bytes", long.len());
    }
}
