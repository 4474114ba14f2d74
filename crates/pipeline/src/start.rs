//! The start of a run: noise, a picture, latents, or a sample of another run.

use crate::counts;
use crate::error::Result;
use crate::{Picture, Request};
use latentrace_nn::tch::Tensor;
use latentrace_schedulers::{Level, Op, Plan};
use std::sync::Arc;

/// The start of a run.
#[derive(Debug, Default)]
pub enum Start {
    /// Noise, drawn from the seed.
    #[default]
    Noise,
    /// A picture, which is encoded and noised. The run makes only the last steps, a share of `strength` (Meng et al.
    /// 2021, SDEdit, arXiv 2108.01073).
    Picture {
        /// The share of the steps, above 0 and at most 1. At 1 the picture is noised to the first noise level.
        strength: f64,
        /// The picture. It must have the size of the request.
        picture: Arc<Picture>,
    },
    /// The latents of a picture.
    Latents {
        /// As in [`Start::Picture`].
        strength: f64,
        /// The latents at unit variance, `[1, 4, height, width]`.
        latents: Tensor,
    },
    /// A sample of another run, `x0 + sigma * noise`. The run makes the steps of the scheduler below its noise level.
    Sample {
        /// The time and noise level of the sample.
        level: Level,
        /// The sample, `[1, 4, height, width]` in f32.
        sample: Tensor,
    },
}

impl Clone for Start {
    /// The copy shares the tensors and the picture.
    fn clone(&self) -> Start {
        match self {
            Start::Noise => Start::Noise,
            Start::Picture { strength, picture } => Start::Picture { strength: *strength, picture: picture.clone() },
            Start::Latents { strength, latents } => {
                Start::Latents { strength: *strength, latents: latents.shallow_clone() }
            }
            Start::Sample { level, sample } => Start::Sample { level: *level, sample: sample.shallow_clone() },
        }
    }
}

impl Start {
    /// The plan from this start to the final latents.
    ///
    /// # Errors
    /// The scheduler cannot sample this number of steps, or the strength leaves no step.
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        let Request { scheduler, steps, reading, .. } = request;
        counts::add(|counts| &mut counts.plans);
        Ok(match self {
            Start::Noise => from_noise(scheduler.plan(*steps, *reading)?)?,
            Start::Picture { strength, .. } | Start::Latents { strength, .. } => {
                scheduler.plan_from_image(*steps, *strength, *reading)?
            }
            Start::Sample { level, .. } => scheduler.plan_from_sample(*steps, *level)?,
        })
    }

    /// The number of draws before those of the plan. For a picture, diffusers draws the noise of the encoder first.
    pub(crate) fn draws(&self) -> usize {
        usize::from(matches!(self, Start::Picture { .. } | Start::Latents { .. }))
    }
}

/// Checks that a plan starts from noise.
fn from_noise(plan: Plan) -> Result<Plan> {
    if plan.ops().contains(&Op::Given) { Err(latentrace_schedulers::Error::Inverse.into()) } else { Ok(plan) }
}
