//! How far a sweep is, read from its store alone: no model is opened, and no process is asked.

use crate::glance::{Glance, State};
use crate::lease::{Holder, Standing};
use crate::list::{List, Listed};
use crate::rest::Rest;
use crate::store::Store;
use crate::tally::Counts;
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How far a sweep is.
#[derive(Debug)]
pub struct Status {
    /// The name of the experiment.
    pub name: String,
    /// How many cells there are, with references.
    pub cells: usize,
    /// What is there of them.
    pub there: There,
    /// Those that nobody has begun, or whose process was lost.
    pub left: Vec<Listed>,
    /// How long the rest may take, if processes go on as now.
    pub eta: Option<Duration>,
}

/// What is there of a sweep.
#[derive(Debug, Default)]
pub struct There {
    /// How many cells are done.
    pub done: usize,
    /// Those that a process has in hand.
    pub running: Vec<Running>,
    /// Those that could not be made: what the legend calls them, their keys, and why.
    pub failed: Vec<(Listed, String)>,
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

impl Status {
    /// The status of the sweep in a store. `None` if the store has no list of cells: an earlier version made it, or others were
    /// merged into it. What is there says [`There::of`] then.
    ///
    /// # Errors
    /// There is no store in the folder, or its list cannot be read.
    pub fn of(root: &Path) -> Result<Option<Status>> {
        Store::look(root)?; // a folder that is no store is said to be none
        List::read(root)?.map(|list| Status::of_list(root, list)).transpose()
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
        let glance = Glance::at(store)?;
        let List { name, cells, .. } = list;
        let (all, mut there, mut left) = (cells.len(), There::default(), Vec::new());
        let mut rest = Rest::default();
        for cell in &cells {
            match glance.state(cell, is_sound) {
                State::Done => there.done += 1,
                State::Running(claim) => {
                    rest.add(cell, Some(&claim.holder));
                    there.running.push(Running::of(cell.clone(), claim));
                }
                State::Failed(key) => match store.failure(key) {
                    Some(error) => there.failed.push((cell.clone(), error)),
                    None => left.push(cell), // the note is damaged, or was removed just now
                },
                State::Left => left.push(cell),
            }
        }
        left.iter().for_each(|cell| rest.add(cell, None));
        let eta = rest.time(&cells, &glance.done);
        let left = left.into_iter().cloned().collect();
        Ok(Status { name, cells: all, there, left, eta })
    }

    /// How many cells are in each state.
    pub fn counts(&self) -> Counts {
        let There { done, running, failed } = &self.there;
        Counts { cells: self.cells, done: *done, running: running.len(), failed: failed.len(), left: self.left.len() }
    }

    /// The cells that are to be made: those that nobody has in hand, with those that failed.
    pub fn to_do(&self) -> impl Iterator<Item = &Listed> {
        self.there.failed.iter().map(|(cell, _)| cell).chain(&self.left)
    }
}

impl There {
    /// What is there in a store, whatever the list of its cells says. A cell is called by its key where nothing else is known.
    ///
    /// # Errors
    /// There is no store in the folder, or it cannot be read.
    pub fn of(root: &Path) -> Result<There> {
        let store = Store::look(root)?;
        let Glance { done, in_hand, failed } = Glance::at(&store)?;
        let called = |key: &str, label: String| Listed { key: key.into(), also: Vec::new(), label, evaluations: None };
        let is_new = |key: &&String| !done.contains_key(*key);
        let mut running: Vec<Running> = in_hand
            .iter()
            .filter(|(key, _)| is_new(key))
            .map(|(key, claim)| Running::of(called(key, key.clone()), claim))
            .collect();
        running.sort_by(|a, b| a.cell.key.cmp(&b.cell.key));
        let noted = |key: &String| {
            let (label, error) = store.noted(key)?;
            Some((called(key, label), error))
        };
        let is_ended = |key: &&String| is_new(key) && !in_hand.contains_key(*key);
        let mut failed: Vec<(Listed, String)> = failed.iter().filter(is_ended).filter_map(noted).collect();
        failed.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        Ok(There { done: done.len(), running, failed })
    }
}

impl Running {
    fn of(cell: Listed, claim: &Standing) -> Running {
        Running { cell, holder: claim.holder.clone(), since: claim.since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;
    use serde_json::json;

    fn key(index: usize) -> String {
        format!("{index:016x}")
    }

    /// A store with a list of so many cells, of which the first `done` are done.
    fn store(cells: usize, done: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path()).unwrap();
        let listed = |index| {
            let (also, label) = (vec![key(index + 1_000_000)], format!("seed {index}"));
            Listed { key: key(index), also, label, evaluations: None }
        };
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
        let status = Status::of(folder.path()).unwrap().unwrap();
        let counts = Counts { cells: 10, done: 4, running: 2, failed: 1, left: 3 };
        assert_eq!((status.counts(), Tally::of(folder.path()).unwrap().count().unwrap().0), (counts, counts));
        let There { running, failed, .. } = &status.there;
        assert_eq!((running[0].cell.label.as_str(), &running[0].holder), ("seed 6", Holder::this()));
        assert_eq!((failed[0].0.label.as_str(), failed[0].1.as_str()), ("seed 3", "no number"));
        assert_eq!(status.eta, Some(Duration::from_secs(10)), "five of 2 s, by one process");
        assert_eq!(status.to_do().count(), 4);
        let list = List::read(folder.path()).unwrap().unwrap();
        assert_eq!(Status::of_sound(folder.path(), list).unwrap().there.done, 0, "no folder has the files of a cell");
        drop(claims);
        assert_eq!(Status::of(folder.path()).unwrap().unwrap().left.len(), 5);
    }

    #[test]
    fn a_tally_reads_the_list_once_and_counts_what_is_made_since() {
        let folder = store(3, 1);
        let tally = Tally::of(folder.path()).unwrap();
        std::fs::remove_file(folder.path().join("cells.json")).unwrap();
        let counts = Counts { cells: 3, done: 1, left: 2, ..Counts::default() };
        assert_eq!((tally.name(), tally.count().unwrap()), ("x", (counts, None)));
        std::fs::create_dir(folder.path().join(format!("cells/seed-1-{}", key(1)))).unwrap();
        std::fs::create_dir(folder.path().join(format!("cells/other-{}", key(77)))).unwrap();
        assert_eq!(tally.count().unwrap().0, Counts { done: 2, left: 1, ..counts });
    }

    #[test]
    fn without_a_list_what_is_there_is_counted() {
        let folder = store(3, 2);
        std::fs::remove_file(folder.path().join("cells.json")).unwrap();
        for (index, about) in [(0, json!({ "error": "old" })), (8, json!({ "error": "no number", "label": "seed 8" }))]
        {
            std::fs::write(folder.path().join(format!("failed/{}.json", key(index))), about.to_string()).unwrap();
        }
        let claims = Store::look(folder.path()).unwrap();
        let _held = [claims.claim(&key(1)).unwrap(), claims.claim(&key(7)).unwrap()];
        assert!(Status::of(folder.path()).unwrap().is_none());
        let There { done, running, failed } = There::of(folder.path()).unwrap();
        assert_eq!((done, running.len(), running[0].cell.label.as_str()), (2, 1, key(7).as_str()));
        assert_eq!((failed.len(), failed[0].0.label.as_str(), failed[0].1.as_str()), (1, "seed 8", "no number"));
    }

    #[test]
    fn a_folder_without_a_list_says_what_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let said = |error: anyhow::Error| format!("{error:#}");
        assert!(said(Status::of(folder.path()).unwrap_err()).contains("no store"));
        Store::open(folder.path()).unwrap();
        let refused = Tally::of(folder.path()).map(drop).unwrap_err();
        assert!(said(refused).contains("hint: `latentrace run` or `submit` writes it"));
    }
}
