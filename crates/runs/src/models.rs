//! Which model a command runs.

use crate::cell::Cell;
use crate::description::{Checkpoint, Description};
use crate::key;
use crate::located;
use crate::observer::Observer;
use anyhow::{Context, Result};
use latentrace_pipeline::{Model, Options};
use std::path::{Path, PathBuf};

/// Opens a model, and warns of tensors in its files that nothing read.
///
/// # Errors
/// See [`Model::open`].
pub fn open(folder: &Path, options: Options, observer: &dyn Observer) -> Result<Model> {
    let model = Model::open(folder, options)?;
    if let Some(first) = model.unread.first() {
        observer.warn(&format!("{} tensors of the checkpoint were never read, such as {first}", model.unread.len()));
    }
    Ok(model)
}

/// Opens the model of a recorded run: the one that is named, or else the first with the recorded content of where it was, the
/// way there from the record, and the bundled one.
///
/// # Errors
/// None of them has the files that the run was made with.
pub fn open_recorded(
    description: &Description,
    record: &Path,
    named: Option<&Path>,
    observer: &dyn Observer,
) -> Result<Model> {
    let Checkpoint { folder, relative, blake3 } = &description.model;
    let (places, hint) = match named {
        Some(named) => (vec![named.to_path_buf()], "name the checkpoint that the run was made with, or run anew"),
        None => (
            located::places(folder, relative.as_deref(), record),
            "put them back, name with --model where they are now, or run anew",
        ),
    };
    let is_same = |folder: &PathBuf| named.is_none() && key::hash(folder).is_ok_and(|found| found == *blake3);
    let found =
        located::find(&places, blake3, key::hash, hint).or_else(|error| bundled().ok().filter(is_same).ok_or(error));
    let found = found.context("the model of this run")?;
    open(&found, description.cell.options(), observer)
}

/// The model in use; a cell with another one has it replaced.
#[derive(Default)]
pub struct Loaded(Option<(Cell, Model)>);

impl Loaded {
    /// The model that a cell asks for.
    pub fn get(&mut self, cell: &Cell, observer: &dyn Observer) -> Result<&Model> {
        let same = |held: &Cell| held.model == cell.model && held.options() == cell.options();
        let (held, model) = match self.0.take() {
            Some((held, model)) if same(&held) => (held, model),
            _ => (cell.clone(), open(&cell.folder()?, cell.options(), observer)?),
        };
        Ok(&self.0.insert((held, model)).1)
    }
}

/// The bundled checkpoint, from whatever folder the program is called.
pub fn bundled() -> Result<PathBuf> {
    let found = home().map(|home| home.join("data/models/shapes")).filter(|folder| folder.is_dir());
    found.ok_or_else(|| {
        anyhow::anyhow!("data/models/shapes: the bundled model is not beside the program\nhint: name a checkpoint folder with --model")
    })
}

/// The checkout that the program belongs to: the one it lies in, or else the one it was built in.
pub fn home() -> Option<PathBuf> {
    let is_home = |folder: &&Path| folder.join("data/models").is_dir() && folder.join("experiments").is_dir();
    let program = std::env::current_exe().ok();
    let around = program.as_deref().and_then(|program| program.ancestors().find(is_home).map(Path::to_path_buf));
    around.or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).filter(is_home).map(Path::to_path_buf))
}
