//! Full pictures beside a page: the runs' own files, or files that are written for it.

use super::html::Full;
use anyhow::{Context, Result, ensure};
use latentrace_files::{create_folder, replace_unsynced};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

/// Where a page finds the full pictures that are too large for it.
pub struct FullPictures {
    page: PathBuf,
    /// The folder that is written, unless the runs' own files are used.
    written: Option<Folder>,
}

/// A folder of scripts, each with one image.
struct Folder {
    path: PathBuf,
    /// The names of the files, with their sizes.
    files: Mutex<Vec<(String, u64)>>,
}

/// The full pictures that were written beside a page.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Their folder.
    pub folder: PathBuf,
    /// How many files there are.
    pub files: usize,
    /// Their size together.
    pub bytes: u64,
}

impl FullPictures {
    /// Full pictures for a page, which are the runs' own files, or with `write` files in a folder beside the page.
    ///
    /// # Errors
    /// There is a file where the folder would be.
    pub fn new(page: &Path, write: bool) -> Result<FullPictures> {
        let folder = || -> Result<Folder> {
            let path = folder_of(page);
            let hint = "hint: move it away, or name another page with --output";
            ensure!(!path.is_file(), "--full: {} is a file, not a folder\n{hint}", path.display());
            Ok(Folder { path, files: Mutex::default() })
        };
        Ok(FullPictures { page: page.into(), written: if write { Some(folder()?) } else { None } })
    }

    /// What the page must do to read them.
    pub fn kind(&self) -> Full {
        if self.written.is_some() { Full::Scripts } else { Full::Links }
    }

    /// Returns a full image as the page names it. `file` has it, if it is in a file; `png` makes its bytes; `name`
    /// begins the name of a file that is written. `None` if the page cannot name it: it is in no file, or in one
    /// without a relative path.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn place(
        &self,
        name: &str,
        file: Option<&Path>,
        png: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Option<String>> {
        match (&self.written, file) {
            (Some(folder), _) => folder.write(&format!("{name}.js"), &png()?).map(Some),
            (None, Some(file)) => Ok(relative(&self.page, file)),
            (None, None) => Ok(None),
        }
    }

    /// Removes the files of an earlier page of this name that this one does not use, and says what was written. `None`
    /// if there was nothing to write.
    pub fn finish(self) -> Option<Beside> {
        let Folder { path: folder, files } = self.written?;
        let files = files.into_inner().unwrap_or_default();
        let is_used =
            |path: &PathBuf| files.iter().any(|(used, _)| path.file_name().is_some_and(|name| name == &**used));
        for path in scripts_in(&folder).into_iter().filter(|path| !is_used(path)) {
            std::fs::remove_file(path).ok(); // it only takes room
        }
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        (!files.is_empty()).then_some(Beside { folder, files: files.len(), bytes })
    }
}

/// The folder of the full pictures of a page.
fn folder_of(page: &Path) -> PathBuf {
    let stem = page.file_stem().unwrap_or_default().to_string_lossy();
    page.with_file_name(format!("{stem}-pictures"))
}

/// The scripts in a folder that a page has written there; those behind a link are somebody else's.
fn scripts_in(folder: &Path) -> Vec<PathBuf> {
    let is_folder = folder.symlink_metadata().is_ok_and(|about| about.is_dir());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_suffix("-picture.js").or_else(|| name.strip_suffix("-frames.js"));
        number.is_some_and(|number| number.len() >= 4 && number.bytes().all(|letter| letter.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(folder).into_iter().filter(|_| is_folder).flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_ours).collect()
}

/// Removes the full pictures that were written beside a page, and their folder if nothing else is in it. Returns the folder.
/// `None` if there are none.
///
/// # Errors
/// A file cannot be removed.
pub(super) fn remove_beside(page: &Path) -> Result<Option<PathBuf>> {
    let folder = folder_of(page);
    let scripts = scripts_in(&folder);
    if scripts.is_empty() {
        return Ok(None);
    }
    for script in scripts {
        std::fs::remove_file(&script).with_context(|| script.display().to_string())?;
    }
    std::fs::remove_dir(&folder).ok(); // other files in it stay
    Ok(Some(folder))
}

impl Folder {
    /// Writes an image as a script, and returns its path from the page.
    fn write(&self, name: &str, png: &[u8]) -> Result<String> {
        create_folder(&self.path)?;
        let url = super::html::sources::png_url(png);
        let script = format!("latentrace({}, {});\n", serde_json::to_string(name)?, serde_json::to_string(&url)?);
        replace_unsynced(&self.path.join(name), script.as_bytes())?;
        if let Ok(mut files) = self.files.lock() {
            files.push((name.into(), script.len() as u64));
        }
        let folder = self.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!("{folder}/{name}"))
    }
}

/// The path of a file from the folder of a page, with `/`. `None` if there is none, for instance to another drive, or
/// if it is not UTF-8.
pub fn relative(page: &Path, file: &Path) -> Option<String> {
    let folder = page.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Below the page the path is the one that was named, also through links of the file system.
    if let Ok(below) = file.strip_prefix(folder)
        && !below.components().any(|part| part == Component::ParentDir)
    {
        return joined(0, below.components());
    }
    let (folder, file) = (folder.canonicalize().ok()?, file.canonicalize().ok()?);
    let shared = folder.components().zip(file.components()).take_while(|(one, other)| one == other).count();
    joined(folder.components().count() - shared, file.components().skip(shared))
}

fn joined<'a>(up: usize, parts: impl Iterator<Item = Component<'a>>) -> Option<String> {
    let name = |part: Component<'a>| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    };
    let parts: Option<Vec<&str>> = std::iter::repeat_n(Some(".."), up).chain(parts.map(name)).collect();
    parts.map(|parts| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_from_the_folder_of_the_page() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("sweep/cells/a b")).unwrap();
        std::fs::create_dir_all(at("pages")).unwrap();
        std::fs::write(at("sweep/cells/a b/image.png"), "").unwrap();
        let file = at("sweep/cells/a b/image.png");
        assert_eq!(relative(&at("sweep/report.html"), &file).unwrap(), "cells/a b/image.png");
        assert_eq!(relative(&at("pages/page.html"), &file).unwrap(), "../sweep/cells/a b/image.png");
        let around = at("sweep/../sweep/cells/a b/image.png");
        assert_eq!(relative(&at("sweep/report.html"), &around).unwrap(), "cells/a b/image.png");
        assert_eq!(relative(&at("pages/page.html"), &at("nowhere.png")), None);
    }

    #[test]
    fn scripts_of_an_earlier_page_are_removed_and_other_files_stay() {
        let root = tempfile::tempdir().unwrap();
        let page = root.path().join("report.html");
        let folder = root.path().join("report-pictures");
        std::fs::create_dir(&folder).unwrap();
        for name in ["0001-picture.js", "0002-frames.js", "notes.js", "1-picture.js"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let full = FullPictures::new(&page, true).unwrap();
        let place = full.place("0001-picture", None, || Ok(vec![1, 2, 3])).unwrap();
        assert_eq!(place.as_deref(), Some("report-pictures/0001-picture.js"));
        let beside = full.finish().unwrap();
        let script = std::fs::read_to_string(folder.join("0001-picture.js")).unwrap();
        assert_eq!(script, "latentrace(\"0001-picture.js\", \"data:image/png;base64,AQID\");\n");
        assert_eq!((beside.files, beside.bytes), (1, script.len() as u64));
        let mut left: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["0001-picture.js", "1-picture.js", "notes.js"]);
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_an_error_before_anything_is_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("report-pictures"), "").unwrap();
        let error = |write| FullPictures::new(&root.path().join("report.html"), write).err();
        assert!(error(true).unwrap().to_string().contains("is a file, not a folder"));
        assert!(error(false).is_none());
    }
}
