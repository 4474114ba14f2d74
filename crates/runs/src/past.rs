//! What a run that goes on from a record takes from it.

use crate::cell::Cell;
use crate::description::{Description, Phase, Settings, up_to};
use anyhow::{Result, bail};
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::nn::{Conditioning, SamplerValue, Tap};
use latentrace_pipeline::{Model, Outputs, Request, Start};
use latentrace_trace::{EditRule, Edits, Trace, Words};

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
pub fn past(before: &Description, trace: &Trace, call: usize) -> Result<Vec<Phase>> {
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
pub fn without_steps(edits: Vec<EditRule>, inherited: usize) -> (Vec<EditRule>, Vec<EditRule>) {
    let counts = |(index, edit): &(usize, EditRule)| *index < inherited && edit.counts_steps();
    let (left_out, kept): (Vec<_>, Vec<_>) = edits.into_iter().enumerate().partition(counts);
    let without_index = |edits: Vec<(usize, EditRule)>| edits.into_iter().map(|(_, edit)| edit).collect();
    (without_index(left_out), without_index(kept))
}

/// The edits that select some of these taps.
pub fn edits_at(rules: &[EditRule], taps: &[Tap], words: &Words, steps: usize) -> Result<Edits> {
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

/// The call that begins a step, counted from 0, at which a record can be forked.
///
/// # Errors
/// The record does not hold the calls before that step whole; the error says from which steps on it can be forked.
pub fn call_of_step(trace: &Trace, description: &Description, step: usize) -> Result<usize> {
    let begins = || trace.entries().iter().filter(|entry| entry.evaluation == 0);
    let can_be_made = |call: usize| call < description.calls && call <= trace.complete();
    let first = begins().find(|entry| entry.step == step).map(|entry| entry.call);
    match first.filter(|call| can_be_made(*call)) {
        Some(call) => Ok(call),
        None => match begins().filter(|entry| can_be_made(entry.call)).map(|entry| entry.step).max() {
            Some(last) => bail!("--at {step}: this record can be forked at the steps 0 to {last}"),
            None => bail!("--at {step}: this record holds no step that can be made anew"),
        },
    }
}
