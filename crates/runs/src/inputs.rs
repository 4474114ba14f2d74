//! The files that a cell reads, identified by their content.

use crate::cell::Cell;
use crate::key;
use crate::located::{self, Located};
use anyhow::{Context, Result, ensure};
use latentrace_pipeline::{Inversion, Lora};
use latentrace_trace::EditRule;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The files and folders that a cell reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// The checkpoint.
    pub model: Located,
    /// The picture that the run starts from. A fork does not need it, because its record has the latents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Located>,
    /// The mask of that picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Located>,
    /// The text features that are used in place of the texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Located>,
    /// The records that the cell's edits read, in the order of the edits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Located>,
}

/// A file or folder with the hash of its present content.
fn now(path: &Path, hash: &dyn Fn(&Path) -> Result<String>) -> Result<Located> {
    Ok(Located { path: std::path::absolute(path)?, relative: None, blake3: hash(path)? })
}

/// The picture that a cell starts from, or its mask, if the file exists. A fork does not need it, because its record has
/// the latents.
///
/// # Errors
/// The file cannot be read.
pub fn picture_at(path: Option<&Path>) -> Result<Option<Located>> {
    path.filter(|path| path.is_file()).map(|path| now(path, &hash_of_file)).transpose()
}

/// The file of text features that a cell reads.
///
/// # Errors
/// The file cannot be read.
pub fn features_of(cell: &Cell) -> Result<Option<Located>> {
    cell.features.as_deref().map(|path| now(path, &hash_of_file)).transpose()
}

/// The records that a cell's edits read.
///
/// # Errors
/// A record cannot be read.
pub fn traces_of(cell: &Cell) -> Result<Vec<Located>> {
    traces(cell).iter().map(|path| now(path, &key::hash_of_trace)).collect()
}

/// Files that replace those of a cell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Instead<'a> {
    /// The checkpoint.
    pub model: Option<&'a Path>,
    /// The picture that the run starts from.
    pub image: Option<&'a Path>,
    /// The mask of that picture.
    pub mask: Option<&'a Path>,
}

impl Inputs {
    /// The files and folders of a cell, with the hashes of their present content.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn of(cell: &Cell) -> Result<Inputs> {
        let hash = |place: &Path| key::hash(place, &cell.choice());
        Ok(Inputs {
            model: now(&cell.place()?, &hash)?,
            image: picture_at(cell.image.as_deref())?,
            mask: picture_at(cell.mask.as_deref())?,
            features: features_of(cell)?,
            traces: traces_of(cell)?,
        })
    }

    /// The cell with its present paths. Each file is searched for at its recorded place, at the cell's path, and in the
    /// folder `home`. The files of `instead` replace the cell's, with any content.
    ///
    /// # Errors
    /// A file no longer exists, or its content has changed.
    pub fn found(&self, cell: &Cell, home: &Path, Instead { model, image, mask }: Instead) -> Result<Cell> {
        let places = |content: &Located, asked: Option<&Path>| {
            let mut places: Vec<PathBuf> = asked.map(Path::to_path_buf).into_iter().collect();
            places.push(content.path.clone());
            let homes = [Some(home), home.parent()].into_iter().flatten(); // a picture lies in its run's folder
            places.extend(homes.filter_map(|home| located::named_in(home, &content.path)));
            places
        };
        let homes: Vec<&Path> = [Some(home), home.parent()].into_iter().flatten().collect();
        let mut cell = cell.clone().with_choice(located::choice_in(&homes, cell.choice()));
        match model {
            Some(model) => cell.model = Some(model.into()),
            None => {
                let what = located::checkpoint_of("picture", &cell.choice());
                let hint = "--model names a checkpoint folder to use";
                let asked = cell.place().ok();
                let places = places(&self.model, asked.as_deref());
                let hash = |place: &Path| key::hash(place, &cell.choice());
                let found = located::find(&what, &places, &self.model.blake3, &hash, hint)?;
                if cell.model.is_some() || asked != Some(found.clone()) {
                    cell.model = Some(found);
                }
            }
        }
        for (instead, content, asked, what, hint) in [
            (
                image,
                &self.image,
                &mut cell.image,
                "the picture that it starts from",
                "--image names a picture to start from",
            ),
            (mask, &self.mask, &mut cell.mask, "the mask of its picture", "--mask names a mask"),
        ] {
            match (instead, content) {
                (Some(instead), _) => *asked = Some(instead.into()),
                (None, Some(content)) => {
                    let places = places(content, asked.as_deref());
                    *asked = Some(located::find(what, &places, &content.blake3, &hash_of_file, hint)?);
                }
                (None, None) => {}
            }
        }
        if let Some(content) = &self.features {
            let places = places(content, cell.features.as_deref());
            let (what, hint) = ("the text features", "put the file back in one of these places");
            cell.features = Some(located::find(what, &places, &content.blake3, &hash_of_file, hint)?);
        }
        let asked = traces(&cell);
        ensure!(asked.len() == self.traces.len(), "the picture's edits do not match the records that they read");
        for (content, asked) in self.traces.iter().zip(asked) {
            let (what, hint) = ("the record that an edit reads", "put the record back in one of these places");
            let places = places(content, Some(&asked));
            let found = located::find(what, &places, &content.blake3, &key::hash_of_trace, hint)?;
            read_from(&mut cell.edits, &asked, &found);
        }
        Ok(cell)
    }
}

/// The fields that name files of the checkpoint, whose hash is of them all. A family is no file: it stays.
const PARTS: [&str; 9] =
    ["revision", "variant", "text_encoder", "text_encoder_2", "unet", "vae", "tokenizer", "tokenizer_2", "config"];

/// The cell as JSON, with each path replaced by the hash of its content. So cells with the same pixels are equal,
/// wherever their files are.
///
/// # Errors
/// The cell cannot be written as JSON.
pub fn by_content(cell: &Cell, inputs: &Inputs) -> Result<serde_json::Value> {
    let mut cell = cell.clone();
    for (path, content) in traces(&cell).iter().zip(&inputs.traces) {
        read_from(&mut cell.edits, path, Path::new(&content.blake3));
    }
    let token = |inversion: &Inversion| inversion.token.clone().unwrap_or_else(|| file_name(&inversion.file));
    let tokens: Vec<String> = cell.embeddings.iter().map(token).collect();
    let named = |lora: &Lora| Lora { file: PathBuf::from(""), ..lora.clone() };
    let loras: Vec<Lora> = cell.loras.iter().map(named).collect();
    let mut about = serde_json::to_value(cell)?;
    about["model"] = inputs.model.blake3.clone().into();
    // The key has the kernels that the model runs on, chosen or not.
    about.as_object_mut().and_then(|fields| fields.remove("kernels"));
    for field in PARTS {
        about.as_object_mut().and_then(|fields| fields.remove(field));
    }
    // The hash is of the files of embeddings too, but not of their tokens.
    if !tokens.is_empty() {
        about["embeddings"] = tokens.into();
    }
    // The same for LoRAs and their scales.
    if !loras.is_empty() {
        about["loras"] = serde_json::to_value(loras)?;
    }
    for (field, content) in [("image", &inputs.image), ("mask", &inputs.mask), ("features", &inputs.features)] {
        if let Some(content) = content {
            about[field] = content.blake3.clone().into();
        }
    }
    Ok(about)
}

/// The records that a cell's edits read, without duplicates.
fn traces(cell: &Cell) -> Vec<PathBuf> {
    let mut traces: Vec<PathBuf> = Vec::new();
    for path in cell.edits.iter().filter_map(EditRule::reads) {
        if !traces.iter().any(|known| known == path) {
            traces.push(path.into());
        }
    }
    traces
}

/// Replaces a record that edits read by another.
fn read_from(edits: &mut [EditRule], trace: &Path, other: &Path) {
    for edit in edits.iter_mut().filter(|edit| edit.reads() == Some(trace)) {
        *edit = edit.clone().reading(other);
    }
}

/// The name of a file, which is the token of some embeddings.
fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn hash_of_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(path).with_context(|| path.display().to_string())?;
    Ok(hasher.finalize().to_hex().to_string())
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
        let edits = [format!("unet.** => replace({})", trace.display()), "sampler.sample => zero".into()];
        let edits = edits.map(|text| text.parse().unwrap()).into();
        Cell { edits, ..Cell::default() }
    }

    #[test]
    fn a_cell_depends_on_the_content_of_records_and_not_on_their_paths() {
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
        let mut edits = ["a.out @step[1] => add( a , 0.5)", "**.out => replace(a)", "** => zero"]
            .map(|text| text.parse::<EditRule>().unwrap());
        read_from(&mut edits, Path::new("a"), Path::new("/b/c d"));
        let expected = ["a.out @step[1] => add(/b/c d, 0.5)", "**.out => replace(/b/c d)", "** => zero"];
        assert_eq!(edits.map(|edit| edit.to_string()), expected);
    }

    #[test]
    fn moved_files_are_found_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let trace = record(folder.path(), "a.trace", "a");
        let photo = folder.path().join("photo.png");
        std::fs::write(&photo, "pixels").unwrap();
        let mask = folder.path().join("mask.png");
        std::fs::write(&mask, "other pixels").unwrap();
        let cell = Cell { image: Some(photo.clone()), mask: Some(mask), ..cell_with(&trace) };
        let inputs = Inputs::of(&cell).unwrap();
        assert_eq!(inputs.found(&cell, Path::new("."), Instead::default()).unwrap(), cell, "nothing has moved");
        let elsewhere = tempfile::tempdir().unwrap();
        for name in ["photo.png", "mask.png", "a.trace"] {
            std::fs::rename(folder.path().join(name), elsewhere.path().join(name)).unwrap();
        }
        let found = inputs.found(&cell, elsewhere.path(), Instead::default()).unwrap();
        assert_eq!(found.image.unwrap(), elsewhere.path().join("photo.png"));
        assert_eq!(found.mask.unwrap(), elsewhere.path().join("mask.png"));
        assert!(found.edits[0].text().ends_with(&format!("replace({})", elsewhere.path().join("a.trace").display())));
        std::fs::write(elsewhere.path().join("photo.png"), "changed pixels").unwrap();
        let error = inputs.found(&cell, elsewhere.path(), Instead::default()).unwrap_err().to_string();
        assert!(error.contains("its files are not those") && error.contains("--image"), "{error}");
        let error = inputs.found(&cell, Path::new("."), Instead::default()).unwrap_err().to_string();
        assert!(error.contains("photo.png") && error.contains("not found: looked in "), "{error}");
    }
}
