//! The pictures of runs, read and encoded for the page by all processors: there can be thousands.

use super::full::FullPictures;
use super::html::sources::{png, png_url, sheet, side_by_side, thumbnail, within};
use super::html::{PageFrames, PagePicture, Room};
use anyhow::{Context, Result};
use image::RgbImage;
use latentrace_files::png::open_image;
use latentrace_runs::{Frames, RunFolder};
use std::path::{Path, PathBuf};

/// The file of a cell's frames.
const FRAMES: &str = "frames.png";
/// Not every browser opens a wider image, so wider full frames are left out.
const WIDEST: u32 = 16_384;
/// How many runs are read first, to see how much their pictures take.
const SAMPLE: usize = 8;

/// The pictures of a run.
pub struct Shots {
    /// Its picture.
    pub picture: Picture,
    /// Its frames, if it has any.
    pub frames: Option<Kept>,
}

/// The picture of a run.
pub enum Picture {
    /// Its file.
    File(PathBuf),
    /// The picture, if it has no file.
    Decoded(RgbImage),
}

/// The frames of a run.
pub enum Kept {
    /// Their file.
    File(PathBuf),
    /// The frames, if they have no file.
    Decoded(Frames),
}

/// The file of the frames in a run's folder, if it is there.
pub fn frames_file(run: &RunFolder) -> Option<PathBuf> {
    Some(run.path().join(FRAMES)).filter(|path| path.is_file())
}

/// The pictures of all runs as the page shows them. `used` is the size of the page without them.
///
/// # Errors
/// A file cannot be read or written.
pub fn on_page(shots: &[Shots], used: usize, full: &FullPictures) -> Result<Vec<(PagePicture, PageFrames)>> {
    let some: Vec<&Shots> = shots.iter().step_by(shots.len().div_ceil(SAMPLE).max(1)).collect();
    let room = Room::new(used, shots.len(), &in_parallel(&some, |_, shots| shots.read())?);
    in_parallel(shots, |index, shots| {
        let name = |kind: &str| format!("{:04}-{kind}", index + 1);
        let frames = shots.frames.as_ref().map(|frames| frames.on_page(&room, &name("frames"), full));
        Ok((shots.picture.on_page(&room, &name("picture"), full)?, frames.transpose()?.unwrap_or_default()))
    })
}

impl Shots {
    fn read(&self) -> Result<(RgbImage, Option<Frames>)> {
        let frames = self.frames.as_ref().map(|frames| match frames {
            Kept::File(path) => Frames::open(path),
            Kept::Decoded(frames) => Ok(Frames {
                calls: frames.calls.clone(),
                samples: frames.samples.clone(),
                estimates: frames.estimates.clone(),
            }),
        });
        Ok((self.picture.read()?, frames.transpose()?))
    }
}

impl Picture {
    fn read(&self) -> Result<RgbImage> {
        match self {
            Picture::File(path) => Ok(open_image(path)?),
            Picture::Decoded(image) => Ok(image.clone()),
        }
    }

    fn file(&self) -> Option<&Path> {
        match self {
            Picture::File(path) => Some(path),
            Picture::Decoded(_) => None,
        }
    }

    /// The picture where it has so much room. `name` begins that of its full file.
    fn on_page(&self, room: &Room, name: &str, full: &FullPictures) -> Result<PagePicture> {
        let (image, bytes) = (self.read()?, self.png()?);
        let exact = bytes.len() * 4 / 3 <= room.exact_picture;
        Ok(PagePicture {
            size: image.dimensions(),
            source: if exact { png_url(&bytes) } else { thumbnail(&image, room.picture) },
            exact,
            // What the page has to the bit needs no other file.
            full: if exact { None } else { full.place(name, self.file(), || Ok(bytes))? },
        })
    }

    fn png(&self) -> Result<Vec<u8>> {
        match self {
            Picture::File(path) => read(path),
            Picture::Decoded(image) => Ok(png(image)),
        }
    }
}

impl Kept {
    /// The frames where they have so much room. `name` begins that of their full file.
    fn on_page(&self, room: &Room, name: &str, full: &FullPictures) -> Result<PageFrames> {
        let opened;
        let (frames, file) = match self {
            Kept::Decoded(frames) => (frames, None),
            Kept::File(path) => {
                opened = Frames::open(path)?;
                (&opened, Some(path))
            }
        };
        let file = file.map(PathBuf::as_path);
        let size = frames.samples.first().map_or((0, 0), RgbImage::dimensions);
        let page = PageFrames { calls: frames.calls.clone(), size, ..PageFrames::default() };
        if let Some([samples, estimates]) = exact_sheets(frames, file, room.exact_frames)? {
            let [samples, estimates] = [samples, estimates].map(|bytes| png_url(&bytes));
            return Ok(PageFrames { samples, estimates, shown: size, exact: true, ..page });
        }
        let is_too_wide = size.0 * frames.calls.len() as u32 > WIDEST;
        let full = if is_too_wide { None } else { full.place(name, file, || sheets_png(frames, file))? };
        let [samples, estimates] = [&frames.samples, &frames.estimates].map(|all| sheet(all, room.frames));
        Ok(PageFrames { samples, estimates, shown: within(size, room.frames.side), full, ..page })
    }
}

/// The samples and the estimates in two PNG files, if they have room.
fn exact_sheets(frames: &Frames, file: Option<&Path>, most: usize) -> Result<Option<[Vec<u8>; 2]>> {
    // Encoding what is far too large would take long.
    let pixels = |all: &[RgbImage]| all.iter().map(|image| image.as_raw().len()).sum::<usize>();
    let bytes = match file {
        Some(path) => std::fs::metadata(path).with_context(|| path.display().to_string())?.len() as usize,
        None => (pixels(&frames.samples) + pixels(&frames.estimates)) / 2,
    };
    if bytes * 4 / 3 > most {
        return Ok(None);
    }
    Ok(Some([&frames.samples, &frames.estimates].map(|all| png(&side_by_side(all)))))
}

/// The samples above the estimates, as the bytes of a PNG file.
fn sheets_png(frames: &Frames, file: Option<&Path>) -> Result<Vec<u8>> {
    if let Some(path) = file {
        return read(path);
    }
    let (above, below) = (side_by_side(&frames.samples), side_by_side(&frames.estimates));
    let mut both = RgbImage::new(above.width(), above.height() + below.height());
    image::imageops::replace(&mut both, &above, 0, 0);
    image::imageops::replace(&mut both, &below, 0, i64::from(above.height()));
    Ok(png(&both))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: could not be read", path.display()))
}

/// Does something with each item, on all processors, and returns what came of it in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], act: impl Fn(usize, &T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let size = items.len().div_ceil(threads).max(1);
    let part = |(number, part): (usize, &[T])| -> Result<Vec<R>> {
        part.iter().enumerate().map(|(index, item)| act(number * size + index, item)).collect()
    };
    let part = &part;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items.chunks(size).enumerate().map(|chunk| scope.spawn(move || part(chunk))).collect();
        let mut all = Vec::with_capacity(items.len());
        for part in parts {
            all.extend(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_files::png::save_png;

    fn noisy(side: u32, seed: u32) -> RgbImage {
        RgbImage::from_fn(side, side, |x, y| {
            let bits = (x * 7919 + y * 104_729 + seed).wrapping_mul(2_654_435_761);
            image::Rgb([(bits >> 8) as u8, (bits >> 16) as u8, (bits >> 24) as u8])
        })
    }

    fn frames(side: u32) -> Frames {
        let images = |seed: u32| (0..3).map(|frame| noisy(side, seed + frame)).collect();
        Frames { calls: vec![0, 4, 9], samples: images(0), estimates: images(10) }
    }

    fn pixels(url: &str) -> RgbImage {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(url.split_once(',').unwrap().1).unwrap();
        image::load_from_memory(&bytes).unwrap().to_rgb8()
    }

    #[test]
    fn what_has_room_is_on_the_page_to_the_bit_and_the_rest_is_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("report.html");
        let run = folder.path().join("cells/a");
        std::fs::create_dir_all(&run).unwrap();
        save_png(&run.join("image.png"), &noisy(96, 1), &[]).unwrap();
        frames(96).save(&run.join(FRAMES)).unwrap();
        let shots = || Shots {
            picture: Picture::File(run.join("image.png")),
            frames: frames_file(&RunFolder::new(&run)).map(Kept::File),
        };
        let links = FullPictures::new(&page, false).unwrap();
        // A run alone has all the room.
        let (picture, kept) = on_page(&[shots()], 0, &links).unwrap().remove(0);
        assert_eq!(pixels(&picture.source), noisy(96, 1));
        assert!(picture.exact && kept.exact && picture.full.is_none() && kept.full.is_none());
        assert_eq!(pixels(&kept.estimates), side_by_side(&frames(96).estimates));
        assert_eq!((kept.size, kept.shown, kept.calls.as_slice()), ((96, 96), (96, 96), &[0, 4, 9][..]));
        // Hundreds have not, and name the runs' own files.
        let many: Vec<Shots> = (0..400).map(|_| shots()).collect();
        let all = on_page(&many, 0, &links).unwrap();
        let (picture, kept) = &all[399];
        assert!(!picture.exact && !kept.exact && picture.source.starts_with("data:image/jpeg"));
        assert_eq!(picture.full.as_deref(), Some("cells/a/image.png"));
        assert_eq!(kept.full.as_deref(), Some("cells/a/frames.png"));
        assert!(kept.shown.0 < 96 && pixels(&kept.samples).dimensions() == (3 * kept.shown.0, kept.shown.1));
    }

    #[test]
    fn decoded_pictures_are_beside_the_page_only_if_they_are_written_there() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("report.html");
        let many = || -> Vec<Shots> {
            let of = |_| Shots { picture: Picture::Decoded(noisy(64, 1)), frames: Some(Kept::Decoded(frames(64))) };
            (0..300).map(of).collect()
        };
        let links = FullPictures::new(&page, false).unwrap();
        let (picture, kept) = on_page(&many(), 0, &links).unwrap().remove(7);
        assert_eq!((picture.full, kept.full), (None, None));
        let written = FullPictures::new(&page, true).unwrap();
        let (picture, kept) = on_page(&many(), 0, &written).unwrap().remove(7);
        assert_eq!(picture.full.as_deref(), Some("report-pictures/0008-picture.js"));
        assert_eq!(kept.full.as_deref(), Some("report-pictures/0008-frames.js"));
        let script = std::fs::read_to_string(folder.path().join("report-pictures/0008-frames.js")).unwrap();
        let both = pixels(script.split('"').nth(3).unwrap());
        assert_eq!(both.dimensions(), (192, 128));
        assert_eq!(both.get_pixel(64, 64), frames(64).estimates[1].get_pixel(0, 0));
    }

    #[test]
    fn results_are_in_the_order_of_the_items_and_the_first_error_is_returned() {
        let items: Vec<usize> = (0..1001).collect();
        let doubled = in_parallel(&items, |index, item| Ok((index, 2 * item))).unwrap();
        assert!(doubled.iter().enumerate().all(|(index, found)| *found == (index, 2 * index)));
        let failed = in_parallel(&items, |_, item| if *item == 700 { anyhow::bail!("700") } else { Ok(()) });
        assert_eq!(failed.unwrap_err().to_string(), "700");
        assert!(in_parallel(&[] as &[usize], |_, _| Ok(())).unwrap().is_empty());
    }
}
