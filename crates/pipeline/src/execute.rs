//! The one executor: it runs any plan on tensors, and moves the sampler's values through their taps.

use crate::error::{Error, Result};
use crate::guidance::{Guided, Outputs};
use crate::noise::Draws;
use crate::tripwire::fault;
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Moment, Pass, Tap};
use latentrace_schedulers::{Form, Limit, Op, Plan, Prediction, Step, Val};

/// The taps of the sampler's own values, each `[1, 4, height, width]` in f32. Samples are in
/// `x = x0 + sigma * noise`.
pub struct SamplerTaps {
    /// The sample that a call is about. An edit changes what the sampler goes on with.
    pub sample: Tap,
    /// The network's predicted noise without the prompt. An edit changes the network's output.
    pub unconditional: Tap,
    /// The network's predicted noise with the prompt. An edit changes the network's output.
    pub conditional: Tap,
    /// The predicted noise after guidance. An edit changes the output that the sampler goes on with.
    pub guided: Tap,
    /// The clean estimate, after any clipping. An edit changes it for samplers that go on from it.
    pub denoised: Tap,
    /// The normal numbers that were drawn; the first are the start.
    pub noise: Tap,
}

impl SamplerTaps {
    /// Makes the taps of one run.
    pub fn new() -> SamplerTaps {
        SamplerTaps {
            sample: Tap::named("sampler.sample"),
            unconditional: Tap::named("sampler.epsilon.unconditional"),
            conditional: Tap::named("sampler.epsilon.conditional"),
            guided: Tap::named("sampler.epsilon.guided"),
            denoised: Tap::named("sampler.denoised"),
            noise: Tap::named("sampler.noise"),
        }
    }
}

impl Default for SamplerTaps {
    fn default() -> SamplerTaps {
        SamplerTaps::new()
    }
}

/// A plan being run.
pub(crate) struct Execution<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) prediction: Prediction,
    pub(crate) network: &'a Guided<'a>,
    pub(crate) taps: &'a SamplerTaps,
    /// The image's latents for [`Op::Given`].
    pub(crate) given: Option<Tensor>,
}

impl Execution<'_> {
    /// Runs the plan; a value is dropped after its last use. Sums are f32 whatever the network runs in.
    pub(crate) fn run(&self, draws: &mut Draws, pass: &mut Pass) -> Result<Tensor> {
        let ops = self.plan.ops();
        let mut values: Vec<Option<Tensor>> = Vec::with_capacity(ops.len());
        let mut call = 0;
        for (index, (op, done)) in ops.iter().zip(self.plan.last_uses()).enumerate() {
            pass.set_moment(self.moment(call));
            let this = Val(index as u32);
            let value = match op {
                Op::Given => self.given.as_ref().map(Tensor::shallow_clone).ok_or_else(missing)?,
                Op::Noise => pass.tap(&self.taps.noise, draws.next().ok_or_else(missing)?),
                Op::Eval { input, t } => {
                    let step = &self.plan.steps()[call];
                    let output = self.call(pass, &sum(input, &values)?, *t, step, &values, call)?;
                    call += 1;
                    output
                }
                Op::Sum(form) => sum(form, &values)?,
                Op::Clip { of, limit } => clip(value(&values, *of)?, *limit),
            };
            values.push(Some(self.seen(pass, this, value, call)));
            done.into_iter().for_each(|val| values[val.0 as usize] = None);
        }
        values.swap_remove(self.plan.result().0 as usize).ok_or_else(missing)
    }

    /// One network call: both outputs, guided, through the taps of the predicted noise.
    fn call(
        &self,
        pass: &mut Pass,
        input: &Tensor,
        t: f64,
        step: &Step,
        values: &[Option<Tensor>],
        call: usize,
    ) -> Result<Tensor> {
        let sample = value(values, step.sample)?;
        let outputs = self.network.outputs(pass, input, t);
        let outputs = Outputs {
            unconditional: self.as_noise(pass, &self.taps.unconditional, outputs.unconditional, sample, step),
            conditional: self.as_noise(pass, &self.taps.conditional, outputs.conditional, sample, step),
        };
        let guided = self.as_noise(pass, &self.taps.guided, self.network.guide(&outputs), sample, step);
        let Some(found) = fault(&guided) else { return Ok(guided) };
        let (tap, found) =
            self.network.first_fault(input, t).unwrap_or_else(|| (self.taps.guided.name().to_string(), found));
        let hint = match self.network.unet.kind() {
            Kind::Half => "f16 holds nothing above 65504; try --dtype f32 or bf16",
            _ => "the checkpoint's weights, or the guidance, are too large",
        };
        Err(Error::NotFinite { tap, found, call, t, hint })
    }

    /// Moves a network output through a tap as the noise it predicts. The conversion `eps = a x + b output` is made only
    /// for a probe that looks, and undone only for one that edits, so that looking changes no bit.
    fn as_noise(&self, pass: &mut Pass, tap: &Tap, output: Tensor, sample: &Tensor, step: &Step) -> Tensor {
        if !pass.wants(tap) {
            return output;
        }
        let (a, b) = self.prediction.epsilon(step.level.sigma);
        let noise = if (a, b) == (0.0, 1.0) { output.shallow_clone() } else { sample * a + &output * b };
        let address = noise.data_ptr();
        let after = pass.tap(tap, noise);
        if after.data_ptr() == address { output } else { (after - sample * a) / b }
    }

    /// Moves the values that a step names through their taps.
    fn seen(&self, pass: &mut Pass, val: Val, value: Tensor, calls: usize) -> Tensor {
        let steps = self.plan.steps();
        if steps.get(calls).is_some_and(|step| step.sample == val) {
            return pass.tap(&self.taps.sample, value);
        }
        if calls > 0 && steps[calls - 1].denoised == val {
            pass.set_moment(self.moment(calls - 1));
            return pass.tap(&self.taps.denoised, value);
        }
        value
    }

    fn moment(&self, call: usize) -> Moment {
        let steps = self.plan.steps();
        let level = steps[call.min(steps.len() - 1)].level;
        Moment { call, t: level.t, sigma: level.sigma }
    }
}

fn sum(form: &Form, values: &[Option<Tensor>]) -> Result<Tensor> {
    let mut total: Option<Tensor> = None;
    for (val, coefficient) in form.terms() {
        let term = value(values, val)? * coefficient;
        total = Some(match total {
            Some(total) => total + term,
            None => term,
        });
    }
    total.ok_or_else(missing)
}

/// `[batch, ..]`, each image held within its own limit (Saharia et al. 2022, section 2.3).
fn clip(estimate: &Tensor, limit: Limit) -> Tensor {
    match limit {
        Limit::Clamp { range } => estimate.clamp(-range, range),
        Limit::Dynamic { ratio, max } => {
            let magnitudes = estimate.abs().flatten(1, -1);
            let reach = magnitudes.quantile_scalar(ratio, 1, true, "linear").clamp(1.0, max); // [batch, 1]
            let reach = reach.view([-1, 1, 1, 1]);
            estimate.clamp_tensor(Some(&-&reach), Some(&reach)) / reach
        }
    }
}

fn value(values: &[Option<Tensor>], val: Val) -> Result<&Tensor> {
    values.get(val.0 as usize).and_then(Option::as_ref).ok_or_else(missing)
}

/// A plan that uses a value which it has not made, or has dropped.
fn missing() -> Error {
    Error::Range { field: "plan", expected: "values made before they are used".into(), found: "none".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_holds_each_image_within_its_own_limit() {
        let x = Tensor::from_slice(&[-4f32, -1.0, 0.0, 1.0, 2.0, 0.1, 0.2, 0.3, 0.4, 0.5]).view([2, 1, 1, 5]);
        let clipped = |limit| Vec::<f32>::try_from(clip(&x, limit).flatten(0, -1)).unwrap();
        let clamp = clipped(Limit::Clamp { range: 1.5 });
        assert_eq!(clamp, [-1.5, -1.0, 0.0, 1.0, 1.5, 0.1, 0.2, 0.3, 0.4, 0.5]);
        // The largest magnitude of the first image is 4; the second never exceeds 1, so it is left alone.
        let dynamic = clipped(Limit::Dynamic { ratio: 1.0, max: 10.0 });
        assert_eq!(dynamic, [-1.0, -0.25, 0.0, 0.25, 0.5, 0.1, 0.2, 0.3, 0.4, 0.5]);
        let capped = clipped(Limit::Dynamic { ratio: 1.0, max: 2.0 });
        assert_eq!(capped[..5], [-1.0, -0.5, 0.0, 0.5, 1.0]);
        // The median of 0, 1, 1, 2, 4 is 1.
        let median = clipped(Limit::Dynamic { ratio: 0.5, max: 10.0 });
        assert_eq!(median[..5], [-1.0, -1.0, 0.0, 1.0, 1.0]);
    }
}
