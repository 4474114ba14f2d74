//! A scheduler config as diffusers writes it, with the origin of every value, and the plans it
//! gives.

use crate::class::named;
use crate::diffusers::{Asked, Run, Sampler, Source};
use crate::error::shown;
use crate::levels::{Layout, Spacing, check_steps};
use crate::options::{Known, Options, Origin, Reader, TRAINING, Values, known_to, known_to_some_class, object};
use crate::samplers::Path;
use crate::tape::Tape;
use crate::{Class, Error, Level, Plan, Prediction, Reading, Schedule};
use serde_json::{Map, Value};
use std::fmt;

/// A scheduler class with its options.
///
/// A file's value stays with its name when another class reads it, and an absent one takes the
/// default of the class that reads. So the `scheduler_config.json` of Stable Diffusion 1.4, which
/// does not name a `timestep_spacing`, gives PNDM `leading` and LMS `linspace`, as `from_config`
/// does in diffusers; [`Config::values`] tells which came from where.
#[derive(Clone, Debug)]
pub struct Config {
    class: Class,
    values: Values,
    /// What the values say, checked and typed.
    options: Options,
    /// The schedule of the exact reading.
    schedule: Schedule,
}

/// Everything else in a config is computed from its class and values.
impl PartialEq for Config {
    fn eq(&self, other: &Config) -> bool {
        self.class == other.class && self.values == other.values
    }
}

impl Config {
    /// Reads a `scheduler_config.json` for the class it names. Keys that another class reads are allowed, as diffusers
    /// allows them; see [`Config::ignored`]. A key that no class reads is an error, where diffusers goes on with a default.
    pub fn from_json(text: &str) -> Result<Config, Error> {
        Config::from_file(object(text)?)
    }

    fn from_file(file: Map<String, Value>) -> Result<Config, Error> {
        match file.get("_class_name") {
            Some(Value::String(name)) => Config::build_named(&name.clone(), file, Map::new()),
            found => Err(Error::Class { found: found.map_or("no _class_name".into(), shown), nearest: None }),
        }
    }

    /// Reads a `scheduler_config.json`, whatever class it names or not, for the class of `name`.
    pub fn from_json_as(text: &str, name: &str) -> Result<Config, Error> {
        Config::build_named(name, object(text)?, Map::new())
    }

    /// Reads what [`Config::resolved`] wrote.
    pub fn from_resolved(resolved: &Value) -> Result<Config, Error> {
        let Value::Object(all) = resolved else { return Err(Error::Json { found: shown(resolved) }) };
        let (class, _) = named(all.get("_class_name").and_then(Value::as_str).unwrap_or("no _class_name"))?;
        all.keys().filter(|key| !key.starts_with('_')).try_for_each(|key| known_to(class, key))?;
        Config::build(class, Values { file: all.clone(), is_resolved: true, ..Values::default() })
    }

    /// Another file, read for the class that it names. What it does not say of the training (betas, times, prediction) is as
    /// it is here: those belong to the network, and the rest to the sampler.
    pub fn with_file(&self, text: &str) -> Result<Config, Error> {
        let mut file = object(text)?;
        let unchosen = file.get("_use_default_values").and_then(Value::as_array).cloned().unwrap_or_default();
        let says = |file: &Map<String, Value>, key: &str| file.contains_key(key) && !unchosen.contains(&key.into());
        let says_betas = TRAINING.iter().any(|key| key.starts_with("beta_") && says(&file, key));
        for (key, value, _) in self.values().filter(|(key, ..)| TRAINING.contains(key)) {
            // Betas one by one would go before the ends that the file does say.
            if !(says(&file, key) || key == "trained_betas" && says_betas) {
                file.insert(key.into(), value);
            }
        }
        let unchosen = unchosen.into_iter().filter(|name| !TRAINING.iter().any(|key| name == key)).collect();
        file.insert("_use_default_values".into(), Value::Array(unchosen));
        let config = Config::from_file(file)?;
        if self.values.pipeline.is_some() { config.in_pipeline() } else { Ok(config) }
    }

    /// The same file and overrides read by another class, as `from_config` does in diffusers. Of a config
    /// [in a pipeline](Config::in_pipeline) it is `from_config(pipeline.scheduler.config)`.
    pub fn with_class(&self, name: &str) -> Result<Config, Error> {
        let other = Config::build_named(name, self.values.file.clone(), self.values.overrides.clone())?;
        let Some(before) = &self.values.pipeline else { return Ok(other) };
        // What the file says goes on as the pipeline has changed it. What the first class took for a default is listed as one,
        // and the other class takes its own.
        let kept = before.iter().filter(|(key, _)| self.values.in_file(key).is_some());
        let kept: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        other.piped(kept)
    }

    /// The config as `StableDiffusionPipeline` of diffusers 0.42 (and its image-to-image kin) runs it: `steps_offset` is 1 and
    /// `clip_sample` false whatever the file says, with a warning for each, and `eta` is 0 where [`Class::Tcd`] takes 0.3 for its
    /// default. Values that are [set](Config::with) stay, as what is given to `from_config` does.
    ///
    /// The exact reading follows the file: this is for [`Reading::Diffusers`].
    pub fn in_pipeline(&self) -> Result<Config, Error> {
        let mut pipeline = Map::new();
        if self.read_anywhere("steps_offset").is_some_and(|offset| offset != 1) {
            pipeline.insert("steps_offset".into(), 1.into());
        }
        if self.read_anywhere("clip_sample") == Some(Value::Bool(true)) {
            pipeline.insert("clip_sample".into(), false.into());
        }
        self.piped(pipeline)
    }

    /// What the pipeline sets and the class alone would read otherwise: the option, the class's value and the pipeline's.
    pub fn set_by_pipeline(&self) -> Vec<(&'static str, Value, Value)> {
        let known = self.class.options();
        let changed = known.iter().filter_map(|known| match self.values.of(known) {
            (value, Origin::Pipeline) => Some((known.name, self.values.of_class(known).0.clone(), value.clone())),
            _ => None,
        });
        changed.filter(|(_, own, value)| own != value).collect()
    }

    /// The config in a pipeline that sets these values, and the `eta` that it gives to each step.
    fn piped(&self, mut pipeline: Map<String, Value>) -> Result<Config, Error> {
        let takes_eta = |known: &Known| known.name == "eta" && known.in_diffusers && known.default != 0.0;
        if self.class.options().iter().any(takes_eta) && self.values.in_file("eta").is_none() {
            pipeline.insert("eta".into(), 0.0.into());
        }
        Config::build(self.class, Values { pipeline: Some(pipeline), ..self.values.clone() })
    }

    /// What diffusers holds for an option in the scheduler's `config`: its value, or what the file says where the class does not
    /// read it.
    fn read_anywhere(&self, name: &str) -> Option<Value> {
        let default = || self.class.options().into_iter().find(|known| known.name == name && known.in_diffusers);
        self.values.in_file(name).cloned().or_else(|| default().map(|known| known.default))
    }

    /// The config with one value replaced; `null` takes the class's default for `trained_betas`,
    /// `timesteps` and `sigmas`.
    ///
    /// `order` (1 to 4, LMS and IPNDM), `timesteps` and `sigmas` (falling lists), `eta` and `s_churn` are options here, and
    /// arguments in diffusers where it has them.
    pub fn with(&self, key: &str, value: impl Into<Value>) -> Result<Config, Error> {
        self.with_all([(key, value.into())])
    }

    /// The config with some values replaced together: those that go with each other, such as `use_karras_sigmas` and `rho`, in
    /// any order.
    pub fn with_all<K: AsRef<str>>(&self, options: impl IntoIterator<Item = (K, Value)>) -> Result<Config, Error> {
        let mut values = self.values.clone();
        for (key, value) in options {
            known_to(self.class, key.as_ref())?;
            values.overrides.insert(key.as_ref().to_owned(), value);
        }
        Config::build(self.class, values)
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What the network was trained to put out.
    pub fn prediction(&self) -> Prediction {
        self.options.prediction
    }

    /// Every option that the class reads, with its value and where that comes from.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, Value, Origin)> + '_ {
        self.class.options().into_iter().map(|known| {
            let (value, origin) = self.values.of(&known);
            (known.name, value.clone(), origin)
        })
    }

    /// Every option with its value, wherever it comes from, as JSON that [`Config::from_resolved`] reads again.
    ///
    /// As a `scheduler_config.json` it would lose the options that diffusers has not, which are not read from files.
    pub fn resolved(&self) -> Value {
        let class = ("_class_name".to_owned(), Value::String(self.class.to_string()));
        let values = self.values().map(|(name, value, _)| (name.to_owned(), value));
        Value::Object(std::iter::once(class).chain(values).collect())
    }

    /// The keys of the file that the class does not read.
    pub fn ignored(&self) -> impl Iterator<Item = &str> {
        let known = self.class.options();
        let read =
            move |key: &str| key.starts_with('_') || known.iter().any(|known| known.in_diffusers && known.name == key);
        self.values.file.keys().map(String::as_str).filter(move |key| !read(key))
    }

    /// The training noise schedule in double precision.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The training noise schedule as a reading keeps it: in single precision where that is diffusers.
    ///
    /// # Errors
    /// Single precision cannot hold it.
    pub fn schedule_in(&self, reading: Reading) -> Result<Schedule, Error> {
        self.options.schedule(&self.layout(reading))
    }

    /// The levels of so many steps in double precision, then [`Level::CLEAN`].
    pub fn levels(&self, steps: usize) -> Result<Vec<Level>, Error> {
        self.options.grid.levels(&self.schedule, steps, &self.layout(Reading::Exact))
    }

    /// The plan from noise to latents.
    pub fn plan(&self, steps: usize, reading: Reading) -> Result<Plan, Error> {
        self.build_plan(steps, None, reading)
    }

    /// The plan from an image: the last `strength` of the steps, from [`Op::Given`](crate::Op::Given) noised to the level of
    /// the first of them (arXiv 2108.01073). With 1, the image still shows through as much as the first level lets it.
    ///
    /// diffusers cuts the number of steps off to a whole one. The exact reading takes any strength for what it is: the nearest
    /// level is moved to its share of the way from one level to the next, so that no first step is much shorter than the
    /// second, which a multistep sampler's weights would not bear.
    pub fn plan_from_image(&self, steps: usize, strength: f64, reading: Reading) -> Result<Plan, Error> {
        check_steps(steps, self.schedule.len())?;
        let entry = match reading {
            Reading::Exact => Entry::new(strength, steps),
            Reading::Diffusers => Entry::in_diffusers(strength, steps),
        };
        let entry = entry.ok_or(Error::Strength { found: strength, steps })?;
        self.build_plan(steps, Some(entry), reading)
    }

    /// The plan from an image noised to any level, through those levels of so many steps that lie below it; always
    /// [`Reading::Exact`].
    pub fn plan_from_image_at(&self, steps: usize, from: Level) -> Result<Plan, Error> {
        self.plan_below(steps, from, Source::Image)
    }

    /// The plan from a sample `x = x₀ + sigma·noise` at some level, [`Op::Given`](crate::Op::Given), through those
    /// levels of so many steps that lie below it. Multistep samplers begin without a history. There
    /// is nothing like it in diffusers, so this is always [`Reading::Exact`].
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

    /// How many steps of the plan make one of the sampler's, between which it holds samples of lower orders.
    pub(crate) fn calls_together(&self) -> usize {
        self.sampler().calls_together()
    }

    pub(crate) fn sampler(&self) -> &dyn Sampler {
        &*self.options.sampler
    }

    fn layout(&self, reading: Reading) -> Layout {
        self.class.scheduler().layout(reading)
    }

    /// From noise, or from where an image enters.
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

    /// The plan of the exact reading through `levels` from the one at `begin`.
    fn exact_plan(&self, levels: &[Level], begin: usize, source: Source) -> Result<Plan, Error> {
        let steps = levels.len() - 1;
        let path = Path { levels, begin, counted: steps, schedule: &self.schedule };
        let run = Run { path, steps, source, is_bare: false, end: Level::CLEAN };
        let mut tape = Tape::new(self.options.prediction, self.options.limit);
        let (last, end) = self.sampler().run(&mut tape, &run)?;
        tape.finish(last, end)
    }

    fn plan_in_diffusers(&self, steps: usize, entry: Option<Entry>) -> Result<Plan, Error> {
        self.check_in_diffusers(steps, entry)?;
        let (class, sampler) = (self.class.scheduler(), self.sampler());
        let Options { grid, prediction, limit, .. } = &self.options;
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

    /// Checks that diffusers can run what the config says.
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
        // Betas one by one replace those of `beta_schedule`.
        let is_read = |field: &str| field != "beta_schedule" || betas.given().is_none();
        for &(field, word) in class.lacks.iter().copied().flatten().filter(|(field, _)| is_read(field)) {
            if known.iter().any(|known| known.name == field && self.values.of(known).0 == word) {
                return only_exact(field, word.into());
            }
        }
        Ok(())
    }

    fn build_named(name: &str, file: Map<String, Value>, overrides: Map<String, Value>) -> Result<Config, Error> {
        let (class, preset) = named(name)?;
        let name = preset.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Config::build(class, Values { file, name, overrides, ..Values::default() })
    }

    fn build(class: Class, values: Values) -> Result<Config, Error> {
        let known = class.options();
        let read = Reader { known: &known, values: &values };
        for (key, value) in values.file.iter().filter(|(key, _)| !read.has(key)) {
            known_to_some_class(key, value)?;
        }
        let options = Options::read(class, &read)?;
        let layout = |reading| class.scheduler().layout(reading);
        options.schedule(&layout(Reading::Diffusers))?;
        let schedule = options.schedule(&layout(Reading::Exact))?;
        Ok(Config { class, values, options, schedule })
    }
}

/// Where an image enters a run.
#[derive(Clone, Copy)]
struct Entry {
    /// The step that it enters at.
    step: usize,
    /// The share of that step that is left out; below 0, the share of the step before that is added.
    share: f64,
    /// What was asked for.
    strength: f64,
}

impl Entry {
    /// Where a strength says.
    fn new(strength: f64, steps: usize) -> Option<Entry> {
        let place = steps as f64 * (1.0 - strength);
        let step = (place.round() as usize).min(steps.checked_sub(1)?);
        // The product may round next to an integer.
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

/// The class, then one option a line with its origin.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        for (name, value, origin) in self.values() {
            let origin = format!("{origin:?}").to_lowercase();
            write!(f, "\n  {name:<28} {:<20} {origin}", shown(&value))?;
        }
        Ok(())
    }
}
