//! One picture asked of a model, and what came of it.

use crate::error::{Error, Result};
use crate::execute::{Execution, missing, moment};
use crate::guidance::{Guided, Outputs, Past};
use crate::noise::Draws;
use crate::{Model, Picture, Size};
use latentrace_nn::tch::{Kind, Tensor, no_grad};
use latentrace_nn::{Branch, Pass, Rows};
use latentrace_schedulers::{Config, Level, Plan, Reading};
use latentrace_text::Tokens;

/// One picture asked of a model.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to show.
    pub prompt: String,
    /// What guidance leads away from: the text of the unconditional half. Empty by default.
    pub negative: String,
    /// The seed of the start and of every later draw.
    pub seed: u64,
    /// Sampling steps.
    pub steps: usize,
    /// `w` in `u + w (c - u)`, for every real number.
    pub guidance: f64,
    /// Height and width in pixels.
    pub size: Size,
    /// The scheduler.
    pub scheduler: Config,
    /// Whether diffusers' quirks are reproduced.
    pub reading: Reading,
}

/// What a run begins with.
#[derive(Debug, Default)]
pub enum Start {
    /// Noise, from the seed.
    #[default]
    Noise,
    /// A sample of another run, `x0 + sigma * noise` at its level, and the levels of the scheduler that lie below.
    Sample {
        /// Time and noise level.
        level: Level,
        /// `[1, 4, height, width]`, f32.
        sample: Tensor,
    },
}

impl Start {
    /// The program from here to the final latents.
    ///
    /// # Errors
    /// A number of steps that the scheduler cannot sample.
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        Ok(match self {
            Start::Noise => request.scheduler.plan(request.steps, request.reading)?,
            Start::Sample { level, .. } => request.scheduler.plan_from_sample(request.steps, *level)?,
        })
    }

    pub(crate) fn given(&self) -> Option<&Tensor> {
        match self {
            Start::Noise => None,
            Start::Sample { sample, .. } => Some(sample),
        }
    }
}

/// What a run left.
pub struct Outcome {
    /// The final latents, `[1, 4, height / 8, width / 8]`, in the UNet's scale.
    pub latents: Tensor,
    /// The picture.
    pub picture: Picture,
    /// The prompt and the negative prompt as the text encoder saw them, with what was lost.
    pub tokens: [Tokens; 2],
    /// The program that was run.
    pub plan: Plan,
}

impl Model {
    /// A request with the model's own size and scheduler, for a prompt and a seed.
    pub fn request(&self, prompt: &str, seed: u64) -> Request {
        let side = self.unet_config.sample_size * self.vae_config.factor();
        Request {
            prompt: prompt.into(),
            negative: String::new(),
            seed,
            steps: 50,
            guidance: 7.5,
            size: Size { height: side, width: side },
            scheduler: self.scheduler.clone(),
            reading: Reading::Diffusers,
        }
    }

    /// Holds that a request can be run, before anything is computed.
    ///
    /// # Errors
    /// A size, guidance or number of steps that does not work.
    pub fn check(&self, request: &Request) -> Result<Plan> {
        request.size.latents(self.vae_config.factor())?;
        if !request.guidance.is_finite() {
            let (expected, found) = ("a finite number".into(), request.guidance.to_string());
            return Err(Error::Range { field: "guidance", expected, found });
        }
        Ok(request.scheduler.plan(request.steps, request.reading)?)
    }

    /// Runs a request; `pass` says who watches.
    ///
    /// # Errors
    /// The request cannot be run, or a tensor was not finite.
    pub fn run(&self, request: &Request, pass: &mut Pass) -> Result<Outcome> {
        self.go_on(request, &Start::Noise, &[], pass)
    }

    /// Runs a request whose first calls are known: `past` holds their outputs, and the network is called from there on.
    /// The sampler's history is made again from them, so that nothing distinguishes the rest from an unbroken run.
    ///
    /// # Errors
    /// The request cannot be run, or a tensor was not finite.
    pub fn go_on(&self, request: &Request, start: &Start, past: &[Outputs], pass: &mut Pass) -> Result<Outcome> {
        let (latents, tokens, plan) = self.sample(request, start, past, pass)?;
        let picture = self.decode(&latents, pass);
        Ok(Outcome { latents, picture, tokens, plan })
    }

    /// [`Model::go_on`] without the picture: the final latents, `[1, 4, height / 8, width / 8]`.
    ///
    /// # Errors
    /// The request cannot be run, or a tensor was not finite.
    pub fn denoise(&self, request: &Request, start: &Start, past: &[Outputs], pass: &mut Pass) -> Result<Tensor> {
        Ok(self.sample(request, start, past, pass)?.0)
    }

    /// The final latents, the prompt's and the negative prompt's tokens, and the program that was run.
    fn sample(
        &self,
        request: &Request,
        start: &Start,
        past: &[Outputs],
        pass: &mut Pass,
    ) -> Result<(Tensor, [Tokens; 2], Plan)> {
        self.check(request)?;
        let plan = start.plan(request)?;
        let [height, width] = request.size.latents(self.vae_config.factor())?;
        no_grad(|| {
            pass.set_moment(moment(&plan, 0));
            pass.set_rows(Rows::Branch(Branch::Conditional));
            let (tokens, conditional) = self.encode(&request.prompt, pass)?;
            pass.set_rows(Rows::Branch(Branch::Unconditional));
            let (negative, unconditional) = self.encode(&request.negative, pass)?;
            pass.set_rows(Rows::Images);
            let shape = [1, self.unet_config.in_channels, height, width];
            let mut draws = Draws::new(request.seed, plan.draws(), shape, self.device);
            let mut network = Guided { unet: &self.unet, unconditional, conditional };
            let mut network = Past { outputs: past, then: Some(&mut network) };
            let execution = Execution {
                plan: &plan,
                prediction: request.scheduler.prediction(),
                guidance: request.guidance,
                taps: &self.sampler,
                given: start.given(),
            };
            let latents = execution.run(&mut network, &mut draws, pass)?.ok_or_else(missing)?;
            Ok((latents, [tokens, negative], plan))
        })
    }

    /// The text features of a prompt, `[1, tokens, features]`.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode(&self, prompt: &str, pass: &mut Pass) -> Result<(Tokens, Tensor)> {
        let tokens = self.tokenizer.encode(prompt)?;
        let ids = Tensor::from_slice(&tokens.ids).unsqueeze(0).to_device(self.device);
        let features = no_grad(|| self.text_encoder.forward(pass, &ids));
        Ok((tokens, features.to_kind(self.unet.kind())))
    }

    /// The picture of latents `[1, 4, height, width]` in the UNet's scale.
    pub fn decode(&self, latents: &Tensor, pass: &mut Pass) -> Picture {
        let scaled = (latents.to_kind(Kind::Float) / self.vae_config.scaling_factor).to_kind(self.unet.kind());
        Picture::from_tensor(&no_grad(|| self.vae.decode(pass, &scaled)))
    }
}
