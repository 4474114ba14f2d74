//! The lock of a trace: only one process at a time may write it.

use crate::error::{Error, Result, file};
use crate::trace::plain;
use latentrace_files::open_lock;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, Metadata, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in a trace that its writer keeps locked and removes at the end. After a kill it is still there, unlocked.
pub(crate) const LOCK: &str = "lock";

/// A process that writes a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The process id.
    pub pid: u32,
    /// The machine it runs on.
    pub host: String,
}

/// A reader takes the lock for an instant, so a writer tries this many times.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// More bytes than the file of an owner has.
const LARGEST: u64 = 4096;

impl Owner {
    /// This process.
    fn this() -> Owner {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
        let host = host.map_or_else(|| "localhost".into(), |host| host.trim().to_string());
        Owner { pid: std::process::id(), host }
    }

    fn read(lock: &File) -> Owner {
        let mut text = String::new();
        let read = lock.take(LARGEST).read_to_string(&mut text).ok();
        read.and_then(|_| serde_json::from_str(&text).ok()).unwrap_or(Owner { pid: 0, host: String::new() })
    }

    /// Whether the process may still be running, for file systems without locks.
    fn is_running(&self) -> bool {
        self.host == Owner::this().host && Path::new("/proc").join(self.pid.to_string()).is_dir()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => f.write_str("a process"), // it has locked the file and not yet written its id
            pid => write!(f, "process {pid} on {}", self.host),
        }
    }
}

/// The process that is writing a trace at this moment. A process that is stopped but not killed counts.
pub(crate) fn live(folder: &Path) -> Option<Owner> {
    let path = folder.join(LOCK);
    plain(&path).ok()?;
    let lock = File::open(&path).ok()?;
    match lock.try_lock_shared() {
        Ok(()) => None,
        Err(TryLockError::WouldBlock) => Some(Owner::read(&lock)),
        Err(TryLockError::Error(_)) => Some(Owner::read(&lock)).filter(Owner::is_running),
    }
}

/// The right to write a trace, until this is dropped.
///
/// It is a lock of the operating system. On a file system without locks there is only the process id in the file;
/// therefore a writer also checks that nothing has changed since it last wrote (see [`crate::Writer`]).
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    lock: File,
}

impl Claim {
    /// Locks a trace, whose folder must exist.
    ///
    /// # Errors
    /// Another process is writing it, or the folder cannot be written.
    pub(crate) fn take(folder: &Path) -> Result<Claim> {
        let path = folder.join(LOCK);
        let mut owner = None;
        for _ in 0..TRIES {
            let opened = open_lock(&path).map_err(|error| file(&path, error))?;
            let Some(lock) = opened else { continue };
            match lock.try_lock() {
                // The previous owner may have ended and removed the file between the two.
                Ok(()) if !is_at(&lock, &path) => continue,
                Ok(()) => return Claim { path, lock }.signed(),
                Err(TryLockError::WouldBlock) => {
                    owner = Some(Owner::read(&lock));
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(_)) => {
                    let other = Some(Owner::read(&lock)).filter(|other| other.is_running() && *other != Owner::this());
                    match other {
                        Some(other) => return Err(live_error(folder, &other)),
                        None => return Claim { path, lock }.signed(),
                    }
                }
            }
        }
        Err(live_error(folder, &owner.unwrap_or(Owner { pid: 0, host: String::new() })))
    }

    /// Writes the owner into the file.
    fn signed(mut self) -> Result<Claim> {
        let name = serde_json::to_vec(&Owner::this()).unwrap_or_default(); // plain values: does not fail
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            lock.write_all(&name)
        };
        write(&mut self.lock).map_err(|error| file(&self.path, error))?;
        Ok(self)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if is_at(&self.lock, &self.path) {
            std::fs::remove_file(&self.path).ok(); // the lock ends with the file handle in any case
        }
    }
}

/// Identity and length of a file. They change if another process writes to the file or replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its device and inode.
    number: (u64, u64),
    pub(crate) length: u64,
}

impl Stamp {
    pub(crate) fn of(about: &Metadata) -> Stamp {
        #[cfg(unix)]
        let number = {
            use std::os::unix::fs::MetadataExt;
            (about.dev(), about.ino())
        };
        #[cfg(not(unix))]
        let number = (0, 0); // no inodes here: only the length is compared
        Stamp { number, length: about.len() }
    }

    /// Of the file that has this name now; `None` if there is none.
    pub(crate) fn at(path: &Path) -> Option<Stamp> {
        std::fs::symlink_metadata(path).ok().map(|about| Stamp::of(&about))
    }
}

/// Whether an open file is still the one of this name.
fn is_at(open: &File, path: &Path) -> bool {
    let own = open.metadata().ok().map(|about| Stamp::of(&about).number);
    own.is_some() && own == Stamp::at(path).map(|there| there.number)
}

pub(crate) fn live_error(folder: &Path, owner: &Owner) -> Error {
    Error::Live { folder: folder.display().to_string(), owner: owner.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_next_after_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(live(folder.path()), None);
        let claim = Claim::take(folder.path()).unwrap();
        assert_eq!(live(folder.path()), Some(Owner::this()));
        let error = Claim::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} on ", std::process::id())), "{error}");
        drop(claim);
        assert_eq!(live(folder.path()), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file is gone");
        // After a kill the file is there and not locked.
        std::fs::write(folder.path().join(LOCK), r#"{"pid":1,"host":"elsewhere, with a longer name than ours"}"#)
            .unwrap();
        assert_eq!(live(folder.path()), None);
        let _claim = Claim::take(folder.path()).unwrap();
        assert_eq!(live(folder.path()), Some(Owner::this()), "no rest of the longer name");
    }

    #[test]
    fn of_many_threads_one_has_it_at_a_time() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _ = live(folder.path());
                        let Ok(_claim) = Claim::take(folder.path()) else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                        taken.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let precious = outside.path().join("precious.txt");
        std::fs::write(&precious, "mine").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join(LOCK)).unwrap();
        let error = Claim::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("lock: not a plain file"), "{error}");
        assert_eq!((live(folder.path()), std::fs::read_to_string(&precious).unwrap()), (None, "mine".into()));
    }

    #[test]
    fn without_locks_a_process_of_this_machine_that_is_gone_is_not_taken_for_live() {
        assert!(Owner::this().is_running());
        assert!(!Owner { pid: u32::MAX, ..Owner::this() }.is_running());
        assert!(!Owner { host: "elsewhere".into(), ..Owner::this() }.is_running());
    }
}
