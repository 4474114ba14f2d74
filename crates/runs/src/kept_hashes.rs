//! Hashes of large files, kept between runs, so that a checkpoint of gigabytes is read once and not before every run.

use serde::{Deserialize, Serialize};
use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Files of this many bytes together are worth the effort; smaller ones are hashed in no time.
const LARGE: u64 = 64 << 20;

/// A file that was changed so recently may change again without a trace: the clock of a file system is coarse.
const SETTLED: Duration = Duration::from_secs(2);

/// What identifies the content of files without reading them, for as long as their paths mean the same: sizes, times and places on the
/// disk. `None` if a file is not there.
pub(crate) fn identity(files: &[PathBuf]) -> Option<Vec<String>> {
    let line = |path: &PathBuf| {
        let about = path.metadata().ok()?;
        Some(format!(
            "{} {}.{} {}.{} {}:{}",
            about.len(),
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec(),
            about.dev(),
            about.ino()
        ))
    };
    files.iter().map(line).collect()
}

/// The [`identity`] of files after their full paths, for other processes.
fn identity_with_paths(files: &[PathBuf]) -> Option<Vec<String>> {
    let full = |path: &PathBuf| Some(std::fs::canonicalize(path).ok()?.display().to_string());
    let paths: Option<Vec<String>> = files.iter().map(full).collect();
    Some(paths?.into_iter().zip(identity(files)?).map(|(path, about)| format!("{path} {about}")).collect())
}

/// What identifies the content of files for other processes. `None` if they are small, or if one was changed just now.
pub(crate) fn stamp(files: &[PathBuf]) -> Option<Stamp> {
    let mut bytes = 0;
    for path in files {
        let about = path.metadata().ok()?;
        let age = SystemTime::now().duration_since(about.modified().ok()?).ok()?;
        if age < SETTLED {
            return None;
        }
        bytes += about.len();
    }
    (bytes >= LARGE).then_some(Stamp(identity_with_paths(files)?))
}

/// See [`stamp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<String>);

#[derive(Serialize, Deserialize)]
struct Kept {
    files: Vec<String>,
    blake3: String,
}

impl Stamp {
    /// The hash that was kept for these files.
    pub(crate) fn find(&self, folder: &Path) -> Option<String> {
        let kept: Kept = serde_json::from_slice(&std::fs::read(self.path(folder)).ok()?).ok()?;
        let is_hash = kept.blake3.len() == 64 && kept.blake3.bytes().all(|byte| byte.is_ascii_hexdigit());
        (kept.files == self.0 && is_hash).then_some(kept.blake3)
    }

    /// Keeps the hash of these files. A cache that cannot be written is no error: the files are read again next time.
    pub(crate) fn keep(&self, folder: &Path, blake3: &str) {
        let kept = Kept { files: self.0.clone(), blake3: blake3.to_owned() };
        if let (Ok(()), Ok(text)) = (std::fs::create_dir_all(folder), serde_json::to_vec(&kept)) {
            latentrace_files::replace_unsynced(&self.path(folder), &text).ok();
        }
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(blake3::hash(self.0.join("\n").as_bytes()).to_hex().as_str())
    }
}

/// The folder of kept hashes: `latentrace/hashes` in the user's cache.
pub(crate) fn folder() -> Option<PathBuf> {
    let of_user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = of_user.or_else(|| env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("latentrace/hashes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_hash_is_kept_until_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let sized = |name: &str, bytes: u64, age: u64| {
            let file = File::create(at(name)).unwrap();
            file.set_len(bytes).unwrap(); // sparse
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        sized("large", LARGE, 60);
        sized("small", 10, 60);
        assert_eq!(stamp(&[at("small")]), None, "not worth it");
        let files = [at("large"), at("small")];
        let first = stamp(&files).unwrap();
        let (hash, cache) = ("ab".repeat(32), at("cache"));
        assert_eq!(first.find(&cache), None);
        first.keep(&cache, &hash);
        assert_eq!(stamp(&files).unwrap().find(&cache), Some(hash.clone()));
        sized("small", 10, 50); // another time
        assert_eq!(stamp(&files).unwrap().find(&cache), None);
        sized("small", 10, 0);
        assert_eq!(stamp(&files), None, "changed just now");
        std::fs::write(first.path(&cache), "{}").unwrap();
        assert_eq!(first.find(&cache), None, "a damaged cache is as none");
    }
}
