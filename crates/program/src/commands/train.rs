//! `latentrace train`: the bundled model, from nothing.

use crate::interrupt;
use crate::printer::{aside, line};
use anyhow::{Context, Result};
use latentrace::files::replace;
use latentrace::pipeline::Choice;
use latentrace::pipeline::nn::{first_cuda, tch::Device};
use latentrace::runs::{Program, hash};
use latentrace_studies::training::Course;
use latentrace_train::{Pace, Recipe, Training, TrainingProgress, Watcher};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Folder for the checkpoint and the state of the training; a stopped training goes on from there
    #[arg(long, default_value = "runs/train-shapes")]
    output: PathBuf,
    /// Seconds between two saved states
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    save_every: u64,
}

impl Train {
    /// Trains and writes the checkpoint.
    pub fn run(self) -> Result<()> {
        let recipe = match &self.recipe {
            Some(path) => Recipe::read(path)?,
            None => Recipe::shapes()?,
        };
        let state = self.output.join("state");
        std::fs::create_dir_all(&state).with_context(|| format!("{}: cannot create", state.display()))?;
        let device = first_cuda().unwrap_or(Device::Cpu);
        let pace = Pace { save: Duration::from_secs(self.save_every), ..Pace::default() };
        let mut watch = Watch { course: Course::read(&self.output)? };
        interrupt::says(format!("the same command goes on from the state in {}", state.display()));
        let training = Training { recipe: &recipe, folder: &state, device, pace };
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

/// Tells how the training goes, and draws it.
struct Watch {
    course: Course,
}

impl Watcher for Watch {
    fn loss(&mut self, report: &TrainingProgress) -> latentrace_train::Result<()> {
        let TrainingProgress { phase, step, steps, loss, elapsed } = report;
        line!("{}: step {step} of {steps}: loss {loss:.5}, {:.0} s", phase.name(), elapsed.as_secs_f64());
        let drawn = self.course.loss(report).and_then(|()| match step.is_multiple_of(DRAW) {
            true => self.course.draw().map(drop),
            false => Ok(()),
        });
        warn(drawn);
        Ok(())
    }

    fn checkpoint(&mut self, step: u64, folder: &Path) -> latentrace_train::Result<()> {
        warn(
            self.course.check(step, folder).map(|seen| line!("held-out captions at step {step}: whole {}", seen.whole)),
        );
        Ok(())
    }
}

/// Steps between two drawings of the curves.
const DRAW: u64 = 100;

/// A log or figure that cannot be written does not stop a training.
fn warn(done: Result<()>) {
    if let Err(error) = done {
        aside!("warning: {error:#}");
    }
}
