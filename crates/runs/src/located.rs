//! Files and folders that a record refers to, found again after they or the record have been moved.

use anyhow::{Context, Result, bail};
use latentrace_pipeline::Choice;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::path::{Component, Path, PathBuf};

/// A file or folder outside a record, identified by the hash of its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Located {
    /// Its absolute path when the record was made.
    pub path: PathBuf,
    /// The same path, relative to the record's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<PathBuf>,
    /// The blake3 hash of its content, in hexadecimal.
    pub blake3: String,
}

/// The places where a file may be: its absolute path, its path relative to the record, and beside the record.
pub fn places(path: &Path, relative: Option<&Path>, record: &Path) -> Vec<PathBuf> {
    let mut places = vec![path.to_path_buf()];
    places.extend(relative.map(|relative| record.join(relative)));
    places.extend(beside(path, record));
    places
}

/// The path beside the record's run with the same file name. A record in a run's folder has the name of that folder.
fn beside(path: &Path, record: &Path) -> Option<PathBuf> {
    let of_run = |path: &Path| path.file_name().is_some_and(|name| name == "trace");
    named_in(if of_run(record) { record.parent()?.parent()? } else { record.parent()? }, path)
}

/// The place in a folder that has the name of something. Records and pictures of runs all have the same name, so they
/// are named by their run's folder.
pub fn named_in(home: &Path, path: &Path) -> Option<PathBuf> {
    match path.file_name()? {
        name if name == "trace" || name == "image.png" => Some(home.join(path.parent()?.file_name()?).join(name)),
        name => Some(home.join(name)),
    }
}

/// What the checkpoint of a run or a picture is called, with what changes it.
pub fn checkpoint_of(whose: &str, choice: &Choice) -> String {
    let more =
        if choice.loras.is_empty() && choice.embeddings.is_empty() { "" } else { ", with its LoRAs and embeddings" };
    format!("the checkpoint of this {whose}{more}")
}

/// Replaces paths that no longer exist by files of the same name in one of the folders. The checkpoint's hash covers
/// their content.
pub fn choice_in(homes: &[&Path], choice: Choice) -> Choice {
    let found = |path: PathBuf| {
        let other = homes.iter().filter_map(|home| named_in(home, &path)).find(|other| other.exists());
        let path = if path.exists() { path } else { other.unwrap_or(path) };
        Ok::<PathBuf, Infallible>(path)
    };
    choice.map_paths(found).unwrap_or_else(|never| match never {})
}

/// The first of several places whose content has a hash.
///
/// # Errors
/// None of them has it. The error begins with `what` the file is, and ends with `hint`.
pub fn find(
    what: &str,
    places: &[PathBuf],
    blake3: &str,
    hash: &dyn Fn(&Path) -> Result<String>,
    hint: &str,
) -> Result<PathBuf> {
    let there: Vec<&PathBuf> = places.iter().filter(|place| place.exists()).collect();
    for place in &there {
        if hash(place).with_context(|| place.display().to_string())? == blake3 {
            return Ok(place.to_path_buf());
        }
    }
    match there.first() {
        Some(place) => {
            bail!("{what}: {}: its files are not those that the run was made with\nhint: {hint}", place.display())
        }
        None => {
            let named: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
            bail!("{what}: not found: looked in {}\nhint: {hint}", named.join(", "))
        }
    }
}

/// The relative path from a folder, which may not exist yet, to a file or folder. `None` if that does not exist.
pub fn way(from: &Path, to: &Path) -> Option<PathBuf> {
    let (from, to) = (resolved(from)?, std::fs::canonicalize(to).ok()?);
    let (from, to): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - shared);
    Some(up.chain(to[shared..].iter().copied()).collect())
}

/// An absolute path without links. Its last components need not exist.
fn resolved(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    let rest = path.strip_prefix(there).ok()?;
    Some(std::fs::canonicalize(there).ok()?.join(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_leads_from_one_folder_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("models/a")).unwrap();
        std::fs::create_dir_all(at("runs/x.trace")).unwrap();
        for (from, expected) in
            [("runs/x.trace", "../../models/a"), ("runs/new/y.trace", "../../../models/a"), ("models", "a")]
        {
            assert_eq!(way(&at(from), &at("models/a")).unwrap(), Path::new(expected), "{from}");
        }
        assert_eq!(way(&at("models/a"), &at("models/a")).unwrap(), Path::new(""));
        assert_eq!(way(&at("runs"), &at("nowhere")), None);
    }

    #[test]
    fn the_place_with_the_right_content_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let hash = |path: &Path| Ok(std::fs::read_to_string(path)?);
        for (name, text) in [("a", "one"), ("b", "two")] {
            std::fs::write(at(name), text).unwrap();
        }
        let found = |text: &str| find("the file", &[at("c"), at("a"), at("b")], text, &hash, "look elsewhere");
        assert_eq!((found("one").unwrap(), found("two").unwrap()), (at("a"), at("b")));
        let error = found("three").unwrap_err().to_string();
        assert!(error.contains("a: its files are not those") && error.ends_with("hint: look elsewhere"), "{error}");
        let error = find("the file", &[at("c"), at("d")], "", &hash, "look elsewhere").unwrap_err().to_string();
        assert!(error.starts_with("the file: not found: looked in ") && error.contains("c, "), "{error}");
    }
}
