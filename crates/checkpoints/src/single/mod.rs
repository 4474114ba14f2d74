//! A single `.safetensors` file with the names of the original repositories.
//!
//! Such a file has tensors and no configuration. The architecture is recognised by shapes; the configurations of
//! Stable Diffusion 1.x and 2.x are part of this crate. What the file cannot say is told as a note.

pub(crate) mod inverse;
mod known;
mod layout;
pub(crate) mod names;
mod original;
mod other;
mod parts;
mod tokenizers;

pub(crate) use known::{SD1, SD2, as_base};
pub(crate) use layout::Layout;
pub(crate) use other::{other_unet, other_vae};

use crate::checkpoint::{Checkpoint, TextPart, agree};
use crate::choice::Choice;
use crate::error::Result;
use crate::input::UnetInput;
use crate::scheduler::SchedulerFile;
use crate::weights::checked;
use known::{assumptions, configs_of, scheduler};
use latentrace_nn::Header;
use original::{Original, recognise};
use parts::Parts;
use std::path::Path;
use tokenizers::tokenizer;

/// Opens a single file.
pub(crate) fn open(path: &Path, choice: &Choice) -> Result<Checkpoint> {
    let path = &checked(path.to_path_buf())?;
    let header = Header::read(path)?;
    let original = recognise(path, &header)?;
    let mut notes = Vec::new();
    let mut known = match &choice.config {
        Some(folder) => configs_of(folder)?,
        None => original.known(),
    };
    if choice.config.is_none() {
        assumptions(path, &header, original, &mut known, &mut notes);
    }
    let parts = Parts { path, header: &header, original, known: &known, choice };
    let tokenizer = tokenizer(path, choice)?;
    let text = TextPart {
        encoder: parts.text_encoder()?.configured(latentrace_text::TextConfig::read)?,
        tokenizer,
        padding: (original == Original::Sd2 && choice.config.is_none()).then(|| "!".to_owned()),
    };
    let mut checkpoint = Checkpoint {
        place: path.clone(),
        texts: vec![text],
        zeros: false,
        index: None,
        unet: parts.unet(&mut notes)?.configured(latentrace_unet::UnetConfig::read)?,
        vae: parts.vae()?.configured(latentrace_vae::VaeConfig::read)?,
        embeddings: choice.embeddings.clone(),
        loras: choice.loras.clone(),
        scheduler: SchedulerFile { origin: scheduler(path, choice, &known), class: None },
        notes,
    };
    agree(&checkpoint)?;
    if checkpoint.input() == UnetInput::Inpainting && choice.unet.is_none() {
        let channels = checkpoint.unet.config.in_channels;
        checkpoint
            .notes
            .push(format!("{}: an inpainting model, because its UNet takes {channels} channels", path.display()));
    }
    Ok(checkpoint)
}
