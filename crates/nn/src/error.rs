//! What can go wrong between a checkpoint and a forward pass.

use crate::Shortage;
use tch::TchError;

/// An error of this crate or of a network built on it: one line with the name, the value and the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor that the configuration needs is not in the file.
    #[error("{name}: no such tensor in {file}{hint}")]
    Missing {
        /// The tensor's full name.
        name: String,
        /// The file, or the kind of source.
        file: String,
        /// What is there instead, as a line of its own, or nothing.
        hint: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{name}: expected shape {expected:?}, found {found:?} in {file}")]
    Shape {
        /// The tensor's full name.
        name: String,
        /// The shape that the configuration says.
        expected: Vec<i64>,
        /// The shape in the file.
        found: Vec<i64>,
        /// The file that contains it.
        file: String,
    },
    /// A tensor is stored in an unsupported number format.
    #[error("{name}: unsupported number format {found} in {file}\nhint: F64, F32, F16 and BF16 are read")]
    Format {
        /// The tensor's full name.
        name: String,
        /// The format in the file.
        found: String,
        /// The file that contains it.
        file: String,
    },
    /// A configuration value that this network does not support.
    #[error("{file}: {key}: unsupported value {value}\nhint: supported: {supported}")]
    Unsupported {
        /// The configuration file.
        file: String,
        /// The key.
        key: String,
        /// Its value, as JSON.
        value: String,
        /// The supported values.
        supported: String,
    },
    /// A file that cannot be opened or read.
    #[error("{file}: {cause}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// There is not enough memory.
    #[error("{0}")]
    Memory(Shortage),
    /// An error of libtorch itself.
    #[error(transparent)]
    Torch(TchError),
}

impl From<TchError> for Error {
    fn from(error: TchError) -> Error {
        Shortage::of(&error.to_string()).map_or(Error::Torch(error), Error::Memory)
    }
}

impl From<Shortage> for Error {
    fn from(shortage: Shortage) -> Error {
        Error::Memory(shortage)
    }
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
