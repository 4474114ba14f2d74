//! Leases: names that one process at a time holds, on any file system that several machines share.
//!
//! A lease on a name is a file `NAME.N` in a common folder, which says who holds it. Nothing is locked: locks count on one
//! machine only, or not at all, on many file systems of clusters. Instead
//! - a lease is **taken** by making the file `NAME.1`, and **taken over** by making `NAME.N+1`. A hard link to a file that is
//!   whole already makes it; whether that worked is read from the number of links, because over a network the answer to a call
//!   that worked may be that the file exists. Where links are refused the file is created exclusively. The highest number holds;
//! - it is **kept** by setting the time of the file again and again. The clock is that of the file system (see [`Leases::now`]),
//!   so the clocks of the machines do not matter;
//! - it is **over** if its holder ran on this machine and has ended, or if it runs elsewhere and the file was not renewed for
//!   a term. A holder that runs here, or is stopped here, keeps it. One that is late, and whose lease nobody has taken over,
//!   renews it and goes on;
//! - its holder asks [`Lease::holds`] before it publishes anything. Should two processes believe for an instant that they hold
//!   a name, the same work is done twice: what is guarded must bear that.

mod heart;
mod holder;

pub use holder::Holder;

use anyhow::{Context, Result, anyhow};
use heart::Heart;
use holder::Life;
use latentrace_files::said;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often leases are renewed, and how long they last without.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Seconds from one renewal to the next.
    pub renewed_s: f64,
    /// Seconds after which a lease that was not renewed is over: three renewals, and the time for which a client of NFS may
    /// show old times of files (`acregmax`, 60 s by default).
    pub term_s: f64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { renewed_s: 10.0, term_s: 120.0 }
    }
}

impl Pace {
    /// Whether leases can be kept at it.
    pub(crate) fn is_sound(&self) -> bool {
        self.renewed_s >= 0.01 && self.term_s >= 3.0 * self.renewed_s && self.term_s < 1e6
    }

    /// How often leases are renewed.
    pub(crate) fn renewed(self) -> Duration {
        Duration::from_secs_f64(self.renewed_s)
    }

    fn term(self) -> Duration {
        Duration::from_secs_f64(self.term_s)
    }
}

/// The leases of a folder, as this process takes them.
pub struct Leases {
    folder: PathBuf,
    pace: Pace,
    heart: Arc<Heart>,
}

/// A name that this process holds, until this is dropped.
pub struct Lease {
    held: Arc<Held>,
    heart: Arc<Heart>,
    folder: PathBuf,
    name: String,
    number: u64,
}

/// A lease as it is renewed.
struct Held {
    path: PathBuf,
    content: String,
    term: Duration,
    renewed: Mutex<Instant>,
    is_lost: AtomicBool,
}

/// What a lease's file says.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    holder: Holder,
    /// Tells apart the leases of one process.
    serial: u64,
}

/// A lease that some process holds.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The name.
    pub name: String,
    /// The process.
    pub holder: Holder,
    /// When it was taken, by the clock of the file system.
    pub since: Option<SystemTime>,
}

/// More bytes than a lease has.
const LARGEST: u64 = 4096;

impl Leases {
    /// The leases of a folder, which must exist.
    pub fn of(folder: &Path, pace: Pace) -> Leases {
        Leases { folder: folder.to_path_buf(), pace, heart: Arc::new(Heart::new(pace.renewed())) }
    }

    /// Takes a name, unless another process holds it.
    ///
    /// # Errors
    /// The folder cannot be written, or something else than a file of this program is in the place of the lease.
    pub fn take(&self, name: &str) -> Result<Option<Lease>> {
        let before = match newest(&self.folder, name)? {
            None => None,
            Some(number) => match self.over(name, number)? {
                None => return Ok(None),
                Some(content) => Some((number, content)),
            },
        };
        let number = match &before {
            None => 1,
            Some((last, _)) => last.checked_add(1).ok_or_else(|| self.no_next(name, *last))?,
        };
        let Some(lease) = self.make(name, number)? else { return Ok(None) };
        // While this process was at it, others may have taken the name over, given it back, and taken it anew.
        let is_newest = newest(&self.folder, name)? == Some(number);
        let is_same =
            |(before, content): &(u64, String)| read(&self.path(name, *before)).is_ok_and(|now| now == *content);
        if !is_newest || !before.as_ref().is_none_or(is_same) {
            return Ok(None);
        }
        if let Some((before, _)) = before {
            (1..=before).rev().map(|number| self.path(name, number)).all(|path| std::fs::remove_file(path).is_ok());
        }
        Ok(Some(lease))
    }

    /// Whether a process holds a name.
    pub fn is_held(&self, name: &str) -> Result<bool> {
        match newest(&self.folder, name)? {
            Some(number) => Ok(self.over(name, number)?.is_none()),
            None => Ok(false),
        }
    }

    /// All leases that are held. The folder is listed once, and the time is asked for once. What is no file of this program is
    /// none.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn standing(&self) -> Result<Vec<Standing>> {
        let (mut standing, now) = (Vec::new(), OnceCell::new());
        for (name, number) in latest(&self.folder)? {
            let path = self.path(&name, number);
            let Ok(content) = read(&path) else { continue };
            if self.is_over(&path, &content, &now) {
                continue;
            }
            let written = serde_json::from_str::<Written>(&content).ok();
            let since = std::fs::symlink_metadata(&path).ok().and_then(|about| about.created().ok());
            standing.push(Standing { name, holder: written.map(|written| written.holder).unwrap_or_default(), since });
        }
        Ok(standing)
    }

    /// Removes what killed processes have left of leases that were being written.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn clear(&self) -> Result<()> {
        let now = OnceCell::new();
        for entry in entries(&self.folder)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(process) = name.strip_prefix(BEGUN).or_else(|| name.strip_prefix(CLOCK)) else { continue };
            if self.is_out(Holder::life_of(process), &entry.path(), &now) {
                std::fs::remove_file(entry.path()).ok(); // it is only in the way
            }
        }
        Ok(())
    }

    /// The names whose leases are over, and whose files are still there. The folder is listed once, and the time is asked for once.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn ended(&self) -> Result<Vec<String>> {
        let now = OnceCell::new();
        let is_over = |name: &str, number| {
            let path = self.path(name, number);
            read(&path).is_ok_and(|content| self.is_over(&path, &content, &now))
        };
        Ok(latest(&self.folder)?
            .into_iter()
            .filter(|(name, number)| is_over(name, *number))
            .map(|(name, _)| name)
            .collect())
    }

    /// The time by the clock of the file system: that of a file that is touched now.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn now(&self) -> Result<SystemTime> {
        let path = self.folder.join(format!("{CLOCK}{}", distinct()));
        let made = || -> std::io::Result<SystemTime> {
            File::create_new(&path)?;
            touch(&path)?;
            std::fs::symlink_metadata(&path)?.modified()
        };
        let now = made().map_err(|error| self.refused(&path, &error));
        std::fs::remove_file(&path).ok(); // it has told the time
        now
    }

    fn path(&self, name: &str, number: u64) -> PathBuf {
        self.folder.join(format!("{name}.{number}"))
    }

    /// What the file of a lease says, if the lease is over.
    fn over(&self, name: &str, number: u64) -> Result<Option<String>> {
        let path = self.path(name, number);
        let content = match read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None), // given back just now: ask again
            Err(error) => return Err(self.refused(&path, &error)),
        };
        Ok(self.is_over(&path, &content, &OnceCell::new()).then_some(content))
    }

    /// Whether whoever wrote a file with this content has ended, or has not renewed it for a term.
    fn is_over(&self, path: &Path, content: &str, now: &OnceCell<SystemTime>) -> bool {
        let holder = serde_json::from_str::<Written>(content).map(|written| written.holder).unwrap_or_default();
        self.is_out(holder.life(), path, now)
    }

    /// Whether the process that keeps a file has ended, or has not renewed the file for a term. `now` has the time, once it was
    /// asked for; with an earlier one a lease only seems younger.
    fn is_out(&self, life: Life, path: &Path, now: &OnceCell<SystemTime>) -> bool {
        match life {
            Life::Running => false,
            Life::Ended => true,
            Life::Unknown => {
                let renewed = std::fs::symlink_metadata(path).and_then(|about| about.modified()).ok();
                // Where the folder cannot be written nothing can be taken either, and this machine's clock has to do.
                let now = now.get_or_init(|| self.now().unwrap_or_else(|_| SystemTime::now()));
                renewed.is_some_and(|renewed| now.duration_since(renewed).is_ok_and(|age| age > self.pace.term()))
            }
        }
    }

    /// Makes the file of a lease, unless it is there.
    fn make(&self, name: &str, number: u64) -> Result<Option<Lease>> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let written = Written { holder: Holder::this().clone(), serial };
        let content = serde_json::to_string(&written).context("a lease")?;
        let path = self.path(name, number);
        let begun = Instant::now(); // before the file's own time
        if !publish(&self.folder, &path, &content).map_err(|error| self.refused(&path, &error))? {
            return Ok(None);
        }
        let (term, renewed) = (self.pace.term(), Mutex::new(begun));
        let held = Arc::new(Held { path, content, term, renewed, is_lost: AtomicBool::new(false) });
        self.heart.add(&held);
        let (folder, heart) = (self.folder.clone(), self.heart.clone());
        Ok(Some(Lease { held, heart, folder, name: name.into(), number }))
    }

    /// The error of a lease with the highest number that there is: nobody can take it over.
    fn no_next(&self, name: &str, last: u64) -> anyhow::Error {
        let other = std::io::Error::other("no lease can have a higher number");
        self.refused(&self.path(name, last), &other)
    }

    fn refused(&self, path: &Path, error: &std::io::Error) -> anyhow::Error {
        let place = path.display();
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull => {
                anyhow!("{place}: cannot be written: {}\nhint: name another folder", said(error))
            }
            _ => anyhow!(
                "{place}: cannot be the claim of a cell: {}\nhint: {} has only files of this program: remove what is not",
                said(error),
                self.folder.display()
            ),
        }
    }
}

impl Lease {
    /// Whether this process still holds the name: the lease was renewed within its term, and nobody took it over.
    pub fn holds(&self) -> bool {
        let held = &self.held;
        held.is_current() && newest(&self.folder, &self.name).is_ok_and(|newest| newest == Some(self.number))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heart.remove(&self.held);
        if self.held.is_own() {
            std::fs::remove_file(&self.held.path).ok(); // if that fails, the lease ends with this process
        }
    }
}

impl Held {
    /// Sets the time of the file to now, by the clock of the file system.
    fn renew(&self) {
        let begun = Instant::now();
        match touch(&self.path).and_then(|()| read(&self.path)) {
            Ok(content) if content == self.content => {
                *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = begun;
            }
            Ok(_) => self.is_lost.store(true, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::NotFound => self.is_lost.store(true, Ordering::Relaxed),
            Err(_) => {} // the file system may be back before the term is over
        }
    }

    fn is_current(&self) -> bool {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_lost.load(Ordering::Relaxed) && renewed.elapsed() < self.term && self.is_own()
    }

    /// Whether the file is there and is that of this lease.
    fn is_own(&self) -> bool {
        read(&self.path).is_ok_and(|content| content == self.content)
    }
}

/// What is in the folder of the leases.
fn entries(folder: &Path) -> Result<impl Iterator<Item = DirEntry>> {
    let hint = "hint: it has the claims of all processes; the same command makes it again";
    let entries = std::fs::read_dir(folder);
    Ok(entries.map_err(|error| anyhow!("{}: {}\n{hint}", folder.display(), said(&error)))?.flatten())
}

/// Every lease's name and number in a folder.
fn all(folder: &Path) -> Result<impl Iterator<Item = (String, u64)>> {
    Ok(entries(folder)?.filter_map(|entry| parsed(&entry.file_name().to_string_lossy())))
}

/// The name and the number of a lease, if a file's name is exactly what this program writes for them.
fn parsed(file: &str) -> Option<(String, u64)> {
    let (name, digits) = file.rsplit_once('.')?;
    let number: u64 = digits.parse().ok()?;
    (!name.is_empty() && number > 0 && number.to_string() == digits).then(|| (name.to_string(), number))
}

/// The highest number of every name.
fn latest(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let mut latest = BTreeMap::new();
    for (name, number) in all(folder)? {
        let known = latest.entry(name).or_insert(number);
        *known = number.max(*known);
    }
    Ok(latest)
}

/// The highest number of a name.
fn newest(folder: &Path, name: &str) -> Result<Option<u64>> {
    Ok(all(folder)?.filter(|(other, _)| other == name).map(|(_, number)| number).max())
}

/// Numbers the leases of this process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Begins the names of files that tell the time.
const CLOCK: &str = ".clock-";
/// Begins the names of leases that are being written.
const BEGUN: &str = ".begun-";

/// A name that no other process gives.
fn distinct() -> String {
    format!("{}-{}", Holder::this().distinct(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// Sets the times of a file to now, by the clock of the file system.
fn touch(path: &Path) -> std::io::Result<()> {
    let of = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps { last_access: of(UTIME_OMIT), last_modification: of(UTIME_NOW) };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The content of a lease. A link is not followed, and what is no file is not read.
fn read(path: &Path) -> std::io::Result<String> {
    let about = std::fs::symlink_metadata(path)?;
    if about.is_dir() {
        return Err(std::io::Error::other("a folder, not a file"));
    }
    if !about.is_file() {
        return Err(std::io::Error::other("not a plain file"));
    }
    let mut text = String::new();
    File::open(path)?.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Makes a file with a content, unless there is one of its name.
fn publish(folder: &Path, path: &Path, content: &str) -> std::io::Result<bool> {
    let begun = folder.join(format!("{BEGUN}{}", distinct()));
    let made = || -> std::io::Result<bool> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&begun)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?; // over a network, others then see the content
        match std::fs::hard_link(&begun, path) {
            Ok(()) => Ok(true),
            Err(_) if std::fs::symlink_metadata(&begun)?.nlink() == 2 => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(_) => create(path, content), // there are no hard links here
        }
    };
    let made = made();
    std::fs::remove_file(&begun).ok(); // it has another name now
    made
}

/// Makes a file without a hard link. For an instant it is empty: a lease of nobody, which lasts its term. A file that cannot be
/// written is removed, so that it is in nobody's way.
fn create(path: &Path, content: &str) -> std::io::Result<bool> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o666).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    };
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        std::fs::remove_file(path).ok(); // if that fails, it is over after its term
    }
    written.map(|()| true)
}

#[cfg(test)]
mod tests;
