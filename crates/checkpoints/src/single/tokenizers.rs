//! The tokenizers of a single file, which has none itself.

use super::original::Original;
use crate::choice::Choice;
use crate::error::{Result, file};
use crate::folder::inside;
use crate::index::{SLOTS, Slot};
use std::path::{Path, PathBuf};

/// The tokenizer of a text encoder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) folder: PathBuf,
    /// The padding token, if it is not the one that the folder's files name.
    pub(super) padding: Option<String>,
}

/// The tokenizer of a text encoder: the one that is named, or one of the folder with configuration files, or one beside
/// the file. The second of SDXL has the vocabulary of the first, so that the first can stand for it.
pub(super) fn tokenizer(path: &Path, original: Original, slot: Slot, choice: &Choice) -> Result<Found> {
    let (own, first) = (place(path, slot, choice), place(path, SLOTS[0], choice));
    let stands_for_it = own.is_none();
    let folder = own.or(first).ok_or_else(|| missing(path, slot))?;
    // OpenCLIP pads with `!`, and CLIP with the end token. A folder with configuration files has a tokenizer that knows this.
    let padding = match (slot == SLOTS[1] || original == Original::Sd2, original.is_xl()) {
        (true, _) => Some("!"),
        (false, true) => Some("<|endoftext|>"), // the folder of SDXL's other tokenizer has the same vocabulary
        (false, false) => None,
    };
    let is_left_open = choice.config.is_none() || stands_for_it;
    Ok(Found { folder, padding: padding.filter(|_| is_left_open).map(String::from) })
}

/// The folder of a tokenizer, if there is one.
fn place(path: &Path, slot: Slot, choice: &Choice) -> Option<PathBuf> {
    if let [_, Some(named)] = choice.of_slot(slot) {
        return Some(inside(named, slot.tokenizer));
    }
    let beside = path.parent().unwrap_or(Path::new(".")).join(slot.tokenizer);
    let of_config = choice.config.as_ref().map(|folder| folder.join(slot.tokenizer));
    of_config.into_iter().chain([beside]).find(|folder| folder.is_dir())
}

fn missing(path: &Path, slot: Slot) -> crate::Error {
    let (folders, option) = match slot.tokenizer {
        "tokenizer_2" => ("tokenizer_2 or tokenizer", "--tokenizer-2"),
        _ => ("tokenizer", "--tokenizer"),
    };
    let hint = format!(
        "hint: {option} openai/clip-vit-large-patch14 downloads one (1.5 MB); that of any Stable Diffusion folder will do too"
    );
    file(path, format!("a single file has no tokenizer, and there is no folder {folders} beside it\n{hint}"))
}
