//! What can go wrong with a file.

use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be written or read. Every variant names the file, and its message includes the cause: there is
/// no [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A folder could not be created.
    #[error("{}: {}", path.display(), no_folder(path, cause))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file could not be written. If there was a file of this name before, it is unchanged.
    #[error("{}: could not be written: {}", path.display(), said(cause))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file could not be read.
    #[error("{}: could not be read: {}", path.display(), said(cause))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Something else than a plain file, which is not read.
    #[error("{}: {}", path.display(), if *is_folder { "a folder, not a file" } else { "not a plain file" })]
    NotAFile {
        /// What was to be read.
        path: PathBuf,
        /// Whether it is a folder, and not a pipe or a device.
        is_folder: bool,
    },
    /// A file that is larger than any of its kind, which is not read.
    #[error("{}: {bytes} bytes, and at most {} are read\nhint: is it this file that is meant?", path.display(), crate::LARGEST)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A PNG file with more text than is read.
    #[error("{}: its texts take more than {most} bytes, and are not read\nhint: pictures of latentrace have a few thousand", path.display())]
    TooMuchText {
        /// The file.
        path: PathBuf,
        /// The most bytes of text that are read.
        most: usize,
    },
    /// A picture or its text cannot be encoded as PNG (no pixels, or a key that is not 1 to 79 Latin-1 letters).
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
    /// A file is not a picture in a supported format.
    #[error("{}: not a readable picture: {cause}\nhint: PNG and JPEG are read", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        cause: image::ImageError,
    },
    /// A file is not a table of comma-separated values.
    #[error("{}: not a readable CSV table: {cause}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        cause: csv::Error,
    },
}

impl Error {
    /// The cause alone, without the path, for functions that return [`io::Error`].
    pub fn into_io(self) -> io::Error {
        match self {
            Error::Folder { cause, .. } | Error::Write { cause, .. } | Error::Read { cause, .. } => cause,
            other => io::Error::other(other),
        }
    }

    pub(crate) fn writing(path: &Path) -> impl Fn(io::Error) -> Error {
        move |cause| Error::Write { path: path.to_owned(), cause }
    }

    pub(crate) fn reading(path: &Path) -> impl Fn(io::Error) -> Error {
        move |cause| Error::Read { path: path.to_owned(), cause }
    }
}

/// Why a folder could not be made.
fn no_folder(path: &Path, cause: &io::Error) -> String {
    match path.ancestors().find(|part| part.is_file()) {
        Some(file) if file == path => "a file, not a folder\nhint: name a folder, which may be a new one".into(),
        Some(file) => format!("cannot create: {} is a file, not a folder\nhint: name another folder", file.display()),
        None => format!("cannot create: {}", said(cause)),
    }
}

/// What an error of the system says: "no such file", or its own text.
pub fn said(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound if cause.raw_os_error().is_some() => "no such file".into(),
        _ => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_said_once() {
        let error = crate::png::open_image("no-such.png".as_ref()).unwrap_err();
        assert!(error.to_string().contains("no-such.png: could not be read: no such file"), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "a printed chain of causes would repeat it");
        assert_eq!(error.into_io().kind(), std::io::ErrorKind::NotFound);
    }
}
