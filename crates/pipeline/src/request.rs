//! A request: everything that a model needs to make one picture.

use crate::error::{Error, Result};
use crate::guidance::check_guidance;
use crate::{EmptyNegative, Features, Guidance, MicroConditions, Model, Size, Start, TextOptions, UnetInput};
use latentrace_schedulers::{Config, Plan, Reading};

/// The settings of one picture.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt: the text of the unconditional branch. Empty by default.
    pub negative: String,
    /// The prompt of the second text encoder, if it is another.
    pub prompt_2: Option<String>,
    /// The negative prompt of the second text encoder, if it is another.
    pub negative_2: Option<String>,
    /// What no negative prompt means.
    pub empty_negative: EmptyNegative,
    /// The sizes, crops and scores that the UNet of SDXL is told.
    pub micro: MicroConditions,
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
    /// A request with default settings: the model's size, and its scheduler as the pipeline of diffusers changes it. For
    /// [`Reading::Exact`] use [`Model::scheduler`]. A distilled model runs without guidance, so that its weight is 1.
    pub fn request(&self, prompt: &str, seed: u64) -> Request {
        Request {
            prompt: prompt.into(),
            negative: String::new(),
            prompt_2: None,
            negative_2: None,
            empty_negative: EmptyNegative::default(),
            micro: MicroConditions::default(),
            seed,
            steps: 50,
            guidance: Guidance::Constant(if self.checkpoint.is_distilled() { 1.0 } else { 7.5 }),
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
        self.check_mask(request, start)?;
        start.plan(request)
    }

    /// Checks that an inpainting model gets a mask, and that an ordinary one can be run with the mask that it gets.
    fn check_mask(&self, request: &Request, start: &Start) -> Result<()> {
        let input = self.checkpoint.input();
        match (input, start) {
            (_, Start::Known { known, .. } | Start::Sample { known: Some(known), .. }) if known.input() == input => {
                Ok(())
            }
            (UnetInput::Inpainting, Start::Masked { .. }) => Ok(()),
            (UnetInput::Inpainting, _) => Err(Error::NoMask { file: self.checkpoint.place().display().to_string() }),
            // diffusers adds noise to the picture after each step, which not every class of it can do.
            (UnetInput::Sample, Start::Masked { strength: 1.0, .. }) if request.reading == Reading::Diffusers => {
                Ok(request.scheduler.plan_from_image(request.steps, 1.0, request.reading).map(drop)?)
            }
            (UnetInput::Sample, Start::Known { .. } | Start::Sample { known: Some(_), .. }) => {
                let expected = format!("that of an ordinary model, as {} is", self.checkpoint.place().display());
                let found = "that of an inpainting model".into();
                Err(Error::Range { field: "record", expected, found })
            }
            (UnetInput::Sample, _) => Ok(()),
        }
    }

    /// Checks what of a request does not depend on its plan: the size, the guidance, the texts and what the UNet is told.
    ///
    /// # Errors
    /// A size, guidance or number of layers is not possible, or the model does not take what is given.
    pub fn check_fields(&self, request: &Request) -> Result<()> {
        request.size.latents(self.checkpoint.vae.config.factor())?;
        self.check_text(request.text)?;
        self.check_second_texts(request)?;
        request.micro.check(self.checkpoint.ids())?;
        request.features.as_ref().map_or(Ok(()), |features| self.check_features(features))?;
        check_guidance(&request.guidance)
    }
}
