//! What is in the cache.

use crate::names::is_hex;
use crate::{Error, Id, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedRepo {
    /// The model.
    pub id: Id,
    /// Its folder in the cache.
    pub folder: PathBuf,
    /// The commits whose files are here, sorted by commit.
    pub revisions: Vec<CachedRevision>,
    /// The bytes of all its files on the disk, those of stopped downloads included.
    pub bytes: u64,
}

/// A commit in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedRevision {
    /// The commit.
    pub commit: String,
    /// The branches and tags that were this commit when they were last downloaded, sorted.
    pub names: Vec<String>,
}

/// The models in a cache, sorted. What is no model is left out: datasets, other folders, ids without an owner.
pub(crate) fn list(cache: &Path) -> Result<Vec<CachedRepo>> {
    let mut found = Vec::new();
    for folder in entries(cache)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = name.strip_prefix("models--").and_then(|name| name.split_once("--"));
        let id = id.and_then(|(owner, name)| Id::parse(&format!("{owner}/{name}")).ok());
        if let Some(id) = id.filter(|_| folder.is_dir()) {
            let (revisions, bytes) = (revisions(&folder)?, bytes(&folder)?);
            found.push(CachedRepo { id, folder, revisions, bytes });
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn revisions(folder: &Path) -> Result<Vec<CachedRevision>> {
    let mut commits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for snapshot in entries(&folder.join("snapshots"))? {
        let commit = snapshot.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_hex(&commit, 40) && snapshot.is_dir() {
            commits.insert(commit, Vec::new());
        }
    }
    name(&folder.join("refs"), "", &mut commits)?;
    let sorted = |(commit, mut names): (String, Vec<String>)| {
        names.sort();
        CachedRevision { commit, names }
    };
    Ok(commits.into_iter().map(sorted).collect())
}

/// Adds the names below a folder of refs to their commits.
fn name(folder: &Path, below: &str, commits: &mut BTreeMap<String, Vec<String>>) -> Result<()> {
    for path in entries(folder)? {
        let name = format!("{below}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            self::name(&path, &format!("{name}/"), commits)?;
        } else if let Ok(commit) = fs::read_to_string(&path) {
            // A name whose commit is not here names nothing that can be used.
            commits.entry(commit.trim().to_owned()).and_modify(|names| names.push(name));
        }
    }
    Ok(())
}

/// The bytes of everything below a folder that is a file and not a link to one.
fn bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0u64;
    for path in entries(folder)? {
        match path.symlink_metadata() {
            Ok(about) if about.is_dir() => sum = sum.saturating_add(bytes(&path)?),
            Ok(about) if about.is_file() => sum = sum.saturating_add(about.len()),
            _ => {} // a link, or something that another process has just deleted
        }
    }
    Ok(sum)
}

/// What is in a folder; nothing if there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(cause) => return Err(Error::reading(folder)(cause)),
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(Error::reading(folder))).collect()
}
