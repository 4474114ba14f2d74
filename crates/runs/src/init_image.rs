//! Reading of the picture that a run starts from, or of its mask, and scaling to the run's size.

use crate::whole;
use anyhow::{Context, Result, anyhow, ensure};
use image::imageops::{FilterType, crop_imm, resize};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use latentrace_files::said;
use latentrace_pipeline::{Picture, Size};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

/// How a picture with another aspect ratio is scaled to the run's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Scaled to cover the size, and cropped to its middle.
    #[default]
    Crop,
    /// Height and width are scaled independently.
    Stretch,
}

/// The largest side that is read, in pixels. The pixels of a larger picture may not fit into memory.
const LARGEST: u32 = 16_384;
/// The largest number of bytes that decoding may use.
const MEMORY: u64 = 1 << 30;

/// The formats that can be read.
const FORMATS: &str = "PNG, JPEG, WebP, GIF, BMP and TIFF";

/// A picture of a file.
pub struct Opened {
    /// The picture, scaled.
    pub picture: Picture,
    /// The blake3 hash of the file.
    pub blake3: String,
    /// Width and height of the picture in the file.
    pub size: (u32, u32),
    /// Whether the file has a pixel that is not opaque.
    pub is_transparent: bool,
}

/// Reads a picture and scales it to a size with the Lanczos filter. Like `load_image` of diffusers, it takes the first
/// frame, applies the EXIF orientation and drops transparency.
///
/// # Errors
/// The file has another format, is too large, or is damaged.
pub fn open(path: &Path, size: Size, fit: Fit) -> Result<Opened> {
    let (image, blake3) = decoded(path).with_context(|| path.display().to_string())?;
    let is_transparent = image.color().has_alpha() && image.to_rgba8().pixels().any(|pixel| pixel.0[3] < u8::MAX);
    let (size_of_file, image) = ((image.width(), image.height()), image.to_rgb8());
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
    let picture = Picture { width: width as usize, height: height as usize, pixels: image.into_raw() };
    Ok(Opened { picture, blake3, size: size_of_file, is_transparent })
}

/// Checks that a file is a picture that can be read. Reads only the beginning of the file.
///
/// # Errors
/// The file cannot be read, has another format, or is too large.
pub fn check(path: &Path) -> Result<()> {
    let beginning = || decoder(BufReader::new(opened(path)?)).map(drop);
    beginning().with_context(|| path.display().to_string())
}

fn opened(path: &Path) -> Result<File> {
    let about = std::fs::metadata(path).map_err(|error| anyhow!(said(&error)))?;
    ensure!(about.is_file(), "{}", if about.is_dir() { "a folder, not a picture" } else { "not a plain file" });
    File::open(path).map_err(|error| anyhow!(said(&error)))
}

/// The picture of a file, turned as it is to be seen, with the file's hash.
fn decoded(path: &Path) -> Result<(DynamicImage, String)> {
    decoder(BufReader::new(opened(path)?))?; // before reading all of a file that is not a picture
    let bytes = std::fs::read(path)?;
    let mut decoder = decoder(Cursor::new(&bytes))?;
    whole::check(&bytes, image::guess_format(&bytes)?)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok((image, blake3::hash(&bytes).to_hex().to_string()))
}

fn decoder<'a>(bytes: impl BufRead + Seek + 'a) -> Result<impl ImageDecoder + 'a> {
    let mut reader = ImageReader::new(bytes).with_guessed_format()?;
    ensure!(reader.format().is_some(), "not a picture that can be read\nhint: {FORMATS} can be read");
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| {
        anyhow!("a picture that cannot be read: {error}\nhint: {FORMATS} can be read, in their usual forms")
    })?;
    let (width, height) = decoder.dimensions();
    ensure!(width > 0 && height > 0, "a picture without pixels");
    let hint = "hint: make it smaller first; a model uses a few hundred pixels a side";
    ensure!(width.max(height) <= LARGEST, "{width}x{height} pixels, more than {LARGEST} a side\n{hint}");
    ensure!(decoder.total_bytes() <= MEMORY, "{width}x{height} pixels take more than {MEMORY} bytes\n{hint}");
    Ok(decoder)
}

/// The size of the largest part of a picture with the aspect ratio of another size.
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
    use image::{ImageFormat, Rgb, RgbImage};
    use std::path::PathBuf;

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
        let cropped = open(&path, size, Fit::Crop).unwrap().picture;
        assert_eq!((cropped.width, cropped.height, cropped.pixels.len()), (64, 64, 3 * 64 * 64));
        assert!(cropped.pixels.chunks(3).all(|pixel| pixel == [0, 255, 0]));
        let stretched = open(&path, size, Fit::Stretch).unwrap().picture;
        let at = |x: usize| &stretched.pixels[3 * x..3 * x + 3];
        assert_eq!((at(5), at(32), at(60)), (&[255, 0, 0][..], &[0, 255, 0][..], &[0, 0, 255][..]));
    }

    #[test]
    fn a_picture_of_the_right_size_is_unchanged_and_jpeg_is_read() {
        let image = RgbImage::from_fn(16, 8, |x, y| Rgb([x as u8 * 16, y as u8 * 32, 7]));
        let same = open(&kept(&image, ".png"), Size { height: 8, width: 16 }, Fit::Crop).unwrap().picture;
        assert_eq!(same.pixels, image.into_raw());
        let grey = RgbImage::from_pixel(32, 32, Rgb([90, 90, 90]));
        let read = open(&kept(&grey, ".jpg"), Size { height: 16, width: 16 }, Fit::Crop).unwrap().picture;
        assert!(read.pixels.iter().all(|byte| byte.abs_diff(90) <= 2), "JPEG is lossy by a level or two");
    }

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/images")
    }

    #[test]
    fn the_size_and_the_transparency_of_the_file_are_told() {
        let size = Size { height: 8, width: 8 };
        let at = |name: &str| open(&golden().join(name), size, Fit::Stretch).unwrap();
        let [plain, clear] = ["base.png", "alpha.png"].map(at);
        assert_eq!([plain.size, clear.size], [(37, 26); 2]);
        assert_eq!([plain.is_transparent, clear.is_transparent], [false, true]);
    }

    /// Every picture of the fixtures, with the picture of what Pillow reads from it.
    fn fixtures() -> Vec<(PathBuf, PathBuf)> {
        let files = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
        let pictures = files.filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            !name.ends_with(".py") && name.matches('.').count() == 1
        });
        let with_expected = |path: PathBuf| {
            let own = PathBuf::from(format!("{}.png", path.display()));
            let expected = if own.is_file() { own } else { golden().join("base.png") };
            (path, expected)
        };
        pictures.map(with_expected).collect()
    }

    #[test]
    fn every_format_is_read_as_pillow_reads_it() {
        let fixtures = fixtures();
        assert!(fixtures.len() > 25, "{}", fixtures.len());
        for (path, expected) in fixtures {
            check(&path).unwrap();
            let (found, expected) = (decoded(&path).unwrap().0.to_rgb8(), image::open(expected).unwrap().to_rgb8());
            assert_eq!(found.dimensions(), expected.dimensions(), "{}", path.display());
            let apart = found.as_raw().iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            // Decoders round the cosine transform and the chroma upsampling of JPEG and lossy WebP in different ways.
            let is_lossy = path.extension().is_some_and(|ending| ending == "jpg") || path.ends_with("lossy.webp");
            assert!(apart <= if is_lossy { 3 } else { 0 }, "{}: {apart} levels", path.display());
        }
    }

    #[test]
    fn a_truncated_file_is_refused_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        for (path, _) in fixtures() {
            let (whole, bytes) = (decoded(&path).unwrap().0.to_rgb8(), std::fs::read(&path).unwrap());
            let cut = folder.path().join(path.file_name().unwrap());
            let mut refused = 0;
            let (step, last) = (bytes.len().div_ceil(200), bytes.len() - 12);
            let lengths: Vec<usize> = (0..last).step_by(step).chain(last..bytes.len()).collect();
            for &length in &lengths {
                std::fs::write(&cut, &bytes[..length]).unwrap();
                match open(&cut, Size { height: 26, width: 37 }, Fit::Stretch) {
                    Err(error) => {
                        let text = format!("{error:#}");
                        assert!(text.starts_with(&cut.display().to_string()), "{text}");
                        refused += 1;
                    }
                    // The end of a file may be no part of the picture.
                    Ok(_) => assert!(decoded(&cut).unwrap().0.to_rgb8() == whole, "{} at {length}", path.display()),
                }
            }
            // The second frame of a file may be missing.
            assert!(refused > lengths.len() / 3, "{}: {refused} of {}", path.display(), lengths.len());
        }
    }

    #[test]
    fn a_jpeg_whose_scan_ends_early_is_refused_even_with_its_end_marker() {
        for name in ["base.jpg", "full.jpg", "grey.jpg", "cmyk.jpg", "restart.jpg", "progressive.jpg"] {
            let bytes = std::fs::read(golden().join(name)).unwrap();
            whole::check(&bytes, ImageFormat::Jpeg).unwrap();
            let end = bytes.len() - 2;
            for lost in [20, 40, 80] {
                let early = [&bytes[..end - lost], &bytes[end..]].concat();
                assert!(whole::check(&early, ImageFormat::Jpeg).is_err(), "{name} without {lost} bytes");
            }
            // Bytes after the end marker and between segments are ignored.
            let more = [&bytes[..2], b"junk", &bytes[2..], b"another picture"].concat();
            whole::check(&more, ImageFormat::Jpeg).unwrap();
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let of = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let error = format!("{:#}", check(file.path()).unwrap_err());
            assert!(error.starts_with(&file.path().display().to_string()), "{error}");
            error
        };
        assert!(of(b"no picture").contains(FORMATS));
        assert!(of(b"").contains(FORMATS));
        assert!(of(b"\x89PNG\r\n\x1a\n cut off").contains("cannot be read"));
        assert!(check(Path::new("no-such.png")).is_err());
        let wide = kept(&RgbImage::new(30_000, 1), ".png");
        assert!(format!("{:#}", check(&wide).unwrap_err()).contains("30000x1 pixels"));
    }

    #[test]
    fn the_largest_part_with_an_aspect_ratio() {
        assert_eq!(covered((300, 100), (64, 64)), (100, 100));
        assert_eq!(covered((100, 301), (64, 64)), (100, 100));
        assert_eq!(covered((1920, 1080), (512, 512)), (1080, 1080));
        assert_eq!(covered((10_000, 1), (1, 1)), (1, 1));
    }
}
