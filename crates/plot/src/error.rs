//! What can go wrong between a figure and a file.

use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be written or read; every variant names it, and says what the system or the decoder said: there
/// is no further cause to ask for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder for a figure could not be made.
    #[error("{}: folder could not be made: {cause}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file could not be written; whatever stood under its name before still stands there.
    #[error("{}: could not be written: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file could not be read.
    #[error("{}: could not be read: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A picture or its text cannot be encoded as PNG (no pixels, or a text key that is not 1 to 79 Latin-1 letters).
    #[error("{}: not encodable as PNG: {cause}", path.display())]
    Encode {
        /// The file that was to be written.
        path: PathBuf,
        /// What the encoder said.
        cause: png::EncodingError,
    },
    /// A file is not a readable PNG.
    #[error("{}: not a readable PNG: {cause}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        cause: png::DecodingError,
    },
    /// A file is not a picture in a format that is read.
    #[error("{}: not a readable picture: {cause}\nhint: PNG and JPEG are read", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        cause: image::ImageError,
    },
}

impl Error {
    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |cause| Error::Write { path: path.to_owned(), cause }
    }

    pub(crate) fn encoding(path: &Path) -> impl Fn(png::EncodingError) -> Error {
        move |error| match error {
            png::EncodingError::IoError(cause) => Error::Write { path: path.to_owned(), cause },
            cause => Error::Encode { path: path.to_owned(), cause },
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_said_once() {
        let error = crate::open_image("no-such.png".as_ref()).unwrap_err();
        assert!(error.to_string().contains("no-such.png: could not be read: "), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "who prints the causes too would say it twice");
    }
}
