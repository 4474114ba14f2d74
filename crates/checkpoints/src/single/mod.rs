//! A single `.safetensors` file with the names of the original repositories.
//!
//! Such a file has tensors and no configuration. The architecture is recognised by names and shapes; the configurations
//! of Stable Diffusion 1.x and 2.x, of SDXL and of its refiner are part of this crate. What the file cannot say is told
//! as a note.

pub(crate) mod inverse;
mod known;
mod layout;
pub(crate) mod names;
mod original;
mod other;
mod parts;
mod tokenizers;

pub(crate) use known::{SD1, SD2, SDXL, SDXL_REFINER, as_base, as_turbo};
pub(crate) use layout::{Layout, TextNames};
pub(crate) use other::{other_unet, other_vae};

use crate::checkpoint::{Checkpoint, TextPart, agree};
use crate::choice::Choice;
use crate::error::Result;
use crate::index::Slot;
use crate::input::UnetInput;
use crate::scheduler::SchedulerFile;
use crate::weights::checked;
use known::{Told, assumptions, configs_of, scheduler, zeros};
use latentrace_nn::Header;
use latentrace_schedulers::Pipeline;
use latentrace_text::TextConfig;
use original::recognise;
use parts::Parts;
use std::path::Path;
use tokenizers::{Found, tokenizer};

/// Opens a single file.
pub(crate) fn open(path: &Path, choice: &Choice) -> Result<Checkpoint> {
    let path = &checked(path.to_path_buf())?;
    let header = Header::read(path)?;
    let original = recognise(path, &header)?;
    let (known, mut notes) = match &choice.config {
        Some(folder) => (configs_of(folder, original)?, Vec::new()),
        None => {
            let mut known = original.known();
            let notes = assumptions(&Told { path, header: &header, original, family: choice.family }, &mut known);
            (known, notes)
        }
    };
    let parts = Parts { path, header: &header, original, known: &known, choice };
    let text = |slot: &Slot| {
        let Found { folder, padding } = tokenizer(path, original, *slot, choice)?;
        Ok(TextPart { encoder: parts.text_encoder(*slot)?.configured(TextConfig::read)?, tokenizer: folder, padding })
    };
    let (zeros, index) = zeros(original, choice)?;
    let mut checkpoint = Checkpoint {
        place: path.clone(),
        texts: original.texts().iter().map(text).collect::<Result<_>>()?,
        zeros,
        index,
        family: choice.family,
        unet: parts.unet(&mut notes)?.configured(latentrace_unet::UnetConfig::read)?,
        vae: parts.vae()?.configured(latentrace_vae::VaeConfig::read)?,
        embeddings: choice.embeddings.clone(),
        loras: choice.loras.clone(),
        scheduler: SchedulerFile {
            origin: scheduler(path, choice, &known),
            class: None,
            pipeline: if original.is_xl() { Pipeline::StableDiffusionXl } else { Pipeline::StableDiffusion },
        },
        notes,
    };
    agree(&checkpoint, choice)?;
    if checkpoint.input() == UnetInput::Inpainting && choice.unet.is_none() {
        let channels = checkpoint.unet.config.in_channels;
        checkpoint
            .notes
            .push(format!("{}: an inpainting model, because its UNet takes {channels} channels", path.display()));
    }
    Ok(checkpoint)
}
