//! A picture that a run starts from: read, and brought to size.

use anyhow::{Context, Result, ensure};
use image::imageops::{FilterType, crop_imm, resize};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use latentrace_pipeline::{Picture, Size};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How a picture of other proportions is brought to size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Scaled until it covers the size, and its middle kept.
    #[default]
    Crop,
    /// Scaled in each direction by itself.
    Stretch,
}

/// The largest side that is read: more is surely not meant, and its pixels may not fit the memory.
const LARGEST: u32 = 16_384;
/// The most bytes that reading may take.
const MEMORY: u64 = 1 << 30;

/// Reads a PNG or JPEG picture as a camera meant it to be held, without its transparency (as the reference's `load_image`
/// does), and brings it to size with the Lanczos filter.
pub fn open(path: &Path, size: Size, fit: Fit) -> Result<Picture> {
    let image = read(path).with_context(|| path.display().to_string())?;
    let (width, height) = (size.width as u32, size.height as u32);
    let image = match fit {
        _ if image.dimensions() == (width, height) => image,
        Fit::Stretch => resize(&image, width, height, FilterType::Lanczos3),
        Fit::Crop => {
            let (across, down) = covered(image.dimensions(), (width, height));
            let (left, top) = ((image.width() - across) / 2, (image.height() - down) / 2);
            resize(&crop_imm(&image, left, top, across, down).to_image(), width, height, FilterType::Lanczos3)
        }
    };
    Ok(Picture { width: width as usize, height: height as usize, pixels: image.into_raw() })
}

/// Holds that a file is a picture that can be read, by its beginning alone.
pub fn check(path: &Path) -> Result<()> {
    decoder(path).map(drop).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<RgbImage> {
    let mut decoder = decoder(path)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.to_rgb8())
}

fn decoder(path: &Path) -> Result<impl ImageDecoder> {
    let mut reader = ImageReader::open(path)?.with_guessed_format()?;
    ensure!(reader.format().is_some(), "not a picture that can be read\nhint: PNG and JPEG can");
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder().context("a picture that cannot be read\nhint: PNG and JPEG can")?;
    let (width, height) = decoder.dimensions();
    ensure!(width > 0 && height > 0, "a picture without pixels");
    let hint = "hint: make it smaller first; a model sees a few hundred pixels a side";
    ensure!(width.max(height) <= LARGEST, "{width}x{height} pixels, more than {LARGEST} a side\n{hint}");
    ensure!(decoder.total_bytes() <= MEMORY, "{width}x{height} pixels take more than {MEMORY} bytes\n{hint}");
    Ok(decoder)
}

/// The largest part of a picture with the proportions of another size.
fn covered((width, height): (u32, u32), (across, down): (u32, u32)) -> (u32, u32) {
    let (width, height, across, down) = (u64::from(width), u64::from(height), u64::from(across), u64::from(down));
    let part = match width * down >= height * across {
        true => ((height * across + down / 2) / down, height),
        false => (width, (width * down + across / 2) / across),
    };
    (part.0.max(1) as u32, part.1.max(1) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn kept(image: &RgbImage, ending: &str) -> tempfile::TempPath {
        let path = tempfile::Builder::new().suffix(ending).tempfile().unwrap().into_temp_path();
        image.save(&path).unwrap();
        path
    }

    #[test]
    fn the_middle_is_kept_or_the_whole_is_stretched() {
        // Thirds of red, green and blue, 96x32: the middle third is green.
        let image = RgbImage::from_fn(96, 32, |x, _| Rgb([[255, 0, 0], [0, 255, 0], [0, 0, 255]][x as usize / 32]));
        let path = kept(&image, ".png");
        let size = Size { height: 64, width: 64 };
        let cropped = open(&path, size, Fit::Crop).unwrap();
        assert_eq!((cropped.width, cropped.height, cropped.pixels.len()), (64, 64, 3 * 64 * 64));
        assert!(cropped.pixels.chunks(3).all(|pixel| pixel == [0, 255, 0]));
        let stretched = open(&path, size, Fit::Stretch).unwrap();
        let at = |x: usize| &stretched.pixels[3 * x..3 * x + 3];
        assert_eq!((at(5), at(32), at(60)), (&[255, 0, 0][..], &[0, 255, 0][..], &[0, 0, 255][..]));
    }

    #[test]
    fn of_the_right_size_it_is_left_alone_and_jpeg_is_read() {
        let image = RgbImage::from_fn(16, 8, |x, y| Rgb([x as u8 * 16, y as u8 * 32, 7]));
        let same = open(&kept(&image, ".png"), Size { height: 8, width: 16 }, Fit::Crop).unwrap();
        assert_eq!(same.pixels, image.into_raw());
        let grey = RgbImage::from_pixel(32, 32, Rgb([90, 90, 90]));
        let read = open(&kept(&grey, ".jpg"), Size { height: 16, width: 16 }, Fit::Crop).unwrap();
        assert!(read.pixels.iter().all(|byte| byte.abs_diff(90) <= 2), "JPEG is lossy by a level or two");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let of = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let error = format!("{:#}", check(file.path()).unwrap_err());
            assert!(error.starts_with(&file.path().display().to_string()), "{error}");
            error
        };
        assert!(of(b"no picture").contains("PNG and JPEG"));
        assert!(of(b"").contains("PNG and JPEG"));
        assert!(of(b"\x89PNG\r\n\x1a\n cut off").contains("cannot be read"));
        assert!(check(Path::new("no-such.png")).is_err());
        let wide = kept(&RgbImage::new(30_000, 1), ".png");
        assert!(format!("{:#}", check(&wide).unwrap_err()).contains("30000x1 pixels"));
    }

    #[test]
    fn the_largest_part_of_the_right_proportions() {
        assert_eq!(covered((300, 100), (64, 64)), (100, 100));
        assert_eq!(covered((100, 301), (64, 64)), (100, 100));
        assert_eq!(covered((1920, 1080), (512, 512)), (1080, 1080));
        assert_eq!(covered((10_000, 1), (1, 1)), (1, 1));
    }
}
