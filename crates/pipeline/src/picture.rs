//! Conversion of tensors to pixels, and of pixels to tensors.

use crate::Size;
use crate::error::{Error, Result};
use crate::tripwire::fault;
use latentrace_nn::tch::{Kind, Tensor};

/// An RGB picture with 8 bits a channel, row by row from the top.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Red, green and blue of each pixel: `3 * width * height` bytes.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Converts a tensor `[1, 3, height, width]` in -1..1. Values are clamped, and rounded to the nearest of the 256
    /// levels (half to even).
    ///
    /// # Errors
    /// An element is not finite.
    pub fn from_tensor(tensor: &Tensor) -> Result<Picture> {
        match fault(tensor) {
            None => Ok(Picture::of_finite(tensor)),
            Some(found) => Err(Error::Range { field: "picture", expected: "finite numbers".into(), found }),
        }
    }

    /// [`Picture::from_tensor`] for a tensor that is known to be finite.
    pub(crate) fn of_finite(tensor: &Tensor) -> Picture {
        let size = tensor.size();
        let bytes = ((tensor.to_kind(Kind::Float) / 2 + 0.5).clamp(0.0, 1.0) * 255).round().to_kind(Kind::Uint8);
        let rows = bytes.squeeze_dim(0).permute([1, 2, 0]).contiguous().to_device(latentrace_nn::tch::Device::Cpu);
        let (height, width) = (size[2] as usize, size[3] as usize);
        let mut pixels = vec![0; 3 * width * height];
        rows.copy_data_u8(&mut pixels, 3 * width * height);
        Picture { width, height, pixels }
    }

    /// Checks that the picture has a size.
    ///
    /// # Errors
    /// The picture has another size.
    pub(crate) fn check(&self, Size { height, width }: Size) -> Result<()> {
        if (self.height as i64, self.width as i64) == (height, width) {
            return Ok(());
        }
        let (expected, found) = (format!("{width}x{height} pixels"), format!("{}x{}", self.width, self.height));
        Err(Error::Range { field: "picture", expected, found })
    }

    /// Converts the picture to a tensor `[1, 3, height, width]` in -1..1.
    pub fn to_tensor(&self) -> Tensor {
        let (height, width) = (self.height as i64, self.width as i64);
        let rows = Tensor::from_slice(&self.pixels).view([1, height, width, 3]).permute([0, 3, 1, 2]);
        rows.contiguous().to_kind(Kind::Float) / 255.0 * 2.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_and_clamped_and_in_order() {
        // (x / 2 + 0.5) * 255: -1.2 below 0, 0.002 to 127.755, 1 to 255
        let tensor = Tensor::from_slice(&[-1.2f32, 0.002, 1.0, -1.0, 0.0, 3.0]).view([1, 3, 1, 2]);
        let picture = Picture::from_tensor(&tensor).unwrap();
        assert_eq!((picture.width, picture.height), (2, 1));
        assert_eq!(picture.pixels, [0, 255, 128, 128, 0, 255]);
        let again = picture.to_tensor();
        assert_eq!(again.size(), [1, 3, 1, 2]);
        assert_eq!(Picture::from_tensor(&again).unwrap(), picture);
        assert_eq!([again.double_value(&[0, 1, 0, 0]), again.double_value(&[0, 0, 0, 0])], [1.0, -1.0]);
    }

    #[test]
    fn a_tensor_that_is_not_finite_is_an_error() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let tensor = Tensor::from_slice(&[0.0, 0.5, bad]).view([1, 3, 1, 1]);
            let error = Picture::from_tensor(&tensor).unwrap_err().to_string();
            assert!(error.starts_with("picture: expected finite numbers, found "), "{error}");
        }
    }
}
