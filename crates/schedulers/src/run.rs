//! Runs a plan on tensors of any library.

use crate::{Form, Limit, Op, Plan, Step, Val};
use std::convert::Infallible;

/// The operations of tensors that a plan needs. All tensors of a run have the same shape.
///
/// Sums should be in `f32`, whatever type the network runs in.
pub trait Tensor: Sized {
    /// The error of the tensor library; [`Infallible`] if there is none.
    type Error;

    /// The sum of each tensor times its coefficient. There is at least one term.
    ///
    /// # Errors
    /// The library fails.
    fn sum(terms: &[(f64, &Self)]) -> Result<Self, Self::Error>;

    /// The tensor clipped, each image of a batch by itself. Only plans with `clip_sample` or `thresholding` need it; models of latents
    /// have neither.
    ///
    /// # Errors
    /// The library fails, or the implementation cannot clip.
    fn hold(&self, limit: Limit) -> Result<Self, Self::Error>;
}

/// Why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError<E> {
    /// The plan starts from an image, and there is none.
    #[error("the plan starts from an image, and none is given")]
    NoImage,
    /// The run has made all its network calls.
    #[error("the run is at its end: every network call is made")]
    AtEnd,
    /// The run still waits for a network call.
    #[error("the run waits for a network call, and has no result yet")]
    NotAtEnd,
    /// A tensor, the noise or the network failed.
    #[error(transparent)]
    Of(#[from] E),
}

/// Runs a plan and returns the final latents, which go to the image decoder.
///
/// `given` is the latents of the image, if the plan starts from one. `noise` draws standard normal tensors. `network` gets the call
/// (its time and sigma are in [`Step::level`]) and the input at unit variance. Values are dropped after their last use: no plan of
/// this crate needs more than 14 tensors at once.
///
/// ```
/// use latentrace_schedulers::{Config, Reading, run};
///
/// let plan = Config::from_json_as("{}", "dpm++2m")?.plan(20, Reading::Exact)?;
/// let noise = || Ok(vec![0.3f32, -1.2]);
/// // A network that finds nothing but noise: the sample goes straight to zero.
/// let latents = run(&plan, None, noise, |step, input: &Vec<f32>| {
///     let sigma = step.level.sigma as f32;
///     Ok(input.iter().map(|x| x * sigma.hypot(1.0) / sigma).collect())
/// });
/// assert!(latents.unwrap().iter().all(|x| x.abs() < 1e-3));
/// # Ok::<(), latentrace_schedulers::Error>(())
/// ```
///
/// # Errors
/// The plan starts from an image and none is given; or a tensor, the noise or the network fails.
pub fn run<T: Tensor>(
    plan: &Plan,
    given: Option<T>,
    noise: impl FnMut() -> Result<T, T::Error>,
    mut network: impl FnMut(&Step, &T) -> Result<T, T::Error>,
) -> Result<T, RunError<T::Error>> {
    let mut run = Run::new(plan.clone(), given, noise)?;
    while let Some(step) = run.call().copied() {
        let output = network(&step, &run.input()?)?;
        run.step(output)?;
    }
    run.finish()
}

/// A run that waits for each network call: for an existing loop, or to change samples between calls.
///
/// On the left is the loop of diffusers, on the right the same with a `Run`:
///
/// ```text
/// scheduler.set_timesteps(20)                    let mut run = Run::new(plan, None, noise)?;
/// for t in scheduler.timesteps:                  while let Some(step) = run.call().copied() {
///     input = scheduler.scale_model_input(x, t)      let input = run.input()?;
///     output = unet(input, t)                        let output = unet(&input, step.level.t)?;
///     x = scheduler.step(output, t, x)               run.step(output)?;
///                                                }
/// vae.decode(x)                                  vae.decode(run.finish()?)
/// ```
///
/// Samples are in `x = x₀ + sigma·noise`. A mask is applied between two calls: [`Run::sample`] is the sample of the next call, and
/// [`Run::set_sample`] replaces it, here outside the mask with a known picture with noise of the same level.
///
/// ```
/// use latentrace_schedulers::{Config, Reading, Run};
///
/// let plan = Config::from_json_as("{}", "euler")?.plan(30, Reading::Exact)?;
/// let (known, mask) = ([0.5, -0.5], [1.0, 0.0]); // the first number is sampled, the second is known
/// let mut run = Run::new(plan, None, || Ok(vec![0.4, 1.1])).unwrap();
/// while let Some(step) = run.call().copied() {
///     let sample = run.sample().cloned().unwrap();
///     let noised = |i: usize| known[i] + step.level.sigma * 1.1;
///     run.set_sample((0..2).map(|i| mask[i] * sample[i] + (1.0 - mask[i]) * noised(i)).collect()).unwrap();
///     let input = run.input().unwrap();
///     // A network whose clean estimate is 0.25 everywhere.
///     let sigma = step.level.sigma;
///     run.step(input.iter().map(|x| (x * sigma.hypot(1.0) - 0.25) / sigma).collect()).unwrap();
/// }
/// let made: Vec<f64> = run.finish().unwrap();
/// assert!((made[0] - 0.25).abs() < 1e-6);
/// # Ok::<(), latentrace_schedulers::Error>(())
/// ```
pub struct Run<T, N> {
    plan: Plan,
    /// The values that are still needed.
    values: Vec<Option<T>>,
    /// [`Plan::last_uses`].
    done: Vec<Vec<Val>>,
    noise: N,
    given: Option<T>,
    /// How many network calls were made.
    calls: usize,
}

impl<T: Tensor, N: FnMut() -> Result<T, T::Error>> Run<T, N> {
    /// Begins a run, up to its first network call. `given` is the latents of the image, if the plan starts from one; `noise` draws
    /// standard normal tensors.
    ///
    /// # Errors
    /// The plan starts from an image and none is given; or a tensor or the noise fails.
    pub fn new(plan: Plan, given: Option<T>, noise: N) -> Result<Run<T, N>, RunError<T::Error>> {
        let done = plan.last_uses();
        let mut run = Run { plan, values: Vec::new(), done, noise, given, calls: 0 };
        run.go_on()?;
        Ok(run)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The call that the run waits for, with its time and sigma; `None` at the end.
    pub fn call(&self) -> Option<&Step> {
        self.plan.steps().get(self.calls)
    }

    /// The sample of that call, `x₀ + sigma·noise`; `None` at the end.
    pub fn sample(&self) -> Option<&T> {
        self.call().and_then(|step| self.value(step.sample))
    }

    /// Replaces the sample of that call.
    ///
    /// # Errors
    /// The run is at its end.
    pub fn set_sample(&mut self, sample: T) -> Result<(), RunError<T::Error>> {
        let Some(Step { sample: Val(val), .. }) = self.call().copied() else { return Err(RunError::AtEnd) };
        self.values[val as usize] = Some(sample);
        Ok(())
    }

    /// The input of the network: the sample at the unit variance that it was trained on.
    ///
    /// # Errors
    /// The run is at its end, or a tensor fails.
    pub fn input(&self) -> Result<T, RunError<T::Error>> {
        match self.plan.ops().get(self.values.len()) {
            Some(Op::Eval { input, .. }) => Ok(self.sum(input)?),
            _ => Err(RunError::AtEnd),
        }
    }

    /// Takes the output of the network, and continues to the next call or to the end.
    ///
    /// # Errors
    /// The run is at its end; or a tensor or the noise fails.
    pub fn step(&mut self, output: T) -> Result<(), RunError<T::Error>> {
        if self.call().is_none() {
            return Err(RunError::AtEnd);
        }
        self.calls += 1;
        self.keep(output);
        self.go_on()
    }

    /// The final latents.
    ///
    /// # Errors
    /// The run still waits for a call.
    pub fn finish(mut self) -> Result<T, RunError<T::Error>> {
        let Val(result) = self.plan.result();
        self.values.get_mut(result as usize).and_then(Option::take).ok_or(RunError::NotAtEnd)
    }

    /// The number of tensors that the run keeps.
    pub fn alive(&self) -> usize {
        self.values.iter().flatten().count()
    }

    /// Computes values up to the next network call.
    fn go_on(&mut self) -> Result<(), RunError<T::Error>> {
        while let Some(op) = self.plan.ops().get(self.values.len()) {
            let value = match op {
                Op::Eval { .. } => return Ok(()),
                Op::Given => self.given.take().ok_or(RunError::NoImage)?,
                Op::Noise => (self.noise)()?,
                Op::Sum(form) => self.sum(form)?,
                Op::Clip { of, limit } => match self.value(*of) {
                    Some(estimate) => estimate.hold(*limit)?,
                    None => return Err(RunError::AtEnd),
                },
            };
            self.keep(value);
        }
        Ok(())
    }

    /// Keeps the value of the next op, and drops the values that nothing needs after it.
    fn keep(&mut self, value: T) {
        let done = std::mem::take(&mut self.done[self.values.len()]);
        self.values.push(Some(value));
        done.into_iter().for_each(|Val(val)| self.values[val as usize] = None);
    }

    fn value(&self, Val(val): Val) -> Option<&T> {
        self.values.get(val as usize).and_then(Option::as_ref)
    }

    fn sum(&self, form: &Form) -> Result<T, T::Error> {
        let mut terms: Vec<(f64, &T)> =
            form.terms().filter_map(|(val, coefficient)| Some((coefficient, self.value(val)?))).collect();
        if terms.is_empty() {
            terms.extend(self.values.iter().flatten().next().map(|any| (0.0, any))); // zeros of the same shape
        }
        T::sum(&terms)
    }
}

impl Tensor for Vec<f64> {
    type Error = Infallible;

    fn sum(terms: &[(f64, &Vec<f64>)]) -> Result<Vec<f64>, Infallible> {
        let mut total = vec![0.0; terms.first().map_or(0, |(_, tensor)| tensor.len())];
        for (coefficient, tensor) in terms {
            total.iter_mut().zip(*tensor).for_each(|(sum, value)| *sum += coefficient * value);
        }
        Ok(total)
    }

    fn hold(&self, limit: Limit) -> Result<Vec<f64>, Infallible> {
        Ok(limit.hold(self))
    }
}

impl Tensor for Vec<f32> {
    type Error = Infallible;

    fn sum(terms: &[(f64, &Vec<f32>)]) -> Result<Vec<f32>, Infallible> {
        let mut total = vec![0.0; terms.first().map_or(0, |(_, tensor)| tensor.len())];
        for (coefficient, tensor) in terms {
            total.iter_mut().zip(*tensor).for_each(|(sum, value)| *sum += *coefficient as f32 * value);
        }
        Ok(total)
    }

    fn hold(&self, limit: Limit) -> Result<Vec<f32>, Infallible> {
        let wide: Vec<f64> = self.iter().copied().map(f64::from).collect();
        Ok(limit.hold(&wide).into_iter().map(|value| value as f32).collect())
    }
}
