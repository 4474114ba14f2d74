//! A folder in the diffusers layout.

use crate::checkpoint::{Checkpoint, Part, Place, TextPart, agree};
use crate::choice::Choice;
use crate::describe::describe;
use crate::error::{Error, Result, file, read};
use crate::index::{INDEX, Index, PROJECTS, SECOND, Slot};
use crate::scheduler::SchedulerFile;
use crate::single::{other_unet, other_vae};
use latentrace_nn::Config;
use latentrace_text::TextConfig;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Opens a folder in the diffusers layout, or a folder of the hub's cache.
pub(crate) fn open(folder: &Path, choice: &Choice) -> Result<Checkpoint> {
    let folder = &snapshot(folder).unwrap_or_else(|| folder.to_path_buf());
    if !folder.join(INDEX).is_file() {
        return Err(Error::NotACheckpoint(describe(folder)));
    }
    let index = Index::read(folder)?;
    let mut notes = index.check()?;
    let own = |name: &'static str| part(&folder.join(name), name, choice);
    let config = |name: &'static str| Ok(own(name)?.config);
    let slots = index.texts();
    let texts = slots.iter().map(|slot| text(folder, *slot, &index, choice)).collect::<Result<Vec<_>>>()?;
    let unet = match &choice.unet {
        Some(other) => other_unet(other, || config("unet"), choice)?,
        None => own("unet")?,
    };
    let vae = match &choice.vae {
        Some(other) => other_vae(other, || config("vae"), choice)?,
        None => own("vae")?,
    };
    notes.extend(texts.iter().filter_map(|text| text.encoder.fallback()));
    notes.extend([&unet, &vae].into_iter().filter_map(Part::fallback));
    let unet = unet.configured(latentrace_unet::UnetConfig::read)?;
    let checkpoint = Checkpoint {
        place: folder.clone(),
        texts,
        family: choice.family,
        zeros: unet.config.added.is_some() && index.zeros()?,
        index: Some(index.path().to_path_buf()),
        unet,
        vae: vae.configured(latentrace_vae::VaeConfig::read)?,
        embeddings: choice.embeddings.clone(),
        loras: choice.loras.clone(),
        scheduler: SchedulerFile::of(folder)?,
        notes,
    };
    agree(&checkpoint, choice)?;
    Ok(checkpoint)
}

/// A text encoder with its tokenizer, its own or those that a choice names.
fn text(folder: &Path, slot: Slot, index: &Index, choice: &Choice) -> Result<TextPart> {
    let [encoder, tokenizer] = choice.of_slot(slot);
    let place = encoder.map_or_else(|| folder.join(slot.encoder), |other| inside(other, slot.encoder));
    let mut encoder = part(&place, slot.encoder, choice)?;
    // Where the configuration does not name its class, model_index.json does.
    if encoder.config.value("architectures").is_none() && index.class(slot.encoder) == Some(PROJECTS) {
        encoder.config = encoder.config.with("architectures", json!([PROJECTS]));
    }
    let tokenizer = tokenizer.map_or_else(|| folder.join(slot.tokenizer), |other| inside(other, slot.tokenizer));
    let is_own = choice.of_slot(slot)[1].is_none();
    if slot == SECOND && is_own && !tokenizer.is_dir() {
        let hint = "hint: --tokenizer-2 names one";
        return Err(file(folder, format!("no tokenizer_2, the tokenizer of the second text encoder\n{hint}")));
    }
    Ok(TextPart { encoder: encoder.configured(TextConfig::read)?, tokenizer, padding: None })
}

/// The snapshot that `main` refers to in a folder of the hub's cache, `models--owner--name`; or its only snapshot.
fn snapshot(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.join("snapshots");
    let commit = std::fs::read_to_string(folder.join("refs/main")).ok();
    let main = commit.map(|commit| commit.trim().to_owned()).filter(|commit| !commit.contains(['/', '\\', '.']));
    if let Some(main) = main.map(|commit| snapshots.join(commit)).filter(|main| main.is_dir()) {
        return Some(main);
    }
    let mut all = std::fs::read_dir(snapshots).ok()?.flatten().map(|entry| entry.path());
    all.next().filter(|_| all.next().is_none())
}

/// A folder, or the folder of a part in it if it is a whole checkpoint.
pub(crate) fn inside(folder: &Path, part: &str) -> PathBuf {
    let folder = snapshot(folder).unwrap_or_else(|| folder.to_path_buf());
    let below = folder.join(part);
    if folder.join(INDEX).is_file() && below.is_dir() { below } else { folder }
}

/// The configuration of a part, and where its weights are.
pub(crate) fn part(folder: &Path, name: &'static str, choice: &Choice) -> Result<Part<Config>> {
    let path = folder.join("config.json");
    let text = read(&path)?;
    let config = Config::parse(&path.display().to_string(), &text)?.ignoring(&choice.ignore);
    let stem = if name.starts_with("text_encoder") { "model" } else { "diffusion_pytorch_model" };
    let place = Place::Folder { folder: folder.to_path_buf(), stem, variant: choice.variant.clone() };
    Ok(Part { name, json: config.json(), config, config_file: Some(path), place })
}
