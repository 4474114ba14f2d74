//! Pictures of one cell with seeds that follow each other, each kept as a run, and a grid of all.

use crate::previews::{enlargement, keep};
use anyhow::{Context, Result};
use latentrace_files::{create_folder, slug};
use latentrace_pipeline::{Model, Start};
use latentrace_plot::{Grid, Tile, save_png};
use latentrace_runs::{
    Cell, Job, Kept, Observer, Provenance, Ready, Recorded, RunFolder, Sources, grid, of_grid, pixels, take,
};
use latentrace_trace::Layout;
use std::path::PathBuf;

/// Pictures of one cell with seeds that follow each other.
pub struct Pictures {
    /// The first.
    pub cell: Cell,
    /// How many, at least one.
    pub images: u64,
    /// What is kept of each run besides the sampler's values.
    pub kept: Kept,
    /// The folder that the runs and the grid go into.
    pub output: PathBuf,
}

/// A picture that was made.
pub struct Picture {
    /// Where it is.
    pub run: RunFolder,
    /// Its run.
    pub recorded: Recorded,
    /// How it was made.
    pub about: Provenance,
}

/// What is told while pictures are made.
pub trait Watch: Observer {
    /// A run is about to be made in a folder.
    fn begins(&self, _seed: u64, _run: &RunFolder) {}

    /// A picture was made and kept.
    ///
    /// # Errors
    /// What ends the whole.
    fn made(&self, _picture: &Picture) -> Result<()> {
        Ok(())
    }
}

/// The observer that a watch is.
struct Observed<'a>(&'a dyn Watch);

impl Observer for Observed<'_> {
    fn tell(&self, event: latentrace_runs::Event) {
        self.0.tell(event);
    }
}

impl Pictures {
    /// Checks the seeds, and makes the first run ready.
    ///
    /// # Errors
    /// The seeds go beyond 64 bits, or the model cannot run the cell.
    pub fn first<'a>(&self, model: &'a Model, sources: &mut Sources) -> Result<Job<'a>> {
        self.last_seed()?;
        Ok(Job::of(model, Ready::new(model, &self.cell, &self.kept, sources)?))
    }

    fn last_seed(&self) -> Result<u64> {
        let (first, more) = (self.cell.seed, self.images - 1);
        first.checked_add(more).with_context(|| format!("seed: {first} and {more} more go beyond {}", u64::MAX))
    }

    /// Makes, records and keeps the pictures, with a strip of previews of each; and a grid of all, which a picture that they
    /// started from begins. Returns the grid's file, where there is more than one picture.
    ///
    /// # Errors
    /// A run fails, or a file cannot be written.
    pub fn make(&self, first: Job, sources: &mut Sources, watch: &dyn Watch) -> Result<Option<PathBuf>> {
        let (model, last) = (first.model(), self.last_seed()?);
        let original = match &first.ready().prepared().start {
            Start::Picture { picture, .. } | Start::Masked { picture, .. } => {
                Some(Tile::new(pixels(picture), "original"))
            }
            _ => None,
        };
        let mut tiles: Vec<Tile> = original.into_iter().collect();
        create_folder(&self.output)?;
        let mut first = Some(first);
        for seed in self.cell.seed..=last {
            let cell = Cell { seed, ..self.cell.clone() };
            let job = match first.take() {
                Some(first) => first,
                None => Job::of(model, Ready::new(model, &cell, &self.kept, sources)?),
            };
            let run = take(&self.output, &format!("{}{seed}", self.name()), &job.description().cell, &Observed(watch))?;
            watch.begins(seed, &run);
            let recorded = job.record(run.trace(), Layout::LIVE, &Observed(watch))?;
            let about = keep(&run, &recorded, model, &Observed(watch))?;
            tiles.push(Tile::new(pixels(&recorded.outcome.picture), format!("seed {seed}")));
            watch.made(&Picture { run, recorded, about })?;
        }
        if tiles.len() > 1 { self.grid(tiles, last).map(Some) } else { Ok(None) }
    }

    /// Begins the names of the files: the picture that they start from, and the prompt.
    fn name(&self) -> String {
        let picture = self.cell.image.as_ref().map(|image| match RunFolder::find(image) {
            Ok(run) => run.name(), // all pictures of runs have one file name
            Err(_) => image.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        });
        let picture = picture.unwrap_or_default();
        slug(&format!("{picture} {}", self.cell.prompt))
    }

    fn grid(&self, tiles: Vec<Tile>, last: u64) -> Result<PathBuf> {
        let Cell { prompt, prompt_2, negative, guidance, seed, .. } = &self.cell;
        let square = (tiles.len() as f64).sqrt().ceil() as usize;
        // Near a square, and as few empty places as may be.
        let columns =
            (square..=square + 1).min_by_key(|columns| tiles.len().next_multiple_of(*columns)).unwrap_or(square);
        let second = prompt_2.as_ref().map(|text| format!(" and “{text}”")).unwrap_or_default();
        let mut title = format!("“{prompt}”{second}, guidance {guidance}");
        if !negative.is_empty() {
            title += &format!(", not “{negative}”");
        }
        if let Some(strength) = self.cell.picture_strength() {
            title += &format!(", strength {strength}");
        }
        let scale = enlargement(tiles.iter().map(|tile| &tile.image));
        let drawn = Grid { title: Some(title), columns, cells: tiles, scale, ..Grid::default() };
        let range = if last > *seed { format!("{seed}-to-{last}") } else { format!("{seed}-beside") };
        let path = grid(&self.output, &format!("{}{range}", self.name()), &self.cell)?;
        save_png(&path, &drawn.render(), &of_grid(&self.cell, last))?;
        Ok(path)
    }
}
