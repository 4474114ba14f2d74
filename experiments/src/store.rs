//! Where the pictures of an experiment are kept.

use crate::previews::draw_previews;
use anyhow::{Context, Result};
use latentrace_files::{is_partial, replace, slug};
use latentrace_pipeline::Model;
use latentrace_runs::{Cell, Frames, Observer, Provenance, Recorded, RunFolder, about_eight};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// The folder of one experiment: a folder for each cell, named for what varies and for the hash of all that can change
/// its pixels. A cell's folder is written under a temporary name and renamed when it is whole, so what is there is done.
/// Beside them `failed/` says what could not be made and why, and `claims/` which cells a process has in hand.
pub struct Store {
    root: PathBuf,
    /// The folders of the cells that are done, as they were last listed.
    listed: RefCell<Listed>,
}

/// The cells' folder as it was listed.
#[derive(Default)]
struct Listed {
    /// The folder's own time then; nothing where it had only just changed, and may change again without another time.
    at: Option<SystemTime>,
    /// Each cell's folder by its key.
    cells: HashMap<String, PathBuf>,
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
        let store = Store { root: root.to_path_buf(), listed: RefCell::default() };
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
            if is_partial(&name) {
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

    /// The run of a cell that is done. The folder is listed again only where it has changed.
    pub fn done(&self, key: &str) -> Option<RunFolder> {
        let mut listed = self.listed.borrow_mut();
        if !listed.cells.contains_key(key) {
            listed.renew(&self.root.join("cells"));
        }
        listed.cells.get(key).map(|path| RunFolder::new(path))
    }

    /// A folder for a cell that is about to be made and has been claimed.
    pub fn begin(&self, key: &str) -> Result<TempDir> {
        let cells = self.root.join("cells");
        tempfile::Builder::new()
            .prefix(&format!("{UNFINISHED}{key}-"))
            .tempdir_in(&cells)
            .with_context(|| cells.display().to_string())
    }

    /// Keeps a cell whose run has been recorded in a folder of [`Store::begin`]: with its picture, what it looked like on
    /// its way, its numbers, and all its settings.
    pub fn put(
        &self,
        folder: TempDir,
        (key, label): (&str, &str),
        model: &Model,
        recorded: &Recorded,
        observer: &dyn Observer,
    ) -> Result<RunFolder> {
        let run = RunFolder::new(folder.path());
        let frames = Frames::decode(&recorded.trace, model, &about_eight(recorded.trace.complete()), observer)?;
        let about = Provenance::of(recorded, key);
        draw_previews(&run, recorded, &about, &frames)?;
        run.keep(recorded, &about, Some(&frames))?;
        let place = self.root.join("cells").join(format!("{}{key}", slug(label)));
        match std::fs::rename(folder.path(), &place) {
            Ok(()) => _ = folder.keep(),   // it has another name now, and is not to be cleared away
            Err(_) if place.is_dir() => {} // another process was first with the same pixels
            Err(error) => return Err(error).with_context(|| place.display().to_string()),
        }
        open_to_others(&place);
        self.listed.borrow_mut().cells.insert(key.into(), place.clone());
        Ok(RunFolder::new(&place))
    }
}

impl Listed {
    /// Lists the cells again, unless nothing has changed since.
    fn renew(&mut self, folder: &Path) {
        let changed = std::fs::metadata(folder).and_then(|about| about.modified()).ok();
        if self.at.is_some() && self.at == changed {
            return;
        }
        let now = SystemTime::now();
        let settled = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age > CLOCK);
        let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let with_key = |path: PathBuf| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let key = name.rsplit('-').next().filter(|_| !name.starts_with(UNFINISHED))?;
            Some((key.to_owned(), path))
        };
        self.cells = paths.filter_map(with_key).collect();
        self.at = changed.filter(settled);
    }
}

/// The coarsest clock of a file system that is met: two changes within it may have one time.
const CLOCK: Duration = Duration::from_secs(2);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_listed_once_and_again_where_one_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let at = |key: usize| folder.path().join(format!("cells/guidance-{key}-{key:016x}"));
        let done = |key: usize| store.done(&format!("{key:016x}")).is_some();
        (0..300).for_each(|key| std::fs::create_dir(at(key)).unwrap());
        assert!((0..300).all(done) && !done(300));
        // Those that are known are not looked for again ..
        std::fs::remove_dir(at(7)).unwrap();
        assert!(done(7));
        // .. and one that another process has made is found, as soon as it is asked for.
        std::fs::create_dir(at(300)).unwrap();
        assert!(done(300));
        std::fs::create_dir(folder.path().join(format!("cells/{UNFINISHED}{:016x}-x", 301))).unwrap();
        assert!(!done(301), "it is being made");
    }
}
