//! A recorded run made again, each call with its own settings: a fork has the settings of another run up to the fork's
//! first call.

use crate::description::{Description, ForkPoint, Phase, PhaseSettings, up_to};
use crate::located;
use crate::observer::Observer;
use crate::past::{of_whole, outputs, start};
use anyhow::{Context, Result, ensure};
use latentrace_pipeline::nn::tch::{Device, Tensor};
use latentrace_pipeline::nn::{Both, Moment, Pass, Probe, SamplerValue, Tap};
use latentrace_pipeline::{Error, Model, TextShape, outline, steps};
use latentrace_trace::{Against, Capture, EditRule, Edits, Layout, Playback, Recorder, Trace, Writer};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A recorded run that can be made again from any call, phase by phase, unchanged or with one more edit.
pub struct Phased<'a> {
    model: &'a Model,
    observer: &'a dyn Observer,
    base: &'a Trace,
    description: Description,
    /// All calls of the run, by the settings that they were made with.
    phases: Vec<Phase>,
}

impl<'a> Phased<'a> {
    /// Prepares a recorded run to be made again. `parent` is the record that it was forked from; it defaults to the
    /// recorded place.
    ///
    /// # Errors
    /// The record is not complete, the model is of another kind, or `parent` is not the run that this one was forked
    /// from.
    pub fn new(
        model: &'a Model,
        base: &'a Trace,
        parent: Option<&Path>,
        observer: &'a dyn Observer,
    ) -> Result<Phased<'a>> {
        let description = of_whole(base, model)?;
        let phases = known_phases(&description, base, parent)?;
        let mut run = Phased { model, observer, base, description, phases };
        if let Some(index) = run.phases.iter().rposition(|phase| phase.settings.is_none()) {
            let proven = run.proven(run.phases[index].until)?;
            run.phases[index].settings = proven;
        }
        Ok(run)
    }

    /// The first step, and the step after the last.
    pub fn steps(&self) -> (usize, usize) {
        let steps = self.base.entries().iter().map(|entry| entry.step);
        let (first, last) = steps.fold((usize::MAX, 0), |(first, last), step| (first.min(step), last.max(step)));
        (first.min(last), last + 1)
    }

    /// The names of the taps that a tensor passes in the run, with the settings of its last calls. Not all of a model's taps are
    /// there: a text encoder need not compute its last layers, and only a run from a picture has an encoder.
    ///
    /// # Errors
    /// The settings of the last calls are not known.
    pub fn passed(&self) -> Result<HashSet<String>> {
        let cell = &self.settings(self.phases.len() - 1)?.cell;
        let prepared = self.model.prepare(self.description.request_of(cell)?, start(self.base, &self.description)?)?;
        let size = Some(prepared.request.size);
        let all = outline(&self.model.checkpoint, cell.options(), size, TextShape::of(&prepared))?;
        let passing = all.iter().filter(|seen| !seen.calls(&prepared.plan, &prepared.start).is_empty());
        Ok(passing.map(|seen| seen.tap.name().to_string()).collect())
    }

    /// The final latents with one more edit, which has no effect before `call`. They are those of a run that was made
    /// with the edit from the beginning, and forked at the same call.
    ///
    /// # Errors
    /// The settings of a call are not known, or the run fails.
    pub fn patched(&self, rule: &EditRule, call: usize) -> Result<Tensor> {
        let made = self.before_the_last(Some(rule), call)?;
        let (before, from) = made.as_ref().map_or((self.base, call), |(_, trace, until)| (trace, (*until).max(call)));
        self.to_the_end(self.settings(self.phases.len() - 1)?, rule, before, from)
    }

    /// For a fork that was interrupted before its own first call: a record of the calls before that, made again with
    /// the settings of the run that it was forked from. `None` if the fork needs none.
    ///
    /// # Errors
    /// The settings of a call are not known, or the run fails.
    pub fn taken_over(&self) -> Result<Option<(TempDir, Trace)>> {
        let made = self.before_the_last(None, self.base.complete())?;
        Ok(made.map(|(folder, trace, _)| (folder, trace)))
    }

    /// A record of the calls before the last phase, made again from the call `from`, with the number of its calls.
    /// `None` if the last phase begins at or before `from`.
    fn before_the_last(&self, rule: Option<&EditRule>, from: usize) -> Result<Option<(TempDir, Trace, usize)>> {
        let mut made: Option<(TempDir, Trace, usize)> = None;
        for index in 0..self.phases.len() - 1 {
            let until = self.phases[index].until;
            if until > from {
                let (before, from) = made.as_ref().map_or((self.base, from), |(_, trace, made)| (trace, *made));
                let (folder, trace) = self.to(until, self.settings(index)?, rule, before, from)?;
                made = Some((folder, trace, until));
            }
        }
        Ok(made)
    }

    fn settings(&self, phase: usize) -> Result<&PhaseSettings> {
        let Phase { until, settings } = &self.phases[phase];
        settings.as_ref().with_context(|| {
            let base = self.base.folder().display();
            format!("{base}: its record does not say with what settings its calls before {until} were made\nhint: the record of the run that it was forked from says so: put that beside it, or name it with causal --parent")
        })
    }

    /// The number of steps that are made. A run from a picture makes fewer than its settings say.
    fn sampled(&self) -> Result<usize> {
        Ok(steps(&self.description.plan()?))
    }

    /// The edits of a phase and one more, which begin at a call.
    fn edits(&self, settings: &PhaseSettings, rule: Option<&EditRule>, from: usize) -> Result<Edits> {
        let rules = settings.cell.edits.iter().chain(rule).cloned();
        let rules: Vec<EditRule> = rules.collect();
        Ok(Edits::new(&rules, &self.model.taps, settings.words(), self.sampled()?)?.beginning_at(from))
    }

    /// The final latents. The calls before `from` are played back from a record.
    fn to_the_end(&self, settings: &PhaseSettings, rule: &EditRule, before: &Trace, from: usize) -> Result<Tensor> {
        let mut probe = Both(Playback::new(before, from), self.edits(settings, Some(rule), from)?);
        let made = self.make(settings, before, from, &mut probe);
        probe.0.outcome()?;
        probe.1.outcome()?;
        Ok(made?.to_device(Device::Cpu))
    }

    /// A record of the calls before `until`. The calls before `from` are played back from a record.
    fn to(
        &self,
        until: usize,
        settings: &PhaseSettings,
        rule: Option<&EditRule>,
        before: &Trace,
        from: usize,
    ) -> Result<(TempDir, Trace)> {
        let folder = tempfile::tempdir().context("a temporary folder for a record")?;
        let writer = Writer::create(folder.path(), before.run(), Layout::WHOLE)?;
        let recorder = Recorder::new(&Capture::default(), &self.model.taps, settings.words(), self.sampled()?, writer)?;
        let played = Both(Playback::new(before, from), self.edits(settings, rule, from)?);
        let mut probe = Both(played, Both(recorder, Until(until)));
        let made = self.make(settings, before, from, &mut probe);
        let Both(Both(mut playback, mut edits), Both(recorder, _)) = probe;
        playback.outcome()?;
        edits.outcome()?;
        recorder.end(Some("only its beginning is needed".into()))?; // so the record has no further complete calls
        match made {
            Err(error) if !matches!(error.downcast_ref(), Some(Error::Stopped { .. })) => return Err(error),
            _ => {}
        }
        let trace = Trace::open(folder.path())?;
        ensure!(
            trace.complete() >= until,
            "{}: only {} calls were made",
            self.base.folder().display(),
            trace.complete()
        );
        Ok((folder, trace))
    }

    fn make(&self, settings: &PhaseSettings, before: &Trace, from: usize, probe: &mut dyn Probe) -> Result<Tensor> {
        let request = self.description.request_of(&settings.cell)?; // all phases have one scheduler
        let outputs = outputs(before, from, self.model)?;
        let start = start(self.base, &self.description)?;
        Ok(self.model.denoise(&request, &start, &outputs, &mut Pass::watched(probe))?)
    }
}

impl Phased<'_> {
    /// The settings of a record beside the base that reproduce the base's calls before `until`. A record of an earlier
    /// version does not say with what settings the calls that a fork took over were made, but the other run may be
    /// beside it.
    fn proven(&self, until: usize) -> Result<Option<PhaseSettings>> {
        let folder =
            self.base.folder().parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(found) = std::fs::read_dir(folder) else { return Ok(None) };
        let mut places: Vec<PathBuf> = found.flatten().map(|found| found.path()).collect();
        places.sort();
        for place in places.into_iter().filter(|place| place.join("run.json").is_file()) {
            let Ok(other) = Trace::open(&place) else { continue };
            let Ok(description) = Description::of(&other) else { continue };
            let (steps, reading) = (self.description.cell.steps, self.description.cell.reading);
            let known = description.phases().into_iter().filter_map(|phase| phase.settings);
            for mut settings in known.filter(|known| (known.cell.steps, known.cell.reading) == (steps, reading)) {
                settings.cell.edits = description.edits(&settings.cell, other.folder()).unwrap_or_default();
                if self.leads_to(&settings, until).unwrap_or(false) {
                    self.observer.note(&format!(
                        "the calls before {until} were made with the settings of {}: they lead to what is recorded",
                        place.display()
                    ));
                    return Ok(Some(settings));
                }
            }
        }
        Ok(None)
    }

    /// Whether settings reproduce the recorded values of the calls before one.
    fn leads_to(&self, settings: &PhaseSettings, until: usize) -> Result<bool> {
        // The first call is enough to reject most settings.
        for until in [1, until] {
            let against = Both(Against::new(self.base, |_, _| false), Until(until));
            let mut probe = Both(self.edits(settings, None, 0)?, against);
            let made = self.make(settings, self.base, 0, &mut probe);
            if !made.is_err_and(|error| matches!(error.downcast_ref(), Some(Error::Stopped { .. }))) {
                return Ok(false);
            }
            let Both(mut against, _) = probe.1;
            against.outcome()?;
            let of_calls = || against.checks.iter().filter(|check| check.call < until);
            if of_calls().count() == 0 || of_calls().any(|check| check.relative.is_nan() || check.relative > SAME) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The largest relative difference of equal runs. On any machine and number of threads, a network's outputs for the
/// same input differ by a few units in the last place of f32; other texts or guidance weights change them by 1e-2 and
/// more.
const SAME: f64 = 1e-4;

/// All calls of a run by their settings. A record of an earlier version does not have the settings of the run that it
/// was forked from; they are read from that run's record.
fn known_phases(description: &Description, base: &Trace, parent: Option<&Path>) -> Result<Vec<Phase>> {
    let mut phases = description.phases();
    for phase in &mut phases {
        if let Some(settings) = &mut phase.settings {
            settings.cell.edits = description.edits(&settings.cell, base.folder())?;
        }
    }
    let (Some(ForkPoint { trace, relative, .. }), Some(last)) =
        (&description.fork, phases.iter().rposition(|phase| phase.settings.is_none()))
    else {
        return Ok(phases);
    };
    let until = phases[last].until;
    let places = match parent {
        Some(parent) => vec![parent.to_path_buf()],
        None => located::places(trace, relative.as_deref(), base.folder()),
    };
    // Without that record, the calls after the fork can still be made.
    let Some(place) = places.iter().find(|place| place.join("run.json").is_file()) else {
        ensure!(parent.is_none(), "{}: there is no trace", places[0].display());
        return Ok(phases);
    };
    let other = Trace::open(place)?;
    ensure!(
        same_until(base, &other, until)?,
        "{}: not the run that {} was forked from",
        place.display(),
        base.folder().display()
    );
    let mut past = up_to(known_phases(&Description::of(&other)?, &other, None)?, until);
    past.extend(phases.drain(last + 1..));
    Ok(past)
}

/// Whether two records have the same samples at the calls before one.
fn same_until(a: &Trace, b: &Trace, until: usize) -> Result<bool> {
    for call in 0..until.min(a.complete()) {
        let (a, b) = (a.value(SamplerValue::Sample, call)?, b.value(SamplerValue::Sample, call));
        if !b.is_ok_and(|b| a.size() == b.size() && a.equal(&b)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A probe that stops a run before a call.
struct Until(usize);

impl Probe for Until {
    fn wants(&self, _: &Tap, _: &Moment) -> bool {
        false
    }

    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        tensor
    }

    fn stop(&mut self, moment: &Moment) -> Option<String> {
        (moment.call >= self.0).then(|| "no further call is needed".into())
    }
}
