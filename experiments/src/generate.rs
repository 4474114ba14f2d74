//! `latentrace generate`: pictures of a prompt.

use crate::cell::Cell;
use crate::models::ModelArguments;
use crate::record::{bar, pixels, record};
use crate::store::{enlargement, provenance, slug};
use anyhow::{Context, Result, ensure};
use latentrace_plot::{Cell as Picture, Grid, save_png, strip};
use latentrace_schedulers::Reading;
use std::path::PathBuf;

/// Make pictures of a prompt
#[derive(clap::Args)]
pub struct Generate {
    /// What to show; the bundled model knows "a large red circle on the left, white background"
    prompt: String,
    #[command(flatten)]
    model: ModelArguments,
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
    #[arg(long, default_value_t = 7.5, allow_negative_numbers = true)]
    guidance: f64,
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
        let first = self.cell(self.seed);
        let calls = model.check(&first.request(&model)?)?.calls();
        std::fs::create_dir_all(&self.output).with_context(|| format!("{}: cannot create", self.output.display()))?;
        let bar = bar(calls * self.images as usize);
        let mut grid = Vec::new();
        for seed in self.seed..self.seed + self.images {
            bar.set_message(format!("seed {seed}"));
            let cell = self.cell(seed);
            let recorded = record(&model, &cell.request(&model)?, &bar)?;
            if seed == self.seed {
                for (name, tokens) in ["prompt", "negative"].iter().zip(&recorded.outcome.tokens) {
                    if !tokens.lost.is_empty() {
                        let shown: String = tokens.lost.chars().take(80).collect();
                        bar.suspend(|| {
                            eprintln!("warning: {name}: {} tokens fit; lost from here on: {shown}", tokens.pieces.len())
                        });
                    }
                }
            }
            let image = pixels(&recorded.outcome.picture);
            let about = provenance(&cell, "", &recorded);
            let text =
                [("Description".to_string(), cell.prompt.clone()), ("Latentrace".to_string(), about.to_string())];
            let stem = format!("{}{seed}", slug(&self.prompt));
            let path = self.output.join(format!("{stem}.png"));
            save_png(&path, &image, &text)?;
            let (images, captions) = recorded.previews(&model);
            let previews = self.output.join(format!("{stem}-previews.png"));
            save_png(&previews, &strip(&images, &captions, enlargement(&images)), &text)?;
            bar.suspend(|| println!("{} ({:.1} s)", path.display(), recorded.elapsed.as_secs_f64()));
            grid.push(Picture::new(image, format!("seed {seed}")));
        }
        bar.finish_and_clear();
        if grid.len() > 1 {
            self.grid(grid)?;
        }
        Ok(())
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
            guidance: self.guidance,
            sampler: self.sampler.clone(),
            height: self.height,
            width: self.width,
            reading: if self.exact { Reading::Exact } else { Reading::Diffusers },
            model: self.model.model.clone(),
            dtype: self.model.options().dtype,
            device: self.model.options().device,
        }
    }
}
