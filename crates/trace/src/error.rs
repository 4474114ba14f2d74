//! What can go wrong with a trace.

use std::path::Path;

/// An error of this crate: one line with the noun, the value and the file, and a hint where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A selector, a reduction or an edit that cannot be read.
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
    /// A trace that a later version of the program has written.
    #[error("{file}: format version {found}, and this program reads up to {known}\nhint: use a newer latentrace")]
    Version {
        /// The file that says so.
        file: String,
        /// Its version.
        found: u64,
        /// The last version that is read.
        known: u64,
    },
    /// A tensor whose bytes are not those that were recorded.
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
        "{folder}: a live run: {owner} has it in hand\nhint: wait until it ends; a process that was stopped goes on after `kill -CONT`, and holds its trace until it is ended"
    )]
    Live {
        /// The trace.
        folder: String,
        /// The process.
        owner: String,
    },
    /// A file of a trace that is not as this process left it, or read it.
    #[error(
        "{file}: another process has changed it\nhint: nothing of it was overwritten; `latentrace trace` says what the record holds now"
    )]
    Changed {
        /// The file.
        file: String,
    },
    /// A description that is not the one that was recorded with.
    #[error(
        "{file}: has changed since the run was recorded\nhint: put it back as it was; another run is made with `latentrace generate` or `latentrace fork`"
    )]
    RunChanged {
        /// The `run.json`.
        file: String,
    },
    /// A tensor that a trace does not hold.
    #[error("{name}: not in {folder}\nhint: {hint}")]
    Absent {
        /// What was looked for.
        name: String,
        /// The trace.
        folder: String,
        /// What is there.
        hint: String,
    },
    /// An error of the networks' crate.
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
