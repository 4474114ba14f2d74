//! Several images of one plan, run together.

use crate::error::{Error, Result};
use crate::network::Shared;
use crate::sharing::{Arm, Sharing, start_key, texts};
use crate::{Model, Outcome, Prepared, Request, Start};
use latentrace_nn::Pass;
use latentrace_nn::tch::{Tensor, no_grad};
use std::sync::Arc;

/// What images that were run together left.
pub struct Together {
    /// One for each request, in order.
    pub outcomes: Vec<Outcome>,
    /// How many rows the network computed: a row is one sample with one text. [`evaluations`](crate::evaluations) knows it
    /// beforehand.
    pub evaluations: usize,
}

impl Model {
    /// Runs images of one plan and size in one batch, and computes once what they share: texts, pictures to start from,
    /// every call for which two of them still have the same sample and text, and only the half of guidance that a weight of
    /// 0 or 1 needs. The pictures are those of [`Model::run`] up to the rounding of other batch sizes.
    ///
    /// Of the taps, the sampler's alone are passed, each image's row by itself with its place in
    /// [`Moment::image`](latentrace_nn::Moment::image): a row inside the networks may belong to several images.
    ///
    /// # Errors
    /// The requests have not one plan and size, one of them cannot be run, or a tensor was not finite.
    pub fn run_together(&self, images: &[(&Request, &Start)], pass: &mut Pass) -> Result<Together> {
        let prepare = |(request, start): &(&Request, &Start)| self.prepare((*request).clone(), (*start).clone());
        let prepared: Vec<Prepared> = images.iter().map(prepare).collect::<Result<_>>()?;
        self.make_together(&prepared.iter().collect::<Vec<_>>(), pass)
    }

    /// [`Model::run_together`] of what was prepared.
    ///
    /// # Errors
    /// The images have not one plan and size, or a tensor was not finite.
    pub fn make_together(&self, images: &[&Prepared], pass: &mut Pass) -> Result<Together> {
        let Some(first) = images.first() else {
            return Ok(Together { outcomes: Vec::new(), evaluations: 0 });
        };
        if let Some(other) = images.iter().find(|other| !is_alike(first, other)) {
            let of =
                |Prepared { request: Request { steps, size, .. }, .. }: &Prepared| format!("{steps} steps at {size:?}");
            let found = format!("{} beside {}", of(other), of(first));
            return Err(Error::Range { field: "batch", expected: "images of one plan and size".into(), found });
        }
        no_grad(|| {
            let (texts, places) = texts(images);
            let features: Vec<Tensor> =
                texts.iter().map(|tokens| self.encode_tokens(tokens, &mut Pass::silent())).collect::<Result<_>>()?;
            let arms: Vec<Arm> = images
                .iter()
                .zip(&places)
                .map(|(image, texts)| Arm { request: &image.request, texts: *texts })
                .collect();
            let mut network = Shared {
                unet: &self.unet,
                texts: Tensor::cat(&features, 0),
                arms: &arms,
                sharing: Sharing::new(images.iter().map(|image| start_key(image))),
                evaluations: 0,
            };
            let latents = self.execute(images, &mut network, pass)?;
            let outcomes = self.decode_all(&latents).into_iter().zip(images).enumerate();
            let outcomes = outcomes.map(|(place, (picture, image))| {
                Ok(Outcome {
                    latents: latents.narrow(0, place as i64, 1),
                    picture: picture?,
                    tokens: image.tokens.clone(),
                    plan: image.plan.clone(),
                })
            });
            Ok(Together { outcomes: outcomes.collect::<Result<_>>()?, evaluations: network.evaluations })
        })
    }
}

/// Whether two images can be run in one batch.
fn is_alike(first: &Prepared, other: &Prepared) -> bool {
    let same_plan = Arc::ptr_eq(&first.plan, &other.plan) || first.plan == other.plan;
    other.request.size == first.request.size && same_plan
}
