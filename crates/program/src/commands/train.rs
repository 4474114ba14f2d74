//! `latentrace train`: the bundled model, from nothing.

use crate::printer::{aside, line};
use anyhow::{Context, Result};
use latentrace::pipeline::nn::{first_cuda, tch::Device};
use latentrace::plot::{Chart, ChartAxis, Panels, Series, write};
use latentrace_train::{Recipe, TrainingProgress, TrainingSet, autoencoder, checkpoint, denoiser, learn};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Train a model of a small world of shapes, and write it as a diffusers checkpoint
#[derive(clap::Args)]
pub struct Train {
    /// What to train on; there is one world: shapes
    #[arg(value_parser = ["shapes"])]
    world: String,
    /// Folder for the checkpoint and the state of the training; a stopped training goes on from there
    #[arg(long, default_value = "runs/train-shapes")]
    output: PathBuf,
    /// Seed of weights, pictures and noise
    #[arg(long, default_value_t = Recipe::default().seed)]
    seed: u64,
    /// Pictures to draw
    #[arg(long, default_value_t = Recipe::default().pictures)]
    pictures: usize,
    /// Steps of the autoencoder
    #[arg(long, default_value_t = Recipe::default().autoencoder.steps)]
    autoencoder_steps: u64,
    /// Steps of the denoiser
    #[arg(long, default_value_t = Recipe::default().denoiser.steps)]
    steps: u64,
    /// Latents in a step of the denoiser
    #[arg(long, default_value_t = Recipe::default().denoiser.batch)]
    batch: usize,
    /// Highest learning rate of the denoiser
    #[arg(long, default_value_t = Recipe::default().denoiser.learning_rate)]
    learning_rate: f64,
}

impl Train {
    /// Trains and writes the checkpoint.
    pub fn run(self) -> Result<()> {
        let mut recipe = Recipe { seed: self.seed, pictures: self.pictures, ..Recipe::default() };
        recipe.autoencoder.steps = self.autoencoder_steps;
        recipe.denoiser.steps = self.steps;
        recipe.denoiser.batch = self.batch;
        recipe.denoiser.learning_rate = self.learning_rate;
        let state = self.output.join("state");
        std::fs::create_dir_all(&state).with_context(|| format!("{}: cannot create", state.display()))?;
        let device = first_cuda().unwrap_or(Device::Cpu);
        let vocabulary = learn(recipe.seed, 4000)?;
        let pictures = TrainingSet::draw(recipe.seed, recipe.pictures);
        let log = state.join("loss.csv");
        let vae = autoencoder(&recipe, &pictures, &state, device, |report| note(&log, &report))?;
        let trained = denoiser(&recipe, &pictures, &vae, &vocabulary, &state, device, |report| note(&log, &report))?;
        checkpoint::write(&self.output, &recipe, &vocabulary, &vae, &trained)?;
        line!("{}", self.output.display());
        for path in draw(&log, &self.output)? {
            line!("  {}", path.display());
        }
        Ok(())
    }
}

/// The loss curves of both trainings, from the log. Steps that were done again after a kill count once, the last time.
fn draw(log: &Path, output: &Path) -> Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let mut phases: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
    for line in text.lines() {
        let mut cells = line.split(',');
        if let (Some(phase), Some(Ok(step)), Some(Ok(loss))) =
            (cells.next(), cells.next().map(str::parse), cells.next().map(str::parse))
        {
            phases.entry(phase).or_default().insert(step, loss);
        }
    }
    let chart = |(phase, points): (&str, BTreeMap<u64, f64>)| Chart {
        title: phase.into(),
        x: ChartAxis::linear("step"),
        y: ChartAxis::log("loss"),
        series: vec![Series::new("loss", points.into_iter().map(|(step, loss)| (step as f64, loss)).collect())],
        ..Chart::default()
    };
    let charts = phases.into_iter().map(chart).collect();
    Ok(write(output, "loss", &Panels { title: "Training of the bundled model".into(), charts, columns: 2 })?)
}

/// One line in the log and one on the terminal. A log that cannot be written does not stop a training.
fn note(log: &Path, report: &TrainingProgress) {
    let TrainingProgress { phase, step, steps, loss, elapsed } = report;
    let line = format!("{phase},{step},{loss},{:.1}", elapsed.as_secs_f64());
    line!("{phase}: step {step} of {steps}: loss {loss:.5}, {:.0} s", elapsed.as_secs_f64());
    let opened = OpenOptions::new().create(true).append(true).open(log);
    if let Err(error) = opened.and_then(|mut file| writeln!(file, "{line}")) {
        aside!("warning: {}: {error}", log.display());
    }
}
