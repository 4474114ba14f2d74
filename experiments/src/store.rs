//! Where the pictures of an experiment are kept.

use crate::previews::draw_previews;
use crate::sound::{Fault, check};
use anyhow::{Context, Result, anyhow};
use latentrace_files::{create_folder, is_partial, open_lock, read_text, replace, said, slug};
use latentrace_pipeline::Model;
use latentrace_runs::{Cell, Computing, Frames, Observer, Provenance, Recorded, RunFolder, about_eight};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
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
    /// Each cell's folder by its key, and what is wrong with it, if it has been checked.
    cells: HashMap<String, (PathBuf, Option<Result<(), Fault>>)>,
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
            create_folder(&root.join(name))?;
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
        for key in names("claims")?.into_iter().filter(|name| is_key(name) || name == FIGURES) {
            drop(self.claim(&key)?); // which removes it
        }
        Ok(())
    }

    /// Takes a cell, unless another process has it.
    ///
    /// # Errors
    /// Something else than a file of this program is in the place of the claim.
    pub fn claim(&self, key: &str) -> Result<Option<Claim>> {
        let path = self.root.join("claims").join(key);
        let opened = open_lock(&path).map_err(|error| {
            let place = path.display();
            match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull => {
                    anyhow!("{place}: cannot be written: {}\nhint: another folder with --output", said(&error))
                }
                _ => anyhow!(
                    "{place}: cannot be the claim of a cell: {}\nhint: claims/ has only files of this program: remove what is not",
                    said(&error)
                ),
            }
        });
        let Some(lock) = opened? else { return Ok(None) };
        match lock.try_lock() {
            // Another process may have ended its claim, and removed the file, between the two.
            Ok(()) => Ok(is_at(&lock, &path).then_some(Claim { path, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{}: cannot lock", path.display())),
        }
    }

    /// Whether another process has a cell in hand.
    pub(crate) fn is_claimed(&self, key: &str) -> bool {
        let path = self.root.join("claims").join(key);
        let is_file = std::fs::symlink_metadata(&path).is_ok_and(|about| about.is_file());
        let locked = |lock: File| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
        is_file && File::open(&path).is_ok_and(locked)
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

    /// Keeps how cells are computed, unless it is kept already.
    ///
    /// # Errors
    /// Another process has kept something else meanwhile, or the file cannot be written.
    pub(crate) fn keep_computing(&self, computing: &Computing) -> Result<()> {
        let _claim = self.claim_figures()?;
        computing.keep(&self.root)
    }

    /// Why a cell could not be made, if that was tried.
    pub fn failure(&self, key: &str) -> Option<String> {
        let text = read_text(&self.failed(key)).ok()?;
        let about: Value = serde_json::from_str(&text).ok()?;
        Some(about["error"].as_str()?.to_string())
    }

    /// What is wrong with the folder of a cell, if there is one: a file is missing, damaged, or of another cell.
    pub fn fault(&self, key: &str) -> Option<String> {
        let mut listed = self.listed.borrow_mut();
        let fault = listed.checked(&self.root.join("cells"), key)?.err()?;
        let folder = &listed.cells.get(key)?.0;
        let place = match &fault {
            Fault::Swapped { key, .. } => listed.cells.get(key).map(|(place, _)| place.as_path()),
            Fault::Damaged(_) => None,
        };
        Some(fault.said(folder, place))
    }

    /// Removes the folder of a cell with which something is wrong. The caller has claimed the cell.
    pub(crate) fn discard(&self, key: &str, _: &Claim) -> Result<()> {
        let cells = self.root.join("cells");
        let mut listed = self.listed.borrow_mut();
        if let Some((_, checked)) = listed.cells.get_mut(key) {
            *checked = None; // another process may have made it again
        }
        if !matches!(listed.checked(&cells, key), Some(Err(_))) {
            return Ok(());
        }
        let Some((place, _)) = listed.cells.remove(key) else { return Ok(()) };
        // Under this name a kill leaves nothing that looks like a cell.
        let unfinished = cells.join(format!("{UNFINISHED}{key}-discarded"));
        let moved = std::fs::rename(&place, &unfinished).and_then(|()| std::fs::remove_dir_all(&unfinished));
        moved.with_context(|| format!("{}: cannot remove", place.display()))
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

    /// The run of a cell that is done: its folder has all its files, and none of another cell. The folder of the cells is
    /// listed again only where it has changed, and each cell is checked once.
    pub fn done(&self, key: &str) -> Option<RunFolder> {
        let mut listed = self.listed.borrow_mut();
        listed.checked(&self.root.join("cells"), key)?.ok()?;
        listed.cells.get(key).map(|(path, _)| RunFolder::new(path))
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
        self.listed.borrow_mut().cells.insert(key.into(), (place.clone(), Some(Ok(()))));
        Ok(RunFolder::new(&place))
    }
}

impl Listed {
    /// Whether the folder of a cell is as it should be; nothing where there is none.
    fn checked(&mut self, folder: &Path, key: &str) -> Option<Result<(), Fault>> {
        if !self.cells.contains_key(key) {
            self.renew(folder);
        }
        let (path, checked) = self.cells.get_mut(key)?;
        Some(checked.get_or_insert_with(|| check(&RunFolder::new(path), key)).clone())
    }

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
            Some((key.to_owned(), (path, None)))
        };
        let mut known = std::mem::take(&mut self.cells);
        self.cells = paths.filter_map(with_key).collect();
        known.retain(|_, (_, checked)| matches!(checked, Some(Ok(()))));
        for (key, (path, checked)) in &mut self.cells {
            *checked = known.remove(key).filter(|(known, _)| known == path).and_then(|(_, checked)| checked);
        }
        self.at = changed.filter(settled);
    }
}

/// How the cells of a store are computed, or how this process would if it began the store. A store of a version that kept no
/// choice goes on as the records of its cells say.
///
/// # Errors
/// The file of the choice cannot be read.
pub(crate) fn computing_of(root: &Path) -> Result<Computing> {
    if let Some(chosen) = Computing::of_store(root)? {
        return Ok(chosen);
    }
    let cells = std::fs::read_dir(root.join("cells")).into_iter().flatten().flatten().map(|entry| entry.path());
    let described =
        |cell: PathBuf| -> Option<Value> { serde_json::from_str(&read_text(&cell.join("trace/run.json")).ok()?).ok() };
    let descriptions: Vec<Value> = cells.filter_map(described).collect();
    Ok(Computing::from_before(descriptions.iter()))
}

/// The coarsest clock of a file system that is met: two changes within it may have one time.
const CLOCK: Duration = Duration::from_secs(2);

/// Stands for the figures among the claims, where all others are cells' keys.
const FIGURES: &str = "figures";

/// Begins the name of a folder that is being written; the cell's key comes next.
const UNFINISHED: &str = ".unfinished-";

/// Whether a name is the key of a cell.
fn is_key(name: &str) -> bool {
    name.len() == 16 && name.chars().all(|letter| letter.is_ascii_hexdigit())
}

/// Whether a file is still the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number = |about: std::fs::Metadata| (about.dev(), about.ino());
    let (Ok(own), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(path)) else { return false };
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

    /// A folder that has the files of a cell.
    fn make(folder: &Path, key: &str) {
        use latentrace_plot::{RgbImage, save_png};
        let about = json!({ "cell": { "seed": 7 }, "key": key }).to_string();
        std::fs::create_dir_all(folder.join("trace")).unwrap();
        std::fs::write(folder.join("cell.json"), &about).unwrap();
        std::fs::write(folder.join("trace/run.json"), &about).unwrap();
        save_png(&folder.join("image.png"), &RgbImage::new(1, 1), &[("Latentrace".into(), about)]).unwrap();
    }

    #[test]
    fn cells_are_listed_once_and_again_where_one_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let at = |key: usize| folder.path().join(format!("cells/guidance-{key}-{key:016x}"));
        let make = |key: usize| make(&at(key), &format!("{key:016x}"));
        let done = |key: usize| store.done(&format!("{key:016x}")).is_some();
        (0..30).for_each(make);
        assert!((0..30).all(done) && !done(30));
        // Those that are known are not looked for again ..
        std::fs::remove_dir_all(at(7)).unwrap();
        assert!(done(7));
        // .. and one that another process has made is found, as soon as it is asked for.
        make(30);
        assert!(done(30));
        std::fs::create_dir(folder.path().join(format!("cells/{UNFINISHED}{:016x}-x", 31))).unwrap();
        assert!(!done(31), "it is being made");
    }

    #[test]
    fn a_claim_follows_no_link_and_says_what_is_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (claims, precious) = (folder.path().join("claims"), folder.path().join("precious.txt"));
        let key = format!("{:016x}", 7);
        std::fs::write(&precious, "mine").unwrap();
        std::fs::write(claims.join("notes.txt"), "mine").unwrap();
        std::os::unix::fs::symlink(&precious, claims.join(&key)).unwrap();
        let said = |result: Result<()>| format!("{:#}", result.unwrap_err());
        let refused = said(store.claim(&key).map(drop));
        assert!(
            refused.contains(&format!("{key}: cannot be the claim of a cell: not a plain file\nhint: ")),
            "{refused}"
        );
        assert!(Store::open(folder.path()).is_err());
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
        std::fs::remove_file(claims.join(&key)).unwrap();
        std::fs::create_dir(claims.join(&key)).unwrap();
        let refused = said(Store::open(folder.path()).map(drop));
        assert!(refused.contains("a folder, not a file"), "{refused}");
        std::fs::remove_dir(claims.join(&key)).unwrap();
        let claim = store.claim(&key).unwrap().unwrap();
        assert!(store.is_claimed(&key) && store.claim(&key).unwrap().is_none());
        drop(claim);
        assert!(!store.is_claimed(&key) && claims.join("notes.txt").is_file());
    }
}
