//! A model on the disk.

use crate::digest::Hash;
use crate::listing::Listed;
use crate::names::is_hex;
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a model at one commit, as a folder in the cache. It may lack files of the commit: those that nobody has
/// asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    folder: PathBuf,
    commit: String,
}

impl Snapshot {
    pub(crate) fn new(folder: PathBuf, commit: String) -> Snapshot {
        Snapshot { folder, commit }
    }

    /// The folder, in which the files have the names that they have on the hub.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The commit, 40 hexadecimal digits.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Whether a file is here with its bytes, and not only a link to a blob that has been deleted.
    pub fn has(&self, name: &str) -> bool {
        crate::names::path(name).is_ok() && self.folder.join(name).is_file()
    }

    /// The files that are here, sorted by name, as the hub would list them. A file that is not a link to a blob is left
    /// out, because its hash is not known.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn files(&self) -> Result<Vec<Listed>> {
        let mut files = Vec::new();
        self.collect("", &mut files)?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn collect(&self, below: &str, files: &mut Vec<Listed>) -> Result<()> {
        let folder = self.folder.join(below);
        for entry in fs::read_dir(&folder).map_err(Error::reading(&folder))? {
            let entry = entry.map_err(Error::reading(&folder))?;
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            let is_folder = entry.file_type().map_err(Error::reading(&entry.path()))?.is_dir();
            if is_folder {
                self.collect(&format!("{name}/"), files)?;
            } else if let (Some(hash), Ok(about)) = (hash_of(&entry.path()), entry.path().metadata()) {
                files.push(Listed { name, bytes: about.len(), hash });
            }
        }
        Ok(())
    }
}

/// The hash of a linked file, which is the name of its blob.
fn hash_of(link: &Path) -> Option<Hash> {
    let target = fs::read_link(link).ok()?;
    let etag = target.file_name()?.to_str()?.to_owned();
    match etag.len() {
        64 if is_hex(&etag, 64) => Some(Hash::Sha256(etag)),
        40 if is_hex(&etag, 40) => Some(Hash::Git(etag)),
        _ => None,
    }
}
