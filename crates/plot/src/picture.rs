//! PNG files that carry what made them, as text beside the pixels.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use image::RgbImage;

use crate::Error;

/// Saves a picture as PNG with named texts in it (`("prompt", "a red circle")`, ...), under a temporary name first.
///
/// Plain ASCII texts become `tEXt` chunks, which every reader knows; if any text needs more, all become `iTXt` (UTF-8),
/// so that they are read back in the order in which they were given.
///
/// # Errors
/// When the file cannot be written, the picture has no pixels, or a key is not 1 to 79 Latin-1 letters.
pub fn save_png(path: &Path, image: &RgbImage, text: &[(String, String)]) -> Result<(), Error> {
    replace(path, |file| encode(path, file, image, text))
}

/// Opens a PNG or JPEG file, told apart by its content.
///
/// # Errors
/// When the file cannot be read, is neither, or would need more than half a gigabyte.
pub fn open_image(path: &Path) -> Result<RgbImage, Error> {
    let file = File::open(path).map_err(|cause| Error::Read { path: path.to_owned(), cause })?;
    let reading = |cause| Error::Read { path: path.to_owned(), cause };
    let reader = image::ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(reading)?;
    let picture = reader.decode().map_err(|cause| Error::Picture { path: path.to_owned(), cause })?;
    Ok(picture.to_rgb8())
}

/// The texts in a PNG file: its `tEXt` chunks, then `zTXt`, then `iTXt`, each kind in the order of the file.
///
/// # Errors
/// When the file cannot be read or is not a whole PNG.
pub fn read_png_text(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let file = File::open(path).map_err(|cause| Error::Read { path: path.to_owned(), cause })?;
    let decoding = |cause| Error::Decode { path: path.to_owned(), cause };
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(decoding)?;
    reader.finish().map_err(decoding)?; // texts may also follow the pixels
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

/// Encodes a picture and its texts as PNG; `path` is for the error alone.
pub(crate) fn encode(
    path: &Path,
    file: &mut dyn Write,
    image: &RgbImage,
    text: &[(String, String)],
) -> Result<(), Error> {
    let encoding = Error::encoding(path);
    let mut encoder = png::Encoder::new(file, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let plain = text.iter().all(|(_, value)| value.chars().all(|letter| letter == '\n' || matches!(letter, ' '..='~')));
    for (key, value) in text {
        match plain {
            true => encoder.add_text_chunk(key.clone(), value.clone()),
            false => encoder.add_itxt_chunk(key.clone(), value.clone()),
        }
        .map_err(&encoding)?;
    }
    let mut writer = encoder.write_header().map_err(&encoding)?;
    writer.write_image_data(image).map_err(&encoding)?;
    writer.finish().map_err(&encoding)
}

/// Begins the name of a file that is not whole yet: of a process that was killed, it may stay.
pub const PARTIAL: &str = ".partial-";

/// Fills a temporary file beside `path` and renames it to `path` when whole; on any error it is gone again.
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask, as for any other new file
    }
    let mut temporary = builder.tempfile_in(folder).map_err(Error::writing(path))?;
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    fill(&mut buffered)?;
    buffered.flush().map_err(Error::writing(path))?;
    drop(buffered);
    temporary.persist(path).map_err(|error| Error::writing(path)(error.error))?;
    Ok(())
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
        encode(Path::new("-"), &mut bytes, &picture(), &texts(&[("seed", "193")])).unwrap();
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
