//! PNG files with text chunks, which say how the picture was made.

use crate::{Error, open_plain, replace_unsynced};
use image::RgbImage;
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
    let file = open_plain(path)?;
    let reader = image::ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(Error::reading(path))?;
    let picture = reader.decode().map_err(|cause| Error::Picture { path: path.to_owned(), cause })?;
    Ok(picture.to_rgb8())
}

/// The most bytes of text that are read of a PNG file. Compressed text of a few megabytes can hold gigabytes.
const MOST_TEXT: usize = 16 << 20;

/// The texts in a PNG file: the `tEXt` chunks, then `zTXt`, then `iTXt`, each kind in the order of the file.
///
/// # Errors
/// If the file cannot be read, is not a whole PNG, or has more than 16 MiB of text.
pub fn read_png_text(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let file = open_plain(path)?;
    let decoding = |cause| Error::Decode { path: path.to_owned(), cause };
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(decoding)?;
    reader.finish().map_err(decoding)?; // text chunks may follow the pixels
    let mut info = reader.info().clone();
    let mut texts = Vec::new();
    let mut left = MOST_TEXT;
    let mut add = |keyword: &str, text: String, left: &mut usize| {
        let fits = left.checked_sub(text.len());
        *left = fits.ok_or(Error::TooMuchText { path: path.to_owned(), most: MOST_TEXT })?;
        texts.push((keyword.to_owned(), text));
        Ok(())
    };
    let unpacked = |unpacked: Result<(), png::DecodingError>| match unpacked {
        // The only limit here is that of the text: `png` has no kind of error for it.
        Err(cause) if cause.to_string().contains("Out of decompression space") => {
            Err(Error::TooMuchText { path: path.to_owned(), most: MOST_TEXT })
        }
        other => other.map_err(decoding),
    };
    for chunk in &info.uncompressed_latin1_text {
        add(&chunk.keyword, chunk.text.clone(), &mut left)?;
    }
    for chunk in &mut info.compressed_latin1_text {
        unpacked(chunk.decompress_text_with_limit(left))?;
        add(&chunk.keyword, chunk.get_text().map_err(decoding)?, &mut left)?;
    }
    for chunk in &mut info.utf8_text {
        unpacked(chunk.decompress_text_with_limit(left))?;
        add(&chunk.keyword, chunk.get_text().map_err(decoding)?, &mut left)?;
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
    fn text_that_would_grow_to_gigabytes_is_refused() {
        use png::text_metadata::{ITXtChunk, TEXtChunk, ZTXtChunk};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.png");
        let long = "a".repeat(MOST_TEXT + 1);
        for kind in 0..3 {
            let mut bytes = Vec::new();
            let mut writer = png::Encoder::new(&mut bytes, 1, 1).write_header().unwrap();
            writer.write_image_data(&[0]).unwrap();
            match kind {
                0 => writer.write_text_chunk(&TEXtChunk::new("Latentrace", long.as_str())).unwrap(),
                1 => writer.write_text_chunk(&ZTXtChunk::new("Latentrace", long.as_str())).unwrap(),
                _ => {
                    let mut chunk = ITXtChunk::new("Latentrace", long.as_str());
                    chunk.compressed = true;
                    writer.write_text_chunk(&chunk).unwrap();
                }
            }
            drop(writer);
            assert!(kind == 0 || bytes.len() < 100_000, "{}", bytes.len());
            std::fs::write(&path, &bytes).unwrap();
            let error = read_png_text(&path).unwrap_err().to_string();
            assert!(error.contains("bomb.png: its texts take more than 16777216 bytes"), "{kind}: {error}");
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
