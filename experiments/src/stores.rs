//! Whole stores: merged, checked, and cleared of what nobody wants.

use crate::lease::Lease;
use crate::manifest::MANIFEST;
use crate::sound::{self, Fault};
use crate::store::{Store, computing_file};
use anyhow::{Context, Result, bail};
use latentrace_files::{read_text, sync_all};
use latentrace_runs::RunFolder;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What a merge came to.
#[derive(Debug, Default)]
pub struct Merged {
    /// How many cells were copied.
    pub copied: usize,
    /// How many were there already.
    pub known: usize,
    /// Cells that were not copied because a file of them is damaged or gone, each with what is wrong.
    pub damaged: Vec<(PathBuf, String)>,
    /// Cells that were not copied because a process is making them in the other store.
    pub in_hand: Vec<PathBuf>,
}

/// Copies the cells of stores into another one, which is made if it is not there. A cell that is there already is not copied,
/// so a merge that was stopped goes on. Every copy is checked by its hashes before it has its name, and only then takes the place of a
/// damaged cell. A cell that a process is making in the other store is left to it.
///
/// # Errors
/// A folder is no store, its cells were computed otherwise than those of another, or a file cannot be written.
pub fn merge(from: &[PathBuf], into: &Path, tell: &dyn Fn(&Path)) -> Result<Merged> {
    let sources = from.iter().map(|root| Ok((root, Store::look(root)?))).collect::<Result<Vec<_>>>()?;
    check_computing(from, into)?;
    let target = Store::open(into)?;
    adopt_computing(from, into, &target)?;
    let mut merged = Merged::default();
    for (root, source) in sources {
        if is_same(root, into) {
            merged.known += source.folders()?.len(); // as in `merge a b --into a`
            continue;
        }
        let mut folders: Vec<(String, PathBuf)> = source.folders()?.into_iter().collect();
        folders.sort_by(|a, b| a.1.cmp(&b.1));
        let is_new = |(key, _): &(String, PathBuf)| target.done(key).is_none();
        let all = folders.len();
        target.at_once(|| folders.retain(is_new));
        merged.known += all - folders.len();
        for (key, folder) in folders {
            let Some(claim) = target.claim(&key)? else {
                merged.in_hand.push(folder);
                continue;
            };
            tell(&folder);
            match copied(&target, &key, &folder, &claim)? {
                None => merged.copied += 1,
                Some(damage) => merged.damaged.push((folder, damage)),
            }
        }
    }
    Ok(merged)
}

/// Whether two paths lead to one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    std::fs::canonicalize(one).is_ok_and(|one| std::fs::canonicalize(other).is_ok_and(|other| one == other))
}

/// Copies a cell. Returns what is wrong with it, if something is; then it is not kept.
fn copied(target: &Store, key: &str, folder: &Path, claim: &Lease) -> Result<Option<String>> {
    let copy = target.begin(key)?;
    copy_all(folder, copy.path())?;
    if let Some(damage) = damage(&RunFolder::new(copy.path()), key) {
        return Ok(Some(damage));
    }
    sync_all(copy.path())?;
    target.discard(key, claim)?; // what is there is damaged, and the copy is not
    let name = folder.file_name().with_context(|| folder.display().to_string())?;
    target.publish(copy, claim, key, name.as_ref()).map(|_| None)
}

/// What is wrong with the files of a cell, if something is.
fn damage(run: &RunFolder, key: &str) -> Option<String> {
    match sound::check_all(run, key).err()? {
        Fault::Changed(found) => Some(found.to_string()), // whoever asks names the folder
        other => Some(other.said(run.path(), None)),
    }
}

/// Copies the files of a folder, and of the folders in it.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let entries = std::fs::read_dir(from).with_context(|| from.display().to_string())?;
    for entry in entries {
        let path = entry.with_context(|| from.display().to_string())?.path();
        let place = to.join(path.file_name().unwrap_or_default());
        let about = std::fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        if about.is_dir() {
            std::fs::create_dir(&place).with_context(|| place.display().to_string())?;
            copy_all(&path, &place)?;
        } else if about.is_file() {
            std::fs::copy(&path, &place).with_context(|| format!("{} to {}", path.display(), place.display()))?;
        } else {
            bail!(
                "{}: a link or no plain file, which is not copied\nhint: replace it by the file itself",
                path.display()
            );
        }
    }
    Ok(())
}

/// Checks that all stores compute alike: with other threads or kernels cells have other keys, and a sweep of the merged store
/// would not find them.
fn check_computing(from: &[PathBuf], into: &Path) -> Result<()> {
    let mut first: Option<(PathBuf, String)> = None;
    for root in from.iter().map(PathBuf::as_path).chain([into]) {
        let file = computing_file(root);
        if !file.exists() {
            continue;
        }
        let text = read_text(&file)?;
        match &first {
            None => first = Some((file, text)),
            Some((_, known)) if *known == text => {}
            Some((known, _)) => bail!(
                "{} and {} differ: cells that were computed on other threads or by other kernels have other keys\nhint: merge \
                 them into folders of their own, or make the cells again in a folder with one computing.json",
                known.display(),
                file.display()
            ),
        }
    }
    Ok(())
}

/// Gives a new store the choice of those that are merged into it.
fn adopt_computing(from: &[PathBuf], into: &Path, target: &Store) -> Result<()> {
    let _claim = target.claim_list()?;
    let place = computing_file(into);
    if let Some(file) = from.iter().map(|root| computing_file(root)).find(|file| file.exists())
        && !place.exists()
    {
        latentrace_files::replace(&place, read_text(&file)?.as_bytes())?;
    }
    Ok(())
}

/// What a check of all cells of a store found.
#[derive(Debug, Default)]
pub struct Health {
    /// How many cells are as they were written.
    pub sound: usize,
    /// How many have no hashes, because an earlier version made them; their files were read.
    pub without_hashes: usize,
    /// Cells of which a file is damaged, gone, or of another cell, each with what is wrong.
    pub damaged: Vec<(PathBuf, String)>,
}

/// Reads all files of all cells of a store and compares them with their hashes.
///
/// # Errors
/// The folder is no store, or a file cannot be read.
pub fn verify(root: &Path) -> Result<Health> {
    let mut health = Health::default();
    let mut folders: Vec<(String, PathBuf)> = Store::look(root)?.folders()?.into_iter().collect();
    folders.sort_by(|a, b| a.1.cmp(&b.1));
    for (key, folder) in folders {
        match damage(&RunFolder::new(&folder), &key) {
            None if folder.join(MANIFEST).exists() => health.sound += 1,
            None => health.without_hashes += 1,
            Some(damage) => health.damaged.push((folder, damage)),
        }
    }
    Ok(health)
}

/// What is removed from a store.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Cells that none of the experiments has.
    pub cells: Vec<PathBuf>,
    /// Notes of cells that could not be made.
    pub failures: Vec<PathBuf>,
    /// How many cells stay.
    pub kept: usize,
}

/// Removes the cells whose keys are not among `wanted`, if that is given, and the notes of cells that could not be made. What a
/// stopped process left is removed too. With `is_dry` nothing is removed.
///
/// # Errors
/// The folder is no store, something cannot be removed, or cells are to be removed where a process is making others: it may count
/// on them.
pub fn prune(root: &Path, wanted: Option<&HashSet<String>>, is_dry: bool) -> Result<Pruned> {
    let store = if is_dry { Store::look(root)? } else { Store::look(root).and_then(|_| Store::open(root))? };
    let unwanted = |key: &String| wanted.is_some_and(|wanted| !wanted.contains(key));
    let (mut folders, kept): (Vec<(String, PathBuf)>, Vec<_>) =
        store.folders()?.into_iter().partition(|(key, _)| unwanted(key));
    folders.sort_by(|a, b| a.1.cmp(&b.1));
    if !is_dry && !folders.is_empty() {
        check_idle(root, &store)?;
    }
    let mut pruned = Pruned { kept: kept.len(), ..Pruned::default() };
    for (key, folder) in folders {
        if is_dry {
            pruned.cells.push(folder);
        } else if let Some(claim) = store.claim(&key)? {
            store.remove(&key, &folder, &claim)?;
            pruned.cells.push(folder);
        }
    }
    for key in store.failures()? {
        if !is_dry {
            store.forgive(&key);
        }
        pruned.failures.push(root.join("failed").join(format!("{key}.json")));
    }
    pruned.failures.sort();
    Ok(pruned)
}

/// Checks that no process is making cells in a store.
fn check_idle(root: &Path, store: &Store) -> Result<()> {
    let Some(claim) = store.in_hand()?.into_iter().next() else { return Ok(()) };
    bail!(
        "{}: {} is making cells in this folder, and may count on those that would be removed\nhint: prune when it has ended; \
         --dry-run says what would be removed",
        root.display(),
        claim.holder
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with folders of cells, which have no files.
    fn store(keys: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        Store::open(folder.path()).unwrap();
        keys.iter().for_each(|key| std::fs::create_dir(folder.path().join("cells").join(key)).unwrap());
        folder
    }

    #[test]
    fn cells_are_removed_only_where_no_process_is_at_work() {
        let keys = ["0000000000000001", "0000000000000002", "0000000000000003"];
        let folder = store(&keys);
        let wanted = HashSet::from([keys[0].to_string()]);
        let claims = Store::look(folder.path()).unwrap();
        let claim = claims.claim("00000000000000ff").unwrap();
        let error = format!("{:#}", prune(folder.path(), Some(&wanted), false).unwrap_err());
        assert!(error.contains("is making cells in this folder") && error.contains("hint: prune when"), "{error}");
        let planned = prune(folder.path(), Some(&wanted), true).unwrap();
        assert_eq!((planned.cells.len(), planned.kept), (2, 1));
        prune(folder.path(), None, false).unwrap();
        drop(claim);
        assert_eq!(prune(folder.path(), Some(&wanted), false).unwrap().cells.len(), 2);
        assert!(folder.path().join("cells").join(keys[0]).is_dir());
    }

    #[test]
    fn a_merge_leaves_out_what_is_in_hand_and_goes_on() {
        let (from, into) = (store(&["0000000000000001", "0000000000000002"]), store(&[]));
        let target = Store::look(into.path()).unwrap();
        let claim = target.claim("0000000000000001").unwrap();
        let merged = merge(&[from.path().to_path_buf()], into.path(), &|_| ()).unwrap();
        drop(claim);
        assert_eq!(merged.in_hand, [from.path().join("cells/0000000000000001")]);
        assert_eq!(merged.damaged.len(), 1, "the other one has no files");
    }
}
