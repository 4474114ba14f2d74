//! Models of the hub as places on the disk: an id becomes the folder of its snapshot in the cache.

use crate::observer::{Event, Observer};
use anyhow::{Context, Error, Result, anyhow};
use latentrace_hub::{Hub, Id, Listed, Progress, Snapshot};
use latentrace_pipeline::Choice;
use latentrace_pipeline::checkpoints::{Use, describe, lacks_text, needed};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether the program may use the network, besides what the environment says.
static OFFLINE: AtomicBool = AtomicBool::new(false);

/// From now on, this process downloads nothing: models of the hub are found in the cache, or are an error.
pub fn go_offline() {
    OFFLINE.store(true, Ordering::Relaxed);
}

/// The revision of a model if none is named.
const MAIN: &str = "main";

/// The hub with the settings of the environment.
///
/// # Errors
/// An environment variable has a value that cannot be used.
pub fn hub() -> Result<Hub> {
    Ok(Hub::from_env(OFFLINE.load(Ordering::Relaxed))?)
}

/// The place of a model: a path that exists, or else the folder in the hub's cache of the model with this id. Downloads
/// nothing.
///
/// # Errors
/// Nothing is there, and the text is not the id of a model in the cache.
pub(crate) fn place(model: &Path, choice: &Choice, of: Use) -> Result<PathBuf> {
    let Some(id) = id(model) else { return Ok(model.into()) };
    match cached(&hub()?, &id, choice, of)? {
        Some(snapshot) => Ok(snapshot.folder().into()),
        None => Err(anyhow!("{}: not all that is needed is in the cache of the hub", both_readings(model))),
    }
}

/// Downloads what is needed of a model, if its name is the id of a model of the hub and the cache does not have it.
///
/// # Errors
/// The download fails, or the model has no such files. The error says both readings of the name.
pub(crate) fn fetch(model: &Path, choice: &Choice, of: Use, observer: &dyn Observer) -> Result<()> {
    let Some(id) = id(model) else { return Ok(()) };
    let hub = hub()?;
    let there = cached(&hub, &id, choice, of)?;
    if there.as_ref().is_some_and(|snapshot| of != Use::Lora || hub.is_offline() || is_certain(snapshot)) {
        return Ok(());
    }
    let mut choose = |files: &[Listed]| -> Result<Vec<String>> {
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        Ok(needed(id.as_str(), &names, of, choice)?)
    };
    let revision = choice.revision.as_deref().unwrap_or(MAIN);
    if !hub.is_offline() {
        observer.note(&format!("{id}: downloading what is needed of revision {revision} to {}", hub.cache().display()));
    }
    let fetched = hub.fetch::<Error>(&id, revision, &mut choose, &mut Told { observer, total: Cell::new(0) });
    match (fetched, there) {
        (Ok(_), _) => Ok(()),
        (Err(error), Some(_)) if error.downcast_ref().is_some_and(latentrace_hub::Error::is_unreachable) => {
            observer
                .note(&format!("{id}: the LoRA of the cache is used, because the hub could not be asked: {error:#}"));
            Ok(())
        }
        (Err(error), _) => Err(error).with_context(|| both_readings(model)),
    }
}

/// Says that a name is not a path, and with which name it would be one, before the error says why it is no model.
fn both_readings(model: &Path) -> String {
    let hint = describe(model).hint;
    let near = if hint.starts_with("did you mean") { format!(" ({hint})") } else { String::new() };
    format!("{}: no such file or folder here{near}; as a model of the hub", model.display())
}

/// The id that a name is, unless there is something of this name on the disk.
fn id(model: &Path) -> Option<Id> {
    let is_file = model.extension().is_some_and(|ending| ending == "safetensors");
    let text = model.to_str().filter(|_| !is_file && model.symlink_metadata().is_err())?;
    Id::parse(text).ok()
}

/// Whether a name is that of a model of the hub, and not of something on the disk.
pub fn is_id(model: &Path) -> bool {
    id(model).is_some()
}

/// The snapshot in the cache, if it has all files that are needed.
fn cached(hub: &Hub, id: &Id, choice: &Choice, of: Use) -> Result<Option<Snapshot>> {
    let Some(snapshot) = hub.cached(id, choice.revision.as_deref().unwrap_or(MAIN))? else { return Ok(None) };
    let files = names_in(snapshot.folder());
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let is_whole =
        needed(id.as_str(), &names, of, choice).is_ok_and(|names| names.iter().all(|name| snapshot.has(name)));
    let lacks = of == Use::Whole && lacks_text(snapshot.folder(), choice);
    Ok((is_whole && !lacks).then_some(snapshot))
}

/// Whether it is certain which file of a model is its LoRA. That depends on all files that the model has, and the cache
/// may have a part of them.
fn is_certain(snapshot: &Snapshot) -> bool {
    LORAS.iter().any(|name| snapshot.has(name))
}

/// Files that are there only in a model whose LoRA is known by its name.
const LORAS: [&str; 2] = ["pytorch_lora_weights.safetensors", "adapter_config.json"];

/// The files of a snapshot by name, those of the parts' folders included.
fn names_in(folder: &Path) -> Vec<String> {
    let names = |folder: &Path| -> Vec<(String, bool)> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path().is_dir())).collect()
    };
    let mut all = Vec::new();
    for (name, is_folder) in names(folder) {
        if is_folder {
            all.extend(names(&folder.join(&name)).into_iter().map(|(file, _)| format!("{name}/{file}")));
        } else {
            all.push(name);
        }
    }
    all
}

/// Tells an observer of a download.
struct Told<'a> {
    observer: &'a dyn Observer,
    total: Cell<u64>,
}

impl Progress for Told<'_> {
    fn begin(&mut self, total: u64, already: u64) {
        self.total.set(total);
        self.observer.tell(Event::Download { total, more: already });
    }

    fn advance(&mut self, bytes: u64) {
        self.observer.tell(Event::Download { total: self.total.get(), more: bytes });
    }

    fn waiting(&mut self, name: &str) {
        self.observer.note(&format!("{name}: waiting for another process that downloads it"));
    }

    fn again(&mut self, cause: &latentrace_hub::Error, pause: Duration) {
        let text = cause.to_string();
        let line = text.lines().next().unwrap_or_default();
        self.observer.note(&format!("{line}; trying again in {} s", pause.as_secs().max(1)));
    }

    fn end(&mut self) {
        self.observer.tell(Event::Downloaded);
    }
}
