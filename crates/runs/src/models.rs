//! Opening of models: of a cell and of a record.

use crate::cell::Cell;
use crate::computing::Computing;
use crate::description::{Description, RecordedModel};
use crate::home::bundled;
use crate::hub;
use crate::key;
use crate::located;
use crate::observer::Observer;
use anyhow::Result;
use latentrace_pipeline::checkpoints::Use;
use latentrace_pipeline::{Checkpoint, Choice, Error, KernelChoice, Lora, Model, Options, Size, Threads};
use std::path::{Path, PathBuf};

/// Opens the model of a cell, see [`open_at`].
///
/// # Errors
/// See [`checkpoint`] and [`Model::load`].
pub fn open(cell: &Cell, observer: &dyn Observer) -> Result<Model> {
    open_at(&cell.place()?, &cell.choice(), cell.options(), observer)
}

/// Opens a model, tells what its files do not state and was assumed, and warns if they have tensors that no network
/// reads. What is needed of a model of the hub is downloaded, if the cache does not have it.
///
/// # Errors
/// See [`checkpoint`] and [`Model::load`]; or the download fails.
pub fn open_at(place: &Path, choice: &Choice, options: Options, observer: &dyn Observer) -> Result<Model> {
    load(fetched(place, choice, observer)?, options, observer)
}

/// Loads a checkpoint as [`open_at`] does.
fn load(checkpoint: Checkpoint, options: Options, observer: &dyn Observer) -> Result<Model> {
    let model = Model::load(checkpoint, options)?;
    for note in &model.checkpoint.notes {
        observer.note(note);
    }
    if let Some(first) = model.unread.first() {
        observer.warn(&format!("{} tensors of the checkpoint were never read, such as {first}", model.unread.len()));
    }
    Ok(model)
}

/// The checkpoint at a place. What is needed of a model of the hub is downloaded, if the cache does not have it.
///
/// # Errors
/// See [`checkpoint`]; or the download fails.
pub fn fetched(place: &Path, choice: &Choice, observer: &dyn Observer) -> Result<Checkpoint> {
    hub::fetch(place, choice, Use::Whole, observer)?;
    for (part, of) in parts(choice) {
        hub::fetch(part, &of_parts(choice), of, observer)?;
    }
    checkpoint(place, choice)
}

/// The checkpoint at a place: a path, or the id of a model in the hub's cache. Downloads nothing.
///
/// # Errors
/// See [`Checkpoint::open`].
pub fn checkpoint(place: &Path, choice: &Choice) -> Result<Checkpoint> {
    let place = hub::place(place, choice, Use::Whole)?;
    Ok(Checkpoint::open(&place, &on_disk(choice)?)?)
}

/// A choice in which every model of the hub is replaced by its folder in the cache.
///
/// # Errors
/// A model is not in the cache.
pub fn on_disk(choice: &Choice) -> Result<Choice> {
    let own = &of_parts(choice);
    let found = |part: &Option<PathBuf>, of: Use| part.as_deref().map(|part| hub::place(part, own, of)).transpose();
    let lora = |lora: &Lora| Ok(Lora { file: hub::place(&lora.file, own, Use::Lora)?, ..lora.clone() }.in_folder());
    Ok(Choice {
        text_encoder: found(&choice.text_encoder, Use::TextEncoder)?,
        text_encoder_2: found(&choice.text_encoder_2, Use::TextEncoder2)?,
        unet: found(&choice.unet, Use::Unet)?,
        vae: found(&choice.vae, Use::Vae)?,
        tokenizer: found(&choice.tokenizer, Use::Tokenizer)?,
        tokenizer_2: found(&choice.tokenizer_2, Use::Tokenizer2)?,
        config: found(&choice.config, Use::Configs)?,
        loras: choice.loras.iter().map(lora).collect::<Result<_>>()?,
        ..choice.clone()
    })
}

/// The choice of what is used of other models than the checkpoint itself: the revision is that of the checkpoint.
fn of_parts(choice: &Choice) -> Choice {
    Choice { revision: None, ..choice.clone() }
}

/// The parts that a choice names, and what each is used for.
fn parts(choice: &Choice) -> impl Iterator<Item = (&Path, Use)> {
    let Choice { text_encoder, text_encoder_2, unet, vae, tokenizer, tokenizer_2, config, loras, .. } = choice;
    let all = [
        (text_encoder, Use::TextEncoder),
        (text_encoder_2, Use::TextEncoder2),
        (unet, Use::Unet),
        (vae, Use::Vae),
        (tokenizer, Use::Tokenizer),
        (tokenizer_2, Use::Tokenizer2),
        (config, Use::Configs),
    ];
    let parts = all.into_iter().filter_map(|(part, of)| Some((part.as_deref()?, of)));
    parts.chain(loras.iter().map(|lora| (lora.file.as_path(), Use::Lora)))
}

/// Opens the model of a recorded run. It is searched for at `named` if given; otherwise at its recorded path, at that
/// path relative to the record, beside the record, and in the bundled model. It runs on as many threads as the record
/// says, and tells if what is computed here may differ by rounding.
///
/// # Errors
/// None of these has the files that the run was made with, or the model cannot be opened.
pub fn open_recorded(
    description: &Description,
    record: &Path,
    named: Option<&Path>,
    observer: &dyn Observer,
) -> Result<Model> {
    let RecordedModel { folder, relative, blake3 } = &description.model;
    let (places, hint) = match named {
        Some(named) => (vec![named.to_path_buf()], "name the checkpoint that the run was made with, or make a new run"),
        None => (
            located::places(folder, relative.as_deref(), record),
            "name the folder that the checkpoint is in now with --model, or make a new run",
        ),
    };
    let choice = description.cell.choice();
    let hash = |place: &Path| key::hash(place, &choice);
    let is_same = |folder: &PathBuf| named.is_none() && hash(folder).is_ok_and(|found| found == *blake3);
    let found = located::find(&located::checkpoint_of("run", &choice), &places, blake3, &hash, hint)
        .or_else(|error| bundled().ok().filter(is_same).ok_or(error))?;
    let options = Options { kernels: KernelChoice::Recorded(description.kernels()?), ..description.cell.options() };
    let mut model = open_at(&found, &choice, options, observer)?;
    model.threads = Threads::of_record(description.program.threads);
    let [height, width] = description.size;
    let otherwise = description.program.rounds_otherwise(model.threads_for(Size { height, width }, 1));
    otherwise.iter().for_each(|note| observer.note(note));
    Ok(model)
}

/// What is said where a machine lacks the kernels of a store.
const BEGUN_ELSEWHERE: &str = "the cells in this folder were begun with kernels that this machine lacks: give another folder with --output, or choose kernels with --set kernels=";

/// The model that was used last. A cell with another model replaces it.
pub struct Loaded {
    last: Option<(Cell, Model)>,
    computing: Computing,
}

impl Default for Loaded {
    /// Computes as this process chooses.
    fn default() -> Loaded {
        Loaded::computing(Computing::here())
    }
}

impl Loaded {
    /// Computes as in a store.
    pub fn computing(computing: Computing) -> Loaded {
        Loaded { last: None, computing }
    }

    /// How its models compute: as it began, with the kernels that were chosen since.
    pub fn chosen(&self) -> &Computing {
        &self.computing
    }

    /// The model of a cell.
    ///
    /// # Errors
    /// The model cannot be opened, or this machine lacks the kernels of the store.
    pub fn get(&mut self, cell: &Cell, observer: &dyn Observer) -> Result<&Model> {
        let same = |of: &Cell| of.model == cell.model && of.choice() == cell.choice() && of.options() == cell.options();
        let (of, model) = match self.last.take() {
            Some((of, model)) if same(&of) => (of, model),
            _ => (cell.clone(), self.open(cell, observer)?),
        };
        Ok(&self.last.insert((of, model)).1)
    }

    fn open(&mut self, cell: &Cell, observer: &dyn Observer) -> Result<Model> {
        let checkpoint = fetched(&cell.place()?, &cell.choice(), observer)?;
        let (options, threads) = self.computing.options(cell, &checkpoint)?;
        let is_of_store = options != cell.options();
        let model = load(checkpoint, options, observer).map_err(|error| match error.downcast_ref() {
            Some(Error::Range { field: "kernels", .. }) if is_of_store => error.context(BEGUN_ELSEWHERE),
            _ => error,
        });
        let mut model = model?;
        model.threads = threads;
        self.computing.note(cell, &model, options.kernels == KernelChoice::Fastest);
        Ok(model)
    }
}
