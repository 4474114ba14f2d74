//! A folder in the diffusers layout.

use crate::checkpoint::{Checkpoint, Part, Place, TextPart, agree};
use crate::choice::Choice;
use crate::describe::describe;
use crate::error::{Error, Result, read};
use crate::index::{INDEX, Index};
use crate::scheduler::SchedulerFile;
use crate::single::{other_unet, other_vae};
use latentrace_nn::Config;
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
    let text_encoder = match &choice.text_encoder {
        Some(other) => part(&inside(other, "text_encoder"), "text_encoder", choice)?,
        None => own("text_encoder")?,
    };
    let unet = match &choice.unet {
        Some(other) => other_unet(other, || config("unet"), choice)?,
        None => own("unet")?,
    };
    let vae = match &choice.vae {
        Some(other) => other_vae(other, || config("vae"), choice)?,
        None => own("vae")?,
    };
    notes.extend([&text_encoder, &unet, &vae].into_iter().filter_map(Part::fallback));
    let text = TextPart {
        encoder: text_encoder.configured(latentrace_text::TextConfig::read)?,
        tokenizer: tokenizer(choice).unwrap_or_else(|| folder.join("tokenizer")),
        padding: None,
    };
    let checkpoint = Checkpoint {
        place: folder.clone(),
        texts: vec![text],
        unet: unet.configured(latentrace_unet::UnetConfig::read)?,
        vae: vae.configured(latentrace_vae::VaeConfig::read)?,
        embeddings: choice.embeddings.clone(),
        loras: choice.loras.clone(),
        scheduler: SchedulerFile::of(folder)?,
        notes,
    };
    agree(&checkpoint)?;
    Ok(checkpoint)
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

/// The folder of the tokenizer that a choice names; of a whole checkpoint, its tokenizer.
pub(crate) fn tokenizer(choice: &Choice) -> Option<PathBuf> {
    choice.tokenizer.as_deref().map(|named| inside(named, "tokenizer"))
}

/// The configuration of a part, and where its weights are.
pub(crate) fn part(folder: &Path, name: &'static str, choice: &Choice) -> Result<Part<Config>> {
    let path = folder.join("config.json");
    let text = read(&path)?;
    let config = Config::parse(&path.display().to_string(), &text)?.ignoring(&choice.ignore);
    let stem = if name == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
    let place = Place::Folder { folder: folder.to_path_buf(), stem, variant: choice.variant.clone() };
    Ok(Part { name, json: config.json(), config, config_file: Some(path), place })
}
