//! What the sampler of a class does, exactly and in diffusers.

use crate::levels::Layout;
use crate::options::Options;
use crate::samplers::Path;
use crate::tape::Tape;
use crate::{Error, Level, Prediction, Remark, Schedule, Val};
use serde_json::{Map, Value};
use std::fmt;

/// The sampler of a class with the options that a config gives it.
///
/// A method without `in_diffusers` in its name is the exact reading. One with it is what diffusers does; its default is to do the
/// same.
pub(crate) trait Sampler: fmt::Debug + Send + Sync {
    /// Takes every step of `path` from `x`, and returns the last sample.
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val;

    /// [`Sampler::steps`] in diffusers.
    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        self.steps(tape, x, path)
    }

    /// The whole run. Returns the last sample and its level, by which it is scaled to unit variance.
    fn run(&self, tape: &mut Tape, run: &Run) -> Result<(Val, Level), Error> {
        let x = run.start(tape, run.first());
        Ok((self.steps(tape, x, run.path), Level::CLEAN))
    }

    /// [`Sampler::run`] in diffusers.
    fn run_in_diffusers(&self, tape: &mut Tape, run: &Run) -> Result<(Val, Level), Error> {
        let x = run.start_in_diffusers(tape);
        Ok((self.steps_in_diffusers(tape, x, run.path), run.end))
    }

    /// The levels of a run in diffusers.
    fn levels_in_diffusers(
        &self,
        options: &Options,
        schedule: &Schedule,
        steps: usize,
        layout: &Layout,
    ) -> Result<Vec<Level>, Error> {
        options.grid.levels(schedule, steps, layout)
    }

    /// Checks that diffusers can do what is asked of the sampler.
    fn check_in_diffusers(&self, _: &Asked) -> Result<(), Error> {
        Ok(())
    }

    /// Whether diffusers clips the clean estimate if `clip_sample` or `thresholding` is on.
    fn clips_in_diffusers(&self) -> bool {
        true
    }

    /// A remark on a run of so many network calls.
    fn remark(&self, _calls: usize) -> Option<Remark> {
        None
    }

    /// [`Sampler::remark`] in diffusers.
    fn remark_in_diffusers(&self, _calls: usize) -> Option<Remark> {
        None
    }

    /// How many entries of [`Plan::steps`](crate::Plan::steps) make one step of the sampler, between which samples are of
    /// lower order.
    fn calls_together(&self) -> usize {
        1
    }
}

/// What is asked of a sampler besides its own options.
pub(crate) struct Asked<'a> {
    pub(crate) steps: usize,
    /// The strength, if the run starts from an image.
    pub(crate) strength: Option<f64>,
    /// Whether the run ends without noise.
    pub(crate) ends_clean: bool,
    pub(crate) prediction: Prediction,
    /// The options that were set by [`Config::with`](crate::Config::with).
    pub(crate) overrides: &'a Map<String, Value>,
}

/// A run: its levels, its start and its end.
pub(crate) struct Run<'a> {
    pub(crate) path: Path<'a>,
    /// The number of steps of the whole run.
    pub(crate) steps: usize,
    pub(crate) source: Source,
    /// Whether diffusers starts from noise of variance `sigma²`, and not `sigma² + 1`.
    pub(crate) is_bare: bool,
    /// The level of the last sample in diffusers.
    pub(crate) end: Level,
}

/// What a run starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Noise,
    /// An image with noise added.
    Image,
    /// A sample of its first level.
    Sample,
}

impl Run<'_> {
    /// The first level.
    pub(crate) fn first(&self) -> Level {
        self.path.levels[self.path.begin]
    }

    /// The first sample, as a sample of `level`.
    pub(crate) fn start(&self, tape: &mut Tape, level: Level) -> Val {
        self.start_noised_to(tape, level, level)
    }

    /// The first sample, as a sample of `level`. An image gets the noise of the level `noised`, and is then scaled to `level`.
    pub(crate) fn start_noised_to(&self, tape: &mut Tape, level: Level, noised: Level) -> Val {
        match self.source {
            Source::Sample => tape.given(),
            Source::Noise => {
                let noise = tape.noise();
                tape.sum(noise * (1.0 / level.input_scale()))
            }
            Source::Image => {
                let (image, noise) = (tape.given(), tape.noise());
                tape.sum((image + noise * noised.sigma) * (noised.input_scale() / level.input_scale()))
            }
        }
    }

    /// The first sample in most classes of diffusers.
    pub(crate) fn start_in_diffusers(&self, tape: &mut Tape) -> Val {
        let first = self.first();
        if self.source == Source::Noise && self.is_bare {
            let noise = tape.noise();
            return tape.sum(noise * first.sigma);
        }
        self.start(tape, first)
    }

    /// The end of a run of DDIM or PNDM in diffusers: without noise if `set_alpha_to_one`, otherwise the first training time.
    pub(crate) fn alpha_end(&self, set_alpha_to_one: bool) -> Level {
        if set_alpha_to_one { Level::CLEAN } else { self.path.schedule.level(0.0) }
    }
}
