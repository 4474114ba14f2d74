//! What can go wrong with a record.

/// An error of a record, one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be written.
    #[error("{file}: {cause}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        cause: String,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
