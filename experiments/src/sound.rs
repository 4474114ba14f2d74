//! Whether the folder of a cell has all files of that cell, and none of another.

use crate::manifest::{self, Differences};
use latentrace_files::read_text;
use latentrace_runs::{RunFolder, text};
use serde_json::Value;
use std::path::Path;

/// What is wrong with the folder of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A file is missing or cannot be read.
    Damaged(String),
    /// Files are not those whose hashes are in its manifest.
    Changed(Differences),
    /// A file is of another cell.
    Swapped {
        /// The file.
        file: &'static str,
        /// The key of the other cell; empty if the file does not say it.
        key: String,
    },
}

/// Checks the folder of the cell with a key, by the files that say of which cell they are.
pub(crate) fn check(run: &RunFolder, key: &str) -> Result<(), Fault> {
    let read = |path: &Path| read_text(path).map_err(|error| Fault::Damaged(error.to_string()));
    let parsed = |path: &Path, text: &str| -> Result<Value, Fault> {
        serde_json::from_str(text).map_err(|error| Fault::Damaged(format!("{}: {error}", path.display())))
    };
    let settings_file = run.path().join("cell.json");
    let settings = parsed(&settings_file, &read(&settings_file)?)?;
    of_cell("cell.json", &settings, key)?;
    let about = text(run.picture()).map_err(|error| Fault::Damaged(shortened(&error)))?;
    of_cell("image.png", &parsed(run.picture(), &about)?, key)?;
    let record = run.trace().join("run.json");
    match parsed(&record, &read(&record)?)?["cell"] == settings["cell"] {
        true => Ok(()),
        false => Err(Fault::Swapped { file: "trace/run.json", key: String::new() }),
    }
}

/// Checks the folder of the cell with a key, and reads all its files: they must have the hashes that are in its manifest, if an
/// earlier version did not make it without one.
pub(crate) fn check_all(run: &RunFolder, key: &str) -> Result<(), Fault> {
    check(run, key)?;
    match manifest::differences(run.path()) {
        Ok(Some(found)) if found.is_damage() => Err(Fault::Changed(found)),
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::Damaged(format!("{error:#}"))),
    }
}

/// Checks the key in the settings of a file.
fn of_cell(file: &'static str, about: &Value, key: &str) -> Result<(), Fault> {
    match about["key"].as_str() {
        Some(own) if own == key => Ok(()),
        own => Err(Fault::Swapped { file, key: own.unwrap_or_default().into() }),
    }
}

/// The first line of an error: its hint is about pictures in general.
fn shortened(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().into()
}

impl Fault {
    /// What is wrong, in a line. `place` is the folder that the other cell's files belong into, if there is one.
    pub(crate) fn said(&self, folder: &Path, place: Option<&Path>) -> String {
        match self {
            Fault::Damaged(error) => error.clone(),
            Fault::Changed(found) => format!("{}: {found}", folder.display()),
            Fault::Swapped { file, key } => {
                let of = match (key.as_str(), place) {
                    ("", _) => "another cell".to_string(),
                    (key, None) => format!("the cell {key}"),
                    (key, Some(place)) => format!("the cell {key}, whose folder is {}", place.display()),
                };
                format!("{}: its {file} is of {of}; if folders were renamed, rename them back", folder.display())
            }
        }
    }
}
