//! `latentrace train`: the bundled model, from nothing.

use crate::interrupt;
use crate::printer::{aside, line};
use anyhow::{Context, Result, bail, ensure};
use latentrace::files::replace;
use latentrace::pipeline::Choice;
use latentrace::pipeline::nn::{first_cuda, tch::Device};
use latentrace::runs::{Program, hash};
use latentrace_studies::training::Course;
use latentrace_train::{Pace, Recipe, Training, TrainingProgress, Watcher};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Train a model of a small world of shapes by a recipe
///
/// It is written as a diffusers checkpoint. The same recipe gives the same bytes on the same kind of machine, however
/// often the training is stopped. OUTPUT/progress.html shows how it goes.
#[derive(clap::Args)]
pub struct Train {
    /// What to train on; there is one world: shapes
    #[arg(value_parser = ["shapes"])]
    world: String,
    /// The recipe, a TOML file with everything that decides the weights [default: that of the bundled model]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// The checkpoint that the training begins with, if the recipe names one by its hash (`start`)
    #[arg(long, value_name = "FOLDER")]
    start: Option<PathBuf>,
    /// Folder for the checkpoint and the state of the training; a stopped training goes on from there
    #[arg(long, default_value = "runs/train-shapes")]
    output: PathBuf,
    /// Seconds between two saved states
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    save_every: u64,
    /// Steps of the denoiser between two checks with pictures of held-out captions
    #[arg(long, value_name = "STEPS", default_value_t = Pace::default().checkpoint, value_parser = clap::value_parser!(u64).range(1..))]
    check_every: u64,
}

impl Train {
    /// Trains and writes the checkpoint.
    pub fn run(self) -> Result<()> {
        let recipe = match &self.recipe {
            Some(path) => Recipe::read(path)?,
            None => Recipe::shapes()?,
        };
        check_start(&recipe, self.start.as_deref())?;
        let state = self.output.join("state");
        std::fs::create_dir_all(&state).with_context(|| format!("{}: cannot create", state.display()))?;
        let device = first_cuda().unwrap_or(Device::Cpu);
        let pace = Pace { save: Duration::from_secs(self.save_every), checkpoint: self.check_every, ..Pace::default() };
        let mut watch = Watch { course: Course::read(&self.output)?, drawn: None };
        interrupt::says(format!("the same command goes on from the state in {}", state.display()));
        let training = Training { recipe: &recipe, start: self.start.as_deref(), folder: &state, device, pace };
        training.run(&self.output, &mut watch)?;
        let hash = hash(&self.output, &Choice::default())?;
        let made = json!({ "hash": hash, "program": Program::this(device, recipe.threads) });
        replace(&self.output.join("made.json"), format!("{made:#}\n").as_bytes())?;
        line!("{}: {hash}", self.output.display());
        for path in watch.course.draw()? {
            line!("  {}", path.display());
        }
        Ok(())
    }
}

/// Checks that the training begins with the checkpoint that the recipe names, or with none.
fn check_start(recipe: &Recipe, start: Option<&Path>) -> Result<()> {
    match (&recipe.start, start) {
        (None, None) => Ok(()),
        (Some(hash), None) => bail!("start: this recipe begins with the checkpoint {hash}\nhint: --start FOLDER"),
        (None, Some(_)) => {
            bail!("--start: this recipe begins with random weights\nhint: `start = \"HASH\"` in the recipe")
        }
        (Some(expected), Some(folder)) => {
            let found = hash(folder, &Choice::default())?;
            ensure!(
                *expected == found,
                "{}: this checkpoint's hash is {found}, and the recipe begins with {expected}",
                folder.display()
            );
            Ok(())
        }
    }
}

/// Tells how the training goes, and draws it.
struct Watch {
    course: Course,
    /// When the curves were last drawn.
    drawn: Option<Instant>,
}

impl Watcher for Watch {
    fn loss(&mut self, report: &TrainingProgress) -> latentrace_train::Result<()> {
        let TrainingProgress { phase, step, steps, loss, elapsed } = report;
        line!("{}: step {step} of {steps}: loss {loss:.5}, {:.0} s", phase.name(), elapsed.as_secs_f64());
        warn(self.course.loss(report));
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW) {
            warn(self.course.draw().map(drop));
            self.drawn = Some(Instant::now());
        }
        Ok(())
    }

    fn checkpoint(&mut self, step: u64, folder: &Path) -> latentrace_train::Result<()> {
        warn(
            self.course.check(step, folder).map(|seen| line!("held-out captions at step {step}: whole {}", seen.whole)),
        );
        Ok(())
    }
}

/// The time between two drawings of the curves.
const DRAW: Duration = Duration::from_secs(20);

/// A log or figure that cannot be written does not stop a training.
fn warn(done: Result<()>) {
    if let Err(error) = done {
        aside!("warning: {error:#}");
    }
}
