//! What a run that continues from a record takes from it.

use crate::cell::Cell;
use crate::description::{Description, Phase, PhaseSettings, up_to};
use anyhow::{Context, Result, bail};
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::nn::{Conditioning, SamplerValue, Tap};
use latentrace_pipeline::{Known, Model, Outputs, Request, Start};
use latentrace_trace::{EditRule, Edits, Trace, Words};

/// The description of a record that a run can continue from, with a model. The records that its edits read have their
/// present paths.
///
/// # Errors
/// The record is being written or is damaged, or the model makes other latents.
pub fn of_whole(trace: &Trace, model: &Model) -> Result<Description> {
    trace.check_idle()?;
    trace.check_run()?;
    let mut description = Description::of(trace)?;
    description.check_model(model)?;
    description.cell.edits = description.edits(&description.cell, trace.folder())?;
    Ok(description)
}

/// The request of a cell whose run continues from another run. The scheduler is the other run's, with all its options,
/// unless the cell sets another.
///
/// # Errors
/// See [`Cell::request`].
pub fn request(model: &Model, cell: &Cell, before: &Description) -> Result<Request> {
    let mut request = cell.request(model)?;
    let chosen = |cell: &Cell| (cell.sampler.clone(), cell.scheduler.clone(), cell.spacing.clone());
    if chosen(cell) == chosen(&before.cell) {
        request.scheduler = before.request()?.scheduler;
    }
    Ok(request)
}

/// The calls that a fork takes over, as phases with the settings that they were made with.
///
/// # Errors
/// A record that an edit reads no longer exists, or has changed.
pub fn past(before: &Description, trace: &Trace, call: usize) -> Result<Vec<Phase>> {
    let mut past = up_to(before.phases(), call);
    for phase in &mut past {
        phase.until = phase.until.min(call);
        if let Some(PhaseSettings { cell, .. }) = &mut phase.settings {
            cell.edits = before.edits(cell, trace.folder())?;
        }
    }
    Ok(past)
}

/// Splits edits into those that are left out and those that are kept. Left out are inherited edits, the first
/// `inherited`, that select steps.
pub fn without_steps(edits: Vec<EditRule>, inherited: usize) -> (Vec<EditRule>, Vec<EditRule>) {
    let counts = |(index, edit): &(usize, EditRule)| *index < inherited && edit.counts_steps();
    let (left_out, kept): (Vec<_>, Vec<_>) = edits.into_iter().enumerate().partition(counts);
    let without_index = |edits: Vec<(usize, EditRule)>| edits.into_iter().map(|(_, edit)| edit).collect();
    (without_index(left_out), without_index(kept))
}

/// The edits that select at least one of some taps.
///
/// # Errors
/// The edits cannot be applied.
pub fn edits_at(rules: &[EditRule], taps: &[Tap], words: &Words, steps: usize) -> Result<Edits> {
    let fits = |rule: &&EditRule| Edits::new(std::slice::from_ref(*rule), taps, words.clone(), steps).is_ok();
    let rules: Vec<EditRule> = rules.iter().filter(fits).cloned().collect();
    Ok(Edits::new(&rules, taps, words.clone(), steps)?)
}

/// The start of a recorded run.
///
/// # Errors
/// The record lacks the start's tensor.
pub fn start(trace: &Trace, description: &Description) -> Result<Start> {
    start_of(description, |value, call| Ok(trace.value(value, call)?), || is_inpainting(trace))
}

/// What a recorded run with a mask knows of its picture; `None` if it has no mask.
///
/// # Errors
/// The record lacks a tensor.
pub fn known(trace: &Trace, description: &Description) -> Result<Option<Known>> {
    known_of(description, &|value, call| Ok(trace.value(value, call)?), is_inpainting(trace))
}

/// Whether the UNet of a recorded run takes a mask.
fn is_inpainting(trace: &Trace) -> bool {
    trace.has_value(SamplerValue::Masked, 0)
}

/// The start of a run. `get` returns a value of the sampler at a call, and `is_inpainting` whether the UNet takes a mask.
///
/// # Errors
/// `get` fails.
pub fn start_of(
    description: &Description,
    get: impl Fn(SamplerValue, usize) -> Result<Tensor>,
    is_inpainting: impl Fn() -> bool,
) -> Result<Start> {
    let known = || known_of(description, &get, is_inpainting());
    let level = description.fork.as_ref().and_then(|fork| fork.level);
    Ok(match (level, description.cell.picture_strength(), &description.cell.mask) {
        (Some(level), strength, _) => Start::Sample {
            level,
            sample: get(SamplerValue::Sample, 0)?,
            known: known()?,
            is_from_picture: strength.is_some(),
        },
        (None, Some(strength), Some(_)) => Start::Known { strength, known: known()?.context("a run with a mask")? },
        (None, Some(strength), None) => Start::Latents { strength, latents: get(SamplerValue::Image, 0)? },
        (None, None, _) => Start::Noise,
    })
}

fn known_of(
    description: &Description,
    get: &dyn Fn(SamplerValue, usize) -> Result<Tensor>,
    is_inpainting: bool,
) -> Result<Option<Known>> {
    let Cell { mask: Some(_), .. } = &description.cell else { return Ok(None) };
    let is_from_image = description.fork.as_ref().is_none_or(|fork| fork.level.is_none())
        && description.cell.picture_strength() != Some(1.0);
    let (mask, image) = (get(SamplerValue::Mask, 0)?, || get(SamplerValue::Image, 0));
    Ok(Some(match is_inpainting {
        true => Known::Given {
            mask,
            masked: get(SamplerValue::Masked, 0)?,
            image: if is_from_image { Some(image()?) } else { None },
        },
        false => Known::Replaces { mask, image: image()?, noise: get(SamplerValue::Start, 0)? },
    }))
}

/// The network's outputs at the first calls of a record.
///
/// # Errors
/// The record lacks one of them.
pub fn recorded_outputs(trace: &Trace, calls: usize) -> Result<Vec<Outputs>> {
    use Conditioning::{Conditional, Unconditional};
    let has = |of, call| trace.has_value(SamplerValue::Output(of), call);
    let of = |of, call| trace.value(SamplerValue::Output(of), call);
    let at = |call| {
        // A run in a batch computes only one of the two if the guidance weight is 1 or 0.
        Ok(match (has(Unconditional, call), has(Conditional, call)) {
            (false, true) => Outputs::Conditional(of(Conditional, call)?),
            (true, false) => Outputs::Unconditional(of(Unconditional, call)?),
            _ => Outputs::Both { unconditional: of(Unconditional, call)?, conditional: of(Conditional, call)? },
        })
    };
    (0..calls).map(at).collect()
}

/// [`recorded_outputs`] on the device of a model.
///
/// # Errors
/// The record lacks one of them.
pub fn outputs(trace: &Trace, calls: usize, model: &Model) -> Result<Vec<Outputs>> {
    Ok(recorded_outputs(trace, calls)?.into_iter().map(|outputs| outputs.to_device(model.device)).collect())
}

/// The first call of a step, at which a record is to be forked. Steps and calls are counted from 0.
///
/// # Errors
/// The record does not have all calls before that step. The error says at which steps it can be forked.
pub fn call_of_step(trace: &Trace, description: &Description, step: usize) -> Result<usize> {
    let begins = || trace.entries().iter().filter(|entry| entry.evaluation == 0);
    let can_be_made = |call: usize| call < description.calls && call <= trace.complete();
    let first = begins().find(|entry| entry.step == step).map(|entry| entry.call);
    let record = trace.folder().display();
    match first.filter(|call| can_be_made(*call)) {
        Some(call) => Ok(call),
        None => match begins().filter(|entry| can_be_made(entry.call)).map(|entry| entry.step).max() {
            Some(last) => bail!("--at {step}: {record} can be forked at the steps 0 to {last}"),
            None => bail!("--at {step}: {record} has no step at which it can be forked"),
        },
    }
}
