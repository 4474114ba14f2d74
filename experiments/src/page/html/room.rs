//! How large the pictures of a page may be, so that hundreds of runs open at once.

use super::sources::{Scaled, sheet, thumbnail};
use image::RgbImage;
use latentrace_runs::Frames;

/// The size of a page that is aimed at, in bytes.
pub const PAGE: usize = 11_000_000;
/// What the pictures of a page may take at least, however much else there is.
const LEAST: usize = 3_000_000;

/// The sizes of pictures, from the best: the first is taken with which all of them have room.
const PICTURES: [Scaled; 8] = [
    Scaled { side: 512, quality: 90 },
    Scaled { side: 384, quality: 88 },
    Scaled { side: 256, quality: 88 },
    Scaled { side: 192, quality: 85 },
    Scaled { side: 128, quality: 85 },
    Scaled { side: 96, quality: 85 },
    Scaled { side: 64, quality: 85 },
    Scaled { side: 48, quality: 85 },
];
/// The same for frames, of which a run has many.
const FRAMES: [Scaled; 9] = [
    Scaled { side: 160, quality: 85 },
    Scaled { side: 128, quality: 85 },
    Scaled { side: 96, quality: 85 },
    Scaled { side: 64, quality: 85 },
    Scaled { side: 64, quality: 70 },
    Scaled { side: 48, quality: 75 },
    Scaled { side: 40, quality: 70 },
    Scaled { side: 32, quality: 65 },
    Scaled { side: 24, quality: 60 },
];

/// What the pictures of one run may take.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The most bytes of a picture that is on the page as it is.
    pub exact_picture: usize,
    /// The same of its frames.
    pub exact_frames: usize,
    /// How other pictures are scaled.
    pub picture: Scaled,
    /// How other frames are scaled.
    pub frames: Scaled,
}

impl Room {
    /// The room on a page that has `used` bytes without the pictures of its runs. The pictures and frames of some runs
    /// say how much a picture takes.
    pub fn new(used: usize, runs: usize, sample: &[(RgbImage, Option<Frames>)]) -> Room {
        let each = PAGE.saturating_sub(used).max(LEAST) / runs.max(1);
        let mean = |bytes: usize| bytes / sample.len().max(1);
        let of_picture =
            |scaled: Scaled| mean(sample.iter().map(|(picture, _)| thumbnail(picture, scaled).len()).sum());
        let of_frames = |scaled: Scaled| {
            let both = |frames: &Frames| sheet(&frames.samples, scaled).len() + sheet(&frames.estimates, scaled).len();
            mean(sample.iter().filter_map(|(_, frames)| frames.as_ref()).map(both).sum())
        };
        let picture = first(&PICTURES, each * 3 / 10, of_picture);
        let left = each.saturating_sub(of_picture(picture));
        Room { exact_picture: each / 4, exact_frames: each * 4 / 10, picture, frames: first(&FRAMES, left, of_frames) }
    }
}

/// The first that takes at most some bytes, or the last.
fn first(all: &[Scaled], most: usize, bytes: impl Fn(Scaled) -> usize) -> Scaled {
    let last = all[all.len() - 1];
    all.iter().copied().find(|scaled| bytes(*scaled) <= most).unwrap_or(last)
}

/// The longest side of a map of attention: shorter the more maps there are.
pub fn map_side(maps: usize) -> usize {
    match maps {
        0..=300 => 64,
        301..=1200 => 32,
        1201..=6000 => 16,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_runs_there_are_the_smaller_is_each() {
        let noisy = RgbImage::from_fn(512, 512, |x, y| image::Rgb([((x * 31) ^ (y * 17)) as u8, (x * y) as u8, 9]));
        let frames = Frames { calls: vec![0], samples: vec![noisy.clone()], estimates: vec![noisy.clone()] };
        let sample = [(noisy, Some(frames))];
        let of = |runs: usize| Room::new(1_000_000, runs, &sample);
        let (few, many) = (of(4), of(528));
        assert_eq!((few.picture.side, few.frames.side), (512, 160));
        assert!(many.picture.side < 256 && many.frames.side < 160, "{many:?}");
        let (picture, frames) = &sample[0];
        let frames = frames.as_ref().unwrap();
        let one = thumbnail(picture, many.picture).len()
            + sheet(&frames.samples, many.frames).len()
            + sheet(&frames.estimates, many.frames).len();
        assert!(528 * one <= PAGE - 1_000_000, "{one} bytes for each run");
        assert!(few.exact_picture > 500_000 && many.exact_picture < 5_000);
        // A page that is full already still has thumbnails.
        assert!(Room::new(2 * PAGE, 10, &[]).exact_picture > 0);
    }
}
