//! Plans from configs.

use crate::diffusers::{Asked, Run, Source};
use crate::error::shown;
use crate::levels::{Spacing, check_steps};
use crate::options::Options;
use crate::samplers::Path;
use crate::tape::Tape;
use crate::{Config, Error, Level, Plan, Reading};

impl Config {
    /// The plan from noise to latents.
    pub fn plan(&self, steps: usize, reading: Reading) -> Result<Plan, Error> {
        self.build_plan(steps, None, reading)
    }

    /// The plan from an image: the last `strength` of the steps, starting from [`Op::Given`](crate::Op::Given) with noise added up
    /// to the level of the first of them (arXiv 2108.01073). With strength 1 the first sample still contains the image, as far
    /// as the first level is not pure noise.
    ///
    /// diffusers truncates the number of steps. The exact reading uses the strength as it is: the nearest level moves, so that
    /// the first step is never much shorter than the second, which would spoil the weights of a multistep sampler.
    pub fn plan_from_image(&self, steps: usize, strength: f64, reading: Reading) -> Result<Plan, Error> {
        check_steps(steps, self.schedule.len())?;
        let entry = match reading {
            Reading::Exact => Entry::new(strength, steps),
            Reading::Diffusers => Entry::in_diffusers(strength, steps),
        };
        let entry = entry.ok_or(Error::Strength { found: strength, steps })?;
        self.build_plan(steps, Some(entry), reading)
    }

    /// The plan from an image with noise added up to any level, through the levels below it of a run of `steps`. It is always
    /// the exact reading.
    pub fn plan_from_image_at(&self, steps: usize, from: Level) -> Result<Plan, Error> {
        self.plan_below(steps, from, Source::Image)
    }

    /// The plan from a sample `x = x₀ + sigma·noise` at any level, [`Op::Given`](crate::Op::Given), through the levels below it of
    /// a run of `steps`. Multistep samplers begin without a history. diffusers has no such start, so it is always the exact
    /// reading.
    pub fn plan_from_sample(&self, steps: usize, from: Level) -> Result<Plan, Error> {
        self.plan_below(steps, from, Source::Sample)
    }

    fn plan_below(&self, steps: usize, from: Level, source: Source) -> Result<Plan, Error> {
        let below = self.levels(steps)?.into_iter().filter(|level| level.sigma < from.sigma);
        let levels: Vec<Level> = std::iter::once(from).chain(below).collect();
        if levels.len() < 2 || !from.sigma.is_finite() {
            let expected = "a finite sigma with a level below it".into();
            return Err(Error::Value { field: "level".into(), expected, found: from.sigma.to_string() });
        }
        self.exact_plan(&levels, 0, source)
    }

    /// The plan from noise, or from an image if there is an entry.
    fn build_plan(&self, steps: usize, entry: Option<Entry>, reading: Reading) -> Result<Plan, Error> {
        match reading {
            Reading::Diffusers => self.plan_in_diffusers(steps, entry),
            Reading::Exact => {
                let mut levels = self.levels(steps)?;
                let Some(Entry { step, share, .. }) = entry else {
                    return self.exact_plan(&levels, 0, Source::Noise);
                };
                if share != 0.0 {
                    levels[step] = self.options.grid.beside(&levels, step, share, &self.schedule);
                }
                check_entry(&levels, step, steps)?;
                self.exact_plan(&levels, step, Source::Image)
            }
        }
    }

    /// The plan of the exact reading through `levels`, starting at index `begin`.
    fn exact_plan(&self, levels: &[Level], begin: usize, source: Source) -> Result<Plan, Error> {
        let steps = levels.len() - 1;
        let path = Path { levels, begin, counted: steps, schedule: &self.schedule };
        let run = Run { path, steps, source, is_bare: false, end: Level::CLEAN };
        let mut tape = Tape::new(self.options.prediction, self.options.limit);
        let (last, end) = self.options.sampler.run(&mut tape, &run)?;
        tape.finish(last, end)
    }

    /// The plan as diffusers runs it.
    fn plan_in_diffusers(&self, steps: usize, entry: Option<Entry>) -> Result<Plan, Error> {
        self.check_in_diffusers(steps, entry)?;
        let class = self.class.scheduler();
        let Options { grid, prediction, limit, sampler, .. } = &self.options;
        let schedule = self.options.schedule(&class.layout)?;
        let levels = sampler.levels_in_diffusers(&self.options, &schedule, steps, &class.layout)?;
        let begin = entry.map_or(0, |entry| entry.step);
        check_entry(&levels, begin, steps)?;
        let counted = grid.counted(levels.len() - 1, &class.layout);
        let is_at_image_scale = class.is_at_image_scale();
        let run = Run {
            path: Path { levels: &levels, begin, counted, schedule: &schedule },
            steps,
            source: if entry.is_some() { Source::Image } else { Source::Noise },
            is_bare: is_at_image_scale && !matches!(grid.spacing, Spacing::Leading { .. }),
            end: if is_at_image_scale { Level::CLEAN } else { levels[levels.len() - 1] },
        };
        let mut tape = Tape::new(*prediction, limit.filter(|_| sampler.clips_in_diffusers()));
        let (last, end) = sampler.run_in_diffusers(&mut tape, &run)?;
        tape.finish(last, end)
    }

    /// Checks that diffusers can run the config.
    fn check_in_diffusers(&self, steps: usize, entry: Option<Entry>) -> Result<(), Error> {
        let class = self.class.scheduler();
        if class.diffusers.is_none() {
            let reason = "is not in diffusers; the exact reading has it";
            return Err(Error::Unsupported { field: "scheduler class", found: class.name.into(), reason });
        }
        let Options { grid, prediction, betas, sampler, .. } = &self.options;
        sampler.check_in_diffusers(&Asked {
            steps,
            strength: entry.map(|entry| entry.strength),
            ends_clean: grid.ends_clean(&class.layout),
            prediction: *prediction,
            overrides: &self.values.overrides,
        })?;
        let only_exact = |field, found| Err(Error::OnlyExact { field, found, class: self.class });
        let known = self.class.options();
        for known in known.iter().filter(|known| !known.in_diffusers) {
            let (value, _) = self.values.of(known);
            if *value != known.default {
                return only_exact(known.name, shown(value));
            }
        }
        // `trained_betas` replace those of `beta_schedule`.
        let is_read = |field: &str| field != "beta_schedule" || betas.given().is_none();
        for &(field, word) in class.lacks.iter().copied().flatten().filter(|(field, _)| is_read(field)) {
            if known.iter().any(|known| known.name == field && self.values.of(known).0 == word) {
                return only_exact(field, word.into());
            }
        }
        Ok(())
    }
}

/// Where a run from an image starts.
#[derive(Clone, Copy)]
struct Entry {
    /// The index of its first step.
    step: usize,
    /// The share of that step that is left out; below 0, the share of the step before that is added.
    share: f64,
    /// The strength that was asked for.
    strength: f64,
}

impl Entry {
    /// The exact place of a strength.
    fn new(strength: f64, steps: usize) -> Option<Entry> {
        let place = steps as f64 * (1.0 - strength);
        let step = (place.round() as usize).min(steps.checked_sub(1)?);
        // The product can be an integer up to rounding.
        let share = Some(place - step as f64).filter(|share| share.abs() > 1e-9).unwrap_or(0.0);
        Entry { step, share, strength }.checked(steps)
    }

    /// The strength truncated to whole steps.
    fn in_diffusers(strength: f64, steps: usize) -> Option<Entry> {
        let step = steps.checked_sub((steps as f64 * strength) as usize)?;
        Entry { step, share: 0.0, strength }.checked(steps)
    }

    fn checked(self, steps: usize) -> Option<Entry> {
        let is_strength = self.strength > 0.0 && self.strength <= 1.0;
        (is_strength && self.step < steps && self.share < 1.0).then_some(self)
    }
}

/// Checks that a step is left from `begin`: `lambda_min_clipped` can leave fewer levels than steps.
fn check_entry(levels: &[Level], begin: usize, steps: usize) -> Result<(), Error> {
    if begin + 1 < levels.len() {
        return Ok(());
    }
    let found = (steps - begin) as f64 / steps as f64;
    Err(Error::Strength { found, steps: levels.len() - 1 })
}
