//! Pictures as `data:` URLs.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{ImageFormat, RgbImage};

/// The longest side of a picture on the page, in pixels.
pub const PICTURE_SIDE: u32 = 512;
/// A picture whose PNG has more bytes becomes a JPEG.
const MOST_BYTES: usize = 100_000;
/// JPEG qualities, of 1 to 100, at which no difference is visible.
const FRAME_QUALITY: u8 = 85;
const PICTURE_QUALITY: u8 = 95;

/// Bytes in base 64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A picture as PNG, or as JPEG if the PNG is too large.
pub fn picture(image: &RgbImage) -> String {
    let image = shrunk(image, within(image, PICTURE_SIDE));
    let mut png = Vec::new();
    match image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png) {
        Ok(()) if png.len() <= MOST_BYTES => format!("data:image/png;base64,{}", base64(&png)),
        _ => jpeg(&image, PICTURE_QUALITY),
    }
}

/// Frames side by side in one JPEG, each scaled to the given size.
pub fn sheet(frames: &[&RgbImage], (width, height): (u32, u32)) -> String {
    if frames.is_empty() {
        return String::new();
    }
    let mut sheet = RgbImage::new(width * frames.len() as u32, height);
    for (index, frame) in frames.iter().enumerate() {
        let frame = shrunk(frame, (width, height));
        image::imageops::replace(&mut sheet, &frame, i64::from(width) * index as i64, 0);
    }
    jpeg(&sheet, FRAME_QUALITY)
}

/// The size of a picture when its longer side is scaled down to at most `side`.
pub fn within(image: &RgbImage, side: u32) -> (u32, u32) {
    let (width, height) = image.dimensions();
    let longer = width.max(height).max(1);
    let scaled = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longer)).max(1) as u32;
    if longer <= side { (width.max(1), height.max(1)) } else { (scaled(width), scaled(height)) }
}

fn shrunk(image: &RgbImage, (width, height): (u32, u32)) -> RgbImage {
    match image.dimensions() {
        (0, _) | (_, 0) => RgbImage::new(width, height),
        size if size == (width, height) => image.clone(),
        _ => resize(image, width, height, FilterType::CatmullRom),
    }
}

/// Empty if the picture cannot be encoded because a side is longer than 65,535 pixels.
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

    #[test]
    fn small_pictures_are_kept_to_the_bit_and_large_ones_within_the_page() {
        let small = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 7]));
        assert_eq!(decoded(&picture(&small)), small);
        let noisy = RgbImage::from_fn(2048, 1024, |x, y| image::Rgb([((x * 31) ^ (y * 17)) as u8, (x * y) as u8, 9]));
        let source = picture(&noisy);
        assert!(source.starts_with("data:image/jpeg"));
        assert_eq!(decoded(&source).dimensions(), (512, 256));
    }

    #[test]
    fn frames_stand_side_by_side() {
        let plain = |level| RgbImage::from_pixel(8, 8, image::Rgb([level; 3]));
        let (dark, light) = (plain(20), plain(230));
        let sheet = decoded(&sheet(&[&dark, &light], (8, 8)));
        assert_eq!(sheet.dimensions(), (16, 8));
        assert!(sheet.get_pixel(2, 4)[0] < 40 && sheet.get_pixel(13, 4)[0] > 210);
        assert_eq!(within(&RgbImage::new(640, 320), 160), (160, 80));
        assert_eq!(super::sheet(&[], (8, 8)), "");
    }
}
