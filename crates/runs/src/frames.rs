//! Decoded samples and clean estimates at some calls of a run.

use crate::observer::Observer;
use crate::record::pixels;
use anyhow::{Context, Result};
use image::RgbImage;
use latentrace_files::png::{open_image, read_png_text, save_png};
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::{Error, Model};
use latentrace_trace::{Entry, Trace};
use std::path::Path;

/// The samples and clean estimates of a run at some of its network calls, decoded.
pub struct Frames {
    /// The indices of the calls, from 0.
    pub calls: Vec<usize>,
    /// The sample at each call, scaled to unit variance before decoding: `x / √(1 + sigma²)`.
    pub samples: Vec<RgbImage>,
    /// The clean estimate at each call.
    pub estimates: Vec<RgbImage>,
}

impl Frames {
    /// Decodes the samples and clean estimates of some calls of a record. If the picture of a sample or estimate is not
    /// finite, its call is left out with a warning.
    ///
    /// # Errors
    /// The record does not have these values, or the decoder fails.
    pub fn decode(trace: &Trace, model: &Model, calls: &[usize], observer: &dyn Observer) -> Result<Frames> {
        let of = |value| decode(trace, model, value, calls, observer);
        let mut frames = Frames { calls: Vec::new(), samples: Vec::new(), estimates: Vec::new() };
        for ((call, sample), estimate) in calls.iter().zip(of(SamplerValue::Sample)?).zip(of(SamplerValue::Denoised)?) {
            if let (Some(sample), Some(estimate)) = (sample, estimate) {
                frames.calls.push(*call);
                frames.samples.push(sample);
                frames.estimates.push(estimate);
            }
        }
        Ok(frames)
    }

    /// [`Frames::decode`] for the clean estimates alone.
    ///
    /// # Errors
    /// The record does not have them, or the decoder fails.
    pub fn estimates(trace: &Trace, model: &Model, calls: &[usize], observer: &dyn Observer) -> Result<Frames> {
        let decoded = decode(trace, model, SamplerValue::Denoised, calls, observer)?.into_iter().zip(calls);
        let (estimates, calls) = decoded.filter_map(|(image, call)| Some((image?, *call))).unzip();
        Ok(Frames { calls, samples: Vec::new(), estimates })
    }

    /// Writes the frames as one PNG file: the samples in a row, and the estimates below them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let Some((width, height)) = self.samples.first().map(RgbImage::dimensions) else { return Ok(()) };
        let mut sheet = RgbImage::new(width * self.calls.len() as u32, 2 * height);
        for (row, images) in [&self.samples, &self.estimates].into_iter().enumerate() {
            for (column, image) in images.iter().enumerate() {
                let (left, top) = (column as u32 * width, row as u32 * height);
                for (x, y, pixel) in image.enumerate_pixels() {
                    sheet.put_pixel(left + x, top + y, *pixel);
                }
            }
        }
        let calls: Vec<String> = self.calls.iter().map(usize::to_string).collect();
        Ok(save_png(path, &sheet, &[(CALLS.into(), calls.join(" "))])?)
    }

    /// Reads the file that [`Frames::save`] writes.
    ///
    /// # Errors
    /// The file cannot be read, or is another picture.
    pub fn open(path: &Path) -> Result<Frames> {
        let text = read_png_text(path)?;
        let (_, calls) = text.iter().find(|(key, _)| key == CALLS).with_context(|| path.display().to_string())?;
        let calls: Vec<usize> = calls.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let sheet = open_image(path)?;
        let (width, height) = (sheet.width() / calls.len() as u32, sheet.height() / 2);
        let row = |row: u32| {
            let frame = |column: usize| {
                let (left, top) = (column as u32 * width, row * height);
                RgbImage::from_fn(width, height, |x, y| *sheet.get_pixel(left + x, top + y))
            };
            (0..calls.len()).map(frame).collect()
        };
        Ok(Frames { samples: row(0), estimates: row(1), calls })
    }
}

/// The keyword of the PNG text that lists the calls.
const CALLS: &str = "Calls";

/// The number of latent pixels that are decoded in one batch.
const ROOM: i64 = 4096;

/// Decodes a value of the sampler at some calls. Returns `None`, with a warning, for one whose picture is not finite:
/// the decoder was not trained on noisy samples.
fn decode(
    trace: &Trace,
    model: &Model,
    value: SamplerValue,
    calls: &[usize],
    observer: &dyn Observer,
) -> Result<Vec<Option<RgbImage>>> {
    let latents: Vec<Tensor> = calls.iter().map(|&call| latents(trace, value, call)).collect::<Result<_>>()?;
    let size = latents.first().map_or(1, |first| first.size()[2] * first.size()[3]);
    let most = (ROOM / size.max(1)).clamp(1, 16) as usize;
    let batches = latents.chunks(most).map(|batch| Tensor::cat(batch, 0).to_device(model.device));
    let decoded = batches.flat_map(|batch| model.decode_all(&batch)).zip(calls);
    let frame = |(picture, call): (latentrace_pipeline::Result<_>, &usize)| match picture {
        Ok(picture) => Ok(Some(pixels(&picture))),
        Err(error @ Error::NotFinite { .. }) => {
            observer.warn(&format!("{value} of call {call} is left out of the previews: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    };
    decoded.map(frame).collect()
}

/// A value of the sampler at a call, `[1, 4, height, width]` at unit variance.
fn latents(trace: &Trace, value: SamplerValue, call: usize) -> Result<Tensor> {
    let sigma = trace.values(value).find(|entry| entry.call == call).map_or(0.0, |entry| entry.sigma);
    let scale = if value == SamplerValue::Sample { 1.0 / sigma.hypot(1.0) } else { 1.0 };
    Ok(trace.value(value, call)? * scale)
}

/// The indices of about eight calls, evenly from the first to the last.
pub fn about_eight(calls: usize) -> Vec<usize> {
    let stride = calls.div_ceil(8).max(1);
    (0..calls).filter(|call| call % stride == 0 || call + 1 == calls).collect()
}

/// A caption for each call: its time.
pub fn captions(trace: &Trace, calls: &[usize]) -> Vec<String> {
    let entries: Vec<&Entry> = trace.values(SamplerValue::Denoised).collect();
    calls.iter().filter_map(|&call| entries.get(call)).map(|entry| format!("t = {:.0}", entry.t)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_frames_are_read_back() {
        let image = |shade: u8| RgbImage::from_pixel(3, 2, [shade, 2 * shade, 9].into());
        let kept = Frames {
            calls: vec![0, 7, 12],
            samples: vec![image(1), image(2), image(3)],
            estimates: vec![image(4), image(5), image(6)],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames.png");
        kept.save(&path).unwrap();
        let read = Frames::open(&path).unwrap();
        assert_eq!((&read.calls, &read.samples, &read.estimates), (&kept.calls, &kept.samples, &kept.estimates));
        save_png(&path, &image(1), &[]).unwrap();
        assert!(Frames::open(&path).is_err(), "another picture");
    }

    #[test]
    fn about_eight_are_even_with_both_ends() {
        assert_eq!(about_eight(51), [0, 7, 14, 21, 28, 35, 42, 49, 50]);
        assert_eq!(about_eight(3), [0, 1, 2]);
        assert!(about_eight(0).is_empty());
    }
}
