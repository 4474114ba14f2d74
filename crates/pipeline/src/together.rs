//! Several images of one plan, run together.

use crate::error::{Error, Result};
use crate::network::Shared;
use crate::sharing::{Arm, Sharing, start_key, texts};
use crate::{Model, Outcome, Request, Start};
use latentrace_nn::Pass;
use latentrace_nn::tch::{Tensor, no_grad};
use latentrace_text::Tokens;

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
        let Some((first, start)) = images.first() else {
            return Ok(Together { outcomes: Vec::new(), evaluations: 0 });
        };
        let plan = start.plan(first)?;
        for (request, start) in images {
            self.check(request)?;
            if request.size != first.size || start.plan(request)? != plan {
                let found =
                    format!("{} steps at {:?} beside {} at {:?}", request.steps, request.size, first.steps, first.size);
                return Err(Error::Range { field: "batch", expected: "images of one plan and size".into(), found });
            }
        }
        no_grad(|| {
            let (texts, places) = texts(images);
            let encoded: Vec<(Tokens, Tensor)> =
                texts.iter().map(|text| self.encode(text, &mut Pass::silent())).collect::<Result<_>>()?;
            let features: Vec<&Tensor> = encoded.iter().map(|(_, features)| features).collect();
            let arms: Vec<Arm> =
                images.iter().zip(&places).map(|((request, _), texts)| Arm { request, texts: *texts }).collect();
            let mut network = Shared {
                unet: &self.unet,
                texts: Tensor::cat(&features, 0),
                arms: &arms,
                sharing: Sharing::new(images.iter().map(|(request, start)| start_key(request, start))),
                evaluations: 0,
            };
            let latents = self.execute(&plan, images, &mut network, pass)?;
            let outcomes = self.decode_all(&latents).into_iter().enumerate().map(|(image, picture)| {
                Ok(Outcome {
                    latents: latents.narrow(0, image as i64, 1),
                    picture: picture?,
                    tokens: [1, 0].map(|half| encoded[places[image][half]].0.clone()),
                    plan: plan.clone(),
                })
            });
            Ok(Together { outcomes: outcomes.collect::<Result<_>>()?, evaluations: network.evaluations })
        })
    }
}
