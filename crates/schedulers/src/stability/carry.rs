//! Differences carried through a whole plan.

use crate::{Config, Op, Plan, RunError, Step, Tensor, run::Run};

impl Config {
    /// The differences of the samples of two runs whose first samples differ by `start`: one for each network call, then that of the
    /// last sample. Both runs draw the same noise afterwards, so it is the deterministic part of a sampler that is carried.
    ///
    /// `jacobian` multiplies differences by `∂D/∂x` at the sigma that the network is told. With a block of differences as one tensor
    /// the result is the product of the companion matrices, from the first sample.
    ///
    /// # Errors
    /// The plan starts from an image, or a tensor or `jacobian` fails.
    pub fn carry<T: Tensor>(
        &self,
        plan: &Plan,
        start: &T,
        mut jacobian: impl FnMut(f64, &T) -> Result<T, T::Error>,
    ) -> Result<Vec<T>, RunError<T::Error>> {
        if plan.ops().contains(&Op::Given) {
            return Err(RunError::NoImage);
        }
        let Some(first) = plan.steps().first() else { return Err(RunError::NotAtEnd) };
        // The first draw is the start; scaled so that the first sample differs by `start`.
        let scale: f64 = plan.row(first.sample).terms().map(|(_, weight)| weight).next().unwrap_or(1.0);
        let mut draws = 0;
        let noise = || {
            draws += 1;
            T::sum(&[(if draws == 1 { 1.0 / scale } else { 0.0 }, start)])
        };
        let mut run = Run::new(plan.clone(), None, noise)?;
        let mut carried = Vec::new();
        while let Some(Step { level, .. }) = run.call().copied() {
            let sample = run.sample().ok_or(RunError::AtEnd)?;
            carried.push(T::sum(&[(1.0, sample)])?);
            let input = run.input()?;
            let sigma = self.schedule().level(level.t).sigma;
            let (own, times) = self.prediction().slope(sigma);
            let multiplied = jacobian(sigma, &input)?;
            run.step(T::sum(&[(own, &input), (times, &multiplied)])?)?;
        }
        carried.push(run.finish()?);
        Ok(carried)
    }
}
