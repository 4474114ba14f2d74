//! A scheduler config as diffusers writes it, with the origin of every value, and the plans it
//! gives.

use crate::class::{Family, named};
use crate::defaults::{TRAINING, known_to, known_to_some_class};
use crate::error::shown;
use crate::options::Options;
use crate::samplers::{
    Path, Sampler, Solver, Times, ddim, ddim_inverse, inversion, ipndm_levels, ipndm_of_diffusers, pndm_of_diffusers,
};
use crate::spacing::{Spacing, check_steps};
use crate::tape::Tape;
use crate::values::{Origin, Values, object};
use crate::{Class, Error, Level, Plan, Prediction, Reading, Schedule, Val};
use serde_json::{Map, Value};
use std::fmt;

/// A scheduler class with its options.
///
/// A file's value stays with its name when another class reads it, and an absent one takes the
/// default of the class that reads. So the `scheduler_config.json` of Stable Diffusion 1.4, which
/// does not name a `timestep_spacing`, gives PNDM `leading` and LMS `linspace`, as `from_config`
/// does in diffusers; [`Config::values`] tells which came from where.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    class: Class,
    values: Values,
    options: Options,
    schedule: Schedule,
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
        if self.class == Class::Tcd && self.values.in_file("eta").is_none() {
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
        self.options.schedule(reading)
    }

    /// The levels of so many steps in double precision, then [`Level::CLEAN`].
    pub fn levels(&self, steps: usize) -> Result<Vec<Level>, Error> {
        self.options.grid.levels(&self.schedule, steps, Reading::Exact)
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
        let refused = || Error::Strength { found: strength, steps };
        let entry = Entry::of_strength(strength, steps, reading).ok_or_else(refused)?;
        if reading == Reading::Diffusers && self.class.has_own_levels() {
            let reason =
                "is a run from an image, to which diffusers' IPNDMScheduler cannot add noise; the exact reading can";
            return Err(Error::Unsupported { field: "strength", found: strength.to_string(), reason });
        }
        self.build_plan(steps, Some(entry), reading)
    }

    /// The plan from an image noised to any level, through those levels of so many steps that lie below it; always
    /// [`Reading::Exact`].
    pub fn plan_from_image_at(&self, steps: usize, from: Level) -> Result<Plan, Error> {
        self.plan_below(steps, from, |tape| {
            let (image, noise) = (tape.given(), tape.noise());
            tape.sum(image + noise * from.sigma)
        })
    }

    /// The plan from a sample `x = x₀ + sigma·noise` at some level, [`Op::Given`](crate::Op::Given), through those
    /// levels of so many steps that lie below it. Multistep samplers begin without a history. There
    /// is nothing like it in diffusers, so this is always [`Reading::Exact`].
    pub fn plan_from_sample(&self, steps: usize, from: Level) -> Result<Plan, Error> {
        self.plan_below(steps, from, Tape::given)
    }

    fn plan_below(&self, steps: usize, from: Level, start: impl Fn(&mut Tape) -> Val) -> Result<Plan, Error> {
        if matches!(self.options.sampler, Sampler::DdimInverse { .. }) {
            return Err(Error::Inverse);
        }
        let below = self.levels(steps)?.into_iter().filter(|level| level.sigma < from.sigma);
        let levels: Vec<Level> = std::iter::once(from).chain(below).collect();
        if levels.len() < 2 || !from.sigma.is_finite() {
            let expected = "a finite sigma with a level below it".into();
            return Err(Error::Value { field: "level".into(), expected, found: from.sigma.to_string() });
        }
        let mut tape = self.tape(Reading::Exact);
        let sample = start(&mut tape);
        let path = Path {
            levels: &levels,
            begin: 0,
            counted: levels.len() - 1,
            schedule: &self.schedule,
            reading: Reading::Exact,
        };
        let last = self.options.sampler.walk(&mut tape, sample, path);
        tape.finish(last, Level::CLEAN)
    }

    /// How many steps of the plan make one of the solver's, between which it holds samples of lower orders.
    pub(crate) fn calls_together(&self) -> usize {
        match self.options.sampler {
            Sampler::Singlestep { order, .. } => order,
            Sampler::DpmFast { .. } => 3,
            _ => 1,
        }
    }

    /// The multistep DPM-Solver of so many steps, if any of them is of third order.
    pub(crate) fn third_order_of(&self, steps: usize) -> Option<Solver> {
        match self.options.sampler {
            Sampler::Multistep { solver, order: 3, ending } => Some(solver).filter(|_| ending.reaches_third(steps)),
            _ => None,
        }
    }

    fn tape(&self, reading: Reading) -> Tape {
        Tape::new(self.options.prediction, self.options.limit(reading))
    }

    /// From noise, or from where an image enters.
    fn build_plan(&self, steps: usize, entry: Option<Entry>, reading: Reading) -> Result<Plan, Error> {
        self.check(steps, reading)?;
        let schedule = self.options.schedule(reading)?;
        let of_diffusers = reading == Reading::Diffusers;
        let has_own_levels = of_diffusers && self.class.has_own_levels();
        let Entry { step: begin, share } = entry.unwrap_or_default();
        let mut levels = match has_own_levels {
            true => ipndm_levels(steps, schedule.len(), self.options.betas.given())?,
            false => self.options.grid.levels(&schedule, steps, reading)?,
        };
        if share != 0.0 {
            levels[begin] = self.options.grid.beside(&levels, begin, share, &schedule);
        }
        // Where the noisiest times are left out there are fewer levels than steps were asked for.
        if begin + 1 >= levels.len() {
            let found = (steps - begin) as f64 / steps as f64;
            return Err(Error::Strength { found, steps: levels.len() - 1 });
        }
        let counted = self.options.grid.counted(levels.len() - 1, reading);
        let path = Path { levels: &levels, begin, counted, schedule: &schedule, reading };
        let mut tape = self.tape(reading);
        let start = |tape: &mut Tape, level| self.start(tape, level, &schedule, entry.is_some(), reading);
        // The first training time's noise is left in the image, unless asked otherwise.
        let end = |to_clean: bool| if to_clean { Level::CLEAN } else { schedule.level(0.0) };
        let stride = (schedule.len() / steps) as f64;
        let (last, end) = match self.options.sampler {
            Sampler::Pndm { warm_up, to_clean } if of_diffusers => {
                let list: Vec<f64> = levels[..steps].iter().map(|level| level.t).collect();
                let times = Times::new(&list, schedule.len(), warm_up)?;
                let x = start(&mut tape, schedule.level(times.calls[begin] as f64));
                pndm_of_diffusers(&mut tape, x, &times, begin, &schedule, end(to_clean))?
            }
            Sampler::Ddim { eta, to_clean } if of_diffusers => {
                let x = start(&mut tape, levels[begin]);
                ddim(&mut tape, x, &levels[begin..], eta, stride, &schedule, end(to_clean))?
            }
            Sampler::DdimInverse { .. } if entry.is_some() => return Err(Error::Inverse),
            Sampler::DdimInverse { from_clean } => {
                inverted(&mut tape, &levels[..steps], stride, &schedule, end(from_clean), reading)
            }
            _ if has_own_levels => {
                let x = start(&mut tape, levels[0]);
                (ipndm_of_diffusers(&mut tape, x, &levels), levels[steps])
            }
            _ => {
                let x = start(&mut tape, levels[begin]);
                let end = match (reading, self.class.family()) {
                    (Reading::Diffusers, Family::Whole | Family::Dropped) => levels[levels.len() - 1],
                    _ => Level::CLEAN,
                };
                (self.options.sampler.walk(&mut tape, x, path), end)
            }
        };
        tape.finish(last, end)
    }

    /// The first sample: the image with noise added, or noise alone.
    fn start(&self, tape: &mut Tape, level: Level, schedule: &Schedule, from_image: bool, reading: Reading) -> Val {
        if from_image {
            let (image, noise) = (tape.given(), tape.noise());
            // SASolver adds the noise of the time that the network is told, whatever the level's own is.
            let is_stale = reading == Reading::Diffusers && matches!(self.options.sampler, Sampler::SaSolver(_));
            let at = if is_stale { schedule.level(level.t) } else { level };
            return tape.sum((image + noise * at.sigma) * (at.input_scale() / level.input_scale()));
        }
        let bare = !matches!(self.options.grid.spacing, Spacing::Leading { .. });
        let is_at_scale = self.class.family() == Family::Fractional && !self.class.has_own_levels();
        let is_bare = reading == Reading::Diffusers && is_at_scale && bare;
        let deviation = if is_bare { level.sigma } else { 1.0 / level.input_scale() };
        let noise = tape.noise();
        tape.sum(noise * deviation)
    }

    /// Holds that a reading can run what the config says.
    fn check(&self, steps: usize, reading: Reading) -> Result<(), Error> {
        self.options.check(self.class, steps, reading)?;
        if reading == Reading::Exact {
            return Ok(());
        }
        // What is not in diffusers has no reading of diffusers, unless it is left as it is.
        for known in self.class.options().into_iter().filter(|known| !known.in_diffusers) {
            let (value, _) = self.values.of(&known);
            if *value != known.default {
                return Err(Error::OnlyExact { field: known.name, found: shown(value), class: self.class });
            }
        }
        if self.class.has_own_levels() {
            return self.check_own_levels();
        }
        if self.options.grid.spacing == Spacing::AlignYourSteps {
            return Err(Error::OnlyExact { field: "timestep_spacing", found: "ays".into(), class: self.class });
        }
        if let Some(name) = self.options.betas.name().filter(|name| !self.class.takes_betas(name)) {
            return Err(Error::OnlyExact { field: "beta_schedule", found: name.into(), class: self.class });
        }
        if self.options.prediction == Prediction::Sample && !self.class.takes_samples() {
            return Err(Error::OnlyExact { field: "prediction_type", found: "sample".into(), class: self.class });
        }
        Ok(())
    }

    /// Holds that nothing is asked of a class with levels of its own that it would leave out. What a file tells of the
    /// training it does leave out.
    fn check_own_levels(&self) -> Result<(), Error> {
        let unread = ["beta_start", "beta_end", "beta_schedule", "timestep_spacing", "steps_offset"];
        if let Some((field, value)) = unread.iter().find_map(|name| Some((*name, self.values.overrides.get(*name)?))) {
            return Err(Error::OnlyExact { field, found: shown(value), class: self.class });
        }
        let found = match self.options.prediction {
            Prediction::Velocity => return Ok(()),
            Prediction::Epsilon => "epsilon",
            Prediction::Sample => "sample",
        };
        let reason = "is taken for v_prediction by diffusers' IPNDMScheduler; v_prediction works, and the exact reading takes each for what it is";
        Err(Error::Unsupported { field: "prediction_type", found: found.into(), reason })
    }

    fn build_named(name: &str, file: Map<String, Value>, overrides: Map<String, Value>) -> Result<Config, Error> {
        let (class, preset) = named(name)?;
        let name = preset.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Config::build(class, Values { file, name, overrides, ..Values::default() })
    }

    fn build(class: Class, values: Values) -> Result<Config, Error> {
        let known = class.options();
        let find = |name: &str| known.iter().find(|known| known.name == name);
        for (key, value) in values.file.iter().filter(|(key, _)| find(key).is_none()) {
            known_to_some_class(key, value)?;
        }
        let value = |name: &str| find(name).map_or(Value::Null, |known| values.of(known).0.clone());
        let options = Options::read(class, &value, &|name| find(name).is_some())?;
        options.schedule(Reading::Diffusers)?;
        let schedule = options.schedule(Reading::Exact)?;
        Ok(Config { class, values, options, schedule })
    }
}

/// Where an image enters a run.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// The step that it enters at.
    step: usize,
    /// How much of that step is left out; below 0, how much of the step before comes with it.
    share: f64,
}

impl Entry {
    fn of_strength(strength: f64, steps: usize, reading: Reading) -> Option<Entry> {
        let entry = match reading {
            Reading::Diffusers => Entry { step: steps.checked_sub((steps as f64 * strength) as usize)?, share: 0.0 },
            Reading::Exact => {
                let place = steps as f64 * (1.0 - strength);
                let step = (place.round() as usize).min(steps.checked_sub(1)?);
                // A whole number of steps is one up to the rounding of that product.
                let share = Some(place - step as f64).filter(|share| share.abs() > 1e-9);
                Entry { step, share: share.unwrap_or(0.0) }
            }
        };
        (strength > 0.0 && strength <= 1.0 && entry.step < steps && entry.share < 1.0).then_some(entry)
    }
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

/// Walks levels up from an image; ends on the sample and its level.
fn inverted(
    tape: &mut Tape,
    levels: &[Level],
    stride: f64,
    schedule: &Schedule,
    start: Level,
    reading: Reading,
) -> (Val, Level) {
    let image = tape.given();
    let up = levels.iter().rev().copied();
    if reading == Reading::Diffusers {
        return ddim_inverse(tape, image, &up.collect::<Vec<_>>(), stride, schedule, start);
    }
    // From the first training time, which is as clean as a level with a slope can be.
    let least = schedule.level(0.0);
    let above = up.filter(|level| level.sigma > least.sigma);
    let up: Vec<Level> = std::iter::once(least).chain(above).collect();
    (inversion(tape, image, &up), up[up.len() - 1])
}
