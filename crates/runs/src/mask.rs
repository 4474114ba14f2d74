//! The mask of a run: checked, with notes on what may be unexpected.

use crate::sources::Source;
use anyhow::{Result, bail};
use latentrace_pipeline::Mask;
use std::path::Path;

/// What a mask means, for hints.
const MEANING: &str = "hint: white is made anew, and black is kept";

/// Checks that the mask of a file lets something be made anew. Each pixel of the latents is `factor` by `factor` pixels.
/// `sources` are that of the mask and that of its picture. Returns notes.
///
/// # Errors
/// Nothing would be made anew.
pub(crate) fn check(mask: &Mask, factor: usize, file: &Path, sources: [&Source; 2]) -> Result<Vec<String>> {
    let ((anew, all), [of_mask, of_picture], file) = (mask.of_latents(factor), sources, file.display());
    if !mask.anew.contains(&true) {
        bail!("{file}: nothing of the mask is white, so nothing would be made anew\n{MEANING}");
    }
    if anew == 0 {
        bail!(
            "{file}: the white part of the mask is too small: it covers no pixel of the latents, each {factor} by {factor} pixels\nhint: paint a larger part white"
        );
    }
    let mut notes = Vec::new();
    if of_mask.is_transparent {
        notes.push(format!("{file}: the transparency of the mask is not read, only its colours\n{MEANING}"));
    }
    if anew == all {
        notes.push(format!("{file}: all of the mask is white, so nothing of the picture is kept\n{MEANING}"));
    }
    if have_other_proportions(of_mask.size, of_picture.size) {
        let [mask, picture] = [of_mask.size, of_picture.size].map(|(width, height)| format!("{width}x{height}"));
        notes.push(format!(
            "{file}: the mask has {mask} pixels and the picture {picture}, which are other proportions, so each is brought to size by itself\nhint: a mask that is drawn on the picture itself lies exactly over it"
        ));
    }
    Ok(notes)
}

/// Whether two sizes have proportions that differ by more than rounding to whole pixels explains.
fn have_other_proportions((width, height): (u32, u32), (other_width, other_height): (u32, u32)) -> bool {
    let (one, other) = (u64::from(width) * u64::from(other_height), u64::from(other_width) * u64::from(height));
    one.abs_diff(other) > u64::from(width.max(height).max(other_width).max(other_height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::located::Located;

    fn source(name: &str, size: (u32, u32), is_transparent: bool) -> Source {
        let file = Located { path: name.into(), relative: None, blake3: String::new() };
        Source { picture: Default::default(), file, size, is_transparent }
    }

    fn checked(white: impl Fn(usize, usize) -> bool, size: (u32, u32), is_transparent: bool) -> Result<Vec<String>> {
        let (width, height) = (32, 16);
        let anew = (0..width * height).map(|place| white(place % width, place / width)).collect();
        let of_mask = source("mask.png", size, is_transparent);
        let of_picture = source("photo.png", (64, 32), false);
        check(&Mask { width, height, anew }, 8, Path::new("mask.png"), [&of_mask, &of_picture])
    }

    #[test]
    fn a_mask_that_makes_nothing_anew_is_an_error_and_what_may_be_unexpected_a_note() {
        let error = checked(|_, _| false, (64, 32), false).unwrap_err().to_string();
        assert!(error.starts_with("mask.png: nothing of the mask is white"), "{error}");
        let error = checked(|x, y| (x, y) == (3, 3), (64, 32), false).unwrap_err().to_string();
        assert!(error.contains("too small") && error.contains("8 by 8 pixels"), "{error}");
        let notes = |all: bool, size, is_transparent| checked(|x, _| all || x < 8, size, is_transparent).unwrap();
        assert!(notes(false, (64, 32), false).is_empty() && notes(false, (33, 17), false).is_empty());
        for (notes, expected) in [
            (notes(true, (64, 32), false), "nothing of the picture is kept"),
            (notes(false, (64, 32), true), "transparency of the mask is not read"),
            (notes(false, (64, 64), false), "the mask has 64x64 pixels and the picture 64x32"),
        ] {
            assert!(notes.len() == 1 && notes[0].contains(expected), "{notes:?}");
        }
    }
}
