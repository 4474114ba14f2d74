//! Checks that a picture's file is complete, for decoders that do not check this.
//!
//! A JPEG decoder shows a truncated file with grey in place of the missing part, without an error. JPEG has no
//! checksum, but a truncated file lacks its end marker, or a scan ends before all its blocks. A WebP file may lack its
//! last chunks, which may include the EXIF orientation.

use anyhow::{Result, anyhow, bail, ensure};
use image::ImageFormat;
use zune_core::bytestream::ZCursor;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Checks that a file of a format is complete.
///
/// # Errors
/// A part of it is missing, or it cannot be decoded.
pub fn check(file: &[u8], format: ImageFormat) -> Result<()> {
    match format {
        ImageFormat::Jpeg => jpeg(file),
        ImageFormat::WebP => webp(file),
        _ => Ok(()), // their decoders check it
    }
}

/// A RIFF file has its length at byte 4; it does not count the first 8 bytes.
fn webp(file: &[u8]) -> Result<()> {
    let length = file.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    ensure!(length.is_some_and(|length| file.len() as u64 >= u64::from(length) + 8), "damaged: it is cut off");
    Ok(())
}

fn jpeg(file: &[u8]) -> Result<()> {
    let parts = Parts::of(file)?;
    let pixels = decoded(&parts.with_filler(&[]), true)?;
    // A decoder reads zeros past the end of a scan. Whether it did is seen by decoding again with other bits there: the
    // pixels of complete blocks do not change.
    let filled = decoded(&parts.with_filler(&FILLER), false)?;
    ensure!(pixels == filled, "damaged: some of its pixels are missing");
    Ok(())
}

/// Bits for a decoder that reads past the end of a scan. They are neither a marker nor zero.
const FILLER: [u8; 64] = [0xAA; 64];

/// The parts of a JPEG file.
struct Parts<'a> {
    /// The bytes of each part, and whether filler may follow them because they end a scan.
    parts: Vec<(&'a [u8], bool)>,
}

impl<'a> Parts<'a> {
    /// Splits a file, from its first marker to its end marker. Bytes between segments are left out, as are those after
    /// the end marker: some telephones add a second picture there.
    fn of(file: &'a [u8]) -> Result<Parts<'a>> {
        let mut parts = Vec::new();
        let mut at = 0;
        let (mut scans, mut progressive) = (0, false);
        loop {
            let (begin, marker) = next_marker(file, at).ok_or_else(cut_off)?;
            at = begin + 2;
            match marker {
                END => {
                    ensure!(scans > usize::from(progressive), "damaged: it ends in its first scan");
                    parts.push((&file[begin..at], false));
                    return Ok(Parts { parts });
                }
                BEGIN => parts.push((&file[begin..at], false)),
                0x01 | 0xD0..=0xD7 => {} // a marker without a segment, which has no effect outside a scan
                _ => {
                    let [high, low] = *file.get(at..at + 2).ok_or_else(cut_off)? else { bail!(cut_off()) };
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    ensure!(length >= 2 && at + length <= file.len(), cut_off());
                    at += length;
                    progressive |= matches!(marker, 0xC2 | 0xC6 | 0xCA | 0xCE);
                    if marker == SCAN {
                        at = end_of_scan(file, at);
                        scans += 1;
                    }
                    // The decoder needs a marker directly after the first of several progressive scans.
                    parts.push((&file[begin..at], marker == SCAN && (scans > 1 || !progressive)));
                }
            }
        }
    }

    /// The file with filler after each scan.
    fn with_filler(&self, filler: &[u8]) -> Vec<u8> {
        let each = |(part, is_scan): &(&[u8], bool)| [*part, if *is_scan { filler } else { &[] }].concat();
        self.parts.iter().flat_map(each).collect()
    }
}

const BEGIN: u8 = 0xD8;
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;

fn cut_off() -> anyhow::Error {
    anyhow!("damaged: it is cut off before its end marker")
}

/// The position of the next marker, and its number.
fn next_marker(file: &[u8], from: usize) -> Option<(usize, u8)> {
    let rest = file.get(from..)?;
    let begin = rest.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF))?;
    Some((from + begin, rest[begin + 1]))
}

/// The position where the data of a scan ends: at the next marker that is not a restart marker.
fn end_of_scan(file: &[u8], from: usize) -> usize {
    let ends = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF);
    file[from..].windows(2).position(ends).map_or(file.len(), |place| from + place)
}

fn decoded(file: &[u8], strict: bool) -> Result<Vec<u8>> {
    let options =
        DecoderOptions::default().set_strict_mode(strict).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode().map_err(|error| anyhow!("damaged: {error}"))
}
