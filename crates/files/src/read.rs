//! Files that are read whole: plain files only, on which reading cannot wait for ever, and none that is too large.

use crate::Error;
use std::fs::File;
use std::path::Path;

/// The most bytes of a text file, such as a spec or a run's settings, that are read.
pub const LARGEST: u64 = 64 << 20;

/// Opens a file to be read.
///
/// # Errors
/// If it is a folder, a pipe or a device, or cannot be opened.
pub fn open_plain(path: &Path) -> Result<File, Error> {
    let about = std::fs::metadata(path).map_err(Error::reading(path))?;
    match about.is_file() {
        true => File::open(path).map_err(Error::reading(path)),
        false => Err(Error::NotAFile { path: path.to_owned(), is_folder: about.is_dir() }),
    }
}

/// The text of a file.
///
/// # Errors
/// If it is not a plain file, has more than [`LARGEST`] bytes, or cannot be read as UTF-8.
pub fn read_text(path: &Path) -> Result<String, Error> {
    let file = open_plain(path)?;
    let bytes = file.metadata().map_err(Error::reading(path))?.len();
    if bytes > LARGEST {
        return Err(Error::TooLarge { path: path.to_owned(), bytes });
    }
    std::io::read_to_string(file).map_err(Error::reading(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_large_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let error = |name: &str| read_text(&at(name)).unwrap_err().to_string();
        File::create(at("huge")).unwrap().set_len(6 << 30).unwrap(); // no byte of it is on the disk
        assert!(error("huge").contains("huge: 6442450944 bytes, and at most 67108864 are read"), "{}", error("huge"));
        assert!(error("").ends_with(": a folder, not a file"), "{}", error(""));
        assert!(error("none").contains("none: could not be read: no such file"), "{}", error("none"));
        #[cfg(unix)]
        {
            let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
            assert!(made.success() && error("pipe").contains("pipe: not a plain file"), "{}", error("pipe"));
            assert!(crate::png::open_image(&at("pipe")).is_err() && crate::png::read_png_text(&at("pipe")).is_err());
        }
        std::fs::write(at("text"), "a cat").unwrap();
        assert_eq!(read_text(&at("text")).unwrap(), "a cat");
    }
}
