//! Where the pictures of an experiment are kept.

mod about;
mod listed;

use self::about::About;
use self::listed::{Listed, is_key, key_of, names};
use crate::lease::{Lease, Leases, Pace, Standing};
use crate::list::List;
use crate::manifest;
use crate::previews::draw_previews;
use crate::sound::Fault;
use anyhow::{Context, Result, ensure};
use latentrace_files::{create_folder, is_partial, read_text, replace, slug};
use latentrace_pipeline::Model;
use latentrace_runs::{Cell, Computing, Frames, Observer, Provenance, Recorded, RunFolder, about_eight};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The folder of one experiment: a folder for each cell, named for what varies and for the hash of all that can change
/// its pixels. A cell's folder is written under a temporary name and renamed when it is whole, so what is there is done.
/// Beside them `failed/` says what could not be made and why, and `claims/` which cells a process has in hand, on this machine
/// or on another one (see [`Leases`]). `store.json` has the format, and how long such a claim lasts.
pub struct Store {
    root: PathBuf,
    claims: Leases,
    /// How often claims are renewed.
    pace: Pace,
    /// The folders of the cells that are done, as they were last listed.
    listed: RefCell<Listed>,
}

impl Store {
    /// Opens or makes the folder, and clears away what a stopped run left unfinished.
    ///
    /// # Errors
    /// The folder cannot be written, or another version made it.
    pub fn open(root: &Path) -> Result<Store> {
        for name in ["cells", CLAIMS, "failed"] {
            create_folder(&root.join(name))?;
        }
        let store = Store::at(root, About::agreed(root)?);
        store.clear_up()?;
        Ok(store)
    }

    /// Opens the folder to look at it. Nothing in it is made or changed.
    ///
    /// # Errors
    /// There is no store in the folder, or another version made it.
    pub fn look(root: &Path) -> Result<Store> {
        let hint = "hint: name the folder of a sweep, such as runs/sweep-guidance";
        ensure!(root.join("cells").is_dir(), "{}: no store, because it has no folder cells\n{hint}", root.display());
        Ok(Store::at(root, About::of(root)?.unwrap_or_default()))
    }

    fn at(root: &Path, about: About) -> Store {
        let claims = Leases::of(&root.join(CLAIMS), about.claims);
        Store { root: root.to_path_buf(), claims, pace: about.claims, listed: RefCell::default() }
    }

    /// Clears away cells and claims that no process has in hand. What is there in the place of a claim and is none concerns only
    /// those who want that cell, who are told of it.
    fn clear_up(&self) -> Result<()> {
        for name in names(&self.root.join("cells"))? {
            let key = name.strip_prefix(UNFINISHED).and_then(|rest| rest.split('-').next()).filter(|key| is_key(key));
            if let Some(key) = key
                && let Ok(Some(claim)) = self.claim(key)
                && claim.holds()
            {
                std::fs::remove_dir_all(self.root.join("cells").join(&name)).ok(); // it is only in the way
            }
        }
        for name in self.claims.ended()?.iter().filter(|name| is_key(name) || OWN.contains(&name.as_str())) {
            self.claim(name).map(drop).ok(); // which removes it
        }
        self.claims.clear()
    }

    /// Takes a cell, unless another process has it.
    ///
    /// # Errors
    /// Something else than a file of this program is in the place of the claim.
    pub fn claim(&self, key: &str) -> Result<Option<Lease>> {
        self.claims.take(key)
    }

    /// How long to wait at most until a cell that another process has in hand is looked at again: until its claim should have
    /// been renewed.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.pace.renewed() / 2
    }

    /// Lists the cells, and not again while `ask` asks for many of them.
    pub(crate) fn at_once<T>(&self, ask: impl FnOnce() -> T) -> T {
        let still = |is_still| self.listed.borrow_mut().is_still = is_still;
        self.listed.borrow_mut().renew(&self.root.join("cells"));
        still(true);
        let answer = ask();
        still(false);
        answer
    }

    /// Whether a process has a cell in hand.
    pub(crate) fn is_claimed(&self, key: &str) -> bool {
        self.claims.is_held(key).unwrap_or(false)
    }

    /// The cells that processes have in hand, by their keys.
    ///
    /// # Errors
    /// The claims cannot be read.
    pub fn in_hand(&self) -> Result<Vec<Standing>> {
        if !self.root.join(CLAIMS).is_dir() {
            return Ok(Vec::new());
        }
        Ok(self.claims.standing()?.into_iter().filter(|claim| is_key(&claim.name)).collect())
    }

    /// Takes the tables and figures, and clears away what a stopped process left of the folder's own files. Waits for another
    /// process that is at them, and calls `waiting` before.
    pub fn claim_figures(&self, waiting: impl FnOnce()) -> Result<Lease> {
        let claim = match self.claim(FIGURES)? {
            Some(claim) => claim,
            None => {
                waiting();
                self.wait_for(FIGURES)?
            }
        };
        let _list = self.claim_list()?; // nobody writes in the folder itself now
        for name in names(&self.root)?.iter().filter(|name| is_partial(name)) {
            std::fs::remove_file(self.root.join(name)).ok(); // it is only in the way
        }
        Ok(claim)
    }

    /// Takes the list of the cells and how they are computed. They are written in an instant, so a process that starts never
    /// waits for one that draws.
    pub(crate) fn claim_list(&self) -> Result<Lease> {
        self.wait_for(LIST)
    }

    /// Takes what is no cell, as soon as no other process has it.
    fn wait_for(&self, name: &str) -> Result<Lease> {
        loop {
            match self.claim(name)? {
                Some(claim) => return Ok(claim),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Keeps how cells are computed, unless it is kept already.
    ///
    /// # Errors
    /// Another process has kept something else meanwhile, or the file cannot be written.
    pub(crate) fn keep_computing(&self, computing: &Computing) -> Result<()> {
        if Computing::of_store(&self.root)?.as_ref() == Some(computing) {
            return Ok(()); // which many processes find that start at once
        }
        let _claim = self.claim_list()?;
        computing.keep(&self.root)
    }

    /// Keeps the list of a sweep's cells. One that is there already must have the same cells, unless it `may_change`.
    ///
    /// # Errors
    /// The list that is there has other cells, or the file cannot be read or written.
    pub(crate) fn keep_list(&self, list: &List, may_change: bool) -> Result<()> {
        if list.is_in(&self.root) {
            return Ok(()); // which many processes find that start at once
        }
        let _claim = self.claim_list()?;
        if !may_change {
            list.check(&self.root)?;
        }
        list.write(&self.root)
    }

    /// Why a cell could not be made, if that was tried.
    pub fn failure(&self, key: &str) -> Option<String> {
        self.noted(key).map(|(_, error)| error)
    }

    /// What the legend calls a cell that could not be made, and why it could not. Without a label it is called by its key.
    pub(crate) fn noted(&self, key: &str) -> Option<(String, String)> {
        let about: Value = serde_json::from_str(&read_text(&self.failed(key)).ok()?).ok()?;
        let label = about["label"].as_str().unwrap_or(key);
        Some((label.to_string(), about["error"].as_str()?.to_string()))
    }

    /// What is wrong with the folder of a cell, if there is one: a file is missing, damaged, or of another cell.
    pub fn fault(&self, key: &str) -> Option<String> {
        let mut listed = self.listed.borrow_mut();
        let fault = listed.checked(&self.root.join("cells"), key)?.err()?;
        let folder = &listed.cells.get(key)?.0;
        let place = match &fault {
            Fault::Swapped { key, .. } => listed.cells.get(key).map(|(place, _)| place.as_path()),
            Fault::Damaged(_) | Fault::Changed(_) => None,
        };
        Some(fault.said(folder, place))
    }

    /// The folders of all cells by their keys, as their names say; nothing in them is read.
    ///
    /// # Errors
    /// The folder of the cells cannot be read.
    pub(crate) fn folders(&self) -> Result<HashMap<String, PathBuf>> {
        let cells = self.root.join("cells");
        Ok(names(&cells)?.iter().filter_map(|name| Some((key_of(name)?.to_string(), cells.join(name)))).collect())
    }

    /// The keys of the cells that could not be made.
    ///
    /// # Errors
    /// The folder of the failures cannot be read.
    pub(crate) fn failures(&self) -> Result<HashSet<String>> {
        let folder = self.root.join("failed");
        let names = if folder.is_dir() { names(&folder)? } else { Vec::new() };
        Ok(names
            .iter()
            .filter_map(|name| name.strip_suffix(".json"))
            .filter(|key| is_key(key))
            .map(str::to_string)
            .collect())
    }

    /// Removes the folder of a cell, unless it is gone. The caller has claimed the cell.
    pub(crate) fn remove(&self, key: &str, place: &Path, _: &Lease) -> Result<()> {
        self.listed.borrow_mut().cells.remove(key);
        if place.is_dir() { self.clear_away(key, place) } else { Ok(()) }
    }

    /// Removes the folder of a cell with which something is wrong. The caller has claimed the cell.
    pub(crate) fn discard(&self, key: &str, _: &Lease) -> Result<()> {
        let cells = self.root.join("cells");
        let mut listed = self.listed.borrow_mut();
        if let Some((_, checked)) = listed.cells.get_mut(key) {
            *checked = None; // another process may have made it again
        }
        if !matches!(listed.checked(&cells, key), Some(Err(_))) {
            return Ok(());
        }
        let Some((place, _)) = listed.cells.remove(key) else { return Ok(()) };
        self.clear_away(key, &place)
    }

    /// Removes the folder of a cell, under a name by which a kill leaves nothing that looks like a cell.
    fn clear_away(&self, key: &str, place: &Path) -> Result<()> {
        let unfinished = self.root.join("cells").join(format!("{UNFINISHED}{key}-discarded"));
        let moved = std::fs::rename(place, &unfinished).and_then(|()| std::fs::remove_dir_all(&unfinished));
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

    /// From now on checks the files of these cells by their hashes too: each is read once.
    pub(crate) fn read_all_of<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let mut listed = self.listed.borrow_mut();
        for key in keys {
            listed.by_hashes.insert(key.into());
            if let Some((_, checked)) = listed.cells.get_mut(key) {
                *checked = None;
            }
        }
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
    /// its way, its numbers, all its settings, and the hashes of all this. Returns nothing if the claim was lost meanwhile: the
    /// cell is another process's then, and is not kept.
    ///
    /// # Errors
    /// A frame is not finite or does not fit into memory, or a file cannot be written.
    pub(crate) fn put(
        &self,
        (folder, claim): (TempDir, &Lease),
        (key, label): (&str, &str),
        model: &Model,
        recorded: &Recorded,
        observer: &dyn Observer,
    ) -> Result<Option<RunFolder>> {
        let run = RunFolder::new(folder.path());
        let frames = Frames::decode(&recorded.trace, model, &about_eight(recorded.trace.complete()), observer)?;
        let about = Provenance::of(recorded, key);
        draw_previews(&run, recorded, &about, &frames)?;
        run.keep(recorded, &about, Some(&frames))?;
        manifest::write(folder.path())?;
        self.publish(folder, claim, key, format!("{}{key}", slug(label)).as_ref())
    }

    /// Gives a whole cell its name, unless the claim was lost meanwhile.
    pub(crate) fn publish(&self, folder: TempDir, claim: &Lease, key: &str, name: &Path) -> Result<Option<RunFolder>> {
        if !claim.holds() {
            return Ok(None);
        }
        let place = self.root.join("cells").join(name);
        match std::fs::rename(folder.path(), &place) {
            Ok(()) => _ = folder.keep(),   // it has another name now, and is not to be cleared away
            Err(_) if place.is_dir() => {} // another process was first with the same pixels
            Err(error) => return Err(error).with_context(|| place.display().to_string()),
        }
        open_to_others(&place);
        self.listed.borrow_mut().cells.insert(key.into(), (place.clone(), Some(Ok(()))));
        Ok(Some(RunFolder::new(&place)))
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

/// The file in which a store keeps how its cells are computed.
pub(crate) fn computing_file(root: &Path) -> PathBuf {
    root.join(Computing::FILE)
}

/// The folder of the claims.
const CLAIMS: &str = "claims";

/// Stands for the tables and figures among the claims, where most names are cells' keys.
const FIGURES: &str = "figures";

/// Stands for the list of the cells, and how they are computed, among the claims.
const LIST: &str = "list";

/// What is no cell among the claims.
const OWN: [&str; 2] = [FIGURES, LIST];

/// Begins the name of a folder that is being written; the cell's key comes next.
const UNFINISHED: &str = ".unfinished-";

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
    fn what_others_put_among_the_cells_is_no_cell() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let at = |name: &str| folder.path().join("cells").join(name);
        for name in ["notes", "seed-1", "seed-1-0123456789abcde", ".unfinished-0123456789abcdef"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in [".DS_Store", "readme.txt"] {
            std::fs::write(at(name), "").unwrap();
        }
        assert!(store.folders().unwrap().is_empty());
        let key = format!("{:016x}", 7);
        make(&at(&key), &key);
        make(&at("seed-8-0000000000000008"), "0000000000000008");
        let folders = store.folders().unwrap();
        assert_eq!((folders.len(), &folders[&key]), (2, &at(&key)));
    }

    #[test]
    fn many_cells_are_asked_for_with_one_listing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let keys = [7, 8].map(|key| format!("{key:016x}"));
        let made = |key: &String| make(&folder.path().join("cells").join(key), key);
        made(&keys[0]);
        store.at_once(|| {
            assert!(store.done(&keys[0]).is_some());
            made(&keys[1]);
            assert!(store.done(&keys[1]).is_none(), "it is made after the listing");
        });
        assert!(store.done(&keys[1]).is_some());
    }

    #[test]
    fn a_file_that_is_not_as_it_was_written_is_found_where_all_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let keys = [7, 8, 9].map(|key| format!("{key:016x}"));
        let at = |key: &String| folder.path().join("cells").join(key);
        for key in &keys {
            make(&at(key), key);
            std::fs::write(at(key).join("trace/b"), "as written").unwrap();
        }
        keys[..2].iter().for_each(|key| manifest::write(&at(key)).unwrap()); // an earlier version made the third
        std::fs::write(at(&keys[1]).join("trace/b"), "otherwise").unwrap();
        assert!(keys.iter().all(|key| store.done(key).is_some()));
        store.read_all_of(keys.iter().map(String::as_str));
        assert_eq!([0, 1, 2].map(|index: usize| store.done(&keys[index]).is_some()), [true, false, true]);
        let said = store.fault(&keys[1]).unwrap();
        assert!(said.ends_with(&format!("{}: not as it was written: trace/b", keys[1])), "{said}");
        for key in &keys {
            store.discard(key, &store.claim(key).unwrap().unwrap()).unwrap();
        }
        assert_eq!([0, 1, 2].map(|index: usize| at(&keys[index]).is_dir()), [true, false, true]);
    }

    #[test]
    fn the_list_is_kept_while_another_process_draws() {
        let folder = tempfile::tempdir().unwrap();
        let drawing = Store::open(folder.path()).unwrap().claim_figures(|| ()).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let root = folder.path().to_path_buf();
        std::thread::spawn(move || {
            let store = Store::open(&root).unwrap();
            store.keep_computing(&Computing::here()).unwrap();
            store.keep_list(&List { name: "x".into(), ..List::default() }, false).unwrap();
            sender.send(()).ok()
        });
        assert!(receiver.recv_timeout(Duration::from_secs(60)).is_ok(), "it waits for the figures");
        assert!(drawing.holds() && List::read(folder.path()).unwrap().is_some());
    }

    #[test]
    fn what_a_stopped_process_left_is_cleared_away_when_nobody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let partial = folder.path().join(".partial-x");
        std::fs::write(&partial, "").unwrap();
        let writing = store.claim_list().unwrap();
        let root = folder.path().to_path_buf();
        let drawing = std::thread::spawn(move || Store::look(&root).unwrap().claim_figures(|| ()).unwrap().holds());
        while !store.is_claimed(FIGURES) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(partial.exists(), "it may be the list");
        drop(writing);
        assert!(drawing.join().unwrap() && !partial.exists());
    }

    #[test]
    fn claims_of_processes_that_ended_are_removed_also_those_of_no_cell() {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path()).unwrap();
        let mut holder = serde_json::to_value(crate::lease::Holder::this()).unwrap();
        holder["began"] = 1.into();
        let at = |name: &str| folder.path().join("claims").join(format!("{name}.1"));
        let names = [FIGURES, LIST, "0000000000000007", "notes"];
        let text = json!({ "holder": holder, "serial": 0 }).to_string();
        names.iter().for_each(|name| std::fs::write(at(name), &text).unwrap());
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(names.map(|name| at(name).exists()), [false, false, false, true]);
        assert!(store.in_hand().unwrap().is_empty());
    }

    #[test]
    fn a_claim_follows_no_link_and_says_what_is_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (claims, precious) = (folder.path().join("claims"), folder.path().join("precious.txt"));
        let key = format!("{:016x}", 7);
        std::fs::write(&precious, "mine").unwrap();
        std::fs::write(claims.join("notes.txt"), "mine").unwrap();
        std::os::unix::fs::symlink(&precious, claims.join(format!("{key}.1"))).unwrap();
        let said = |result: Result<()>| format!("{:#}", result.unwrap_err());
        let refused = said(store.claim(&key).map(drop));
        assert!(
            refused.contains(&format!("{key}.1: cannot be the claim of a cell: not a plain file\nhint: ")),
            "{refused}"
        );
        Store::open(folder.path()).unwrap(); // which only this cell's maker is told of
        assert!(store.in_hand().unwrap().is_empty() && store.claim(&format!("{:016x}", 8)).unwrap().is_some());
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
        std::fs::remove_file(claims.join(format!("{key}.1"))).unwrap();
        std::fs::create_dir(claims.join(format!("{key}.1"))).unwrap();
        let refused = said(store.claim(&key).map(drop));
        assert!(refused.contains("a folder, not a file"), "{refused}");
        std::fs::remove_dir(claims.join(format!("{key}.1"))).unwrap();
        let claim = store.claim(&key).unwrap().unwrap();
        assert!(store.is_claimed(&key) && store.claim(&key).unwrap().is_none());
        drop(claim);
        assert!(!store.is_claimed(&key) && claims.join("notes.txt").is_file());
    }
}
