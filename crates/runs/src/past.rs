//! What a run that goes on from a record takes from it.

use crate::cell::Cell;
use crate::description::{Description, Phase, Settings, up_to};
use crate::tap;
use anyhow::{Result, bail};
use latentrace_pipeline::nn::Tap;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::{Model, Outputs, Request, Start};
use latentrace_trace::{Edits, Selector, Trace, Words};

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
pub fn without_steps(edits: Vec<String>, inherited: usize) -> Result<(Vec<String>, Vec<String>)> {
    let (mut left_out, mut kept) = (Vec::new(), Vec::new());
    for (index, edit) in edits.into_iter().enumerate() {
        let selector = edit.split("=>").next().unwrap_or_default();
        let counts = index < inherited && Selector::parse(selector)?.counts_steps();
        if counts { left_out.push(edit) } else { kept.push(edit) }
    }
    Ok((left_out, kept))
}

/// The edits that select some of these taps.
pub fn edits_at(rules: &[String], taps: &[Tap], words: &Words, steps: usize) -> Result<Edits> {
    let fits = |rule: &&String| Edits::new(std::slice::from_ref(*rule), taps, words.clone(), steps).is_ok();
    let rules: Vec<String> = rules.iter().filter(fits).cloned().collect();
    Ok(Edits::new(&rules, taps, words.clone(), steps)?)
}

/// What a recorded run began with.
pub fn start(trace: &Trace, description: &Description) -> Result<Start> {
    start_of(description, |tap, call| Ok(trace.get(tap, call, None)?))
}

/// What a run began with, whose tensors are given by their tap and call.
pub fn start_of(description: &Description, get: impl Fn(&str, usize) -> Result<Tensor>) -> Result<Start> {
    Ok(match (description.fork.as_ref().and_then(|fork| fork.level), description.cell.picture_strength()) {
        (Some(level), _) => Start::Sample { level, sample: get(tap::SAMPLE, 0)? },
        (None, Some(strength)) => Start::Latents { strength, latents: get(tap::IMAGE, 0)? },
        (None, None) => Start::Noise,
    })
}

/// The network's outputs of the first calls of a record.
pub fn recorded_outputs(trace: &Trace, calls: usize) -> Result<Vec<Outputs>> {
    let has = |tap: &str, call| trace.of_tap(tap).any(|entry| entry.call == call);
    let of = |tap: &str, call| trace.get(tap, call, None);
    let at = |call| {
        // A weight of 1 or 0 needs only one of the two, and a run in a batch makes only that one.
        Ok(match (has(tap::OUTPUT_UNCONDITIONAL, call), has(tap::OUTPUT_CONDITIONAL, call)) {
            (false, true) => Outputs::Conditional(of(tap::OUTPUT_CONDITIONAL, call)?),
            (true, false) => Outputs::Unconditional(of(tap::OUTPUT_UNCONDITIONAL, call)?),
            _ => Outputs::Both {
                unconditional: of(tap::OUTPUT_UNCONDITIONAL, call)?,
                conditional: of(tap::OUTPUT_CONDITIONAL, call)?,
            },
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
