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

pub(crate) fn rule(text: &str, cause: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Rule { text: text.into(), cause: cause.into(), hint: hint.into() }
}
