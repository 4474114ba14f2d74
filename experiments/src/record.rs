//! One run, recorded.

use crate::cell::Cell;
use crate::description::{Description, Fork, Phase, Settings, up_to};
use crate::rules::{self, Does, Fires};
use anyhow::{Context, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::nn::{Both, Conditioning, Moment, Part, Pass, Probe, Role, SamplerValue, Tap};
use latentrace_pipeline::{Model, Outcome, Outputs, Picture, Request, Start};
use latentrace_plot::RgbImage;
use latentrace_trace::{Capture, Course, EditRule, Edits, Layout, Playback, Recorder, Rule, Trace, Words, Writer};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A run to be made and recorded.
pub struct Job<'a> {
    model: &'a Model,
    request: Request,
    start: Start,
    /// A record, and how many of its calls are taken over.
    past: Option<(&'a Trace, usize)>,
    description: Description,
    /// What the record says that the run goes on from: its rules were not given to this command.
    before: Option<Description>,
}

/// A run and its record.
pub struct Recorded {
    /// What came of it.
    pub outcome: Outcome,
    /// The record.
    pub trace: Trace,
    /// What it was.
    pub description: Description,
    /// How long it took.
    pub elapsed: Duration,
    /// How many tensors the byte budget kept out.
    pub beyond_budget: u64,
    /// Whether it was made in a batch with others.
    pub together: bool,
}

impl<'a> Job<'a> {
    /// A run from noise.
    pub fn new(model: &'a Model, cell: &Cell) -> Result<Job<'a>> {
        let request = cell.request(model)?;
        let start = match (cell.picture(request.size)?, cell.picture_strength()) {
            (Some(picture), Some(strength)) => Start::Picture { strength, picture },
            _ => Start::Noise,
        };
        let description = Description::new(model, cell, &request, &start)?;
        Ok(Job { model, request, start, past: None, description, before: None })
    }

    /// A run that goes on from a call of another, with what `change` makes of its cell. With another scheduler, reading or
    /// number of steps it begins at the sample of that call, and edits of the other run that count its steps are left out;
    /// they are returned besides.
    pub fn fork(
        model: &'a Model,
        trace: &'a Trace,
        call: usize,
        change: impl FnOnce(&Cell) -> Cell,
    ) -> Result<(Job<'a>, Vec<String>)> {
        let before = of_whole(trace, model)?;
        let mut cell = change(&before.cell);
        let request = request(model, &cell, &before)?;
        let folder = std::path::absolute(trace.folder())?;
        let mut fork = Fork { trace: folder, relative: None, call, level: None, past: Some(Vec::new()) };
        let same = (request.scheduler.resolved(), request.steps, request.reading)
            == (before.scheduler.clone(), before.cell.steps, before.cell.reading);
        let mut left_out = Vec::new();
        let (start, past) = if same {
            fork.past = Some(past(&before, trace, call)?);
            fork.level = before.fork.as_ref().and_then(|fork| fork.level); // its own beginning is a sample of an earlier run
            (start(trace, &before)?, Some((trace, call)))
        } else {
            let inherited = before.cell.edits.len().min(cell.edits.len());
            (left_out, cell.edits) = without_steps(cell.edits, inherited)?;
            let plan = before.plan()?;
            let level =
                plan.steps().get(call).with_context(|| format!("call {call}: the run has {}", plan.calls()))?.level;
            fork.level = Some(level);
            let sample = trace.value(SamplerValue::Sample, call)?.to_device(model.device);
            (Start::Sample { level, sample }, None)
        };
        let mut description = Description::new(model, &cell, &request, &start)?;
        description.fork = Some(fork);
        description.image.clone_from(&before.image); // the run begins with its latents, wherever the picture is now
        Ok((Job { model, request, start, past, description, before: Some(before) }, left_out))
    }

    /// The rest of a run that was cut off. Of a fork that was cut off before its own first call, `taken_over` holds all that
    /// it takes over.
    pub fn resume(model: &'a Model, trace: &'a Trace, taken_over: Option<&'a Trace>) -> Result<Job<'a>> {
        let description = of_whole(trace, model)?;
        let request = request(model, &description.cell, &description)?;
        let start = start(trace, &description)?;
        let past = taken_over.unwrap_or(trace);
        let before = Some(description.clone());
        Ok(Job { model, request, start, past: Some((past, past.complete())), description, before })
    }

    /// What is kept besides the sampler's values.
    pub fn capturing(mut self, rules: &[String], budget: Option<u64>) -> Job<'a> {
        self.description.capture = rules.to_vec();
        self.description.budget = budget;
        self
    }

    /// The picture that the run starts from, brought to size.
    pub fn picture(&self) -> Option<&Picture> {
        match &self.start {
            Start::Picture { picture, .. } => Some(picture),
            _ => None,
        }
    }

    /// What the run is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// How many calls of the network are left to make.
    pub fn calls(&self) -> usize {
        self.description.calls - self.past.map_or(0, |(_, calls)| calls)
    }

    /// Checks before anything is computed or written that the run can follow its rules, and that those that were given
    /// to this command have something to do: not those that came with a record, which may lie in what is over.
    pub fn check(&self) -> Result<Fires> {
        let inherited = |does, rule: &str| {
            self.before.as_ref().is_some_and(|before| match does {
                Does::Keep => before.capture.iter().any(|known| known == rule),
                Does::Change => before.cell.edits.iter().any(|known| known == rule),
                Does::Guide => before.cell.guidance == self.description.cell.guidance,
            })
        };
        self.foresee()?.check(inherited)
    }

    /// How often each rule will fire.
    pub fn foresee(&self) -> Result<Fires> {
        let fires = Fires::of(self)?;
        self.capture(&fires)?;
        self.edits(&fires)?;
        Ok(fires)
    }

    /// What will pass.
    pub fn course(&self) -> Result<Course> {
        let from = self.past.map_or(0, |(_, calls)| calls);
        let Description { cell, .. } = &self.description;
        rules::course(self.model, &self.request, &self.start, self.description.words(), cell.options(), from)
    }

    /// Makes the run, recording it into a new folder; `bar` ticks once for every network call.
    pub fn record(mut self, folder: &Path, layout: Layout, bar: &ProgressBar) -> Result<Recorded> {
        let fires = self.foresee()?;
        self.description.fires = fires.counts();
        self.description.seen_from(folder);
        let run = serde_json::to_value(&self.description)?;
        let writer = Writer::create(folder, &run, layout)?;
        self.into_writer(folder, writer, &fires, bar)
    }

    /// Makes the rest of a run into its own folder.
    pub fn record_on(self, trace: &Trace, bar: &ProgressBar) -> Result<Recorded> {
        let fires = self.check()?;
        fires.say_what_is_over();
        let writer = Writer::append(trace, Layout::LIVE)?;
        self.into_writer(trace.folder(), writer, &fires, bar)
    }

    /// The outcome of a run whose calls are all in its record: no network is called but the decoder.
    pub fn again(self) -> Result<Recorded> {
        self.foresee()?;
        let Some((trace, calls)) = self.past else { return Err(anyhow!("a run that has no record yet")) };
        let began = Instant::now();
        let outputs = outputs(trace, calls, self.model)?;
        // What is before the decoder is played back as it was edited.
        let of_decoder: Vec<Tap> =
            self.model.taps.iter().filter(|tap| tap.role().part() == Some(Part::Vae)).cloned().collect();
        let edits = edits_at(&self.description.cell.edits, &of_decoder, &self.description.words(), self.steps()?)?;
        let mut probe = Both(Playback::new(trace, calls), edits);
        let outcome = self.model.go_on(&self.request, &self.start, &outputs, &mut Pass::watched(&mut probe));
        probe.0.outcome()?;
        probe.1.outcome()?;
        let beyond_budget = trace.end().map_or(0, |end| end.beyond_budget);
        let trace = Trace::open(trace.folder())?;
        let elapsed = began.elapsed();
        let outcome = outcome?;
        Ok(Recorded { outcome, trace, description: self.description, elapsed, beyond_budget, together: false })
    }

    fn into_writer(self, folder: &Path, writer: Writer, fires: &Fires, bar: &ProgressBar) -> Result<Recorded> {
        let (model, calls) = (self.model, self.past.map_or(0, |(_, calls)| calls));
        let began = Instant::now();
        let recorder =
            Recorder::new(&self.capture(fires)?, &model.taps, self.description.words(), self.steps()?, writer)?;
        let outputs = match self.past {
            Some((trace, calls)) => outputs(trace, calls, model)?,
            None => Vec::new(),
        };
        let playback = self.past.map(|(trace, calls)| Playback::new(trace, calls));
        let mut edits = Both(Maybe(playback), self.edits(fires)?.beginning_at(calls));
        let mut probe = Both(&mut edits, Both(recorder, Tick { bar, from: calls }));
        let run = model.go_on(&self.request, &self.start, &outputs, &mut Pass::watched(&mut probe));
        let Both(recorder, _) = probe.1;
        let failed = edits.1.outcome().and(edits.0.0.as_mut().map_or(Ok(()), Playback::outcome)).err();
        let outcome = failed.map_or(run.map_err(anyhow::Error::from), |error| Err(error.into()));
        let error = outcome.as_ref().err().map(|error| error.to_string());
        // A record that cannot be written stops its run, and so is the cause of what the run says.
        let ended = recorder.end(error).map_err(|error| cannot_write(folder, &error));
        let stopped = |error: anyhow::Error| error.context(kept(folder, self.description.calls));
        let beyond_budget = ended.map_err(stopped)?;
        let outcome = outcome.map_err(stopped)?;
        let trace = Trace::open(folder)?;
        let elapsed = began.elapsed();
        Ok(Recorded { outcome, trace, description: self.description, elapsed, beyond_budget, together: false })
    }

    /// Whether the run can be made in one batch with others: nothing looks into a network or changes what passes there.
    pub fn can_share(&self) -> bool {
        self.past.is_none() && self.description.capture.is_empty() && self.description.cell.edits.is_empty()
    }

    /// The request and its start, for who counts what it will cost.
    pub fn asked(&self) -> (&Request, &Start) {
        (&self.request, &self.start)
    }

    /// The rules that keep something.
    fn capture(&self, fires: &Fires) -> Result<Capture> {
        let rules = Fires::firing(&self.description.capture, &fires.capture).map(|text| Rule::parse(text));
        Ok(Capture { rules: rules.collect::<Result<_, _>>()?, budget: self.description.budget })
    }

    /// The edits that change something.
    fn edits(&self, fires: &Fires) -> Result<Edits> {
        let firing = Fires::firing(&self.description.cell.edits, &fires.edits).map(|text| EditRule::parse(text));
        Ok(Edits::new(
            &firing.collect::<Result<Vec<_>, _>>()?,
            &self.model.taps,
            self.description.words(),
            self.steps()?,
        )?)
    }

    /// How many steps the run makes: from a picture, fewer than were asked for.
    fn steps(&self) -> Result<usize> {
        Ok(rules::steps(&self.start.plan(&self.request)?))
    }
}

/// Makes runs of one plan and size in one batch, each recorded into its own new folder; gives also how many rows the
/// network computed.
pub fn record_together(jobs: Vec<Job>, folders: &[PathBuf], bar: &ProgressBar) -> Result<(Vec<Recorded>, usize)> {
    let Some(model) = jobs.first().map(|job| job.model) else { return Ok((Vec::new(), 0)) };
    let began = Instant::now();
    let mut recorders = Vec::new();
    for (job, folder) in jobs.iter().zip(folders) {
        let mut description = Description { fires: job.foresee()?.counts(), ..job.description.clone() };
        description.seen_from(folder);
        let writer = Writer::create(folder, &serde_json::to_value(&description)?, Layout::WHOLE)?;
        let words = description.words();
        recorders.push(Recorder::new(&Capture::default(), &model.taps, words, job.steps()?, writer)?);
    }
    let mut probe = Both(Fan { recorders }, Tick { bar, from: 0 });
    let images: Vec<(&Request, &Start)> = jobs.iter().map(Job::asked).collect();
    let together = model.run_together(&images, &mut Pass::watched(&mut probe))?;
    let elapsed = began.elapsed().div_f64(jobs.len() as f64); // each has its share
    let ends = probe.0.recorders.into_iter().map(|recorder| recorder.end(None)).collect::<Result<Vec<_>, _>>()?;
    let recorded = together.outcomes.into_iter().zip(jobs).zip(ends).zip(folders);
    let recorded = recorded.map(|(((outcome, job), beyond_budget), folder)| {
        let trace = Trace::open(folder)?;
        Ok(Recorded { outcome, trace, description: job.description, elapsed, beyond_budget, together: true })
    });
    Ok((recorded.collect::<Result<_>>()?, together.evaluations))
}

/// A recorder for each image of a batch.
struct Fan {
    recorders: Vec<Recorder>,
}

impl Probe for Fan {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        let own = Moment { image: 0, ..*moment };
        self.recorders.get(moment.image).is_some_and(|recorder| recorder.wants(tap, &own))
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        match self.recorders.get_mut(moment.image) {
            Some(recorder) => recorder.visit(tap, Moment { image: 0, ..moment }, tensor),
            None => tensor,
        }
    }

    fn stop(&mut self, moment: &Moment) -> Option<String> {
        self.recorders.iter_mut().find_map(|recorder| recorder.stop(moment))
    }
}

/// What a record says of its run, if the record may be gone on with and the model is of its kind; its edits read their
/// records where these are now.
pub fn of_whole(trace: &Trace, model: &Model) -> Result<Description> {
    trace.check_idle()?;
    trace.check_run()?;
    let mut description = Description::of(trace)?;
    description.check_model(model)?;
    description.cell.edits = description.edits(&description.cell, trace.folder())?;
    Ok(description)
}

/// What is asked of a model by a cell of a run that goes on from another: the scheduler is the other's, to the last option,
/// unless the cell names one.
pub fn request(model: &Model, cell: &Cell, before: &Description) -> Result<Request> {
    let mut request = cell.request(model)?;
    let chosen = |cell: &Cell| (cell.sampler.clone(), cell.scheduler.clone(), cell.spacing.clone());
    if chosen(cell) == chosen(&before.cell) {
        request.scheduler = before.request()?.scheduler;
    }
    Ok(request)
}

/// The calls that a fork takes over, by the settings that they were made with.
fn past(before: &Description, trace: &Trace, call: usize) -> Result<Vec<Phase>> {
    let mut past = up_to(before.phases(), call);
    for phase in &mut past {
        phase.until = phase.until.min(call);
        if let Some(Settings { cell, .. }) = &mut phase.settings {
            cell.edits = before.edits(cell, trace.folder())?;
        }
    }
    Ok(past)
}

/// Edits of which the first few, which are those of another run, count no steps; and those that did.
fn without_steps(edits: Vec<String>, inherited: usize) -> Result<(Vec<String>, Vec<String>)> {
    let (mut left_out, mut kept) = (Vec::new(), Vec::new());
    for (index, edit) in edits.into_iter().enumerate() {
        let counts = index < inherited && EditRule::parse(&edit)?.counts_steps();
        if counts { left_out.push(edit) } else { kept.push(edit) }
    }
    Ok((left_out, kept))
}

/// The edits that select some of these taps.
pub fn edits_at(rules: &[String], taps: &[Tap], words: &Words, steps: usize) -> Result<Edits> {
    let rules: Vec<EditRule> = rules.iter().map(|text| EditRule::parse(text)).collect::<Result<_, _>>()?;
    let fits = |rule: &&EditRule| Edits::new(std::slice::from_ref(*rule), taps, words.clone(), steps).is_ok();
    let rules: Vec<EditRule> = rules.iter().filter(fits).cloned().collect();
    Ok(Edits::new(&rules, taps, words.clone(), steps)?)
}

/// What a recorded run began with.
pub fn start(trace: &Trace, description: &Description) -> Result<Start> {
    start_of(description, |value, call| Ok(trace.value(value, call)?))
}

/// What a run began with, whose tensors are given by what they are and their call.
pub fn start_of(description: &Description, get: impl Fn(SamplerValue, usize) -> Result<Tensor>) -> Result<Start> {
    Ok(match (description.fork.as_ref().and_then(|fork| fork.level), description.cell.picture_strength()) {
        (Some(level), _) => Start::Sample { level, sample: get(SamplerValue::Sample, 0)? },
        (None, Some(strength)) => Start::Latents { strength, latents: get(SamplerValue::Image, 0)? },
        (None, None) => Start::Noise,
    })
}

/// The network's outputs of the first calls of a record.
pub fn recorded_outputs(trace: &Trace, calls: usize) -> Result<Vec<Outputs>> {
    use Conditioning::{Conditional, Unconditional};
    let has = |of, call| trace.has_value(SamplerValue::Output(of), call);
    let of = |of, call| trace.value(SamplerValue::Output(of), call);
    let at = |call| {
        // A weight of 1 or 0 needs only one of the two, and a run in a batch makes only that one.
        Ok(match (has(Unconditional, call), has(Conditional, call)) {
            (false, true) => Outputs::Conditional(of(Conditional, call)?),
            (true, false) => Outputs::Unconditional(of(Unconditional, call)?),
            _ => Outputs::Both { unconditional: of(Unconditional, call)?, conditional: of(Conditional, call)? },
        })
    };
    (0..calls).map(at).collect()
}

/// The same, where a model runs.
pub fn outputs(trace: &Trace, calls: usize, model: &Model) -> Result<Vec<Outputs>> {
    Ok(recorded_outputs(trace, calls)?.into_iter().map(|outputs| outputs.to_device(model.device)).collect())
}

/// A probe that may not be there.
struct Maybe<P>(Option<P>);

impl<P: Probe> Probe for Maybe<P> {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        self.0.as_ref().is_some_and(|probe| probe.wants(tap, moment))
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        match &mut self.0 {
            Some(probe) => probe.visit(tap, moment, tensor),
            None => tensor,
        }
    }

    fn stop(&mut self, moment: &Moment) -> Option<String> {
        self.0.as_mut().and_then(|probe| probe.stop(moment))
    }
}

/// A probe that moves a progress bar.
struct Tick<'a> {
    bar: &'a ProgressBar,
    from: usize,
}

impl Probe for Tick<'_> {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        moment.call >= self.from && tap.role() == Role::Sampler(SamplerValue::Output(Conditioning::Guided))
    }

    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.bar.inc(1);
        tensor
    }
}

/// What to say where a run stopped.
fn kept(folder: &Path, calls: usize) -> String {
    let whole = Trace::open(folder).map_or(0, |trace| trace.complete());
    format!("{}: stopped, its record is kept: {whole} of {calls} calls are whole", folder.display())
}

/// What to say where a record could not be written to its end.
fn cannot_write(folder: &Path, error: &latentrace_trace::Error) -> anyhow::Error {
    match error {
        latentrace_trace::Error::File { .. } => {
            anyhow!("{error}\nhint: `latentrace resume {}` goes on with it once it can be written", folder.display())
        }
        _ => anyhow!("{error}"),
    }
}

/// A progress bar over network calls, drawn only on a terminal.
pub fn bar(calls: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} calls, {eta} left");
    let bar = ProgressBar::new(calls as u64);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

/// A picture for the plotting crate.
pub fn pixels(picture: &Picture) -> RgbImage {
    RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.pixels.clone()).unwrap_or_default()
}
