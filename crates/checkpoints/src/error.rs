//! Errors of opening a checkpoint.

use crate::describe::Described;
use std::io::ErrorKind;
use std::path::Path;

/// An error of opening a checkpoint: one line with the file, what is wrong with it and, on a second line, a hint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path that is not a checkpoint.
    #[error("{}: {}\nhint: {}", .0.path.display(), .0.what, .0.hint)]
    NotACheckpoint(Described),
    /// A model that is not of the supported families.
    #[error("{file}: {class}: {family} is not supported\nhint: Latentrace runs Stable Diffusion 1.x, 2.x and XL")]
    Family {
        /// The file that names the class.
        file: String,
        /// The class.
        class: String,
        /// What models of this class are.
        family: &'static str,
    },
    /// A file or folder of a checkpoint that cannot be read.
    #[error("{file}: {cause}")]
    File {
        /// The file or folder.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A network's configuration or weights that cannot be used.
    #[error(transparent)]
    Network(#[from] latentrace_nn::Error),
    /// A scheduler configuration that cannot be used.
    #[error("{file}: {cause}{hint}")]
    Scheduler {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: Box<latentrace_schedulers::Error>,
        /// What would work, as a line of its own, or nothing.
        hint: &'static str,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn file(path: &Path, cause: impl ToString) -> Error {
    Error::File { file: path.display().to_string(), cause: cause.to_string() }
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => file(path, "no such file"),
        ErrorKind::InvalidData => file(path, "not a text file"),
        _ => file(path, latentrace_files::said(&error)),
    })
}
