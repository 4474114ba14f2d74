//! The folders of the cells of a store, as they were last listed.

use super::UNFINISHED;
use crate::sound::{self, Fault};
use anyhow::{Context, Result};
use latentrace_runs::RunFolder;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The cells' folder as it was listed.
#[derive(Default)]
pub(super) struct Listed {
    /// The folder's own time then; nothing where it had only just changed, and may change again without another time.
    at: Option<SystemTime>,
    /// Whether it is not to be listed again for now.
    pub(super) is_still: bool,
    /// Each cell's folder by its key, and what is wrong with it, if it has been checked.
    pub(super) cells: HashMap<String, (PathBuf, Option<Result<(), Fault>>)>,
    /// The keys of the cells whose files are checked by their hashes too.
    pub(super) by_hashes: HashSet<String>,
}

impl Listed {
    /// Whether the folder of a cell is as it should be; nothing where there is none.
    pub(super) fn checked(&mut self, folder: &Path, key: &str) -> Option<Result<(), Fault>> {
        if !self.cells.contains_key(key) {
            self.renew(folder);
        }
        let check = if self.by_hashes.contains(key) { sound::check_all } else { sound::check };
        let (path, checked) = self.cells.get_mut(key)?;
        Some(checked.get_or_insert_with(|| check(&RunFolder::new(path), key)).clone())
    }

    /// Lists the cells again, unless nothing has changed since, or nothing is to be listed for now.
    pub(super) fn renew(&mut self, folder: &Path) {
        if self.is_still {
            return;
        }
        let changed = std::fs::metadata(folder).and_then(|about| about.modified()).ok();
        if self.at.is_some() && self.at == changed {
            return;
        }
        let now = SystemTime::now();
        let settled = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age > CLOCK);
        let names = names(folder).unwrap_or_default();
        let with_key = |name: &String| Some((key_of(name)?.to_owned(), (folder.join(name), None)));
        let mut known = std::mem::take(&mut self.cells);
        self.cells = names.iter().filter_map(with_key).collect();
        known.retain(|_, (_, checked)| matches!(checked, Some(Ok(()))));
        for (key, (path, checked)) in &mut self.cells {
            *checked = known.remove(key).filter(|(known, _)| known == path).and_then(|(_, checked)| checked);
        }
        self.at = changed.filter(settled);
    }
}

/// The coarsest clock of a file system that is met: two changes within it may have one time.
const CLOCK: Duration = Duration::from_secs(2);

/// The key in the name of a cell's folder, if it is whole. What has no key in its name was put there by somebody else.
pub(super) fn key_of(name: &str) -> Option<&str> {
    name.rsplit('-').next().filter(|key| is_key(key) && !name.starts_with(UNFINISHED))
}

/// Whether a name is the key of a cell.
pub(super) fn is_key(name: &str) -> bool {
    name.len() == 16 && name.chars().all(|letter| letter.is_ascii_hexdigit())
}

/// The names in a folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten();
    Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
