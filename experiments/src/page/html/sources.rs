//! Pictures as `data:` URLs.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{ImageFormat, RgbImage};

/// A scaled picture: the longest side that it may have, in pixels, and the JPEG quality, of 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The longest side.
    pub side: u32,
    /// The quality.
    pub quality: u8,
}

/// Bytes in base 64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a PNG file as a URL.
pub fn png_url(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64(bytes))
}

/// A picture as the bytes of a PNG file. Empty if it has no pixels.
pub fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    match image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png) {
        Ok(()) => bytes,
        Err(_) => Vec::new(), // only a picture without pixels cannot be written to memory
    }
}

/// A picture as a JPEG of a size. Empty if a side is longer than 65,535 pixels.
pub fn thumbnail(image: &RgbImage, scaled: Scaled) -> String {
    jpeg(&shrunk(image, within(image.dimensions(), scaled.side)), scaled.quality)
}

/// Frames side by side in one JPEG, each within a size.
pub fn sheet(frames: &[RgbImage], scaled: Scaled) -> String {
    let Some(first) = frames.first() else { return String::new() };
    let size = within(first.dimensions(), scaled.side);
    let small: Vec<RgbImage> = frames.iter().map(|frame| shrunk(frame, size)).collect();
    jpeg(&side_by_side(&small), scaled.quality)
}

/// Pictures of one size in a row.
pub fn side_by_side(frames: &[RgbImage]) -> RgbImage {
    let (width, height) = frames.first().map_or((0, 0), RgbImage::dimensions);
    let mut row = RgbImage::new(width * frames.len() as u32, height);
    for (index, frame) in frames.iter().enumerate() {
        image::imageops::replace(&mut row, frame, i64::from(width) * index as i64, 0);
    }
    row
}

/// The size of a picture when its longer side is scaled down to at most `side`.
pub fn within((width, height): (u32, u32), side: u32) -> (u32, u32) {
    let longer = width.max(height).max(1);
    let scaled = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longer)).max(1) as u32;
    if longer <= side { (width.max(1), height.max(1)) } else { (scaled(width), scaled(height)) }
}

fn shrunk(image: &RgbImage, (width, height): (u32, u32)) -> RgbImage {
    match image.dimensions() {
        (0, _) | (_, 0) => RgbImage::new(width, height),
        size if size == (width, height) => image.clone(),
        _ => resize(image, width, height, FilterType::Triangle),
    }
}

fn jpeg(image: &RgbImage, quality: u8) -> String {
    let mut bytes = Vec::new();
    match JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image) {
        Ok(()) => format!("data:image/jpeg;base64,{}", base64(&bytes)),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(source: &str) -> RgbImage {
        let bytes = STANDARD.decode(source.split_once(',').unwrap().1).unwrap();
        image::load_from_memory(&bytes).unwrap().to_rgb8()
    }

    const SCALED: Scaled = Scaled { side: 160, quality: 90 };

    #[test]
    fn a_png_keeps_every_bit_and_a_thumbnail_the_proportions() {
        let noisy = RgbImage::from_fn(640, 320, |x, y| image::Rgb([((x * 31) ^ (y * 17)) as u8, (x * y) as u8, 9]));
        assert_eq!(decoded(&png_url(&png(&noisy))), noisy);
        let small = thumbnail(&noisy, SCALED);
        assert!(small.starts_with("data:image/jpeg"));
        assert_eq!(decoded(&small).dimensions(), (160, 80));
        assert_eq!(within((64, 48), 160), (64, 48), "nothing is enlarged");
        assert!(png(&RgbImage::new(0, 0)).is_empty());
    }

    #[test]
    fn frames_stand_side_by_side() {
        let plain = |level| RgbImage::from_pixel(8, 8, image::Rgb([level; 3]));
        let frames = [plain(20), plain(230)];
        let found = decoded(&sheet(&frames, SCALED));
        assert_eq!(found.dimensions(), (16, 8));
        assert!(found.get_pixel(2, 4)[0] < 40 && found.get_pixel(13, 4)[0] > 210);
        assert_eq!(side_by_side(&frames).get_pixel(8, 0)[0], 230);
        assert_eq!(sheet(&[], SCALED), "");
    }
}
