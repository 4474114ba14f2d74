//! Which model a command runs.

use crate::cell::Cell;
use crate::description::{Checkpoint, Description};
use crate::located;
use crate::store;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use latentrace_pipeline::{Device, Dtype, Model, Options};
use std::path::{Path, PathBuf};

/// The model and how it is loaded, as every command that runs one takes them.
#[derive(Args, Clone, Debug)]
pub struct ModelArguments {
    /// Checkpoint folder in the diffusers layout; without it, the bundled model of shapes
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Number format to run in, whatever the files hold [default: f32]
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeName>,
    /// Where to run [default: auto, which is a CUDA device where there is one]
    #[arg(long, value_enum)]
    pub device: Option<DeviceName>,
}

/// [`Dtype`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DtypeName {
    F32,
    F16,
    Bf16,
}

/// [`Device`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DeviceName {
    Auto,
    Cpu,
    Cuda,
}

impl ModelArguments {
    /// The checkpoint folder.
    pub fn folder(&self) -> Result<PathBuf> {
        self.model.clone().map_or_else(bundled, Ok)
    }

    /// How it is loaded.
    pub fn options(&self) -> Options {
        self.options_over(Options::default())
    }

    /// Other options, but for what was given.
    pub fn options_over(&self, base: Options) -> Options {
        let dtype = self.dtype.map_or(base.dtype, |name| match name {
            DtypeName::F32 => Dtype::F32,
            DtypeName::F16 => Dtype::F16,
            DtypeName::Bf16 => Dtype::Bf16,
        });
        let device = self.device.map_or(base.device, |name| match name {
            DeviceName::Auto => Device::Auto,
            DeviceName::Cpu => Device::Cpu,
            DeviceName::Cuda => Device::Cuda,
        });
        Options { dtype, device }
    }

    /// Opens the model, and says on stderr which tensors of its files nothing read.
    pub fn open(&self) -> Result<Model> {
        open(&self.folder()?, self.options())
    }
}

/// Opens a model, and says on stderr which tensors of its files nothing read.
pub fn open(folder: &Path, options: Options) -> Result<Model> {
    let model = Model::open(folder, options)?;
    if let Some(first) = model.unread.first() {
        eprintln!("warning: {} tensors of the checkpoint were never read, such as {first}", model.unread.len());
    }
    Ok(model)
}

/// Opens the model of a recorded run: the one that is named, or else the first with the recorded content of where it was, the
/// way there from the record, and the bundled one.
///
/// # Errors
/// None of them has the files that the run was made with.
pub fn open_recorded(description: &Description, record: &Path, named: Option<&Path>) -> Result<Model> {
    let Checkpoint { folder, relative, blake3 } = &description.model;
    let (places, hint) = match named {
        Some(named) => (vec![named.to_path_buf()], "name the checkpoint that the run was made with, or run anew"),
        None => (
            located::places(folder, relative.as_deref(), record),
            "put them back, name with --model where they are now, or run anew",
        ),
    };
    let is_same = |folder: &PathBuf| named.is_none() && store::hash(folder).is_ok_and(|found| found == *blake3);
    let found =
        located::find(&places, blake3, store::hash, hint).or_else(|error| bundled().ok().filter(is_same).ok_or(error));
    let found = found.context("the model of this run")?;
    open(&found, description.cell.options())
}

/// The model in use; a cell with another one has it replaced.
#[derive(Default)]
pub struct Loaded(Option<(Cell, Model)>);

impl Loaded {
    /// The model that a cell asks for.
    pub fn get(&mut self, cell: &Cell) -> Result<&Model> {
        let same = |held: &Cell| held.model == cell.model && held.options() == cell.options();
        let (held, model) = match self.0.take() {
            Some((held, model)) if same(&held) => (held, model),
            _ => (cell.clone(), open(&cell.folder()?, cell.options())?),
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
    around.or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(is_home).map(Path::to_path_buf))
}
