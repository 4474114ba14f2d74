//! The mask of a run: checked, with notes on what may be unexpected.

use crate::init_image;
use anyhow::{Result, bail};
use latentrace_pipeline::Mask;
use std::path::Path;

/// What a mask means, for hints.
const MEANING: &str = "hint: white is made anew, and black is kept";

/// Checks that a mask lets something be made anew. Each pixel of the latents is `factor` by `factor` pixels. Returns notes.
///
/// # Errors
/// Nothing would be made anew, or the file cannot be read.
pub(crate) fn check(mask: &Mask, file: &Path, factor: usize) -> Result<Vec<String>> {
    let (anew, all) = mask.of_latents(factor);
    let file = file.display();
    if !mask.anew.contains(&true) {
        bail!("{file}: nothing of the mask is white, so nothing would be made anew\n{MEANING}");
    }
    if anew == 0 {
        bail!(
            "{file}: what is white of the mask is too small: it has no pixel of the latents, which are {factor} by {factor} pixels each\nhint: paint a larger part white"
        );
    }
    Ok(match anew == all {
        true => vec![format!("{file}: all of the mask is white, so nothing of the picture is kept\n{MEANING}")],
        false => Vec::new(),
    })
}

/// A note on a mask with transparency, which is not read.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn note_on_transparency(file: &Path) -> Result<Option<String>> {
    let note = || format!("{}: the transparency of the mask is not read, only its colours\n{MEANING}", file.display());
    Ok(init_image::is_transparent(file)?.then(note))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(white: impl Fn(usize, usize) -> bool) -> Result<Vec<String>> {
        let (width, height) = (32, 16);
        let anew = (0..width * height).map(|place| white(place % width, place / width)).collect();
        check(&Mask { width, height, anew }, Path::new("mask.png"), 8)
    }

    #[test]
    fn a_mask_that_makes_nothing_anew_is_an_error_and_one_that_keeps_nothing_a_note() {
        assert!(checked(|x, _| x < 8).unwrap().is_empty());
        let error = checked(|_, _| false).unwrap_err().to_string();
        assert!(error.starts_with("mask.png: nothing of the mask is white"), "{error}");
        let error = checked(|x, y| (x, y) == (3, 3)).unwrap_err().to_string();
        assert!(error.contains("too small") && error.contains("8 by 8 pixels"), "{error}");
        let notes = checked(|_, _| true).unwrap();
        assert!(notes.len() == 1 && notes[0].contains("nothing of the picture is kept"), "{notes:?}");
    }
}
