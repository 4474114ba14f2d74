//! Names for new folders and files. A name says how a run differs from an earlier one.

use crate::cell::{Cell, FIELDS};
use crate::description::Description;
use crate::folder::RunFolder;
use crate::observer::Observer;
use crate::provenance;
use anyhow::{Context, Result, bail};
use latentrace_files::slug;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Makes a new folder for the run of a cell. Its name is `stem`; if that is taken, `stem` with the settings that
/// differ, such as `a-cat-193-guidance-4`; and if none differ, `stem-2`, `stem-3`, .. The observer is told of runs with
/// such a name that were interrupted.
///
/// Two processes never get the same folder, because making a folder is atomic.
///
/// # Errors
/// The folder cannot be made.
pub fn take(folder: &Path, stem: &str, cell: &Cell, observer: &dyn Observer) -> Result<RunFolder> {
    for name in names(folder, stem, cell) {
        let path = folder.join(&name);
        // Earlier versions kept a record and a picture under these names.
        if [".trace", ".png"].iter().any(|ending| folder.join(format!("{name}{ending}")).exists()) {
            continue;
        }
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(RunFolder::new(&path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => mention(&path, observer),
            Err(error) => return Err(error).with_context(|| format!("{}: cannot create", path.display())),
        }
    }
    bail!("{}: {MOST} runs are named {stem} already", folder.display())
}

/// The largest number at the end of a name.
const MOST: usize = 100_000;

/// Tells the observer if the run that has a name was interrupted.
fn mention(path: &Path, observer: &dyn Observer) {
    let read = RunFolder::find(path).and_then(|run| run.read());
    if read.is_ok_and(|trace| trace.end().is_none() && trace.live().is_none()) {
        observer.note(&format!("{} was cut off\nhint: latentrace resume {0} continues it", path.display()));
    }
}

/// Makes a new, empty file for a grid of a cell's pictures, with a name as in [`take`]. Returns its path.
///
/// # Errors
/// The file cannot be made.
pub fn grid(folder: &Path, stem: &str, cell: &Cell) -> Result<PathBuf> {
    for name in names(folder, stem, cell) {
        let path = folder.join(name + ".png");
        match File::create_new(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{}: cannot create", path.display())),
        }
    }
    bail!("{}: {MOST} grids are named {stem} already", folder.display())
}

/// The names to try, in order. The earlier run is read only if the first name is taken.
fn names(folder: &Path, stem: &str, cell: &Cell) -> impl Iterator<Item = String> {
    let base = move || {
        let differences = holder(folder, stem).map(|other| differences(cell, &other)).unwrap_or_default();
        format!("{stem}-{differences}").trim_end_matches('-').to_string()
    };
    let numbered = move |base: String| {
        let first = Some(base.clone()).filter(|base| base != stem);
        first.into_iter().chain((2..=MOST).map(move |number| format!("{base}-{number}")))
    };
    std::iter::once(stem.to_string()).chain(std::iter::once_with(base).flat_map(numbered))
}

/// The cell of the run or picture with a name.
fn holder(folder: &Path, name: &str) -> Option<Cell> {
    let of_picture = |path: PathBuf| {
        let about: serde_json::Value = serde_json::from_str(&provenance::text(&path).ok()?).ok()?;
        serde_json::from_value(about.get("cell")?.clone()).ok()
    };
    let of_record = |path: PathBuf| {
        let trace = RunFolder::find(&path).and_then(|run| run.read()).ok()?;
        Some(Description::of(&trace).ok()?.cell)
    };
    let at = |ending: &str| folder.join(format!("{name}{ending}"));
    of_record(at("")).or_else(|| of_picture(at(".png"))).or_else(|| of_record(at(".trace")))
}

/// The name of a file without its ending.
fn file_stem(path: Option<&Path>) -> String {
    path.and_then(Path::file_stem).unwrap_or_default().to_string_lossy().into_owned()
}

/// The settings of a cell that differ from those of another, as part of a file name.
fn differences(cell: &Cell, other: &Cell) -> String {
    let in_the_name = ["prompt", "seed", "image"];
    let differs = |field: &&&str| !in_the_name.contains(field) && cell.value(field) != other.value(field);
    let word = |field: &&str| match (*field, &cell.model) {
        ("negative", _) => format!("not {}", cell.value(field)),
        ("mask", _) => format!("mask {}", file_stem(cell.mask.as_deref())),
        ("model", Some(folder)) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        _ => format!("{field} {}", cell.value(field)),
    };
    let words: Vec<String> = FIELDS.iter().filter(differs).map(word).collect();
    slug(&words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;
    use latentrace_files::png::save_png;

    #[test]
    fn a_taken_name_is_followed_by_what_differs_or_by_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let keep = |name: &str, cell: &Cell| {
            let text = serde_json::json!({ "cell": cell }).to_string();
            save_png(&at(name), &RgbImage::new(1, 1), &[("Latentrace".into(), text)]).unwrap();
        };
        let (plain, strong) = (Cell::default(), Cell { guidance: (-4.0).into(), steps: 20, ..Cell::default() });
        let take = |stem: &str, cell: &Cell| take(folder.path(), stem, cell, &()).unwrap().name();
        keep("a-cat-7.png", &plain);
        assert_eq!(take("a-cat-7", &strong), "a-cat-7-steps-20-guidance--4");
        assert_eq!(take("a-cat-7", &plain), "a-cat-7-2");
        assert_eq!(take("a-cat-7", &plain), "a-cat-7-3");
        assert_eq!(take("a-cat-7", &strong), "a-cat-7-steps-20-guidance--4-2");
        // Pictures of other programs, records and folders keep their names too.
        for other in ["x.png", "y", "z.trace"] {
            std::fs::write(at(other), "").unwrap();
        }
        assert_eq!(["x", "y", "z"].map(|name| take(name, &plain)), ["x-2", "y-2", "z-2"]);
        let grids = [(); 2].map(|_| grid(folder.path(), "x-1-to-9", &plain).unwrap());
        assert_eq!(grids, [at("x-1-to-9.png"), at("x-1-to-9-2.png")]);
    }

    #[test]
    fn each_of_many_threads_gets_its_own_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cell = Cell::default();
        let names: Vec<PathBuf> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| take(folder.path(), "cat", &cell, &()).unwrap().path().to_path_buf()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let different: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(different.len(), 8);
    }

    #[test]
    fn a_picture_without_a_record_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cat.png"), "a picture without a record").unwrap();
        assert_eq!(take(folder.path(), "cat", &Cell::default(), &()).unwrap().name(), "cat-2");
        assert!(!folder.path().join("cat").exists());
        assert!(take(&folder.path().join("nowhere"), "cat", &Cell::default(), &()).is_err());
    }
}
