//! What can go wrong with a trace.

use std::path::Path;

/// An error of this crate: one line with the name, the value and the file, and a hint if there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule that cannot be parsed, or that does not fit a run.
    #[error("{text}: {cause}\nhint: {hint}")]
    Rule {
        /// The rule as written.
        text: String,
        /// What is wrong with it.
        cause: String,
        /// What would work.
        hint: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("{file}: {cause}")]
    File {
        /// The file or folder.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A trace in a later format version.
    #[error("{file}: format version {found}, and this program reads up to {known}\nhint: use a newer latentrace")]
    Version {
        /// The file that states the version.
        file: String,
        /// Its version.
        found: u64,
        /// The latest version that this crate reads.
        known: u64,
    },
    /// A tensor whose bytes have changed since they were recorded.
    #[error(
        "{name}: its bytes in {file} have changed since they were recorded\nhint: the disk or a copy has damaged them; the other tensors can still be read"
    )]
    Damaged {
        /// The tensor's name.
        name: String,
        /// The shard.
        file: String,
    },
    /// A trace that another process is writing.
    #[error(
        "{folder}: a live run: {owner} is writing it\nhint: wait until it ends; a stopped process continues after `kill -CONT`, and keeps its trace locked until it ends"
    )]
    Live {
        /// The trace.
        folder: String,
        /// The process.
        owner: String,
    },
    /// A file of a trace that another process has changed since this process wrote or read it.
    #[error(
        "{file}: another process has changed it\nhint: nothing was overwritten; `latentrace trace` shows what the record has now"
    )]
    Changed {
        /// The file.
        file: String,
    },
    /// A `run.json` that has changed since the run was recorded.
    #[error(
        "{file}: has changed since the run was recorded\nhint: restore the file; to make another run use `latentrace generate` or `latentrace fork`"
    )]
    RunChanged {
        /// The `run.json`.
        file: String,
    },
    /// A tensor that a trace does not have.
    #[error("{name}: not in {folder}\nhint: {hint}")]
    Absent {
        /// What was looked for.
        name: String,
        /// The trace.
        folder: String,
        /// What is there.
        hint: String,
    },
    /// An error of `latentrace_nn`.
    #[error(transparent)]
    Network(#[from] latentrace_nn::Error),
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn file(path: &Path, cause: impl ToString) -> Error {
    Error::File { file: path.display().to_string(), cause: cause.to_string() }
}

pub(crate) fn changed(path: &Path) -> Error {
    Error::Changed { file: path.display().to_string() }
}

pub(crate) fn rule(text: &str, cause: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Rule { text: text.into(), cause: cause.into(), hint: hint.into() }
}
