//! The loop of every training.

use crate::crew::{Crew, Start};
use crate::error::{Error, Result};
use crate::optimizer::Optimizer;
use crate::recipe::{Phase, Recipe};
use crate::state::State;
use crate::watch::{Pace, TrainingProgress, Watcher};
use latentrace_nn::hold_threads;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One training of a recipe, with its state in a folder.
pub(crate) struct Descent<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) phase: Phase,
    pub(crate) folder: &'a Path,
    pub(crate) pace: Pace,
}

impl Descent<'_> {
    /// Trains to the last step, from the saved state if there is one. `starts` are the parts of every batch; `look` is
    /// called now and then, and does not change the training.
    pub(crate) fn run(
        &self,
        optimizer: &mut Optimizer,
        starts: Vec<Start>,
        watcher: &mut dyn Watcher,
        look: &mut dyn FnMut(&Optimizer, &mut dyn Watcher) -> Result<()>,
    ) -> Result<()> {
        let Some(phase) = self.recipe.phase(self.phase) else { return Ok(()) };
        self.resume(optimizer)?;
        if optimizer.step >= phase.steps {
            return Ok(());
        }
        std::thread::scope(|scope| {
            let _one = hold_threads(1); // the optimizer's sums do not depend on the machine either
            let crew = Crew::start(scope, starts, optimizer);
            let (began, mut saved, mut sum, mut terms) = (Instant::now(), Instant::now(), 0.0, 0);
            while optimizer.step < phase.steps {
                let (loss, gradient) = crew.gradient(optimizer.step)?;
                if !loss.is_finite() {
                    return Err(Error::Diverged { phase: self.phase.name(), step: optimizer.step, loss });
                }
                optimizer.follow(&gradient, phase);
                (sum, terms) = (sum + loss, terms + 1);
                let (step, last) = (optimizer.step, optimizer.step == phase.steps);
                if step.is_multiple_of(self.pace.report) || last {
                    let (loss, elapsed) = (sum / f64::from(terms), began.elapsed());
                    watcher.loss(&TrainingProgress { phase: self.phase, step, steps: phase.steps, loss, elapsed })?;
                    (sum, terms) = (0.0, 0);
                }
                if step == phase.steady_until() && !last {
                    optimizer.save(&self.steady(), Some(&self.recipe.json()))?;
                }
                if saved.elapsed() >= self.pace.save || last {
                    optimizer.save(&self.latest(), Some(&self.recipe.json()))?;
                    saved = Instant::now();
                }
                if step.is_multiple_of(self.pace.checkpoint) && !last {
                    look(optimizer, watcher)?;
                }
            }
            Ok(())
        })
    }

    /// Continues from the saved state, if there is one: the latest, or that before the learning rate fell if only that is
    /// one of this recipe, as for a longer training.
    fn resume(&self, optimizer: &mut Optimizer) -> Result<()> {
        let Some(latest) = State::read(&self.latest())? else { return Ok(()) };
        match self.check(&latest, &self.latest()) {
            Ok(()) => optimizer.restore(&latest),
            Err(refused) => match State::read(&self.steady())? {
                Some(steady) if self.check(&steady, &self.steady()).is_ok() => optimizer.restore(&steady),
                _ => Err(refused),
            },
        }
    }

    fn check(&self, state: &State, path: &Path) -> Result<()> {
        let saved = state
            .recipe
            .as_ref()
            .ok_or_else(|| crate::error::file(path, "the state of no recipe\nhint: another --output"))?;
        self.recipe.check_state(self.phase, saved, state.step, path)
    }

    fn latest(&self) -> PathBuf {
        self.folder.join(format!("{}.safetensors", self.phase.name()))
    }

    fn steady(&self) -> PathBuf {
        self.folder.join(format!("{}-steady.safetensors", self.phase.name()))
    }
}
