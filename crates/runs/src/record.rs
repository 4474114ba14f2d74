//! Making and recording of one run.

use crate::cell::Cell;
use crate::cost::Cost;
use crate::description::{Description, ForkPoint};
use crate::folder::RunFolder;
use crate::key::Kept;
use crate::observer::{Event, Observer};
use crate::past::{edits_at, known, of_whole, outputs, past, request, start, without_steps};
use crate::provenance::Provenance;
use crate::ready::Ready;
use crate::rules::{Does, Fires};
use crate::sources::Sources;
use anyhow::{Context, Result, anyhow, ensure};
use image::RgbImage;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::nn::{Block, Both, Conditioning, Moment, Part, Pass, Probe, Role, SamplerValue, Tap};
use latentrace_pipeline::{Common, Model, Named, Outcome, Picture, Start, Work};
use latentrace_trace::{Course, EditRule, Layout, Playback, Recorder, Trace, Writer};
use std::path::Path;
use std::time::{Duration, Instant};

/// A run that has been checked with its model, and can be made and recorded.
pub struct Job<'a> {
    model: &'a Model,
    ready: Ready,
    /// The record that the run continues from, and how many of its calls are taken over.
    past: Option<(&'a Trace, usize)>,
    /// The description of that record. Its rules were not given to this command.
    before: Option<Description>,
}

/// A run and its record.
pub struct Recorded {
    /// The result.
    pub outcome: Outcome,
    /// The record.
    pub trace: Trace,
    /// The description in the record.
    pub description: Description,
    /// How long it took. A run of a batch has an equal share of the batch's time.
    pub elapsed: Duration,
    /// How many tensors were left out because of the budget.
    pub beyond_budget: u64,
    /// Whether it was made in a batch with others.
    pub together: bool,
    /// The network's work for it, and what was taken over from other runs. Empty for a run by itself.
    pub work: Work,
}

impl<'a> Job<'a> {
    /// A run of a cell. `kept` is what it records besides the sampler's values.
    ///
    /// # Errors
    /// The model cannot run the cell, or cannot apply a rule.
    pub fn new(model: &'a Model, cell: &Cell, kept: &Kept) -> Result<Job<'a>> {
        Ok(Job::of(model, Ready::new(model, cell, kept, &mut Sources::default())?))
    }

    /// A run that has been checked with this model.
    pub fn of(model: &'a Model, ready: Ready) -> Job<'a> {
        Job { model, ready, past: None, before: None }
    }

    /// A run that continues from a call of a record, with the cell that `change` returns. `kept` defaults to the
    /// record's. If the scheduler, the reading or the number of steps changes, the run starts from the sample of that
    /// call, and edits of the record that select steps are left out. Also returns the edits that are left out.
    ///
    /// # Errors
    /// No run can continue from the record, or the model cannot run the cell.
    pub fn fork(
        model: &'a Model,
        trace: &'a Trace,
        call: usize,
        change: impl FnOnce(&Cell) -> Cell,
        kept: Option<Kept>,
    ) -> Result<(Job<'a>, Vec<EditRule>)> {
        let before = of_whole(trace, model)?;
        let mut cell = change(&before.cell);
        let request = request(model, &cell, &before)?;
        let folder = std::path::absolute(trace.folder())?;
        ensure!(
            folder.to_str().is_some(),
            "{}: its name is not UTF-8, so the record of a fork cannot refer to it\nhint: rename the folder",
            folder.display()
        );
        let mut fork = ForkPoint { trace: folder, relative: None, call, level: None, past: Some(Vec::new()) };
        let same = (request.scheduler.resolved(), request.steps, request.reading)
            == (before.scheduler.clone(), before.cell.steps, before.cell.reading);
        let mut left_out = Vec::new();
        let (start, taken_over) = if same {
            fork.past = Some(past(&before, trace, call)?);
            // The start of that run may be a sample of an earlier one.
            fork.level = before.fork.as_ref().and_then(|fork| fork.level);
            (start(trace, &before)?, Some((trace, call)))
        } else {
            let inherited = before.cell.edits.len().min(cell.edits.len());
            (left_out, cell.edits) = without_steps(cell.edits, inherited);
            let plan = before.plan()?;
            let level =
                plan.steps().get(call).with_context(|| format!("call {call}: the run has {}", plan.calls()))?.level;
            fork.level = Some(level);
            let sample = trace.value(SamplerValue::Sample, call)?.to_device(model.device);
            let is_from_picture = before.cell.picture_strength().is_some();
            (Start::Sample { level, sample, known: known(trace, &before)?, is_from_picture }, None)
        };
        let prepared = cell.prepare(model, request, start)?;
        // The run starts from the recorded latents of the picture, and does not read its file.
        let mut description = Description::new(model, &cell, &prepared, before.image.clone(), before.mask.clone())?;
        description.fork = Some(fork);
        let kept = kept.unwrap_or_else(|| before.kept());
        let ready = Ready::keeping(prepared, description, &kept, taken_over.map_or(0, |(_, calls)| calls))?;
        Ok((Job { model, ready, past: taken_over, before: Some(before) }, left_out))
    }

    /// The rest of a run that was interrupted. `taken_over` is needed for a fork that was interrupted before its own
    /// first call: a record of the calls before that (see [`Phased::taken_over`](crate::Phased::taken_over)).
    ///
    /// # Errors
    /// No run can continue from the record, or the model is another.
    pub fn resume(model: &'a Model, trace: &'a Trace, taken_over: Option<&'a Trace>) -> Result<Job<'a>> {
        let description = of_whole(trace, model)?;
        let request = request(model, &description.cell, &description)?;
        let start = start(trace, &description)?;
        let prepared = description.cell.prepare(model, request, start)?;
        let past = taken_over.unwrap_or(trace);
        let (before, kept) = (Some(description.clone()), description.kept());
        let calls = past.complete();
        Ok(Job {
            model,
            ready: Ready::keeping(prepared, description, &kept, calls)?,
            past: Some((past, calls)),
            before,
        })
    }

    /// The model.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// The run, checked, planned and described.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The description for the run's record.
    pub fn description(&self) -> &Description {
        &self.ready.description
    }

    /// How often each rule fires.
    pub fn fires(&self) -> &Fires {
        &self.ready.fires
    }

    /// How many network calls are to be made.
    pub fn calls(&self) -> usize {
        self.description().calls - self.from()
    }

    /// How many calls are taken from a record: the first call that is made.
    fn from(&self) -> usize {
        self.past.map_or(0, |(_, calls)| calls)
    }

    /// Checks, before anything is computed or written, that each rule that was given to this command selects a tensor.
    /// The rules of a record are not checked: they may select tensors of earlier calls only.
    ///
    /// # Errors
    /// A rule that was given selects no tensor.
    pub fn check(&self) -> Result<()> {
        let own = self.description();
        let inherited = |does, rule: &str| {
            self.before.as_ref().is_some_and(|before| match does {
                Does::Keep => before.capture.iter().any(|known| known.text() == rule),
                Does::Change => before.cell.edits.iter().any(|known| known.text() == rule),
                Does::Guide => before.cell.guidance == own.cell.guidance,
                Does::Scale => before.cell.loras == own.cell.loras,
            })
        };
        self.ready.fires.check(inherited)
    }

    /// The tensors that will pass the taps.
    ///
    /// # Errors
    /// The checkpoint no longer exists.
    pub fn course(&self) -> Result<Course> {
        self.ready.course(self.from())
    }

    /// The cost of the run.
    ///
    /// # Errors
    /// The checkpoint no longer exists.
    pub fn cost(&self) -> Result<Cost> {
        Cost::of(&self.ready, self.from())
    }

    /// Makes the run in a new folder: its record, its table of numbers, its settings and its picture. `observer` is
    /// told of every network call.
    ///
    /// # Errors
    /// The folder is not empty or cannot be written, or the run fails.
    pub fn make(self, folder: &Path, observer: &dyn Observer) -> Result<RunFolder> {
        let run = RunFolder::new(folder);
        run.check_free()?;
        self.check()?;
        let recorded = self.record(run.trace(), Layout::LIVE, observer)?;
        run.keep(&recorded, &Provenance::of_run(&recorded)?, None)?;
        Ok(run)
    }

    /// Makes the run, and records it into a new folder. `observer` is told of every network call.
    ///
    /// # Errors
    /// The folder cannot be written, or the run fails.
    pub fn record(self, folder: &Path, layout: Layout, observer: &dyn Observer) -> Result<Recorded> {
        self.record_new(folder, layout, observer, None)
    }

    /// [`Job::record`] for a run from its start that has something in common with others, see [`Ready::lines`]. The
    /// record is the same in every byte.
    ///
    /// # Errors
    /// As [`Job::record`].
    pub fn record_with(
        self,
        common: &mut Common,
        run: Named,
        folder: &Path,
        layout: Layout,
        observer: &dyn Observer,
    ) -> Result<Recorded> {
        self.record_new(folder, layout, observer, Some((common, run)))
    }

    fn record_new(
        mut self,
        folder: &Path,
        layout: Layout,
        observer: &dyn Observer,
        common: Option<(&mut Common, Named)>,
    ) -> Result<Recorded> {
        let threads = self.model.threads_for(self.ready.request().size, 1);
        let (writer, description) = begin(&self.ready, threads, folder, layout)?;
        self.ready.description = description;
        self.into_writer((folder, writer, layout), observer, common)
    }

    /// Makes the rest of a run, and appends it to the run's record. `observer` is told of every network call.
    ///
    /// # Errors
    /// The record is complete, the folder cannot be written, or the run fails.
    pub fn record_on(self, trace: &Trace, observer: &dyn Observer) -> Result<Recorded> {
        let is_complete = trace.end().is_some_and(|end| end.error.is_none());
        ensure!(!is_complete, "{}: the record is complete, and nothing continues it", trace.folder().display());
        self.check()?;
        self.ready.fires.over().for_each(|line| observer.note(&line));
        let writer = Writer::append(trace, Layout::LIVE)?;
        self.into_writer((trace.folder(), writer, Layout::LIVE), observer, None)
    }

    /// The result of a run whose calls are all in its record. The UNet is not called, but the decoder is.
    ///
    /// # Errors
    /// The record is damaged, or the decoder fails.
    pub fn again(self) -> Result<Recorded> {
        let Job { model, ready, past, .. } = self;
        let Some((trace, calls)) = past else { return Err(anyhow!("a run that has no record yet")) };
        let began = Instant::now();
        let outputs = outputs(trace, calls, model)?;
        // The values before the decoder are played back, with their edits in them.
        let of_decoder: Vec<Tap> =
            model.taps.iter().filter(|tap| tap.role().part() == Some(Part::Vae)).cloned().collect();
        let Ready { prepared, description, .. } = ready;
        let edits = edits_at(&description.cell.edits, &of_decoder, &description.words(), prepared.steps())?;
        let mut probe = Both(Playback::new(trace, calls), edits);
        let outcome = model.make(&prepared, &outputs, &mut Pass::watched(&mut probe));
        probe.0.outcome()?;
        probe.1.outcome()?;
        let beyond_budget = trace.end().map_or(0, |end| end.beyond_budget);
        let trace = Trace::open(trace.folder())?;
        let elapsed = began.elapsed();
        let (together, work) = (false, Work::default());
        Ok(Recorded { outcome: outcome?, trace, description, elapsed, beyond_budget, together, work })
    }

    fn into_writer(
        self,
        (folder, writer, layout): (&Path, Writer, Layout),
        observer: &dyn Observer,
        common: Option<(&mut Common, Named)>,
    ) -> Result<Recorded> {
        let (from, Job { model, ready, past, .. }) = (self.from(), self);
        let began = Instant::now();
        let words = ready.description.words();
        let recorder = Recorder::new(&ready.capture(), &model.taps, words, ready.prepared.steps(), writer)?;
        let outputs = match past {
            Some((trace, calls)) => outputs(trace, calls, model)?,
            None => Vec::new(),
        };
        let playback = past.map(|(trace, calls)| Playback::new(trace, calls));
        let mut edits = Both(Maybe(playback), ready.edits(model)?.beginning_at(from));
        let mut probe = Both(&mut edits, Both(recorder, Tick { observer, from }));
        let mut pass = Pass::watched(&mut probe);
        let run = match common {
            Some((common, run)) => model.make_with(&ready.prepared, run, common, &mut pass),
            None => model.make(&ready.prepared, &outputs, &mut pass).map(|outcome| (outcome, Work::default())),
        };
        let Both(recorder, _) = probe.1;
        let failed = edits.1.outcome().and(edits.0.0.as_mut().map_or(Ok(()), Playback::outcome)).err();
        let outcome = failed.map_or(run.map_err(anyhow::Error::from), |error| Err(error.into()));
        let outcome = outcome.and_then(|outcome| ready.description.check_checkpoint(model).map(|()| outcome));
        let error = outcome.as_ref().err().map(|error| error.to_string());
        // A record that cannot be written stops its run, so its error is the cause of the run's error.
        let ended = recorder.end(error).map_err(|error| match layout.synced {
            true => cannot_write(folder, &error),
            false => error.into(),
        });
        // A record that is useless unless whole is not kept by whoever asked for it.
        let stopped = |error: anyhow::Error| match layout.synced {
            true => error.context(left(folder, ready.description.calls)),
            false => error,
        };
        let beyond_budget = ended.map_err(stopped)?;
        let (outcome, work) = outcome.map_err(stopped)?;
        let trace = Trace::open(folder)?;
        let elapsed = began.elapsed();
        let (description, together) = (ready.description, false);
        Ok(Recorded { outcome, trace, description, elapsed, beyond_budget, together, work })
    }
}

/// Begins the record of a run on so many threads in a new folder. Returns the writer, and the description as it was written.
pub(crate) fn begin(ready: &Ready, threads: usize, folder: &Path, layout: Layout) -> Result<(Writer, Description)> {
    let mut description = Description { fires: ready.fires.counts(), ..ready.description.clone() };
    description.program.threads = threads;
    description.seen_from(folder);
    Ok((Writer::create(folder, &serde_json::to_value(&description)?, layout)?, description))
}

/// An optional probe.
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

    fn takes_blocks(&self, tap: &Tap, moment: &Moment) -> bool {
        self.0.as_ref().is_none_or(|probe| probe.takes_blocks(tap, moment))
    }

    fn visit_block(&mut self, tap: &Tap, moment: Moment, block: &Block) {
        if let Some(probe) = &mut self.0 {
            probe.visit_block(tap, moment, block);
        }
    }

    fn stop(&mut self, moment: &Moment) -> Option<String> {
        self.0.as_mut().and_then(|probe| probe.stop(moment))
    }
}

/// A probe that tells an observer of every network call.
pub(crate) struct Tick<'a> {
    pub(crate) observer: &'a dyn Observer,
    pub(crate) from: usize,
}

impl Probe for Tick<'_> {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        moment.call >= self.from && tap.role() == Role::Sampler(SamplerValue::Output(Conditioning::Guided))
    }

    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.observer.tell(Event::Call);
        tensor
    }
}

/// The context of the error of a run that stopped.
fn left(folder: &Path, calls: usize) -> String {
    let whole = Trace::open(folder).map_or(0, |trace| trace.complete());
    format!("{}: stopped, its record is kept: {whole} of {calls} calls are whole", folder.display())
}

/// The error of a record that could not be written to its end, with a hint.
fn cannot_write(folder: &Path, error: &latentrace_trace::Error) -> anyhow::Error {
    match error {
        latentrace_trace::Error::File { .. } => {
            anyhow!("{error}\nhint: `latentrace resume {}` continues it once it can be written", folder.display())
        }
        _ => anyhow!("{error}"),
    }
}

/// Converts a picture to the type of the crate `image`.
pub fn pixels(picture: &Picture) -> RgbImage {
    RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.pixels.clone()).unwrap_or_default()
}
