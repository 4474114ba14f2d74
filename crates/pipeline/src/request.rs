//! A request: everything that a model needs to make one picture.

use crate::error::Result;
use crate::guidance::check_guidance;
use crate::{Features, Guidance, Model, Size, Start, TextOptions};
use latentrace_schedulers::{Config, Plan, Reading};

/// The settings of one picture.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt: the text of the unconditional branch. Empty by default.
    pub negative: String,
    /// The seed of all noise.
    pub seed: u64,
    /// The number of sampling steps.
    pub steps: usize,
    /// The guidance weight, `w` in `u + w (c - u)`.
    pub guidance: Guidance,
    /// Height and width in pixels.
    pub size: Size,
    /// The scheduler's configuration.
    pub scheduler: Config,
    /// Whether the scheduler reproduces diffusers, faults included.
    pub reading: Reading,
    /// How the two texts are read and encoded.
    pub text: TextOptions,
    /// Text features in place of both texts, if any. Then nothing is tokenized and encoded.
    pub features: Option<Features>,
}

impl Model {
    /// A request with default settings: the model's size, and its scheduler as `StableDiffusionPipeline` changes it.
    /// For [`Reading::Exact`] use [`Model::scheduler`].
    pub fn request(&self, prompt: &str, seed: u64) -> Request {
        Request {
            prompt: prompt.into(),
            negative: String::new(),
            seed,
            steps: 50,
            guidance: Guidance::Constant(7.5),
            size: Size::of(&self.checkpoint),
            scheduler: self.scheduler_in_pipeline.clone(),
            reading: Reading::Diffusers,
            text: TextOptions::default(),
            features: None,
        }
    }

    /// Checks that a request can be run from noise, and returns its plan.
    ///
    /// # Errors
    /// A size, guidance or number of steps is not possible.
    pub fn check(&self, request: &Request) -> Result<Plan> {
        self.check_start(request, &Start::Noise)
    }

    /// Checks that a request can be run from a start, and returns its plan.
    pub(crate) fn check_start(&self, request: &Request, start: &Start) -> Result<Plan> {
        self.check_fields(request)?;
        start.plan(request)
    }

    /// Checks what of a request does not depend on its plan: the size, the guidance and the text options.
    ///
    /// # Errors
    /// A size, guidance or number of layers is not possible.
    pub fn check_fields(&self, request: &Request) -> Result<()> {
        request.size.latents(self.checkpoint.vae.config.factor())?;
        self.check_text(request.text)?;
        request.features.as_ref().map_or(Ok(()), |features| self.check_features(features))?;
        check_guidance(&request.guidance)
    }
}
