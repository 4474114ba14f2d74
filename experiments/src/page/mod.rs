//! One page that shows runs.

mod found;
mod full;
mod html;
mod shots;
mod stale;

use crate::done::Done;
use crate::measure::Sight;
use crate::views::word_maps;
use anyhow::{Context, Result, ensure};
use found::{Found, find};
pub use full::Beside;
use full::{FullPictures, relative};
use html::{Page, PageFigure, PageRun, WordMap, map_side};
use latentrace_pipeline::nn::{Pass, SamplerValue};
use latentrace_runs::{Cell, Description, Frames, Loaded, Observer, Scalars, about_eight, label, pixels};
use latentrace_trace::Trace;
use shots::{Kept, Picture, Shots, frames_file, on_page};
pub(crate) use stale::remove as remove_stale;
use std::path::{Path, PathBuf};

/// The largest number of slider positions for one run.
const MOST_FRAMES: usize = 101;
/// What all figures, and all their tables, may take on the page, in bytes. The page links to the others.
const MOST_FIGURES: usize = 1_000_000;

/// How a page is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its file. Defaults to `report.html` in the first folder.
    pub output: Option<PathBuf>,
    /// How many pictures may be decoded for the slider, of all runs together; the cells of a sweep already have some.
    pub frames: usize,
    /// Whether full pictures that are too large for the page are written into a folder beside it. Without them it shows
    /// the pictures of the runs, but cannot compute with them when it was opened from a file.
    pub full: bool,
}

/// A page that was written.
#[derive(Debug)]
pub struct Written {
    /// Its file.
    pub path: PathBuf,
    /// How many pictures it shows.
    pub pictures: usize,
    /// The size of the file.
    pub bytes: u64,
    /// The full pictures that were written beside it.
    pub beside: Option<Beside>,
}

/// The name of the page in an experiment's folder.
const REPORT: &str = "report.html";

/// Writes one page that shows runs in a browser: pictures at many noise levels, differences, curves and numbers. Each
/// of `folders` is an experiment, a folder of recorded runs, or a run. `path` is the file of the page, and defaults to
/// `report.html` in the first folder. At most `frames` pictures are decoded for the slider, of all runs together; the
/// cells of a sweep already have some.
///
/// # Errors
/// A folder has no complete run, or a file cannot be read or written.
pub fn write(folders: &[PathBuf], path: Option<&Path>, frames: usize, observer: &dyn Observer) -> Result<Written> {
    let options = Options { output: path.map(Path::to_path_buf), frames, full: false };
    write_with(folders, &options, observer)
}

/// [`write()`], with every option.
///
/// # Errors
/// As for [`write()`]; with full pictures also if there is a file where their folder would be.
pub fn write_with(folders: &[PathBuf], options: &Options, observer: &dyn Observer) -> Result<Written> {
    options.output.as_deref().map_or(Ok(()), check_output)?;
    let first = folders.first().context("no folder of runs")?;
    let first = if first.is_file() { first.parent().unwrap_or(Path::new(".")) } else { first };
    let path = options.output.clone().unwrap_or_else(|| first.join(REPORT));
    let full = FullPictures::new(&path, options.full)?;
    let found = find(folders)?;
    let page = Pages { frames: options.frames, path: &path, full: &full, observer }.page(folders, &found)?;
    page.write(&path)?;
    let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
    Ok(Written { pictures: page.cells.len(), bytes, beside: full.finish(), path })
}

/// Checks that a page may be written to a file: a new one, or a page.
fn check_output(path: &Path) -> Result<()> {
    let is_page = path.extension().is_some_and(|ending| ["html", "htm"].iter().any(|known| ending == *known));
    let hint = "hint: name a new file, or an .html file, which is replaced";
    ensure!(!path.is_dir(), "--output {}: a folder, not a file\n{hint}", path.display());
    ensure!(is_page || !path.exists(), "--output {}: a file that is no page is there already\n{hint}", path.display());
    Ok(())
}

/// What a page is made with.
struct Pages<'a> {
    frames: usize,
    path: &'a Path,
    full: &'a FullPictures,
    observer: &'a dyn Observer,
}

impl Pages<'_> {
    fn page(&self, folders: &[PathBuf], found: &Found) -> Result<Page> {
        let mut loaded = Loaded::default();
        let each = self.frames / (2 * found.runs.len());
        let (mut tables, mut shots) = (Vec::new(), Vec::new());
        let (mut cells, mut numbers) = (Vec::new(), Vec::new());
        for run in &found.runs {
            let trace = run.run.read()?;
            if let Some(problem) = trace.problems().first() {
                self.observer.warn(&format!("the page shows a run whose record is damaged or was changed: {problem}"));
            }
            let about = Description::of(&trace)?;
            let table = Scalars::kept(&trace, &about)?;
            let measured = measured(run, found)?;
            if numbers.is_empty() {
                numbers = measured.iter().map(|(name, _)| name.clone()).collect();
            }
            shots.push(Shots {
                picture: self.picture(run, &trace, &mut loaded)?,
                frames: self.frames(run, &trace, each, &table, &mut loaded)?,
            });
            cells.push(PageRun {
                label: run.label.clone(),
                place: run.place.clone(),
                sigmas: table.column("sigma"),
                numbers: measured.into_iter().map(|(_, number)| number).collect(),
                words: words(&trace, &about, found.runs.len())?,
                provenance: serde_json::to_string_pretty(&about)?,
                ..PageRun::default()
            });
            tables.push(table);
        }
        let columns = columns(&tables);
        for (cell, table) in cells.iter_mut().zip(&tables) {
            cell.curves = table.only(&columns);
        }
        let mut page = Page {
            title: found.title.clone(),
            axes: found.axes.clone(),
            numbers,
            columns: columns.into_iter().map(|name| (name.clone(), label(&name))).collect(),
            cells,
            figures: self.figures(folders)?,
            full: self.full.kind(),
        };
        // The pictures have the room that the rest leaves.
        let pictures = on_page(&shots, page.html().len(), self.full)?;
        for (cell, (picture, frames)) in page.cells.iter_mut().zip(pictures) {
            (cell.picture, cell.frames) = (picture, frames);
        }
        Ok(page)
    }

    fn picture(&self, run: &Done, trace: &Trace, loaded: &mut Loaded) -> Result<Picture> {
        if run.run.picture().is_file() {
            return Ok(Picture::File(run.run.picture().to_path_buf()));
        }
        let model = loaded.get(&run.cell, self.observer)?;
        let end = trace.values(SamplerValue::Latents).next().context("a run without final latents")?;
        let latents = trace.tensor(end)?.to_device(model.device);
        Ok(Picture::Decoded(pixels(&model.decode(&latents, &mut Pass::silent())?)))
    }

    /// The run at some of its calls: those that a sweep has kept, or `most` decoded ones if that is more.
    fn frames(
        &self,
        run: &Done,
        trace: &Trace,
        most: usize,
        table: &Scalars,
        loaded: &mut Loaded,
    ) -> Result<Option<Kept>> {
        let calls = table.column("sigma").len();
        let file = frames_file(&run.run);
        let most = if has_model(&run.cell) { most.min(calls) } else { 0 };
        let is_enough = most == 0 || run.run.frames()?.is_some_and(|kept| kept.calls.len() >= most);
        if most == 0 || (file.is_some() && is_enough) {
            return Ok(file.map(Kept::File));
        }
        let calls = spread(calls, most.min(MOST_FRAMES));
        Ok(Some(Kept::Decoded(Frames::decode(trace, loaded.get(&run.cell, self.observer)?, &calls, self.observer)?)))
    }

    /// The SVG figures in the folders, with their CSV.
    fn figures(&self, folders: &[PathBuf]) -> Result<Vec<PageFigure>> {
        let mut found = Vec::new();
        let (mut room_for_svg, mut room_for_csv) = (MOST_FIGURES, MOST_FIGURES);
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            for path in svg_files(folder)? {
                let numbers = path.with_extension("csv");
                let mut figure = PageFigure {
                    name: path.file_stem().unwrap_or_default().to_string_lossy().replace('-', " "),
                    svg: fitting(&path, &mut room_for_svg)?,
                    csv: if numbers.is_file() { fitting(&numbers, &mut room_for_csv)? } else { None },
                    files: Vec::new(),
                };
                let left_out = [(&path, figure.svg.is_none()), (&numbers, figure.csv.is_none() && numbers.is_file())];
                let links = left_out.into_iter().filter(|(_, is_left_out)| *is_left_out);
                figure.files = links.filter_map(|(file, _)| relative(self.path, file)).collect();
                found.push(figure);
            }
        }
        Ok(found)
    }
}

/// The text of a file, if it has room.
fn fitting(path: &Path, room: &mut usize) -> Result<Option<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let Some(left) = room.checked_sub(text.len()) else { return Ok(None) };
    *room = left;
    Ok(Some(text))
}

fn svg_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "svg"));
    paths.sort();
    Ok(paths)
}

/// The measures of one run, by name.
fn measured(run: &Done, found: &Found) -> Result<Vec<(String, f64)>> {
    if found.measures.is_empty() {
        return Ok(Vec::new());
    }
    let sight = Sight::of(run)?;
    Ok(found.measures.iter().flat_map(|measure| measure.of_cell(&sight)).collect())
}

/// Whether the model of a run still exists at its path.
fn has_model(cell: &Cell) -> bool {
    cell.place().is_ok_and(|place| place.exists())
}

/// The indices of at most about `most` calls, evenly from the first to the last.
fn spread(calls: usize, most: usize) -> Vec<usize> {
    if most <= 9 || calls <= 9 {
        return about_eight(calls);
    }
    let last = (most.min(calls) - 1) as f64;
    (0..most.min(calls)).map(|index| (index as f64 * (calls - 1) as f64 / last).round() as usize).collect()
}

/// The maps of the words of one run; the more runs there are, the smaller.
fn words(trace: &Trace, about: &Description, runs: usize) -> Result<Vec<WordMap>> {
    let maps = word_maps(trace, about)?;
    let side = map_side(maps.len() * runs);
    Ok(maps.into_iter().map(|(word, map)| WordMap { word, map }.within(side)).collect())
}

/// The columns with a finite number in at least one run, except for those that identify a call.
fn columns(tables: &[Scalars]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for table in tables {
        for name in &table.columns {
            let is_index = ["call", "step", "evaluation", "t"].contains(&name.as_str());
            if !is_index && !names.contains(name) && table.column(name).iter().any(|number| number.is_finite()) {
                names.push(name.clone());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_spread_from_the_first_to_the_last() {
        assert_eq!(spread(51, 101), (0..51).collect::<Vec<_>>());
        assert_eq!(spread(100, 12), [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]);
        assert_eq!(spread(4, 2), [0, 1, 2, 3]);
    }
}
