//! One model in the cache, in the layout of Python's `huggingface_hub`:
//!
//! ```text
//! .locks/models--OWNER--NAME/<etag>.lock
//! models--OWNER--NAME/
//!   blobs/<etag>                    the bytes, once for all commits
//!   snapshots/<commit>/<file>       -> ../../blobs/<etag>
//!   refs/<revision>                 the commit, without a line's end
//! ```
//!
//! A blob appears under its name when it is complete and verified, a link when its blob is there, and a ref when all
//! links are.

use crate::listing::Listed;
use crate::names::{Revision, is_hex};
use crate::snapshot::Snapshot;
use crate::transfer::is_right;
use crate::{Error, Id, Result};
use hf_hub::{Cache, CacheRepo, Repo};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Store {
    cache: PathBuf,
    name: String,
    paths: CacheRepo,
}

/// How much of a file is in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// All of it, and the snapshot has it.
    Whole,
    /// All of it, but the snapshot has no link to it yet.
    Blob,
    /// So many bytes, of a download that was stopped.
    Part(u64),
}

impl Store {
    pub(crate) fn new(cache: &Path, id: &Id) -> Store {
        let repo = Repo::model(id.to_string());
        let name = repo.folder_name();
        Store { cache: cache.to_owned(), name, paths: Cache::new(cache.to_owned()).repo(repo) }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    pub(crate) fn blob(&self, listed: &Listed) -> PathBuf {
        self.paths.blob_path(listed.hash.etag())
    }

    /// Where a download in progress is; Python's program has it there too, and both hold the same lock.
    pub(crate) fn partial(&self, listed: &Listed) -> PathBuf {
        self.paths.blob_path(&format!("{}.incomplete", listed.hash.etag()))
    }

    /// The same where the file system has no locks: a file that no other process has.
    pub(crate) fn unshared(&self, listed: &Listed) -> PathBuf {
        self.paths.blob_path(&format!("{}.{}.incomplete", listed.hash.etag(), std::process::id()))
    }

    pub(crate) fn lock(&self, listed: &Listed) -> PathBuf {
        self.cache.join(".locks").join(&self.name).join(format!("{}.lock", listed.hash.etag()))
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.paths.pointer_path(commit)
    }

    fn reference(&self, revision: &Revision) -> PathBuf {
        self.folder().join("refs").join(revision.as_str())
    }

    /// The commit that a revision was when it was last downloaded.
    fn commit(&self, revision: &Revision) -> Result<Option<String>> {
        if revision.is_commit() {
            return Ok(Some(revision.as_str().to_owned()));
        }
        let path = self.reference(revision);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if is_absent(&cause) => return Ok(None),
            Err(cause) => return Err(Error::reading(&path)(cause)),
        };
        match text.trim() {
            commit if is_hex(commit, 40) => Ok(Some(commit.to_owned())),
            other => Err(Error::Damaged { path, cause: format!("{other:?} is not a commit") }),
        }
    }

    /// The folder of a revision, if it is there. Writes nothing.
    pub(crate) fn find(&self, revision: &Revision) -> Result<Option<Snapshot>> {
        let Some(commit) = self.commit(revision)? else { return Ok(None) };
        let folder = self.snapshot(&commit);
        Ok(folder.is_dir().then(|| Snapshot::new(folder, commit)))
    }

    /// How much of a file is here. Only a file that lies in the snapshot without a link must be read for that.
    pub(crate) fn held(&self, listed: &Listed, commit: &str) -> Result<Held> {
        let place = self.snapshot(commit).join(&listed.name);
        let has_blob = self.has_blob(listed);
        if has_blob && fs::canonicalize(&place).ok() == fs::canonicalize(self.blob(listed)).ok() {
            return Ok(Held::Whole);
        }
        // Python writes copies where links do not work or are not wanted.
        let is_copy = place.symlink_metadata().is_ok_and(|about| about.is_file());
        if is_copy && is_right(&place, listed)? {
            return Ok(Held::Whole);
        }
        if has_blob {
            return Ok(Held::Blob);
        }
        let part = self.partial(listed).metadata().map_or(0, |about| about.len());
        Ok(Held::Part(if part > listed.bytes { 0 } else { part }))
    }

    pub(crate) fn has_blob(&self, listed: &Listed) -> bool {
        self.blob(listed).metadata().is_ok_and(|about| about.is_file() && about.len() == listed.bytes)
    }

    /// Makes the folders that a download writes to.
    pub(crate) fn prepare(&self, listed: &Listed) -> Result<()> {
        for path in [self.lock(listed), self.blob(listed)] {
            make_parent(&path)?;
        }
        Ok(())
    }

    /// Gives verified bytes their name.
    pub(crate) fn keep(&self, partial: &Path, listed: &Listed) -> Result<()> {
        let blob = self.blob(listed);
        fs::rename(partial, &blob).map_err(Error::writing(&blob))?;
        sync_parent(&blob)
    }

    /// Puts a file, whose blob is there, into the snapshot.
    pub(crate) fn link(&self, listed: &Listed, commit: &str) -> Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let place = self.snapshot(commit).join(&listed.name);
        make_parent(&place)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = place.with_file_name(format!("{}{}-{count}", latentrace_files::PARTIAL, std::process::id()));
        let linked =
            std::os::unix::fs::symlink(target(listed), &temporary).and_then(|()| fs::rename(&temporary, &place));
        linked.map_err(|cause| {
            let _ = fs::remove_file(&temporary); // there may be none; the first error is the one to tell
            Error::writing(&place)(cause)
        })?;
        sync_parent(&place)
    }

    /// Notes that a revision is this commit, and returns the snapshot.
    pub(crate) fn refer(&self, revision: &Revision, commit: &str) -> Result<Snapshot> {
        let snapshot = Snapshot::new(self.snapshot(commit), commit.to_owned());
        let path = self.reference(revision);
        let is_known = fs::read(&path).is_ok_and(|known| known == commit.as_bytes());
        if !revision.is_commit() && !is_known {
            make_parent(&path)?;
            latentrace_files::replace(&path, commit.as_bytes())
                .map_err(|cause| Error::writing(&path)(cause.into_io()))?;
            sync_parent(&path)?;
        }
        Ok(snapshot)
    }
}

/// The blob of a file as seen from the file's folder in a snapshot: relative, so that the cache can be moved.
fn target(listed: &Listed) -> PathBuf {
    let depth = listed.name.split('/').count() + 1;
    let mut target: PathBuf = std::iter::repeat_n("..", depth).collect();
    target.extend(["blobs", listed.hash.etag()]);
    target
}

/// Whether an error means that there is no such file. `refs/a/b` is absent too if `refs/a` is a file.
fn is_absent(cause: &std::io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(Error::writing(folder))
}

/// Brings the name of a file to the disk.
fn sync_parent(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::writing(folder))
}
