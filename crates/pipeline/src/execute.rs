//! The executor: it runs any plan on tensors, and passes the sampler's values through their taps.

use crate::error::{Error, Result, Stage};
use crate::network::{Network, Outputs};
use crate::noise::Draws;
use crate::tripwire::{FaultContext, blame, fault, is_finite, mark};
use crate::{Guidance, Known, SamplerTaps};
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Branch, Moment, Pass, Tap};
use latentrace_schedulers::{Form, Level, Limit, Op, Plan, Prediction, Val};

/// A plan, with what is needed to run it.
pub(crate) struct Execution<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) prediction: Prediction,
    /// The guidance of each image.
    pub(crate) guidance: Vec<Guidance>,
    pub(crate) taps: &'a SamplerTaps,
    pub(crate) given: Given,
    /// What the images know of their pictures, if they have masks.
    pub(crate) known: Option<Known>,
}

/// The value of [`Op::Given`], `[images, 4, height, width]`.
pub(crate) enum Given {
    Nothing,
    /// The latents of pictures; the plan adds noise to them.
    Image(Tensor),
    /// Samples of other runs.
    Sample(Tensor),
}

impl Given {
    /// The latents of known pictures, if the plan starts from them.
    pub(crate) fn of(known: &Known, plan: &Plan) -> Given {
        match known.image().filter(|_| plan.ops().contains(&Op::Given)) {
            Some(image) => Given::Image(image.shallow_clone()),
            None => Given::Nothing,
        }
    }
}

/// The sampler's values since the last network call, kept for the search for the first tensor that is not finite. They
/// are searched only if a later tensor is not finite, because a value that is not finite makes all later ones so.
#[derive(Default)]
struct Since<'a>(Vec<(&'a Tap, Tensor)>);

impl<'a> Since<'a> {
    /// Keeps the tensor that a tap returned.
    fn note(&mut self, tap: &'a Tap, tensor: Tensor) -> Tensor {
        self.0.push((tap, tensor.shallow_clone()));
        tensor
    }

    /// The first tap whose tensor is not finite, with the fault.
    fn first(&self) -> Option<(String, String)> {
        self.0.iter().find_map(|(tap, tensor)| Some((tap.name().to_string(), fault(tensor)?)))
    }
}

impl<'a> Execution<'a> {
    /// Runs the plan. A value is dropped after its last use. Sums are f32, whatever format the network runs in. Ends
    /// early and returns `None` if the network has no more outputs.
    ///
    /// # Errors
    /// An output of the network or a value of the sampler is not finite.
    pub(crate) fn run(&self, network: &mut dyn Network, draws: &mut Draws, pass: &mut Pass) -> Result<Option<Tensor>> {
        let ops = self.plan.ops();
        let mut since = Since::default();
        let mut known = self.known.as_ref().map(|known| self.tapped(known, pass, &mut since));
        let mut values: Vec<Option<Tensor>> = Vec::with_capacity(ops.len());
        let (mut call, mut drawn) = (0, 0);
        for (index, (op, done)) in ops.iter().zip(self.plan.last_uses()).enumerate() {
            pass.set_moment(self.moment(call));
            let value = match op {
                Op::Noise => {
                    // The first draw of a run from noise or from an image is its start; churn may draw again before the
                    // first call.
                    let is_start = (call, drawn) == (0, 0) && !matches!(self.given, Given::Sample(_));
                    let taps = self.taps;
                    let tap = if is_start { &taps.start } else { &taps.noise };
                    drawn += 1;
                    let moment = self.moment(call_of(self.plan, Val(index as u32), call));
                    let drawn = since.note(tap, self.tap(pass, moment, tap, draws.next().ok_or_else(missing)?));
                    if let (true, Some(Known::Replaces { noise, .. })) = (is_start, &mut known) {
                        *noise = drawn.shallow_clone();
                    }
                    drawn
                }
                Op::Given => match &self.given {
                    Given::Nothing => return Err(missing()),
                    Given::Image(latents) => {
                        let taps = self.taps;
                        let latents = self.tap(pass, self.moment(0), &taps.image, latents.shallow_clone());
                        if let Some(Known::Replaces { image, .. }) = &mut known {
                            *image = latents.shallow_clone();
                        }
                        since.note(&taps.image, latents)
                    }
                    Given::Sample(sample) => sample.shallow_clone(),
                },
                Op::Eval { input, .. } => {
                    let input = sum(input, &values)?;
                    let input = match &known {
                        Some(known) => known.beside(input),
                        None => input,
                    };
                    let sample = value(&values, self.plan.steps()[call].sample)?;
                    let Some(output) = self.call(network, pass, &since, call, &input, sample)? else { return Ok(None) };
                    call += 1;
                    since = Since::default();
                    output
                }
                Op::Sum(form) => sum(form, &values)?,
                Op::Clip { of, limit } => clip(value(&values, *of)?, *limit),
            };
            values.push(Some(self.seen(pass, &mut since, known.as_ref(), Val(index as u32), value, call)));
            done.into_iter().for_each(|val| values[val.0 as usize] = None);
        }
        let latents = values.swap_remove(self.plan.result().0 as usize).ok_or_else(missing)?;
        let latents = match &known {
            Some(known) => known.keep_at_the_end(latents),
            None => latents,
        };
        let latents = self.tap(pass, self.moment(call), &self.taps.latents, latents);
        match fault(&latents) {
            None => Ok(Some(latents)),
            Some(found) => {
                let (tap, found) = since.first().unwrap_or_else(|| (self.taps.latents.name().into(), found));
                let last = self.moment(call);
                let stage = Stage::Call { call: last.call, t: last.t };
                Err(Error::NotFinite { tap, found, stage, hint: network.hint() })
            }
        }
    }

    /// One network call: the guided outputs of every image, passed through their taps. The check that all are finite
    /// reads a single number from the device, because each read waits for the device.
    fn call(
        &self,
        network: &mut dyn Network,
        pass: &mut Pass,
        since: &Since,
        call: usize,
        input: &Tensor,
        sample: &Tensor,
    ) -> Result<Option<Tensor>> {
        if let Some(cause) = pass.stop() {
            return Err(Error::Stopped { call, cause });
        }
        let level = self.plan.steps()[call].level;
        let outputs = network.outputs(pass, call, input, level)?;
        if outputs.len() != self.guidance.len() {
            return Ok(None); // the network has no more outputs
        }
        let raw: Vec<Tensor> = outputs.iter().flat_map(Outputs::tensors).map(Tensor::shallow_clone).collect();
        let guided = self.guided(outputs, pass, call, sample);
        if is_finite(&raw.iter().fold(mark(&guided), |sum, output| sum + mark(output))) {
            return Ok(Some(guided));
        }
        let Some(found) = raw.iter().chain([&guided]).find_map(fault) else { return Ok(Some(guided)) };
        let stage = Stage::Call { call, t: level.t };
        if let Some((tap, found)) = since.first() {
            return Err(Error::NotFinite { tap, found, stage, hint: network.hint() });
        }
        let context = FaultContext { output: self.taps.output.name().into(), stage, hint: network.hint() };
        Err(blame(context, found, pass, |pass| {
            let outputs = network.outputs(pass, call, input, level);
            outputs.map(|outputs| self.guided(outputs, pass, call, sample))
        }))
    }

    /// Passes the outputs of every image through their taps, and guides them: `[images, 4, height, width]`.
    fn guided(&self, outputs: Vec<Outputs>, pass: &mut Pass, call: usize, sample: &Tensor) -> Tensor {
        let level = self.plan.steps()[call].level;
        let taps = self.taps;
        let mut guided = Vec::new();
        for (image, (outputs, guidance)) in outputs.into_iter().zip(&self.guidance).enumerate() {
            pass.set_moment(Moment { image, ..self.moment(call) });
            let sample = row(sample, image);
            let through_taps = |pass: &mut Pass, noise: &Tap, output: &Tap, tensor| {
                let tensor = self.as_noise(pass, noise, tensor, &sample, level.sigma);
                pass.tap(output, tensor)
            };
            let outputs = outputs.map(&mut |branch, tensor| match branch {
                Branch::Unconditional => through_taps(pass, &taps.unconditional, &taps.output_unconditional, tensor),
                Branch::Conditional => through_taps(pass, &taps.conditional, &taps.output_conditional, tensor),
            });
            guided.push(through_taps(pass, &taps.guided, &taps.output, outputs.guide(guidance.at(level.sigma))));
        }
        pass.set_moment(self.moment(call));
        stack(guided)
    }

    /// Passes a value through a tap, the row of each image by itself.
    fn tap(&self, pass: &mut Pass, moment: Moment, tap: &Tap, tensor: Tensor) -> Tensor {
        let images = self.guidance.len();
        if images == 1 {
            pass.set_moment(moment);
            return pass.tap(tap, tensor);
        }
        let mut changed = false;
        let rows: Vec<Tensor> = (0..images)
            .map(|image| {
                pass.set_moment(Moment { image, ..moment });
                let before = row(&tensor, image);
                let address = before.data_ptr();
                let after = pass.tap(tap, before);
                changed |= after.data_ptr() != address;
                after
            })
            .collect();
        pass.set_moment(moment);
        if changed { stack(rows) } else { tensor }
    }

    /// Passes a network output through a tap, converted to predicted noise: `eps = a x + b output`. The conversion is
    /// done only if a probe wants the tensor, and undone only if the probe changes it. So a probe that only looks
    /// changes no bit.
    fn as_noise(&self, pass: &mut Pass, tap: &Tap, output: Tensor, sample: &Tensor, sigma: f64) -> Tensor {
        if !pass.wants(tap) {
            return output;
        }
        let (a, b) = self.prediction.epsilon(sigma);
        let noise = if (a, b) == (0.0, 1.0) { output.shallow_clone() } else { sample * a + &output * b };
        let address = noise.data_ptr();
        let after = pass.tap(tap, noise);
        if after.data_ptr() == address { output } else { (after - sample * a) / b }
    }

    /// What the images know of their pictures, passed through the taps. Where the plan begins with the picture and with
    /// noise, these pass their taps there.
    fn tapped(&self, known: &Known, pass: &mut Pass, since: &mut Since<'a>) -> Known {
        let taps = self.taps;
        let mut tapped =
            |tap, tensor: &Tensor| since.note(tap, self.tap(pass, self.moment(0), tap, tensor.shallow_clone()));
        match known {
            Known::Replaces { mask, image, noise } => {
                let mask = tapped(&taps.mask, mask);
                let image = match self.given {
                    Given::Image(_) => image.shallow_clone(),
                    Given::Nothing | Given::Sample(_) => tapped(&taps.image, image),
                };
                let noise = match self.given {
                    Given::Sample(_) => tapped(&taps.start, noise),
                    Given::Nothing | Given::Image(_) => noise.shallow_clone(),
                };
                Known::Replaces { mask, image, noise }
            }
            Known::Given { mask, masked, image } => Known::Given {
                mask: tapped(&taps.mask, mask),
                masked: tapped(&taps.masked, masked),
                image: image.as_ref().map(Tensor::shallow_clone),
            },
        }
    }

    /// Passes a value through its tap, if it is the sample or the clean estimate of a step. The known part of a sample is
    /// replaced first, except at the start of the run.
    fn seen(
        &self,
        pass: &mut Pass,
        since: &mut Since<'a>,
        known: Option<&Known>,
        val: Val,
        value: Tensor,
        calls: usize,
    ) -> Tensor {
        let steps = self.plan.steps();
        if let Some(step) = steps.get(calls).filter(|step| step.sample == val) {
            let value = match known.filter(|_| calls > 0) {
                Some(known) => known.keep(value, step.known),
                None => value,
            };
            return since.note(&self.taps.sample, self.tap(pass, self.moment(calls), &self.taps.sample, value));
        }
        if calls > 0 && steps[calls - 1].denoised == val {
            return since.note(&self.taps.denoised, self.tap(pass, self.moment(calls - 1), &self.taps.denoised, value));
        }
        value
    }

    fn moment(&self, call: usize) -> Moment {
        moment(self.plan, call)
    }
}

/// The row of an image, `[1, 4, height, width]`.
fn row(tensor: &Tensor, image: usize) -> Tensor {
    tensor.narrow(0, image as i64, 1)
}

/// Rows concatenated, `[images, 4, height, width]`.
fn stack(mut rows: Vec<Tensor>) -> Tensor {
    if rows.len() == 1 { rows.swap_remove(0) } else { Tensor::cat(&rows, 0) }
}

/// The [`Moment`] of a call of a plan: its step, time and noise level. A call after the last one is taken as the last.
pub fn moment(plan: &Plan, call: usize) -> Moment {
    let call = call.min(plan.steps().len() - 1);
    let step = plan.steps()[call];
    let Level { t, sigma } = step.level;
    Moment { call, step: step.index, evaluation: step.evaluation, t, sigma, ..Moment::default() }
}

/// The call whose step a draw belongs to, with the number of calls that are made before it: the last of these until its
/// step is complete, and then the next one, whose input has the noise of churn.
pub(crate) fn call_of(plan: &Plan, draw: Val, calls: usize) -> usize {
    match calls.checked_sub(1) {
        Some(last) if draw < plan.steps()[last].next => last,
        _ => calls.min(plan.calls() - 1),
    }
}

/// The call that each draw of a plan belongs to, in order. If the run starts from noise, its start is the first draw.
pub(crate) fn draws(plan: &Plan) -> impl Iterator<Item = usize> {
    let mut calls = 0;
    plan.ops().iter().enumerate().filter_map(move |(index, op)| {
        calls += usize::from(matches!(op, Op::Eval { .. }));
        matches!(op, Op::Noise).then(|| call_of(plan, Val(index as u32), calls))
    })
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

/// Clips an estimate `[batch, ..]`, each image within its own limit (Saharia et al. 2022, section 2.3).
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

/// The error of a plan that uses a value before it is computed or after it is dropped.
pub(crate) fn missing() -> Error {
    Error::Range {
        field: "plan",
        expected: "values that are computed before they are used".into(),
        found: "none".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_is_clipped_within_its_own_limit() {
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
