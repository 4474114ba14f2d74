//! The same UNet, text and training on latents and on pixels, side by side.

mod clock;
mod pictures;
mod report;
mod turns;

use anyhow::{Context, Result, ensure};
use clock::Clock;
use latentrace_files::replace;
use latentrace_pipeline::{Model, Options};
use latentrace_runs::{Event, bundled, hash};
use latentrace_train::{Clean, Frozen, PhaseRecipe, Space, Trainee, TrainingSet};
use pictures::{Asked, Gallery};
use report::Findings;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use turns::Turns;

/// What is told on the way.
#[derive(Debug)]
pub enum Heard<'a> {
    /// A line for who reads along.
    Line(String),
    /// Something in a run.
    Run(Event<'a>),
    /// So many network calls are about to be made.
    Begin(usize),
    /// What is made now.
    Making(String),
    /// So many of them were made.
    Called(usize),
    /// They are all made.
    End,
}

/// The study and its settings: the same network is trained on latents and on pixels, and what each costs and shows is
/// measured.
pub struct LatentVsPixel {
    /// Seconds that each of the two trains for; the whole takes twice that, and then the pictures
    pub seconds_of_training: u64,
    /// How many held-out captions
    pub captions: u64,
    /// Sampling steps of the pictures
    pub steps: usize,
    /// w in u + w (c - u)
    pub guidance: f64,
    /// Seed of weights, noise, captions and pictures
    pub seed: u64,
    /// Pictures to draw and train on
    pub pictures: u64,
    /// Samples in a training step of either; a large one leaves pixels few steps in their seconds
    pub batch: u64,
    /// Learning rate of both
    pub learning_rate: f64,
    /// Pairs of timings, one of each in turn
    pub pairs: u64,
    /// Folder of the results and of the state; a stopped run goes on from there
    pub output: PathBuf,
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
    pub fn run(self, tell: &dyn Fn(Heard)) -> Result<Vec<PathBuf>> {
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
            None => self.work(&model, clock, turns, &gallery, tell)?,
        };
        let findings = Findings {
            settings: &settings,
            model: &model,
            asked: &asked,
            clock: &clock,
            turns: &turns,
            gallery: &gallery,
        };
        let (lines, paths) = findings.write(&self.output)?;
        lines.into_iter().for_each(|line| tell(Heard::Line(line)));
        Ok(paths)
    }

    /// Does what is left to do.
    fn work(
        &self,
        model: &Model,
        clock: Option<Clock>,
        turns: Turns,
        gallery: &Gallery,
        tell: &dyn Fn(Heard),
    ) -> Result<(Clock, Turns)> {
        let pictures = TrainingSet::draw(self.seed, self.pictures as usize);
        let began = Instant::now();
        let latents = Clean::latents(&pictures, &model.vae, model.vae_config.scaling_factor, model.device);
        let encoding = began.elapsed().as_secs_f64();
        let clean = [latents, Clean::pixels(&pictures, model.device)];
        let frozen =
            Frozen { tokenizer: &model.tokenizer, text_encoder: &model.text_encoder, scheduler: &model.scheduler };
        let phase = PhaseRecipe::endless(self.batch as usize, self.learning_rate);
        let trainee = |clean| Trainee::new(clean, frozen, phase.clone(), self.seed);
        let state = self.output.join("state");
        let clock = match clock {
            Some(clock) => clock,
            None => {
                // Others than those that are trained: to be timed is no training.
                let two = [trainee(&clean[0])?, trainee(&clean[1])?];
                let timing =
                    clock::Timing { model, pictures: &pictures, batch: self.batch as usize, pairs: self.pairs };
                let clock = Clock { encoding_seconds: encoding, ..timing.measure(two, tell)? };
                clock.keep(&state)?;
                clock
            }
        };
        let (turns, trained) = turns.train([trainee(&clean[0])?, trainee(&clean[1])?], self.batch, tell)?;
        gallery.fill(model, &turns, &trained, tell)?;
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
