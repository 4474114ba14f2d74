//! How a training of the bundled model goes: loss, adherence to held-out captions, and samples, in one page that is
//! written again as it goes.

use crate::adherence::{held_out, judged};
use anyhow::{Context, Result};
use latentrace_files::replace_unsynced;
use latentrace_pipeline::{Model, Options, Request};
use latentrace_plot::{Chart, ChartAxis, Drawable, Grid, Panels, Series, Tile, save_png, write};
use latentrace_runs::pixels;
use latentrace_shapes::{Adherence, Detail};
use latentrace_train::TrainingProgress;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Keeps the numbers of a training in a folder, and draws them. What was told twice, because the training was stopped in
/// between and a step made again, counts once.
pub struct Course {
    folder: PathBuf,
    losses: BTreeMap<String, BTreeMap<u64, f64>>,
    checks: BTreeMap<u64, BTreeMap<String, f64>>,
}

/// How a checkpoint is checked: held-out captions, each with a seed of its own.
const CAPTIONS: usize = 24;
const STEPS: usize = 20;
const GUIDANCE: f64 = 5.0;
const SEED: u64 = 193;
/// How many of its pictures are shown.
const SHOWN: usize = 16;

impl Course {
    /// The course of the training in this folder so far.
    ///
    /// # Errors
    /// If a file in it cannot be read.
    pub fn read(folder: &Path) -> Result<Course> {
        let mut course = Course { folder: folder.into(), losses: BTreeMap::new(), checks: BTreeMap::new() };
        for line in lines(&folder.join("loss.csv"))? {
            if let [phase, step, loss, ..] = &line[..]
                && let (Ok(step), Ok(loss)) = (step.parse(), loss.parse())
            {
                course.losses.entry(phase.clone()).or_default().insert(step, loss);
            }
        }
        for line in lines(&folder.join("checks.csv"))? {
            if let [step, attribute, rate] = &line[..]
                && let (Ok(step), Ok(rate)) = (step.parse(), rate.parse())
            {
                course.checks.entry(step).or_default().insert(attribute.clone(), rate);
            }
        }
        Ok(course)
    }

    /// Keeps a loss.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn loss(&mut self, progress: &TrainingProgress) -> Result<()> {
        let TrainingProgress { phase, step, loss, elapsed, .. } = progress;
        let name = phase.name();
        self.losses.entry(name.into()).or_default().insert(*step, *loss);
        append(&self.folder.join("loss.csv"), &format!("{name},{step},{loss},{:.1}", elapsed.as_secs_f64()))
    }

    /// Checks a checkpoint with held-out captions, and draws everything again.
    ///
    /// # Errors
    /// If the checkpoint cannot be opened or run, or a file cannot be written.
    pub fn check(&mut self, step: u64, checkpoint: &Path) -> Result<Adherence> {
        let model = Model::open(checkpoint, Options::default())?;
        let (mut total, mut tiles) = (Adherence::default(), Vec::new());
        for (number, scene) in held_out(SEED, CAPTIONS).iter().enumerate() {
            let caption = scene.caption(Detail::FULL);
            let own = model.request(&caption, SEED + number as u64);
            let request = Request { steps: STEPS, guidance: GUIDANCE.into(), ..own };
            let (outcome, seen) = judged(&model, &request)?;
            total += seen.adherence;
            if tiles.len() < SHOWN {
                tiles.push(Tile::new(pixels(&outcome.picture), caption));
            }
        }
        let title = format!("Step {step}: held-out captions, {STEPS} steps, guidance {GUIDANCE}");
        let grid = Grid { title: Some(title), columns: 4, cells: tiles, ..Grid::default() };
        save_png(&self.folder.join("samples.png"), &grid.render(), &[])?;
        let whole = [("whole", total.whole)];
        for (attribute, tally) in total.attributes().into_iter().chain(whole) {
            let rate = tally.rate().unwrap_or(f64::NAN);
            self.checks.entry(step).or_default().insert(attribute.into(), rate);
            append(&self.folder.join("checks.csv"), &format!("{step},{attribute},{rate:.4}"))?;
        }
        self.draw()?;
        Ok(total)
    }

    /// Draws the curves, and the page that shows them with the samples.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn draw(&self) -> Result<Vec<PathBuf>> {
        let panels = self.panels();
        let (width, height) = panels.size();
        let samples = match self.folder.join("samples.png").is_file() {
            true => format!("<img src=\"samples.png?{}\" alt=\"samples\">", self.checks.len()),
            false => "<p>Samples follow when the denoiser is trained.</p>".into(),
        };
        let page = format!(
            "<!doctype html>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"refresh\" content=\"60\">\n<title>Training</title>\n\
             <style>body {{ font-family: sans-serif; max-width: {width}px; margin: 1em auto; }} img, svg {{ max-width: 100%; }}</style>\n\
             {}\n{samples}\n",
            panels.svg(width, height)
        );
        let path = self.folder.join("progress.html");
        replace_unsynced(&path, page.as_bytes())?;
        let mut paths = write(&self.folder, "progress", &panels)?;
        paths.push(path);
        Ok(paths)
    }

    fn panels(&self) -> Panels {
        let loss = |(phase, points): (&String, &BTreeMap<u64, f64>)| Chart {
            title: phase.clone(),
            x: ChartAxis::linear("step"),
            y: ChartAxis::log("loss"),
            series: vec![Series::new("loss", points.iter().map(|(&step, &loss)| (step as f64, loss)).collect())],
            ..Chart::default()
        };
        let mut charts: Vec<Chart> = self.losses.iter().map(loss).collect();
        if !self.checks.is_empty() {
            charts.push(self.adherence());
        }
        Panels { title: "Training of the bundled model".into(), charts, columns: 2, ..Panels::default() }
    }

    fn adherence(&self) -> Chart {
        let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for (&step, rates) in &self.checks {
            for (attribute, rate) in rates {
                series.entry(attribute).or_default().push((step as f64, 100.0 * rate));
            }
        }
        Chart {
            title: "adherence".into(),
            x: ChartAxis::linear("step"),
            y: ChartAxis::linear("right, %").showing(0.0, 100.0),
            series: series.into_iter().map(|(attribute, points)| Series::new(attribute, points)).collect(),
            notes: vec![format!("{CAPTIONS} held-out captions, {STEPS} steps, guidance {GUIDANCE}")],
            ..Chart::default()
        }
    }
}

/// The cells of each line of a file that is there, or of none.
fn lines(path: &Path) -> Result<Vec<Vec<String>>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    Ok(text.lines().map(|line| line.split(',').map(str::to_string).collect()).collect())
}

fn append(path: &Path, line: &str) -> Result<()> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.and_then(|mut file| writeln!(file, "{line}")).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_train::Phase;
    use std::time::Duration;

    #[test]
    fn what_was_told_twice_counts_once_and_everything_is_in_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let mut course = Course::read(folder.path()).unwrap();
        for (step, loss) in [(25, 0.5), (50, 0.3), (50, 0.25)] {
            let progress =
                TrainingProgress { phase: Phase::Denoiser, step, steps: 100, loss, elapsed: Duration::from_secs(1) };
            course.loss(&progress).unwrap();
        }
        let again = Course::read(folder.path()).unwrap();
        assert_eq!(again.losses["denoiser"], BTreeMap::from([(25, 0.5), (50, 0.25)]));
        let paths = again.draw().unwrap();
        let page = std::fs::read_to_string(paths.last().unwrap()).unwrap();
        assert!(page.contains("<svg") && page.contains("denoiser") && page.contains("Samples follow"));
    }
}
