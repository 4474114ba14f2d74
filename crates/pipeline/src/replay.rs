//! Replay of a run from its record, without the model.

use crate::error::Result;
use crate::execute::{Execution, Given, missing};
use crate::network::{Outputs, Past};
use crate::noise::Draws;
use crate::{Known, Request, SamplerTaps, Start, UnetInput};
use latentrace_nn::Pass;
use latentrace_nn::tch::{Device, Tensor, no_grad};
use latentrace_schedulers::Plan;

/// Computes a run again from the network's outputs: noise, guidance, samples, clean estimates and the final latents.
/// Each value passes its tap, so a probe can compare it with the record. `plan` is [`Start::plan`] of this start, and
/// `shape` is that of the latents, `[1, 4, height, width]`. Returns the final latents, or `None` if `outputs` end
/// before the run does.
///
/// # Errors
/// A recorded number is not finite.
pub fn replay(
    request: &Request,
    start: &Start,
    plan: &Plan,
    outputs: &[Outputs],
    shape: [i64; 4],
    taps: &SamplerTaps,
    pass: &mut Pass,
) -> Result<Option<Tensor>> {
    let encodings = start.encodings(start.known().map_or(UnetInput::Sample, Known::input));
    let mut draws = Draws::new(request.seed, encodings.draws() + plan.draws(), shape, Device::Cpu);
    draws.take_for(encodings)?;
    let given = match start {
        Start::Picture { .. } | Start::Masked { .. } => return Err(missing()), // a record has the latents
        Start::Noise => Given::Nothing,
        Start::Latents { latents, .. } => Given::Image(latents.shallow_clone()),
        Start::Known { known, .. } => Given::of(known, plan),
        Start::Sample { sample, .. } => Given::Sample(sample.shallow_clone()),
    };
    let execution = Execution {
        plan,
        prediction: request.scheduler.prediction(),
        guidance: vec![request.guidance.clone()],
        taps,
        given,
        known: start.known().cloned(),
    };
    no_grad(|| execution.run(&mut Past { outputs, then: None }, &mut draws, pass))
}
