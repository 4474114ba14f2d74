//! The tokenizers of a single file, which has none itself.

use crate::choice::Choice;
use crate::error::{Result, file};
use std::path::{Path, PathBuf};

/// The tokenizer's folder: the one that is named, or one beside the file.
pub(super) fn tokenizer(path: &Path, choice: &Choice) -> Result<PathBuf> {
    if let Some(named) = crate::folder::tokenizer(choice) {
        return Ok(named);
    }
    let beside = path.parent().unwrap_or(Path::new(".")).join("tokenizer");
    let of_config = choice.config.as_ref().map(|folder| folder.join("tokenizer"));
    let found = of_config.into_iter().chain([beside]).find(|folder| folder.is_dir());
    found.ok_or_else(|| {
        let hint = "hint: --tokenizer openai/clip-vit-large-patch14 downloads one (1.5 MB); that of any Stable Diffusion folder will do too";
        file(path, format!("a single file has no tokenizer, and there is no folder tokenizer beside it\n{hint}"))
    })
}
