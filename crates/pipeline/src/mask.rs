//! Masks: which pixels of a picture are made anew.

use crate::error::{Error, Result};
use crate::{Picture, Size};
use latentrace_nn::tch::Tensor;

/// A mask of a picture, row by row from the top.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mask {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Whether each pixel is made anew: `width * height` values.
    pub anew: Vec<bool>,
}

/// The least grey value that is white: diffusers' limit is 0.5, of 255 levels.
const WHITE: u32 = 128;

impl Mask {
    /// The mask that a picture shows: what is white, of a grey value of at least one half, is made anew. Colours are
    /// turned into grey as Pillow does (ITU-R 601).
    pub fn of(picture: &Picture) -> Mask {
        let grey = |rgb: &[u8]| {
            let [red, green, blue] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
            (19_595 * red + 38_470 * green + 7_471 * blue + 0x8000) >> 16
        };
        let anew = picture.pixels.chunks_exact(3).map(|rgb| grey(rgb) >= WHITE).collect();
        Mask { width: picture.width, height: picture.height, anew }
    }

    /// How many pixels of the latents are made anew, and how many there are. Each is `factor` by `factor` pixels of the
    /// picture, and takes the value of their first.
    pub fn of_latents(&self, factor: usize) -> (usize, usize) {
        let of_row = |row: &[bool]| row.iter().step_by(factor).filter(|anew| **anew).count();
        let anew = self.anew.chunks(self.width.max(1)).step_by(factor).map(of_row).sum();
        (anew, self.width.div_ceil(factor) * self.height.div_ceil(factor))
    }

    /// Checks that the mask has a size.
    ///
    /// # Errors
    /// The mask has another size.
    pub(crate) fn check(&self, Size { height, width }: Size) -> Result<()> {
        let is_whole = self.anew.len() == self.width * self.height;
        if is_whole && (self.height as i64, self.width as i64) == (height, width) {
            return Ok(());
        }
        let (expected, found) = (format!("{width}x{height} pixels"), format!("{}x{}", self.width, self.height));
        Err(Error::Range { field: "mask", expected, found })
    }

    /// The mask as a tensor: 1 where the picture is made anew, `[1, 1, height, width]` in f32.
    pub fn to_tensor(&self) -> Tensor {
        let anew: Vec<f32> = self.anew.iter().map(|anew| f32::from(u8::from(*anew))).collect();
        Tensor::from_slice(&anew).view([1, 1, self.height as i64, self.width as i64])
    }

    /// The mask at the size of the latents, `[1, 1, height / factor, width / factor]` in f32: as in diffusers, the nearest
    /// pixel, which is the first of each `factor` by `factor`.
    pub fn to_latents(&self, factor: i64) -> Tensor {
        let (height, width) = (self.height as i64, self.width as i64);
        self.to_tensor().slice(2, 0, height, factor).slice(3, 0, width, factor).contiguous()
    }

    /// A picture without its masked part, `[1, 3, height, width]` in -1..1: grey, which is 0, where it is made anew.
    pub fn removed_from(&self, picture: &Picture) -> Tensor {
        picture.to_tensor() * (1.0 - self.to_tensor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: usize, height: usize, rgb: impl Fn(usize, usize) -> [u8; 3]) -> Mask {
        let pixels = (0..width * height).flat_map(|place| rgb(place % width, place / width)).collect();
        Mask::of(&Picture { width, height, pixels })
    }

    #[test]
    fn white_is_a_grey_value_of_one_half_or_more() {
        // Pillow's grey values of these are 127, 128, 76, 150 and 226.
        let colours = [[127, 127, 127], [128, 128, 128], [255, 0, 0], [0, 255, 0], [255, 255, 0]];
        assert_eq!(mask(5, 1, |x, _| colours[x]).anew, [false, true, false, true, true]);
    }

    #[test]
    fn a_pixel_of_the_latents_takes_the_first_of_its_pixels() {
        let mask = mask(16, 24, |x, y| if x >= 8 && y >= 9 { [255; 3] } else { [0; 3] });
        let latents = Vec::<f32>::try_from(mask.to_latents(8).flatten(0, -1)).unwrap();
        assert_eq!((mask.to_latents(8).size(), latents), (vec![1, 1, 3, 2], vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0]));
        assert_eq!((mask.of_latents(8), mask.of_latents(1)), ((1, 6), (8 * 15, 384)));
        assert!(mask.check(Size { height: 24, width: 16 }).is_ok());
        let error = mask.check(Size { height: 16, width: 24 }).unwrap_err().to_string();
        assert_eq!(error, "mask: expected 24x16 pixels, found 16x24");
    }

    #[test]
    fn what_is_made_anew_is_grey_in_the_masked_picture() {
        let picture = Picture { width: 2, height: 1, pixels: vec![255, 0, 255, 255, 0, 255] };
        let masked = mask(2, 1, |x, _| [x as u8 * 255; 3]).removed_from(&picture);
        assert_eq!(Vec::<f32>::try_from(masked.flatten(0, -1)).unwrap(), [1.0, 0.0, -1.0, 0.0, 1.0, 0.0]);
    }
}
