//! PNG files with text chunks, which say how the picture was made.

use crate::{Error, replace_unsynced};
use image::RgbImage;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

/// Saves a picture as PNG with text chunks (`("prompt", "a red circle")`, ...). The file appears whole or not at all.
///
/// If all texts are ASCII they become `tEXt` chunks, which every reader knows. Otherwise all become `iTXt` chunks
/// (UTF-8), so that [`read_png_text`] returns them in the given order.
///
/// # Errors
/// If the file cannot be written, the picture has no pixels, or a key is not 1 to 79 Latin-1 letters.
pub fn save_png(path: &Path, image: &RgbImage, text: &[(String, String)]) -> Result<(), Error> {
    let mut bytes = Vec::new();
    encode(&mut bytes, image, text).map_err(|cause| Error::Encode { path: path.to_owned(), cause })?;
    replace_unsynced(path, &bytes)
}

/// Opens a PNG or JPEG file. The content decides the format, not the name.
///
/// # Errors
/// If the file cannot be read, is of another format, or would need more than half a gigabyte of memory.
pub fn open_image(path: &Path) -> Result<RgbImage, Error> {
    let file = File::open(path).map_err(Error::reading(path))?;
    let reader = image::ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(Error::reading(path))?;
    let picture = reader.decode().map_err(|cause| Error::Picture { path: path.to_owned(), cause })?;
    Ok(picture.to_rgb8())
}

/// The texts in a PNG file: the `tEXt` chunks, then `zTXt`, then `iTXt`, each kind in the order of the file.
///
/// # Errors
/// If the file cannot be read or is not a whole PNG.
pub fn read_png_text(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let file = File::open(path).map_err(Error::reading(path))?;
    let decoding = |cause| Error::Decode { path: path.to_owned(), cause };
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(decoding)?;
    reader.finish().map_err(decoding)?; // text chunks may follow the pixels
    let info = reader.info();
    let mut texts = Vec::new();
    for chunk in &info.uncompressed_latin1_text {
        texts.push((chunk.keyword.clone(), chunk.text.clone()));
    }
    for chunk in &info.compressed_latin1_text {
        texts.push((chunk.keyword.clone(), chunk.get_text().map_err(decoding)?));
    }
    for chunk in &info.utf8_text {
        texts.push((chunk.keyword.clone(), chunk.get_text().map_err(decoding)?));
    }
    Ok(texts)
}

fn encode(file: &mut impl Write, image: &RgbImage, text: &[(String, String)]) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(file, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // On 20 charts and grids of pictures this takes a seventh of the default's time (level 6, adaptive filter) for
    // files a third larger. `Compression::Fast` takes a third of the time and makes larger files than this.
    encoder.set_deflate_compression(png::DeflateCompression::Level(1));
    encoder.set_filter(png::Filter::Up);
    let plain = text.iter().all(|(_, value)| value.chars().all(|letter| letter == '\n' || matches!(letter, ' '..='~')));
    for (key, value) in text {
        match plain {
            true => encoder.add_text_chunk(key.clone(), value.clone())?,
            false => encoder.add_itxt_chunk(key.clone(), value.clone())?,
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8 * 50, y as u8 * 80, 7]))
    }

    #[test]
    fn a_file_that_is_no_picture_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.png");
        std::fs::write(&path, "a red circle").unwrap();
        let error = open_image(&path).unwrap_err().to_string();
        assert!(error.contains("notes.png: not a readable picture"), "{error}");
        assert!(open_image(&folder.path().join("none.png")).unwrap_err().to_string().contains("none.png"));
    }

    #[test]
    fn texts_and_pixels_come_back() {
        let folder = tempfile::tempdir().unwrap();
        for given in [
            texts(&[("prompt", "a red circle\non blue"), ("seed", "193")]),
            texts(&[("seed", "193"), ("prompt", "ein grünes Schiff, 赤い円 🟥, σ→0"), ("empty", "")]),
            texts(&[]),
        ] {
            let path = folder.path().join("picture.png");
            save_png(&path, &picture(), &given).unwrap();
            assert_eq!(read_png_text(&path).unwrap(), given);
            assert_eq!(image::open(&path).unwrap().to_rgb8(), picture());
        }
    }

    #[test]
    fn ascii_is_text_that_any_reader_knows() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &picture(), &texts(&[("seed", "193")])).unwrap();
        assert!(bytes.windows(4).any(|window| window == b"tEXt"));
        assert!(!bytes.windows(4).any(|window| window == b"iTXt"));
    }

    #[test]
    fn what_cannot_be_encoded_is_an_error_that_names_the_file_and_spares_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        save_png(&path, &picture(), &[]).unwrap();
        for (image, text) in [
            (RgbImage::new(0, 0), texts(&[])),
            (picture(), texts(&[("", "no key")])),
            (picture(), texts(&[(&"k".repeat(80), "long key")])),
            (picture(), texts(&[("鍵", "key outside Latin-1")])),
        ] {
            let message = save_png(&path, &image, &text).unwrap_err().to_string();
            assert!(message.contains("picture.png: not encodable as PNG: "), "{message}");
            assert_eq!(image::open(&path).unwrap().to_rgb8(), picture());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.png");
        save_png(&path, &picture(), &[]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
        let message = read_png_text(&path).unwrap_err().to_string();
        assert!(message.contains("cut.png: not a readable PNG: "), "{message}");
    }
}
