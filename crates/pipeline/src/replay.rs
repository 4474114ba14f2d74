//! Replay of a run from its record, without the model.

use crate::error::Result;
use crate::execute::{Execution, Given, missing};
use crate::network::{Outputs, Past};
use crate::noise::Draws;
use crate::{Request, SamplerTaps, Start};
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
    let mut draws = Draws::new(request.seed, start.draws() + plan.draws(), shape, Device::Cpu);
    let given = match start {
        Start::Picture { .. } => return Err(missing()), // a record has its latents: Start::Latents
        Start::Noise => Given::Nothing,
        Start::Latents { latents, .. } => {
            draws.next();
            Given::Image(latents.shallow_clone())
        }
        Start::Sample { sample, .. } => Given::Sample(sample.shallow_clone()),
    };
    let execution = Execution {
        plan,
        prediction: request.scheduler.prediction(),
        guidance: vec![request.guidance.clone()],
        taps,
        given,
    };
    no_grad(|| execution.run(&mut Past { outputs, then: None }, &mut draws, pass))
}
