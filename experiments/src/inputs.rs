//! The files that decide a picture besides its settings, by their content.

use crate::cell::Cell;
use crate::store;
use anyhow::{Context, Result, bail, ensure};
use latentrace_trace::Edits;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A file or folder, and the hash of what is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Where it was, from the root.
    pub path: PathBuf,
    /// blake3 of its content; for a checkpoint and for a record, of the files that decide what they hold.
    pub blake3: String,
}

/// What a cell reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// The checkpoint.
    pub model: Content,
    /// The picture that the run starts from. A fork has its latents in the record, and needs it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Content>,
    /// The records that its edits read, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Content>,
}

impl Content {
    fn of(path: &Path, hash: fn(&Path) -> Result<String>) -> Result<Content> {
        Ok(Content { path: std::path::absolute(path)?, blake3: hash(path)? })
    }

    /// The first of several places with this content.
    ///
    /// # Errors
    /// It is nowhere: nothing is there, or something else.
    fn found(&self, what: &str, hint: &str, places: &[PathBuf], hash: fn(&Path) -> Result<String>) -> Result<PathBuf> {
        let there: Vec<&PathBuf> = places.iter().filter(|place| place.exists()).collect();
        let same = |place: &&&PathBuf| hash(place).is_ok_and(|found| found == self.blake3);
        if let Some(place) = there.iter().find(same) {
            return Ok(place.to_path_buf());
        }
        let why = if there.is_empty() { "is not there any more" } else { "has changed since" };
        bail!("{}: {what} {why}\nhint: {hint}", self.path.display())
    }
}

impl Inputs {
    /// The files of a cell.
    pub fn of(cell: &Cell) -> Result<Inputs> {
        let image = cell.image.as_deref().filter(|path| path.is_file());
        Ok(Inputs {
            model: Content::of(&cell.folder()?, store::hash)?,
            image: image.map(|path| Content::of(path, hash_of_file)).transpose()?,
            traces: traces(cell)?.iter().map(|path| Content::of(path, hash_of_trace)).collect::<Result<_>>()?,
        })
    }

    /// A cell with its paths as they are now: each is looked for where it was, as the cell has it from here, and beside
    /// `home`. What is given anew, as `model` or `image`, is taken as it is.
    ///
    /// # Errors
    /// A file is not there any more, or has another content.
    pub fn found(&self, cell: &Cell, home: &Path, model: Option<&Path>, image: Option<&Path>) -> Result<Cell> {
        let places = |content: &Content, asked: Option<&Path>| {
            let beside = content.path.file_name().map(|name| home.join(name));
            let mut places: Vec<PathBuf> = asked.map(Path::to_path_buf).into_iter().collect();
            places.push(content.path.clone());
            places.extend(beside);
            places
        };
        let mut cell = cell.clone();
        match model {
            Some(model) => cell.model = Some(model.into()),
            None => {
                let hint = "--model names a checkpoint folder to use";
                let asked = cell.folder().ok();
                let found = self.model.found(
                    "the model of this picture",
                    hint,
                    &places(&self.model, asked.as_deref()),
                    store::hash,
                )?;
                if cell.model.is_some() || asked != Some(found.clone()) {
                    cell.model = Some(found);
                }
            }
        }
        match (image, &self.image, &cell.image) {
            (Some(image), ..) => cell.image = Some(image.into()),
            (None, Some(content), asked) => {
                let hint = "--image names a picture to start from";
                let places = places(content, asked.as_deref());
                cell.image = Some(content.found("the picture that it starts from", hint, &places, hash_of_file)?);
            }
            (None, None, _) => {}
        }
        let asked = traces(&cell)?;
        ensure!(asked.len() == self.traces.len(), "the picture's edits and the records that they read do not fit");
        for (content, asked) in self.traces.iter().zip(asked) {
            let hint = "put the record there again";
            let places = places(content, Some(&asked));
            let found = content.found("a record that an edit of this picture reads", hint, &places, hash_of_trace)?;
            let of_it = cell.edits.iter_mut().filter(|edit| reads(edit, &asked));
            of_it.for_each(|edit| *edit = reading(edit, &asked, &found.display().to_string()));
        }
        Ok(cell)
    }
}

/// The cell as JSON, every path replaced by the hash of what is there, so that it names its pixels and not its files.
pub fn by_content(cell: &Cell, inputs: &Inputs) -> Result<serde_json::Value> {
    let mut cell = cell.clone();
    for (path, content) in traces(&cell)?.iter().zip(&inputs.traces) {
        let of_it = cell.edits.iter_mut().filter(|edit| reads(edit, path));
        of_it.for_each(|edit| *edit = reading(edit, path, &content.blake3));
    }
    let mut about = serde_json::to_value(cell)?;
    about["model"] = inputs.model.blake3.clone().into();
    if let Some(image) = &inputs.image {
        about["image"] = image.blake3.clone().into();
    }
    Ok(about)
}

/// The records that a cell's edits read, each once.
fn traces(cell: &Cell) -> Result<Vec<PathBuf>> {
    let mut traces = Vec::new();
    for edit in &cell.edits {
        traces.extend(Edits::reads(edit)?.filter(|path| !traces.contains(path)));
    }
    Ok(traces)
}

fn reads(edit: &str, trace: &Path) -> bool {
    Edits::reads(edit).is_ok_and(|path| path.is_some_and(|path| path == trace))
}

/// An edit that reads a record, with another name for that: the first thing in its parentheses.
fn reading(edit: &str, trace: &Path, name: &str) -> String {
    let begin = edit.find("=>").and_then(|arrow| Some(arrow + edit[arrow..].find('(')?)).unwrap_or_default();
    edit[..begin].to_string() + &edit[begin..].replacen(&trace.display().to_string(), name, 1)
}

fn hash_of_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(path).with_context(|| path.display().to_string())?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The hash of what a record holds: its index, which has a checksum of every tensor, and its shards.
fn hash_of_trace(folder: &Path) -> Result<String> {
    let shards = folder.join("shards");
    let entries = std::fs::read_dir(&shards).with_context(|| shards.display().to_string())?.flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    store::known_hash(folder, &[vec![folder.join("index.jsonl")], files].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(folder: &Path, name: &str, index: &str) -> PathBuf {
        let trace = folder.join(name);
        std::fs::create_dir_all(trace.join("shards")).unwrap();
        std::fs::write(trace.join("index.jsonl"), index).unwrap();
        std::fs::write(trace.join("shards/000000.safetensors"), "numbers").unwrap();
        trace
    }

    fn cell_with(trace: &Path) -> Cell {
        let edits = vec![format!("unet.** => replace({})", trace.display()), "sampler.sample => zero".into()];
        Cell { edits, ..Cell::default() }
    }

    #[test]
    fn a_cell_is_named_by_what_its_edits_read_and_not_by_where_that_is() {
        let folder = tempfile::tempdir().unwrap();
        let about = |trace: &Path| {
            let cell = cell_with(trace);
            by_content(&cell, &Inputs::of(&cell).unwrap()).unwrap()
        };
        let [one, same, other] = [("one", "a"), ("same", "a"), ("other", "b")]
            .map(|(name, index)| about(&record(folder.path(), name, index)));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(one["edits"][1], "sampler.sample => zero");
        assert_eq!(reading("a.out@step[1] => add( a , 0.5)", Path::new("a"), "b"), "a.out@step[1] => add( b , 0.5)");
        assert_eq!(reading("**.out => replace(a)", Path::new("a"), "/b/c d"), "**.out => replace(/b/c d)");
    }

    #[test]
    fn what_has_moved_is_found_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let trace = record(folder.path(), "a.trace", "a");
        let photo = folder.path().join("photo.png");
        std::fs::write(&photo, "pixels").unwrap();
        let cell = Cell { image: Some(photo.clone()), ..cell_with(&trace) };
        let inputs = Inputs::of(&cell).unwrap();
        assert_eq!(inputs.found(&cell, Path::new("."), None, None).unwrap(), cell, "nothing has moved");
        let elsewhere = tempfile::tempdir().unwrap();
        for name in ["photo.png", "a.trace"] {
            std::fs::rename(folder.path().join(name), elsewhere.path().join(name)).unwrap();
        }
        let found = inputs.found(&cell, elsewhere.path(), None, None).unwrap();
        assert_eq!(found.image.unwrap(), elsewhere.path().join("photo.png"));
        assert!(found.edits[0].ends_with(&format!("replace({})", elsewhere.path().join("a.trace").display())));
        std::fs::write(elsewhere.path().join("photo.png"), "other pixels").unwrap();
        let error = inputs.found(&cell, elsewhere.path(), None, None).unwrap_err().to_string();
        assert!(error.contains("has changed since") && error.contains("--image"), "{error}");
        let error = inputs.found(&cell, Path::new("."), None, None).unwrap_err().to_string();
        assert!(error.contains("photo.png: the picture that it starts from is not there any more"), "{error}");
    }
}
