//! The lock of one file of a model, the same that Python's `huggingface_hub` takes: while one process downloads the
//! file, the others wait.

use crate::{Error, Result};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Holds the lock until it is dropped, or until the process ends in any way.
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock at a path; calls `waiting` once if another process has it. `None` where the file system has no locks:
/// then each process must write to a file of its own.
pub(crate) fn take(path: &Path, waiting: &mut dyn FnMut()) -> Result<Option<Lock>> {
    let mut told = false;
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::writing(path))?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    waiting();
                }
                file.lock()
            }
            Err(TryLockError::Error(cause)) => Err(cause),
            Ok(()) => Ok(()),
        };
        match locked {
            Ok(()) if is_at(&file, path) => return Ok(Some(Lock { _file: file })),
            // Whoever had the lock has deleted its file, as some versions of Python's do: what was locked is no longer
            // what others find at the path.
            Ok(()) => continue,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
            Err(cause) if has_no_locks(&cause) => return Ok(None),
            Err(cause) => return Err(Error::writing(path)(cause)),
        }
    }
}

fn has_no_locks(cause: &std::io::Error) -> bool {
    let no_service = rustix::io::Errno::NOLCK.raw_os_error(); // NFS without its lock service
    cause.kind() == ErrorKind::Unsupported || cause.raw_os_error() == Some(no_service)
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |about: std::fs::Metadata| (about.dev(), about.ino());
    match (file.metadata(), path.metadata()) {
        (Ok(ours), Ok(theirs)) => identity(ours) == identity(theirs),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_second_waits_until_the_first_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let first = take(&path, &mut || panic!("nobody has it")).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| take(&path, &mut || tell.send(()).unwrap()).unwrap().is_some());
            told.recv_timeout(Duration::from_secs(60)).expect("the second says that it waits");
            assert!(!second.is_finished());
            drop(first);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn a_lock_whose_file_was_deleted_meanwhile_is_taken_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let first = take(&path, &mut || ()).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| take(&path, &mut || tell.send(()).unwrap()).unwrap());
            told.recv_timeout(Duration::from_secs(60)).expect("the second says that it waits");
            std::fs::remove_file(&path).unwrap();
            drop(first);
            let second = second.join().unwrap().expect("a lock");
            assert!(is_at(&second._file, &path), "others would find it taken");
        });
    }
}
