//! `latentrace latent-vs-pixel`: the same UNet, text and training on latents and on pixels, side by side.

mod clock;
mod pictures;
mod report;
mod turns;

use crate::models::bundled;
use crate::store::hash;
use anyhow::{Context, Result, ensure};
use clock::Clock;
use latentrace_pipeline::nn::replace;
use latentrace_pipeline::{Model, Options};
use latentrace_train::{Clean, Frozen, Phase, Pictures, Recipe, Space, Trainee};
use pictures::{Asked, Gallery};
use report::Report;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use turns::Turns;

/// Train the same network on latents and on pixels, and measure what each costs and shows
#[derive(clap::Args)]
pub struct LatentVsPixel {
    /// Seconds that each of the two trains for; the whole takes twice that, and then the pictures
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..), value_name = "SECONDS")]
    seconds_of_training: u64,
    /// How many held-out captions
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    captions: u64,
    /// Sampling steps of the pictures
    #[arg(long, default_value_t = 50)]
    steps: usize,
    /// w in u + w (c - u)
    #[arg(long, default_value_t = 4.0, allow_negative_numbers = true)]
    guidance: f64,
    /// Seed of weights, noise, captions and pictures
    #[arg(long, default_value_t = Recipe::default().seed, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64 / 2))]
    seed: u64,
    /// Pictures to draw and train on
    #[arg(long, default_value_t = Recipe::default().pictures as u64, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pictures: u64,
    /// Samples in a training step of either; a large one leaves pixels few steps in their seconds
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// Learning rate of both
    #[arg(long, default_value_t = Recipe::default().denoiser.learning_rate)]
    learning_rate: f64,
    /// Pairs of timings, one of each in turn
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pairs: u64,
    /// Folder of the results and of the state; a stopped run goes on from there
    #[arg(long, default_value = "runs/latent-vs-pixel", value_name = "FOLDER")]
    output: PathBuf,
}

/// What decides the trained numbers, apart from how long: another one is another training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    seed: u64,
    pictures: u64,
    batch: u64,
    learning_rate: f64,
    /// The hash of the model whose text encoder, VAE and schedule are used.
    model: String,
}

impl LatentVsPixel {
    /// Measures, trains, makes the pictures, and draws; each only as far as it was not done before.
    pub fn run(self) -> Result<()> {
        ensure!(self.guidance.is_finite(), "guidance: expected a finite number, found {}", self.guidance);
        let rate = self.learning_rate;
        ensure!(rate.is_finite() && rate > 0.0, "learning-rate: expected a positive number, found {rate}");
        let model = Model::open(&bundled()?, Options::default())?;
        let asked = Asked::new(&model, self.seed, self.captions as usize, self.steps, self.guidance)?;
        let state = self.output.join("state");
        std::fs::create_dir_all(&state).with_context(|| format!("{}: cannot create", state.display()))?;
        let settings = self.settings(&model)?;
        settings.keep(&state)?;
        let clock = Clock::read(&state)?;
        let turns = Turns::read(&state, self.seconds_of_training as f64)?;
        let gallery = Gallery::new(&self.output, &asked, json!(settings));
        let done = clock.as_ref().filter(|_| turns.done() && gallery.is_whole(&turns));
        let (clock, turns) = match done {
            Some(clock) => (clock.clone(), turns),
            None => self.work(&model, clock, turns, &gallery)?,
        };
        Report { settings: &settings, model: &model, asked: &asked, clock: &clock, turns: &turns, gallery: &gallery }
            .write(&self.output)
    }

    /// Does what is left to do.
    fn work(&self, model: &Model, clock: Option<Clock>, turns: Turns, gallery: &Gallery) -> Result<(Clock, Turns)> {
        let pictures = Pictures::draw(self.seed, self.pictures as usize);
        let began = Instant::now();
        let latents = Clean::latents(&pictures, &model.vae, model.vae_config.scaling_factor, model.device);
        let encoding = began.elapsed().as_secs_f64();
        let clean = [latents, Clean::pixels(&pictures, model.device)];
        let frozen =
            Frozen { tokenizer: &model.tokenizer, text_encoder: &model.text_encoder, scheduler: &model.scheduler };
        let phase = Phase::endless(self.batch as usize, self.learning_rate);
        let trainee = |clean| Trainee::new(clean, frozen, phase.clone(), self.seed);
        let state = self.output.join("state");
        let clock = match clock {
            Some(clock) => clock,
            None => {
                // Others than those that are trained: to be timed is no training.
                let two = [trainee(&clean[0])?, trainee(&clean[1])?];
                let bench = clock::Bench { model, pictures: &pictures, batch: self.batch as usize, pairs: self.pairs };
                let clock = Clock { encoding_seconds: encoding, ..bench.measure(two)? };
                clock.keep(&state)?;
                clock
            }
        };
        let (turns, trained) = turns.train([trainee(&clean[0])?, trainee(&clean[1])?], self.batch)?;
        gallery.fill(model, &turns, &trained)?;
        Ok((clock, turns))
    }

    fn settings(&self, model: &Model) -> Result<Settings> {
        let LatentVsPixel { seed, pictures, batch, learning_rate, .. } = *self;
        Ok(Settings { seed, pictures, batch, learning_rate, model: hash(&model.folder)? })
    }
}

impl Settings {
    /// Holds that the state in a folder, if there is one, is of these settings.
    fn keep(&self, state: &Path) -> Result<()> {
        let path = state.join("settings.json");
        if let Some(kept) = read::<Settings>(&path)? {
            ensure!(
                kept == *self,
                "{}: a training with other settings, {}\nhint: the same ones, or another --output",
                path.display(),
                json!(kept)
            );
        }
        Ok(replace(&path, format!("{:#}\n", json!(self)).as_bytes())?)
    }
}

/// A JSON file, if there is one.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The two spaces with something of each.
fn both<T>(of: [T; 2]) -> impl Iterator<Item = (Space, T)> {
    Space::BOTH.into_iter().zip(of)
}
