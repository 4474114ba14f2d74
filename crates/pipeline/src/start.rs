//! The start of a run: noise, a picture, latents, or a sample of another run. With a mask, a part of a picture.

use crate::counts;
use crate::error::Result;
use crate::{Known, Mask, Picture, Request};
use latentrace_checkpoints::UnetInput;
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
    /// A picture, a part of which is made anew: inpainting, as diffusers' `StableDiffusionInpaintPipeline` does it.
    Masked {
        /// As in [`Start::Picture`]. But at 1 the run starts from noise alone.
        strength: f64,
        /// The picture. It must have the size of the request.
        picture: Arc<Picture>,
        /// The mask, of the same size.
        mask: Arc<Mask>,
    },
    /// What a run with a mask knows of its picture.
    Known {
        /// As in [`Start::Masked`].
        strength: f64,
        /// The mask and the latents, for one image.
        known: Known,
    },
    /// A sample of another run, `x0 + sigma * noise`. The run makes the steps of the scheduler below its noise level.
    Sample {
        /// The time and noise level of the sample.
        level: Level,
        /// The sample, `[1, 4, height, width]` in f32.
        sample: Tensor,
        /// What the other run knows of its picture, if it has a mask.
        known: Option<Known>,
        /// Whether the other run started from a picture.
        is_from_picture: bool,
    },
}

/// For which pictures the VAE's encoder draws noise, in this order. The start's noise is drawn between the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encodings {
    /// The picture that the run starts from.
    pub(crate) image: bool,
    /// The picture without its masked part. diffusers encodes it for an ordinary UNet too, which does not use it.
    pub(crate) masked: bool,
}

impl Encodings {
    /// The number of draws.
    pub(crate) fn draws(self) -> usize {
        usize::from(self.image) + usize::from(self.masked)
    }
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
            Start::Masked { strength, picture, mask } => {
                Start::Masked { strength: *strength, picture: picture.clone(), mask: mask.clone() }
            }
            Start::Known { strength, known } => Start::Known { strength: *strength, known: known.clone() },
            Start::Sample { level, sample, known, is_from_picture } => Start::Sample {
                level: *level,
                sample: sample.shallow_clone(),
                known: known.clone(),
                is_from_picture: *is_from_picture,
            },
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
            Start::Masked { strength, .. } | Start::Known { strength, .. } if *strength == 1.0 => {
                from_noise(scheduler.plan(*steps, *reading)?)?
            }
            Start::Picture { strength, .. }
            | Start::Latents { strength, .. }
            | Start::Masked { strength, .. }
            | Start::Known { strength, .. } => scheduler.plan_from_image(*steps, *strength, *reading)?,
            Start::Sample { level, .. } => scheduler.plan_from_sample(*steps, *level)?,
        })
    }

    /// For which pictures the encoder draws noise, in a run of a UNet that takes `input`.
    pub(crate) fn encodings(&self, input: UnetInput) -> Encodings {
        match self {
            Start::Noise | Start::Sample { .. } => Encodings::default(),
            Start::Picture { .. } | Start::Latents { .. } => Encodings { image: true, masked: false },
            Start::Masked { strength, .. } | Start::Known { strength, .. } => {
                Encodings { image: input == UnetInput::Sample || *strength != 1.0, masked: true }
            }
        }
    }

    /// Whether the run, or the one that it continues, starts from a picture: as the pipelines of diffusers for image to image and for
    /// inpainting.
    pub fn is_from_picture(&self) -> bool {
        match self {
            Start::Noise => false,
            Start::Picture { .. } | Start::Latents { .. } | Start::Masked { .. } | Start::Known { .. } => true,
            Start::Sample { is_from_picture, .. } => *is_from_picture,
        }
    }

    /// What the run knows of its picture, if that is given.
    pub(crate) fn known(&self) -> Option<&Known> {
        match self {
            Start::Known { known, .. } | Start::Sample { known: Some(known), .. } => Some(known),
            _ => None,
        }
    }
}

/// Checks that a plan starts from noise.
fn from_noise(plan: Plan) -> Result<Plan> {
    if plan.ops().contains(&Op::Given) { Err(latentrace_schedulers::Error::Inverse.into()) } else { Ok(plan) }
}
