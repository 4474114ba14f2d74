//! Heights and widths.

use crate::error::{Error, Result};

/// The height and width of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Pixels from top to bottom.
    pub height: i64,
    /// Pixels from left to right.
    pub width: i64,
}

/// The largest side: its latents still fit a GPU, and a typing error does not ask for a terabyte.
const LARGEST: i64 = 8192;

impl Size {
    /// The size of the latents of a VAE that makes `factor` pixels of one.
    ///
    /// # Errors
    /// A side that `factor` does not divide, or that is out of range; with the nearest sizes that work.
    pub fn latents(self, factor: i64) -> Result<[i64; 2]> {
        let side = |side, found: i64| {
            if found > 0 && found % factor == 0 && found <= LARGEST {
                return Ok(found / factor);
            }
            let below = (found / factor * factor).clamp(factor, LARGEST / factor * factor);
            let above = (below + factor).min(LARGEST / factor * factor);
            let works = match found {
                found if found < factor => format!("{factor} is the smallest that works"),
                found if found > LARGEST => format!("{above} is the largest that works"),
                _ => format!("{below} and {above} are the nearest that work, multiples of {factor}"),
            };
            Err(Error::Size { side, found, works })
        };
        Ok([side("height", self.height)?, side("width", self.width)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_does_not_work_is_an_error_with_the_nearest_that_do() {
        let latents = |height, width| Size { height, width }.latents(8).map_err(|error| error.to_string());
        assert_eq!(latents(512, 768), Ok([64, 96]));
        let error = latents(512, 500).unwrap_err();
        assert_eq!(
            error,
            "width: 500 pixels cannot be made\nhint: 496 and 504 are the nearest that work, multiples of 8"
        );
        for bad in [0, -8, 3, 1 << 40] {
            assert!(latents(bad, 512).unwrap_err().starts_with(&format!("height: {bad} ")));
        }
    }
}
