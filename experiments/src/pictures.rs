//! Pictures with settings, made and kept, as `latentrace generate` and `latentrace vary` do.

use crate::capture::{CaptureArguments, estimate};
use crate::cell::Cell;
use crate::frames::previews;
use crate::free::{self, Stem};
use crate::interrupt;
use crate::like::Like;
use crate::lost;
use crate::models::{self, ModelArguments};
use crate::provenance::{self, Provenance, What};
use crate::record::{Job, bar, pixels};
use crate::sampler::{self, Sampler};
use crate::store::{Kept, enlargement, keep_scalars, slug};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use latentrace_pipeline::{Model, Options};
use latentrace_plot::{Cell as Picture, Grid, RgbImage, save_png, strip};
use latentrace_schedulers::Reading;
use latentrace_trace::Layout;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What decides pictures besides the prompt.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    capture: CaptureArguments,
    /// What guidance leads away from [default: nothing]
    #[arg(long, allow_hyphen_values = true)]
    negative: Option<String>,
    /// Seed of the first picture, from 0 to 2^64 - 1, of which PyTorch's generator takes the lowest 32 bits; the next picture has the next seed [default: 193]
    #[arg(long)]
    seed: Option<u64>,
    /// Sampling steps [default: 50]
    #[arg(long)]
    steps: Option<usize>,
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
    /// Follow the mathematics where diffusers departs from it; --exact=false does not
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    exact: Option<bool>,
}

impl Settings {
    /// The first seed where nobody names one.
    pub const SEED: u64 = 193;

    /// Another cell's settings, but for what was given.
    pub fn over(&self, base: Cell) -> Cell {
        let reading = |exact| if exact { Reading::Exact } else { Reading::Diffusers };
        let Options { dtype, device } = self.model.options_over(base.options());
        let edits = [base.edits, self.capture.edit.clone()].concat();
        Cell {
            negative: self.negative.clone().unwrap_or(base.negative),
            seed: self.seed.unwrap_or(base.seed),
            steps: self.steps.unwrap_or(base.steps),
            sampler: self.sampler.clone().or(base.sampler),
            scheduler: base.scheduler.into_iter().chain(self.set.iter().cloned()).collect(),
            height: self.height.or(base.height),
            width: self.width.or(base.width),
            reading: self.exact.map_or(base.reading, reading),
            edits,
            model: self.model.model.clone().or(base.model),
            dtype,
            device,
            ..base
        }
    }

    /// The checkpoint folder, if it was given.
    pub fn model(&self) -> Option<&Path> {
        self.model.model.as_deref()
    }

    /// Keeps what another run kept, unless something else is asked for.
    pub fn keep_as(&mut self, kept: &Kept) {
        if self.capture.capture.is_empty() {
            self.capture.capture.clone_from(&kept.capture);
            self.capture.budget = self.capture.budget.or(kept.budget);
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
    /// A picture that the first is to be like.
    pub like: Option<Like>,
    /// Their folder.
    pub output: PathBuf,
}

impl Pictures {
    /// Makes, records and keeps the pictures, with a strip of previews of each and a grid of all, which a picture that they
    /// started from begins.
    pub fn make(self) -> Result<()> {
        let first = self.cell.seed;
        let more = self.images - 1;
        let last = first.checked_add(more);
        let last = last.with_context(|| format!("seed: {first} and {more} more go beyond {}", u64::MAX))?;
        let model = models::open(&self.cell.folder()?, self.cell.options())?;
        let job = self.job(&model, first)?;
        let fires = job.check()?;
        lost::say(job.description());
        sampler::set_by_pipeline(&job.asked().0.scheduler).iter().for_each(|said| eprintln!("{said}"));
        if self.settings.capture.dry_run {
            return estimate(&job, &fires, self.images);
        }
        fires.say();
        let mut grid: Vec<Picture> =
            job.picture().map(|original| Picture::new(pixels(original), "original")).into_iter().collect();
        std::fs::create_dir_all(&self.output).with_context(|| format!("{}: cannot create", self.output.display()))?;
        let bar = bar(job.calls() * self.images as usize);
        for seed in first..=last {
            bar.set_message(format!("seed {seed}"));
            let (image, about) = self.picture(&model, seed, &bar)?;
            if let Some(like) = self.like.as_ref().filter(|_| seed == first) {
                bar.suspend(|| like.compare(&image, &about))?;
            }
            grid.push(Picture::new(image, format!("seed {seed}")));
        }
        bar.finish_and_clear();
        if grid.len() > 1 {
            self.grid(grid, last)?;
        }
        Ok(())
    }

    /// Makes, records and keeps one picture.
    fn picture(&self, model: &Model, seed: u64, bar: &ProgressBar) -> Result<(RgbImage, Provenance)> {
        let job = self.job(model, seed)?;
        let stem = Stem::take(&self.output, &format!("{}{seed}", self.name()), &job.description().cell)?;
        let (folder, path) = (&stem.trace, &stem.picture);
        interrupt::says(format!("latentrace resume {} goes on with it", folder.display()));
        let recorded = job.record(folder, Layout::LIVE, bar)?;
        keep_scalars(&recorded)?;
        let image = pixels(&recorded.outcome.picture);
        let about = Provenance::of_run(&recorded)?;
        save_png(path, &image, &about.chunks(What::Picture))?;
        let (images, captions) = previews(&recorded.trace, model)?;
        let strip = strip(&images, &captions, enlargement(&images));
        save_png(&stem.previews, &strip, &about.chunks(What::Previews))?;
        let seconds = recorded.elapsed.as_secs_f64();
        bar.suspend(|| {
            println!("{} ({seconds:.1} s), recorded in {}", path.display(), folder.display());
            if recorded.beyond_budget > 0 {
                eprintln!("warning: {} tensors were beyond the budget and not kept", recorded.beyond_budget);
            }
        });
        Ok((image, about))
    }

    fn job<'a>(&self, model: &'a Model, seed: u64) -> Result<Job<'a>> {
        let cell = Cell { seed, ..self.cell.clone() };
        let capture = &self.settings.capture;
        Ok(Job::new(model, &cell)?.capturing(&capture.capture, capture.budget))
    }

    /// Begins the names of the files: the picture that they start from, and the prompt.
    fn name(&self) -> String {
        let picture = self.cell.image.as_ref().and_then(|image| image.file_stem());
        let picture = picture.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        slug(&format!("{picture} {}", self.cell.prompt))
    }

    fn grid(&self, cells: Vec<Picture>, last: u64) -> Result<()> {
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
        let scale = enlargement(cells.iter().map(|cell| &cell.image));
        let grid = Grid { title: Some(title), columns, cells, scale, ..Grid::default() };
        let range = if last > *seed { format!("{seed}-to-{last}") } else { format!("{seed}-beside") };
        let path = free::grid(&self.output, &format!("{}{range}", self.name()), &self.cell)?;
        save_png(&path, &grid.render(), &provenance::of_grid(&self.cell, last))?;
        println!("{}", path.display());
        Ok(())
    }
}
