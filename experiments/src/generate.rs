//! `latentrace generate`: pictures of a prompt.

use crate::capture::{CaptureArguments, RULES};
use crate::cell::Cell;
use crate::frames::previews;
use crate::init_image::Fit;
use crate::models::ModelArguments;
use crate::record::{Job, bar, kept, pixels};
use crate::store::{chunks, enlargement, keep_scalars, provenance, slug};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use latentrace_pipeline::{Guidance, Model};
use latentrace_plot::{Cell as Picture, Grid, RgbImage, save_png, strip};
use latentrace_schedulers::Reading;
use latentrace_trace::{Layout, Trace};
use std::path::{Path, PathBuf};

/// Make pictures of a prompt
#[derive(clap::Args)]
#[command(after_help = RULES)]
pub struct Generate {
    /// What to show; the bundled model knows "a large red circle on the left, white background"
    prompt: String,
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
    /// How many pictures
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    images: u64,
    /// Sampling steps
    #[arg(long, default_value_t = 50)]
    steps: usize,
    /// w in u + w (c - u): 0 ignores the prompt, 1 follows it without emphasis
    #[arg(long, default_value = "7.5", allow_negative_numbers = true, value_parser = crate::cell::parse_guidance)]
    guidance: Guidance,
    /// Scheduler: ddpm, pndm or lms [default: the checkpoint's own]
    #[arg(long)]
    sampler: Option<String>,
    /// Pixels from top to bottom [default: the checkpoint's own]
    #[arg(long, allow_negative_numbers = true)]
    height: Option<i64>,
    /// Pixels from left to right [default: the checkpoint's own]
    #[arg(long, allow_negative_numbers = true)]
    width: Option<i64>,
    /// Follow the mathematics where diffusers departs from it
    #[arg(long)]
    exact: bool,
    /// Folder of the results
    #[arg(long, default_value = "runs/generate", value_name = "FOLDER")]
    output: PathBuf,
}

impl Generate {
    /// Makes the pictures, and a strip of previews of each.
    pub fn run(self) -> Result<()> {
        let last = self.seed.checked_add(self.images - 1).filter(|last| *last <= i64::MAX as u64);
        ensure!(last.is_some(), "seed: {} and {} more go beyond {}", self.seed, self.images - 1, i64::MAX);
        let model = self.model.open()?;
        let first = self.job(&model, self.seed)?;
        first.check()?;
        if self.capture.dry_run {
            return self.capture.estimate(&model, &first, self.images);
        }
        let calls = first.calls();
        std::fs::create_dir_all(&self.output).with_context(|| format!("{}: cannot create", self.output.display()))?;
        let bar = bar(calls * self.images as usize);
        let mut grid = Vec::new();
        for seed in self.seed..self.seed + self.images {
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
        if seed == self.seed {
            for (name, text) in [("prompt", &job.description().prompt), ("negative", &job.description().negative)] {
                if !text.lost.is_empty() {
                    let shown: String = text.lost.chars().take(80).collect();
                    bar.suspend(|| {
                        eprintln!("warning: {name}: {} tokens fit; lost from here on: {shown}", text.tokens.len())
                    });
                }
            }
        }
        let stem = free(&self.output, &format!("{}{seed}", slug(&self.prompt)));
        let folder = self.output.join(format!("{stem}.trace"));
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
        Ok(Job::new(model, &self.cell(seed))?.capturing(&self.capture.capture, self.capture.budget))
    }

    fn grid(&self, cells: Vec<Picture>) -> Result<()> {
        let columns = (cells.len() as f64).sqrt().ceil() as usize;
        let title = format!("“{}”, guidance {}", self.prompt, self.guidance);
        let scale = cells.first().map_or(1, |cell| enlargement(std::slice::from_ref(&cell.image)));
        let grid = Grid { title: Some(title), columns, cells, scale, ..Grid::default() };
        let path =
            self.output.join(format!("{}{}-to-{}.png", slug(&self.prompt), self.seed, self.seed + self.images - 1));
        save_png(&path, &grid.render(), &[("Description".into(), self.prompt.clone())])?;
        println!("{}", path.display());
        Ok(())
    }

    fn cell(&self, seed: u64) -> Cell {
        Cell {
            prompt: self.prompt.clone(),
            negative: self.negative.clone(),
            seed,
            steps: self.steps,
            guidance: self.guidance.clone(),
            spacing: None,
            image: None,
            strength: None,
            fit: Fit::default(),
            sampler: self.sampler.clone(),
            height: self.height,
            width: self.width,
            reading: if self.exact { Reading::Exact } else { Reading::Diffusers },
            edits: self.capture.edit.clone(),
            model: self.model.model.clone(),
            dtype: self.model.options().dtype,
            device: self.model.options().device,
        }
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
