//! What a run looks like on its way, as a strip.

use anyhow::{Error, Result, anyhow};
use latentrace_files::sync_all;
use latentrace_pipeline::Model;
use latentrace_plot::{RgbImage, save_png, strip};
use latentrace_runs::{Frames, Observer, Provenance, Recorded, RunFile, RunFolder, What, about_eight, captions};
use std::path::PathBuf;

/// Draws the clean estimates of a run as a film strip into its folder.
///
/// # Errors
/// The file cannot be written.
pub fn draw_previews(run: &RunFolder, recorded: &Recorded, about: &Provenance, frames: &Frames) -> Result<()> {
    let captions = captions(&recorded.trace, &frames.calls);
    let previews = strip(&frames.estimates, &captions, enlargement(&frames.estimates));
    Ok(save_png(&run.previews(), &previews, &about.chunks(What::Previews))?)
}

/// Keeps a run that was made by itself, with its previews; returns how it was made.
///
/// # Errors
/// A file cannot be written. The record is whole, so the run can be resumed.
pub fn keep(run: &RunFolder, recorded: &Recorded, model: &Model, observer: &dyn Observer) -> Result<Provenance> {
    let kept = || {
        let about = Provenance::of_run(recorded)?;
        // A record of an earlier version has no folder for them.
        if run.path() != run.trace() {
            previews(run, recorded, &about, model, observer)?;
        }
        run.keep(recorded, &about, None)?;
        Ok(about)
    };
    kept().map_err(|error: Error| {
        let run = run.path().display();
        anyhow!("{error:#}\nhint: the record is whole: `latentrace resume {run}` writes the rest, once there is room")
    })
}

/// Writes some files of a run whose record is whole. Returns them.
///
/// # Errors
/// A file cannot be written.
pub fn keep_files(
    run: &RunFolder,
    files: &[RunFile],
    recorded: &Recorded,
    model: &Model,
    observer: &dyn Observer,
) -> Result<Vec<PathBuf>> {
    let about = Provenance::of_run(recorded)?;
    for file in files {
        match file {
            RunFile::Previews => previews(run, recorded, &about, model, observer)?,
            file => run.write(*file, recorded, &about)?,
        }
    }
    sync_all(run.path())?;
    Ok(files.iter().map(|file| run.file(*file)).collect())
}

fn previews(
    run: &RunFolder,
    recorded: &Recorded,
    about: &Provenance,
    model: &Model,
    observer: &dyn Observer,
) -> Result<()> {
    let frames = Frames::estimates(&recorded.trace, model, &about_eight(recorded.trace.complete()), observer)?;
    draw_previews(run, recorded, about, &frames)
}

/// How much small pictures are enlarged in strips and grids.
pub fn enlargement<'a>(images: impl IntoIterator<Item = &'a RgbImage>) -> u32 {
    let there = images.into_iter().find(|image| image.width() > 0); // a missing one has no pixels
    there.map_or(1, |image| (160 / image.width()).max(1))
}
