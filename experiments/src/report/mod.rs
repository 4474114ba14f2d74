//! `latentrace report`: one page that shows runs.

mod found;

use crate::cell::Cell;
use crate::description::Description;
use crate::frames::{Frames, about_eight};
use crate::measure::Sight;
use crate::models::Loaded;
use crate::record::pixels;
use crate::scalars::{Scalars, label};
use crate::views::word_maps;
use anyhow::{Context, Result};
use found::{Found, Run, find};
use latentrace_pipeline::nn::{Pass, SamplerValue};
use latentrace_plot::{Report as Page, ReportCell, ReportFigure, ReportFrame, RgbImage, WordMap, open_image};
use latentrace_trace::Trace;
use std::path::{Path, PathBuf};

/// Write one page that shows runs in a browser: pictures at every noise level, differences, curves, numbers
///
/// The page is a single file that needs no network. Runs are put in rows and columns by what differs between them.
#[derive(clap::Args)]
pub struct Report {
    /// Folders of experiments (runs/sweep-guidance) or of recorded runs (runs/generate), or single records
    #[arg(required = true, value_name = "RUNS")]
    runs: Vec<PathBuf>,
    /// The page [default: report.html in the first folder]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many pictures may be decoded for the slider, of all runs together; a sweep's cells have some already
    #[arg(long, value_name = "PICTURES", default_value_t = 400)]
    frames: usize,
}

/// The slider's places for one run: more are not told apart.
const MOST_FRAMES: usize = 101;
/// A figure of more bytes is left on the disk.
const MOST_FIGURE: usize = 1_000_000;

impl Report {
    /// Reads the runs and writes the page.
    pub fn run(self) -> Result<()> {
        let found = find(&self.runs)?;
        let path = self.output.clone().unwrap_or_else(|| self.runs[0].join("report.html"));
        let page = self.page(&found)?;
        page.write(&path)?;
        let megabytes = std::fs::metadata(&path).map_or(0.0, |file| file.len() as f64 / 1e6);
        println!("{} ({} pictures, {megabytes:.1} MB)", path.display(), page.cells.len());
        Ok(())
    }

    fn page(&self, found: &Found) -> Result<Page> {
        let mut loaded = Loaded::default();
        let each = self.frames / (2 * found.runs.len());
        let mut tables = Vec::new();
        let mut cells = Vec::new();
        let mut numbers = Vec::new();
        for run in &found.runs {
            let trace = Trace::open(&run.trace)?;
            let about = Description::of(&trace)?;
            let table = Scalars::kept(&trace, &about)?;
            let measured = measured(run, found)?;
            if numbers.is_empty() {
                numbers = measured.iter().map(|(name, _)| name.clone()).collect();
            }
            cells.push(ReportCell {
                label: run.done.label.clone(),
                place: run.done.place.clone(),
                picture: picture(run, &trace, &mut loaded)?,
                frames: frames(run, &trace, each, &table, &mut loaded)?,
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
            figures: figures(&self.runs)?,
        })
    }
}

/// What the experiment measures, of one run.
fn measured(run: &Run, found: &Found) -> Result<Vec<(String, f64)>> {
    if found.measures.is_empty() {
        return Ok(Vec::new());
    }
    let sight = Sight::of(&run.done)?;
    Ok(found.measures.iter().flat_map(|measure| measure.of_cell(&sight)).collect())
}

fn picture(run: &Run, trace: &Trace, loaded: &mut Loaded) -> Result<RgbImage> {
    if run.picture.is_file() {
        return Ok(open_image(&run.picture)?);
    }
    let model = loaded.get(&run.done.cell)?;
    let end = trace.values(SamplerValue::Latents).next().context("a run without its end")?;
    let latents = trace.tensor(end)?.to_device(model.device);
    Ok(pixels(&model.decode(&latents, &mut Pass::silent())?))
}

/// What the run looked like on its way: `most` of its calls decoded, or those that a sweep has kept if that is as many.
fn frames(run: &Run, trace: &Trace, most: usize, table: &Scalars, loaded: &mut Loaded) -> Result<Vec<ReportFrame>> {
    let kept = run.done.folder.join("frames.png");
    let sigmas = table.column("sigma");
    let kept = if kept.is_file() { Some(Frames::open(&kept)?) } else { None };
    let count = kept.as_ref().map_or(0, |kept| kept.calls.len());
    let frames = match kept {
        Some(kept) if count >= most.min(sigmas.len()) || !is_there(&run.done.cell) => kept,
        _ if most == 0 || !is_there(&run.done.cell) => return Ok(Vec::new()),
        _ => Frames::decode(trace, loaded.get(&run.done.cell)?, &spread(sigmas.len(), most.min(MOST_FRAMES)))?,
    };
    let frame = |((call, sample), clean): ((usize, RgbImage), RgbImage)| {
        Some(ReportFrame { sigma: *sigmas.get(call)?, call, sample, clean })
    };
    Ok(frames.calls.into_iter().zip(frames.samples).zip(frames.estimates).filter_map(frame).collect())
}

/// Whether the model of a run is still where it was.
fn is_there(cell: &Cell) -> bool {
    cell.folder().is_ok_and(|folder| folder.is_dir())
}

/// So many calls, evenly from the first to the last.
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

/// The columns that some run has numbers in, but for those that only place a call.
fn columns(tables: &[Scalars]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for table in tables {
        for name in &table.columns {
            let places = ["call", "step", "evaluation", "t"].contains(&name.as_str());
            if !places && !names.contains(name) && table.column(name).iter().any(|number| number.is_finite()) {
                names.push(name.clone());
            }
        }
    }
    names
}

/// The figures that lie in the folders, with their numbers.
fn figures(folders: &[PathBuf]) -> Result<Vec<ReportFigure>> {
    let mut found = Vec::new();
    for folder in folders {
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
                found.push(ReportFigure { name, svg, csv });
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
