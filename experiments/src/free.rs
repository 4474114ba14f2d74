//! Names of files that no earlier picture has, and that keep what differs from it.

use crate::cell::{Cell, FIELDS};
use crate::description::Description;
use crate::provenance;
use crate::store::slug;
use anyhow::{Context, Result};
use latentrace_trace::Trace;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What a recorded picture leaves under its name.
const ENDINGS: [&str; 3] = [".png", ".trace", "-previews.png"];

/// A name for the picture of a cell: `stem`; where that is taken, `stem` with the settings that differ, as in
/// `a-cat-193-guidance-4`; and where all are alike, `stem-2`, `stem-3`, .. Says which records were cut off.
pub fn stem(folder: &Path, stem: &str, cell: &Cell) -> String {
    let free = first_free(folder, stem, cell, &ENDINGS);
    for name in &free.taken {
        let trace = folder.join(format!("{name}.trace"));
        if Trace::open(&trace).is_ok_and(|trace| trace.end().is_none()) {
            eprintln!("note: {} was cut off\nhint: latentrace resume {0} goes on with it", trace.display());
        }
    }
    free.name
}

/// A new and still empty file for a grid of a cell's pictures, named as they are.
///
/// # Errors
/// The file cannot be made.
pub fn grid(folder: &Path, stem: &str, cell: &Cell) -> Result<PathBuf> {
    loop {
        let path = folder.join(first_free(folder, stem, cell, &[".png"]).name + ".png");
        match File::create_new(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {} // another process was first
            Err(error) => return Err(error).with_context(|| format!("{}: cannot create", path.display())),
        }
    }
}

/// A name that is free, and those before it that are not.
struct Free {
    name: String,
    taken: Vec<String>,
}

fn first_free(folder: &Path, stem: &str, cell: &Cell, endings: &[&str]) -> Free {
    let is_taken = |name: &str| endings.iter().any(|ending| folder.join(format!("{name}{ending}")).exists());
    let mut taken = Vec::new();
    let mut name = stem.to_string();
    if is_taken(&name) {
        let differences = holder(folder, &name).map(|other| differences(cell, &other)).unwrap_or_default();
        taken.push(std::mem::replace(&mut name, format!("{stem}-{differences}").trim_end_matches('-').into()));
    }
    let base = name.clone();
    let mut number = 2;
    while taken.contains(&name) || is_taken(&name) {
        taken.extend((!taken.contains(&name)).then(|| name.clone()));
        name = format!("{base}-{number}");
        number += 1;
    }
    Free { name, taken }
}

/// The cell of the picture or record that has a name.
fn holder(folder: &Path, name: &str) -> Option<Cell> {
    let of_picture = || {
        let text = provenance::text(&folder.join(format!("{name}.png"))).ok()?;
        let about: serde_json::Value = serde_json::from_str(&text).ok()?;
        serde_json::from_value(about.get("cell")?.clone()).ok()
    };
    let of_record = || {
        let trace = Trace::open(&folder.join(format!("{name}.trace"))).ok()?;
        Some(Description::of(&trace).ok()?.cell)
    };
    of_picture().or_else(of_record)
}

/// The settings of a cell that another has otherwise, as a file's name holds them.
fn differences(cell: &Cell, other: &Cell) -> String {
    let in_the_name = ["prompt", "seed", "image"];
    let differs = |field: &&&str| !in_the_name.contains(field) && cell.value(field) != other.value(field);
    let word = |field: &&str| match (*field, &cell.model) {
        ("negative", _) => format!("not {}", cell.value(field)),
        ("model", Some(folder)) => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        _ => format!("{field} {}", cell.value(field)),
    };
    let words: Vec<String> = FIELDS.iter().filter(differs).map(word).collect();
    slug(&words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_plot::{RgbImage, save_png};

    #[test]
    fn a_taken_name_is_followed_by_what_differs_or_by_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let keep = |name: &str, cell: &Cell| {
            let text = serde_json::json!({ "cell": cell }).to_string();
            save_png(&at(name), &RgbImage::new(1, 1), &[("Latentrace".into(), text)]).unwrap();
        };
        let (plain, strong) = (Cell::default(), Cell { guidance: (-4.0).into(), steps: 20, ..Cell::default() });
        assert_eq!(stem(folder.path(), "a-cat-7", &strong), "a-cat-7");
        keep("a-cat-7.png", &plain);
        assert_eq!(stem(folder.path(), "a-cat-7", &strong), "a-cat-7-steps-20-guidance--4");
        assert_eq!(stem(folder.path(), "a-cat-7", &plain), "a-cat-7-2");
        keep("a-cat-7-2.png", &plain);
        assert_eq!(stem(folder.path(), "a-cat-7", &plain), "a-cat-7-3");
        keep("a-cat-7-steps-20-guidance--4.png", &strong);
        assert_eq!(stem(folder.path(), "a-cat-7", &strong), "a-cat-7-steps-20-guidance--4-2");
        // A picture of an unknown origin is spared too, and so are previews and records by themselves.
        for other in ["x.png", "y-previews.png", "z.trace"] {
            std::fs::write(at(other), "").unwrap();
        }
        assert_eq!(["x", "y", "z"].map(|name| stem(folder.path(), name, &plain)), ["x-2", "y-2", "z-2"]);
        let grids = [(); 2].map(|_| grid(folder.path(), "x-1-to-9", &plain).unwrap());
        assert_eq!(grids, [at("x-1-to-9.png"), at("x-1-to-9-2.png")]);
    }
}
