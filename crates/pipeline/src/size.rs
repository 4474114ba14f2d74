//! Sizes of pictures and of latents.

use crate::error::{Error, Result};
use latentrace_checkpoints::Checkpoint;

/// The height and width of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    /// Height in pixels.
    pub height: i64,
    /// Width in pixels.
    pub width: i64,
}

/// The largest side in pixels. Its latents still fit a GPU; a larger one is surely a typing error.
const LARGEST: i64 = 8192;

impl Size {
    /// The size that a checkpoint was trained on.
    pub fn of(checkpoint: &Checkpoint) -> Size {
        let ([height, width], factor) = (checkpoint.unet.config.sample_size, checkpoint.vae.config.factor());
        Size { height: height * factor, width: width * factor }
    }

    /// Height and width of the latents, for a VAE that makes `factor` by `factor` pixels of each latent pixel.
    ///
    /// # Errors
    /// A side is not a multiple of `factor`, or is out of range. The error names the nearest sizes that work.
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
