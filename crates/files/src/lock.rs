//! Files that processes lock.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Opens a file to be locked, or creates it; `None` if it was removed in between. Its content stays, and a link is not
/// followed.
///
/// # Errors
/// Something else than a plain file has this name, or the file cannot be opened.
pub fn open_lock(path: &Path) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.clone().create_new(true).open(path) {
        Ok(made) => return Ok(Some(made)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => return Err(Error::other("a folder, not a file")),
        Ok(about) if !about.is_file() => return Err(Error::other("not a plain file")), // it may block, or lead outside
        Ok(_) => {}
        Err(_) => return Ok(None),
    }
    match options.open(path) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
