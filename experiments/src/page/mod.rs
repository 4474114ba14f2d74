//! One page that shows runs.

mod found;
mod html;

use crate::done::Done;
use crate::measure::Sight;
use crate::views::word_maps;
use anyhow::{Context, Result, ensure};
use found::{Found, find};
use html::{Page, PageFigure, PageFrame, PageRun, WordMap};
use latentrace_files::png::open_image;
use latentrace_pipeline::nn::{Pass, SamplerValue};
use latentrace_plot::RgbImage;
use latentrace_runs::{Cell, Description, Frames, Loaded, Observer, Scalars, about_eight, label, pixels};
use latentrace_trace::Trace;
use std::path::{Path, PathBuf};

/// The largest number of slider positions for one run.
const MOST_FRAMES: usize = 101;
/// A figure with more bytes is not put on the page.
const MOST_FIGURE: usize = 1_000_000;

/// A page that was written.
#[derive(Debug)]
pub struct Written {
    /// Its file.
    pub path: PathBuf,
    /// How many pictures it shows.
    pub pictures: usize,
    /// The size of the file.
    pub bytes: u64,
}

/// The name of the page in an experiment's folder.
pub(crate) const REPORT: &str = "report.html";

/// Writes one page that shows runs in a browser: pictures at many noise levels, differences, curves and numbers. Each
/// of `folders` is an experiment, a folder of recorded runs, or a run. `path` is the file of the page, and defaults to
/// `report.html` in the first folder. At most `frames` pictures are decoded for the slider, of all runs together; the
/// cells of a sweep already have some.
///
/// # Errors
/// A folder has no complete run, or a file cannot be read or written.
pub fn write(folders: &[PathBuf], path: Option<&Path>, frames: usize, observer: &dyn Observer) -> Result<Written> {
    path.map_or(Ok(()), check_output)?;
    let found = find(folders)?;
    let first = if folders[0].is_file() { folders[0].parent() } else { Some(folders[0].as_path()) };
    let own = || first.unwrap_or(Path::new(".")).join(REPORT);
    let path = path.map_or_else(own, Path::to_path_buf);
    let page = Pages { frames, observer }.page(folders, &found)?;
    page.write(&path)?;
    let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
    Ok(Written { path, pictures: page.cells.len(), bytes })
}

/// Checks that a page may be written to a file: a new one, or a page.
fn check_output(path: &Path) -> Result<()> {
    let is_page = path.extension().is_some_and(|ending| ["html", "htm"].iter().any(|known| ending == *known));
    let hint = "hint: name a new file, or an .html file, which is replaced";
    ensure!(!path.is_dir(), "--output {}: a folder, not a file\n{hint}", path.display());
    ensure!(is_page || !path.exists(), "--output {}: a file that is no page is there already\n{hint}", path.display());
    Ok(())
}

/// The options of a page.
struct Pages<'a> {
    frames: usize,
    observer: &'a dyn Observer,
}

impl Pages<'_> {
    fn page(&self, folders: &[PathBuf], found: &Found) -> Result<Page> {
        let mut loaded = Loaded::default();
        let each = self.frames / (2 * found.runs.len());
        let mut tables = Vec::new();
        let mut cells = Vec::new();
        let mut numbers = Vec::new();
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
            cells.push(PageRun {
                label: run.label.clone(),
                place: run.place.clone(),
                picture: self.picture(run, &trace, &mut loaded)?,
                frames: self.frames(run, &trace, each, &table, &mut loaded)?,
                sigmas: table.column("sigma"),
                curves: Vec::new(),
                numbers: measured.into_iter().map(|(_, number)| number).collect(),
                words: words(&trace, &about)?,
                provenance: serde_json::to_string_pretty(&about)?,
            });
            tables.push(table);
        }
        let columns = columns(&tables);
        for (cell, table) in cells.iter_mut().zip(&tables) {
            cell.curves = table.only(&columns);
        }
        Ok(Page {
            title: found.title.clone(),
            axes: found.axes.clone(),
            numbers,
            columns: columns.into_iter().map(|name| (name.clone(), label(&name))).collect(),
            cells,
            figures: figures(folders)?,
        })
    }

    fn picture(&self, run: &Done, trace: &Trace, loaded: &mut Loaded) -> Result<RgbImage> {
        if run.run.picture().is_file() {
            return Ok(open_image(run.run.picture())?);
        }
        let model = loaded.get(&run.cell, self.observer)?;
        let end = trace.values(SamplerValue::Latents).next().context("a run without final latents")?;
        let latents = trace.tensor(end)?.to_device(model.device);
        Ok(pixels(&model.decode(&latents, &mut Pass::silent())?))
    }

    /// The run at some of its calls: those that a sweep has kept, or `most` decoded ones if that is more.
    fn frames(
        &self,
        run: &Done,
        trace: &Trace,
        most: usize,
        table: &Scalars,
        loaded: &mut Loaded,
    ) -> Result<Vec<PageFrame>> {
        let kept = run.run.frames()?;
        let sigmas = table.column("sigma");
        let count = kept.as_ref().map_or(0, |kept| kept.calls.len());
        let frames = match kept {
            Some(kept) if count >= most.min(sigmas.len()) || !has_model(&run.cell) => kept,
            _ if most == 0 || !has_model(&run.cell) => return Ok(Vec::new()),
            _ => {
                let calls = spread(sigmas.len(), most.min(MOST_FRAMES));
                Frames::decode(trace, loaded.get(&run.cell, self.observer)?, &calls, self.observer)?
            }
        };
        let frame = |((call, sample), clean): ((usize, RgbImage), RgbImage)| {
            Some(PageFrame { sigma: *sigmas.get(call)?, call, sample, clean })
        };
        Ok(frames.calls.into_iter().zip(frames.samples).zip(frames.estimates).filter_map(frame).collect())
    }
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

fn words(trace: &Trace, about: &Description) -> Result<Vec<WordMap>> {
    let maps = word_maps(trace, about)?;
    Ok(maps.into_iter().map(|(word, map)| WordMap { word, map }).collect())
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

/// The SVG figures in the folders, with their CSV.
fn figures(folders: &[PathBuf]) -> Result<Vec<PageFigure>> {
    let mut found = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .with_context(|| folder.display().to_string())?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "svg")) {
            let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
            let (svg, numbers) = (read(&path)?, path.with_extension("csv"));
            if svg.len() <= MOST_FIGURE {
                let csv = if numbers.is_file() { Some(read(&numbers)?) } else { None };
                let name = path.file_stem().unwrap_or_default().to_string_lossy().replace('-', " ");
                found.push(PageFigure { name, svg, csv });
            }
        }
    }
    Ok(found)
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
