//! How far a sweep is, read from its store alone: no model is opened, and no process is asked.

use crate::lease::Holder;
use crate::list::{List, Listed};
use crate::store::Store;
use anyhow::{Context, Result};
use latentrace_files::read_text;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How far a sweep is.
#[derive(Debug)]
pub struct Status {
    /// The name of the experiment.
    pub name: String,
    /// How many cells there are, with references.
    pub cells: usize,
    /// How many are done.
    pub done: usize,
    /// Those that a process has in hand.
    pub running: Vec<Running>,
    /// Those that could not be made: what the legend calls them, their keys, and why.
    pub failed: Vec<(Listed, String)>,
    /// Those that nobody has begun, or whose process was lost.
    pub left: Vec<Listed>,
    /// When the rest may be done, if processes go on as now, and if cells take as long as those that are done.
    pub eta: Option<Duration>,
}

/// A cell that a process has in hand.
#[derive(Clone, Debug)]
pub struct Running {
    /// The cell.
    pub cell: Listed,
    /// The process.
    pub holder: Holder,
    /// Since when, if the file system says it.
    pub since: Option<SystemTime>,
}

/// From so many of the last cells the time of the others is estimated.
const LAST: usize = 50;

impl Status {
    /// The status of the sweep in a store.
    ///
    /// # Errors
    /// There is no store in the folder, or no sweep has been begun in it by this version.
    pub fn of(root: &Path) -> Result<Status> {
        Store::look(root)?; // a folder that is no store is said to be none
        let list = List::read(root)?.with_context(|| {
            format!("{}: no list of cells in this store\nhint: `latentrace run` or `submit` writes it", root.display())
        })?;
        Status::of_list(root, list)
    }

    /// The status of the cells of a list in a store. A cell is done if there is a folder of it; its files are not read.
    ///
    /// # Errors
    /// There is no store in the folder.
    pub fn of_list(root: &Path, list: List) -> Result<Status> {
        Status::counted(&Store::look(root)?, list, &|_| true)
    }

    /// The status of the cells of a list in a store, where a cell with a missing, damaged or foreign file is not done: it is to
    /// be made again.
    ///
    /// # Errors
    /// There is no store in the folder.
    pub fn of_sound(root: &Path, list: List) -> Result<Status> {
        let store = Store::look(root)?;
        store.at_once(|| Status::counted(&store, list, &|key| store.done(key).is_some()))
    }

    /// The status of the cells of a list. Those in a folder are done if `is_sound` says so of their key.
    fn counted(store: &Store, list: List, is_sound: &dyn Fn(&str) -> bool) -> Result<Status> {
        let folders = store.folders()?;
        let in_hand: HashMap<String, Running> = store
            .in_hand()?
            .into_iter()
            .map(|claim| {
                let cell = Listed { key: claim.name.clone(), also: Vec::new(), label: String::new() };
                (claim.name, Running { cell, holder: claim.holder, since: claim.since })
            })
            .collect();
        let failures: HashSet<String> = store.failures()?;
        let List { name, cells, .. } = list;
        let mut status = Status {
            name,
            cells: cells.len(),
            done: 0,
            running: Vec::new(),
            failed: Vec::new(),
            left: Vec::new(),
            eta: None,
        };
        for cell in cells {
            let running = cell.keys().find_map(|key| in_hand.get(key)).cloned();
            let error = cell.keys().filter(|key| failures.contains(*key)).find_map(|key| store.failure(key));
            match (running, error) {
                _ if cell.keys().any(|key| folders.contains_key(key) && is_sound(key)) => status.done += 1,
                (Some(running), _) => status.running.push(Running { cell, ..running }),
                (None, Some(error)) => status.failed.push((cell, error)),
                (None, None) => status.left.push(cell),
            }
        }
        status.eta = eta(&status, folders.values().map(|path| path.as_path()));
        Ok(status)
    }

    /// The cells that are to be made: those that nobody has in hand, with those that failed.
    pub fn to_do(&self) -> impl Iterator<Item = &Listed> {
        self.failed.iter().map(|(cell, _)| cell).chain(&self.left)
    }
}

/// How long the rest may take.
fn eta<'a>(status: &Status, folders: impl Iterator<Item = &'a Path>) -> Option<Duration> {
    let processes: HashSet<(&str, u32)> =
        status.running.iter().map(|running| (running.holder.host.as_str(), running.holder.pid)).collect();
    let mut by_time: Vec<(SystemTime, &Path)> =
        folders.filter_map(|path| Some((std::fs::metadata(path).ok()?.modified().ok()?, path))).collect();
    by_time.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let seconds: Vec<f64> = by_time.iter().take(LAST).filter_map(|(_, path)| seconds(path)).collect();
    let left = status.left.len() + status.running.len();
    if left == 0 || seconds.is_empty() || processes.is_empty() {
        return None;
    }
    let each = seconds.iter().sum::<f64>() / seconds.len() as f64;
    Duration::try_from_secs_f64(each * left as f64 / processes.len() as f64).ok()
}

/// How long a cell took.
fn seconds(folder: &Path) -> Option<f64> {
    let about: Value = serde_json::from_str(&read_text(&folder.join("cell.json")).ok()?).ok()?;
    about["seconds"].as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(index: usize) -> String {
        format!("{index:016x}")
    }

    /// A store with a list of so many cells, of which the first `done` are done.
    fn store(cells: usize, done: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path()).unwrap();
        let listed =
            |index| Listed { key: key(index), also: vec![key(index + 1_000_000)], label: format!("seed {index}") };
        let cells = (0..cells).map(listed).collect();
        List { name: "x".into(), cells, ..List::default() }.write(folder.path()).unwrap();
        for index in 0..done {
            let place = folder.path().join(format!("cells/seed-{index}-{}", key(index)));
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("cell.json"), json!({ "seconds": 2.0 }).to_string()).unwrap();
        }
        folder
    }

    #[test]
    fn every_cell_is_in_one_state() {
        let folder = store(10, 3);
        let fail = |index| {
            let file = folder.path().join(format!("failed/{}.json", key(index)));
            std::fs::write(file, json!({ "error": "no number" }).to_string()).unwrap();
        };
        fail(3);
        fail(0); // and was made by a later try
        std::fs::create_dir(folder.path().join(format!("cells/seed-4-{}", key(1_000_004)))).unwrap();
        std::fs::create_dir(folder.path().join(format!("cells/.unfinished-{}-abc", key(5)))).unwrap();
        let store = Store::look(folder.path()).unwrap();
        let claims = [store.claim(&key(6)).unwrap(), store.claim(&key(7)).unwrap()];
        let status = Status::of(folder.path()).unwrap();
        assert_eq!(
            (status.cells, status.done, status.running.len(), status.failed.len(), status.left.len()),
            (10, 4, 2, 1, 3)
        );
        assert_eq!((status.running[0].cell.label.as_str(), &status.running[0].holder), ("seed 6", Holder::this()));
        assert_eq!((status.failed[0].0.label.as_str(), status.failed[0].1.as_str()), ("seed 3", "no number"));
        assert_eq!(status.eta, Some(Duration::from_secs(10)), "five of 2 s, by one process");
        assert_eq!(status.to_do().count(), 4);
        let list = List::read(folder.path()).unwrap().unwrap();
        assert_eq!(Status::of_sound(folder.path(), list).unwrap().done, 0, "no folder has the files of a cell");
        drop(claims);
        assert_eq!(Status::of(folder.path()).unwrap().left.len(), 5);
    }

    #[test]
    fn a_folder_without_a_list_says_what_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let said = |folder: &Path| format!("{:#}", Status::of(folder).unwrap_err());
        assert!(said(folder.path()).contains("no store"));
        Store::open(folder.path()).unwrap();
        assert!(said(folder.path()).contains("hint: `latentrace run` or `submit` writes it"));
    }
}
