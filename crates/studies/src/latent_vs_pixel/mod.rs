//! The same UNet, text encoder and training, on latents and on pixels.

mod clock;
mod pictures;
mod report;
mod turns;

use anyhow::{Context, Result, ensure};
use clock::Clock;
use latentrace_files::replace;
use latentrace_pipeline::{Choice, Model, Options};
use latentrace_runs::{Event, bundled, hash};
use latentrace_train::{Clean, Frozen, PhaseRecipe, Space, Trainee, TrainingSet, UnetConfig};
use pictures::{Asked, Gallery};
use report::Findings;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use turns::Turns;

/// Something that happens during the study.
#[derive(Debug)]
pub enum Heard<'a> {
    /// A line for the user.
    Line(String),
    /// An event of a run.
    Run(Event<'a>),
    /// Network calls begin; the number of calls.
    Begin(usize),
    /// The name of the picture that is made now.
    Making(String),
    /// A number of network calls are complete.
    Called(usize),
    /// All network calls are complete.
    End,
}

/// The study and its settings. It trains the same network on latents and on pixels, and measures the cost of each and
/// how well its pictures match their captions.
pub struct Study {
    /// The training time of each of the two, in seconds.
    pub seconds_of_training: u64,
    /// The number of held-out captions.
    pub captions: u64,
    /// The number of sampling steps of the pictures.
    pub steps: usize,
    /// The guidance weight, `w` in `u + w (c - u)`.
    pub guidance: f64,
    /// The seed of weights, noise, captions and pictures.
    pub seed: u64,
    /// The number of training pictures.
    pub pictures: u64,
    /// The number of samples in a training step.
    pub batch: u64,
    /// The learning rate of both.
    pub learning_rate: f64,
    /// The number of pairs of timings.
    pub pairs: u64,
    /// The folder of the results and of the state, from which a stopped study continues.
    pub output: PathBuf,
}

/// The settings that a training depends on, except for its duration. A training can only be continued with the same
/// ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSettings {
    seed: u64,
    pictures: u64,
    batch: u64,
    learning_rate: f64,
    /// The hash of the model, whose text encoder, VAE and schedule are used.
    model: String,
}

impl Study {
    /// Measures the timings, trains, makes the pictures, and writes the results. Work of an earlier run is not done
    /// again.
    ///
    /// # Errors
    /// A setting is not valid, the state in the folder has other settings, or a file cannot be read or written.
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

    /// Measures, trains and makes pictures, as far as an earlier run has not.
    fn work(
        &self,
        model: &Model,
        clock: Option<Clock>,
        turns: Turns,
        gallery: &Gallery,
        tell: &dyn Fn(Heard),
    ) -> Result<(Clock, Turns)> {
        let unets = unets(model)?;
        let side = unets[Space::Pixels as usize].sample_size[0];
        let pictures = TrainingSet::new(self.seed, self.pictures as usize, side as usize);
        let began = Instant::now();
        let latents = Clean::latents(&pictures, &model.vae, model.checkpoint.vae.config.scaling_factor, model.device);
        let encoding = began.elapsed().as_secs_f64();
        let clean = [latents, Clean::pixels(&pictures, model.device)];
        let text = model.text();
        let frozen = Frozen { tokenizer: &text.tokenizer, text_encoder: &text.encoder, scheduler: &model.scheduler };
        let phase = PhaseRecipe::endless(self.batch as usize, self.learning_rate);
        let trainee = |space: Space| {
            let (clean, unet) = (&clean[space as usize], &unets[space as usize]);
            Trainee::new(clean, unet, frozen, phase.clone(), self.seed)
        };
        let state = self.output.join("state");
        let clock = match clock {
            Some(clock) => clock,
            None => {
                // Separate networks, because timing changes their weights.
                let two = [trainee(Space::Latents)?, trainee(Space::Pixels)?];
                let timing =
                    clock::Timing { model, pictures: &pictures, batch: self.batch as usize, pairs: self.pairs };
                let clock = Clock { encoding_seconds: encoding, ..timing.measure(two, tell)? };
                clock.keep(&state)?;
                clock
            }
        };
        let (turns, trained) = turns.train([trainee(Space::Latents)?, trainee(Space::Pixels)?], self.batch, tell)?;
        gallery.fill(model, &turns, &trained, tell)?;
        Ok((clock, turns))
    }

    fn settings(&self, model: &Model) -> Result<TrainingSettings> {
        let Study { seed, pictures, batch, learning_rate, .. } = *self;
        Ok(TrainingSettings {
            seed,
            pictures,
            batch,
            learning_rate,
            model: hash(model.checkpoint.place(), &Choice::default())?,
        })
    }
}

impl TrainingSettings {
    /// Checks that the state in a folder, if there is one, has these settings, and writes them.
    fn keep(&self, state: &Path) -> Result<()> {
        let path = state.join("settings.json");
        if let Some(kept) = read::<TrainingSettings>(&path)? {
            ensure!(
                kept == *self,
                "{}: a training with other settings, {}\nhint: use the same settings, or another --output",
                path.display(),
                json!(kept)
            );
        }
        Ok(replace(&path, format!("{:#}\n", json!(self)).as_bytes())?)
    }
}

/// Reads a JSON file; `None` if it does not exist.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The denoisers of both spaces: that of the model, and one of pixels with as many parameters.
fn unets(model: &Model) -> Result<[UnetConfig; 2]> {
    let of = |space: Space| space.unet(&model.checkpoint.unet.config, model.checkpoint.vae.config.factor());
    Ok([of(Space::Latents)?, of(Space::Pixels)?])
}

/// The shape of a sample: channels, height, width.
fn shape(model: &Model, space: Space) -> Result<[i64; 3]> {
    let config = &unets(model)?[space as usize];
    let [height, width] = config.sample_size;
    Ok([config.in_channels, height, width])
}

/// Pairs each space with its value.
fn both<T>(of: [T; 2]) -> impl Iterator<Item = (Space, T)> {
    Space::BOTH.into_iter().zip(of)
}
