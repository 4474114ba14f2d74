//! Pictures with settings, made and kept, as `latentrace generate` and `latentrace vary` do.

use crate::capture::{CaptureArguments, estimate};
use crate::cell::Cell;
use crate::frames::previews;
use crate::interrupt;
use crate::models::ModelArguments;
use crate::record::{Job, bar, kept, pixels};
use crate::sampler::{self, Sampler};
use crate::store::{chunks, enlargement, keep_scalars, provenance};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use latentrace_pipeline::{Guidance, Model};
use latentrace_plot::{Cell as Picture, Grid, RgbImage, save_png, strip};
use latentrace_schedulers::Reading;
use latentrace_trace::{Layout, Trace};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What decides pictures besides the prompt.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    capture: CaptureArguments,
    /// What guidance leads away from
    #[arg(long, default_value = "")]
    negative: String,
    /// Seed of the first picture; the next one has the next seed
    #[arg(long, default_value_t = 193, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Sampling steps
    #[arg(long, default_value_t = 50)]
    steps: usize,
    /// Scheduler: pndm, lms, euler, dpm++2m, unipc, ... (see `latentrace schedule --list`), or a scheduler_config.json [default: the checkpoint's own]
    #[arg(long, value_parser = Sampler::parse)]
    sampler: Option<Sampler>,
    /// Replace an option of the scheduler: --set scheduler.use_karras_sigmas=true (see `latentrace schedule --explain`)
    #[arg(long, value_name = "scheduler.OPTION=VALUE", value_parser = sampler::parse_option)]
    set: Vec<(String, Value)>,
    /// Pixels from top to bottom [default: the checkpoint's own]
    #[arg(long, allow_negative_numbers = true)]
    height: Option<i64>,
    /// Pixels from left to right [default: the checkpoint's own]
    #[arg(long, allow_negative_numbers = true)]
    width: Option<i64>,
    /// Follow the mathematics where diffusers departs from it
    #[arg(long)]
    exact: bool,
}

impl Settings {
    /// The first picture's cell.
    pub fn cell(&self, prompt: &str, guidance: &Guidance) -> Cell {
        Cell {
            prompt: prompt.into(),
            negative: self.negative.clone(),
            seed: self.seed,
            steps: self.steps,
            guidance: guidance.clone(),
            sampler: self.sampler.clone(),
            scheduler: self.set.iter().cloned().collect(),
            height: self.height,
            width: self.width,
            reading: if self.exact { Reading::Exact } else { Reading::Diffusers },
            edits: self.capture.edit.clone(),
            model: self.model.model.clone(),
            dtype: self.model.options().dtype,
            device: self.model.options().device,
            ..Cell::default()
        }
    }
}

/// Pictures of one cell with seeds that follow each other.
pub struct Pictures {
    /// How they are made.
    pub settings: Settings,
    /// The first.
    pub cell: Cell,
    /// How many.
    pub images: u64,
    /// Begins the names of their files.
    pub name: String,
    /// Their folder.
    pub output: PathBuf,
}

impl Pictures {
    /// Makes, records and keeps the pictures, with a strip of previews of each and a grid of all, which a picture that they
    /// started from begins.
    pub fn make(self) -> Result<()> {
        let (first, last) = (self.cell.seed, self.cell.seed.checked_add(self.images - 1));
        ensure!(
            last.is_some_and(|last| last <= i64::MAX as u64),
            "seed: {first} and {} more go beyond {}",
            self.images - 1,
            i64::MAX
        );
        let model = self.settings.model.open()?;
        let job = self.job(&model, first)?;
        let fires = job.check()?;
        sampler::set_by_pipeline(&job.asked().0.scheduler).iter().for_each(|said| eprintln!("{said}"));
        if self.settings.capture.dry_run {
            return estimate(&job, &fires, self.images);
        }
        fires.say();
        let mut grid: Vec<Picture> =
            job.picture().map(|original| Picture::new(pixels(original), "original")).into_iter().collect();
        std::fs::create_dir_all(&self.output).with_context(|| format!("{}: cannot create", self.output.display()))?;
        let bar = bar(job.calls() * self.images as usize);
        for seed in first..first + self.images {
            bar.set_message(format!("seed {seed}"));
            let image = self.picture(&model, seed, &bar)?;
            grid.push(Picture::new(image, format!("seed {seed}")));
        }
        bar.finish_and_clear();
        if grid.len() > 1 {
            self.grid(grid)?;
        }
        Ok(())
    }

    /// Makes, records and keeps one picture.
    fn picture(&self, model: &Model, seed: u64, bar: &ProgressBar) -> Result<RgbImage> {
        let job = self.job(model, seed)?;
        if seed == self.cell.seed {
            for (name, text) in [("prompt", &job.description().prompt), ("negative", &job.description().negative)] {
                if !text.lost.is_empty() {
                    let shown: String = text.lost.chars().take(80).collect();
                    bar.suspend(|| {
                        eprintln!("warning: {name}: {} tokens fit; lost from here on: {shown}", text.tokens.len())
                    });
                }
            }
        }
        let stem = free(&self.output, &format!("{}{seed}", self.name));
        let folder = self.output.join(format!("{stem}.trace"));
        interrupt::says(format!("latentrace resume {} goes on with it", folder.display()));
        let recorded = job.record(&folder, Layout::LIVE, bar).with_context(|| kept(&folder))?;
        keep_scalars(&recorded)?;
        let image = pixels(&recorded.outcome.picture);
        let cell = &recorded.description.cell;
        let text = chunks(cell, &provenance(cell, "", &recorded));
        let path = self.output.join(format!("{stem}.png"));
        save_png(&path, &image, &text)?;
        let (images, captions) = previews(&recorded.trace, model)?;
        let strip = strip(&images, &captions, enlargement(&images));
        save_png(&self.output.join(format!("{stem}-previews.png")), &strip, &text)?;
        let seconds = recorded.elapsed.as_secs_f64();
        bar.suspend(|| {
            println!("{} ({seconds:.1} s), recorded in {}", path.display(), folder.display());
            if recorded.beyond_budget > 0 {
                eprintln!("warning: {} tensors were beyond the budget and not kept", recorded.beyond_budget);
            }
        });
        Ok(image)
    }

    fn job<'a>(&self, model: &'a Model, seed: u64) -> Result<Job<'a>> {
        let cell = Cell { seed, ..self.cell.clone() };
        let capture = &self.settings.capture;
        Ok(Job::new(model, &cell)?.capturing(&capture.capture, capture.budget))
    }

    fn grid(&self, cells: Vec<Picture>) -> Result<()> {
        let Cell { prompt, negative, guidance, seed, .. } = &self.cell;
        let square = (cells.len() as f64).sqrt().ceil() as usize;
        // Near a square, and as few empty places as may be.
        let columns =
            (square..=square + 1).min_by_key(|columns| cells.len().next_multiple_of(*columns)).unwrap_or(square);
        let mut title = format!("“{prompt}”, guidance {guidance}");
        if !negative.is_empty() {
            title += &format!(", not “{negative}”");
        }
        if let Some(strength) = self.cell.picture_strength() {
            title += &format!(", strength {strength}");
        }
        let scale = cells.first().map_or(1, |cell| enlargement(std::slice::from_ref(&cell.image)));
        let grid = Grid { title: Some(title), columns, cells, scale, ..Grid::default() };
        let last = seed + self.images - 1;
        let range = if last > *seed { format!("{seed}-to-{last}") } else { format!("{seed}-beside") };
        let path = self.output.join(format!("{}{range}.png", self.name));
        save_png(&path, &grid.render(), &[("Description".into(), prompt.clone())])?;
        println!("{}", path.display());
        Ok(())
    }
}

/// A name that no earlier picture or record has: `stem`, `stem-2`, `stem-3`, .. Says which records were cut off.
fn free(folder: &Path, stem: &str) -> String {
    let taken =
        |name: &str| folder.join(format!("{name}.png")).exists() || folder.join(format!("{name}.trace")).exists();
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    for name in std::iter::once(stem.to_string()).chain(numbered) {
        if !taken(&name) {
            return name;
        }
        let trace = folder.join(format!("{name}.trace"));
        if Trace::open(&trace).is_ok_and(|trace| trace.end().is_none()) {
            eprintln!("note: {} was cut off\nhint: latentrace resume {0} goes on with it", trace.display());
        }
    }
    stem.into()
}
