//! What can go wrong between a figure and a file.

use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be written or read; every variant names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder for a figure could not be made.
    #[error("{}: folder could not be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written; whatever stood under its name before still stands there.
    #[error("{}: could not be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("{}: could not be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A picture or its text cannot be encoded as PNG (no pixels, or a text key that is not 1 to 79 Latin-1 letters).
    #[error("{}: not encodable as PNG: {source}", path.display())]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// What the encoder said.
        source: png::EncodingError,
    },
    /// A file is not a readable PNG.
    #[error("{}: not a readable PNG: {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: png::DecodingError,
    },
    /// A file is not a picture in a format that is read.
    #[error("{}: not a readable picture: {source}\nhint: PNG and JPEG are read", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: image::ImageError,
    },
}

impl Error {
    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Write { path: path.to_owned(), source }
    }

    pub(crate) fn encoding(path: &Path) -> impl Fn(png::EncodingError) -> Error {
        move |error| match error {
            png::EncodingError::IoError(source) => Error::Write { path: path.to_owned(), source },
            source => Error::Encode { path: path.to_owned(), source },
        }
    }
}
