//! One picture asked of a model, and what came of it.

use crate::counts;
use crate::error::{Result, Stage};
use crate::execute::{Execution, Given, missing, moment};
use crate::network::{Guided, Network, Outputs, Past};
use crate::noise::Draws;
use crate::tripwire::{FaultContext, blame, fault, hint};
use crate::{Guidance, Model, Picture, Size};
use latentrace_nn::tch::{Kind, Tensor, no_grad};
use latentrace_nn::{Branch, Pass, Rows};
use latentrace_schedulers::{Config, Level, Op, Plan, Reading};
use latentrace_text::Tokens;
use latentrace_vae::Posterior;
use std::sync::Arc;

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
    /// `w` in `u + w (c - u)`.
    pub guidance: Guidance,
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
    /// A picture, encoded and noised: the run takes the last `strength` of the steps (Meng et al. 2021, arXiv
    /// 2108.01073).
    Picture {
        /// Above 0, at most 1, which keeps no more of the picture than shows through at the first level.
        strength: f64,
        /// The picture, of the size that the request asks for. Runs that start from the same one share it.
        picture: Arc<Picture>,
    },
    /// A picture that was encoded before.
    Latents {
        /// As for a picture.
        strength: f64,
        /// `[1, 4, height, width]`, at unit variance.
        latents: Tensor,
    },
    /// A sample of another run, `x0 + sigma * noise` at its level, and the levels of the scheduler that lie below.
    Sample {
        /// Time and noise level.
        level: Level,
        /// `[1, 4, height, width]`, f32.
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
    /// The program from here to the final latents.
    ///
    /// # Errors
    /// A number of steps that the scheduler cannot sample, or a strength that leaves none.
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

    /// How many draws of the seed come before those of the plan: the reference draws the encoder's noise first.
    pub(crate) fn draws(&self) -> usize {
        usize::from(matches!(self, Start::Picture { .. } | Start::Latents { .. }))
    }
}

/// Checks that a plan needs no image.
fn from_noise(plan: Plan) -> Result<Plan> {
    if plan.ops().contains(&Op::Given) { Err(latentrace_schedulers::Error::Inverse.into()) } else { Ok(plan) }
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
    pub plan: Arc<Plan>,
}

/// A request that was checked, with everything that is computed before the networks run: its program and its tokens.
#[derive(Clone)]
pub struct Prepared {
    /// What is asked.
    pub request: Request,
    /// What the run begins with.
    pub start: Start,
    /// The program from there to the final latents.
    pub plan: Arc<Plan>,
    /// The prompt and the negative prompt as the text encoder sees them, with what does not fit.
    pub tokens: [Tokens; 2],
}

impl Prepared {
    /// How many steps the run makes: from a picture, fewer than were asked for.
    pub fn steps(&self) -> usize {
        steps(&self.plan)
    }
}

/// How many steps a plan makes.
pub fn steps(plan: &Plan) -> usize {
    plan.steps().last().map_or(0, |last| last.index + 1)
}

impl Model {
    /// A request with the model's own size, and with its scheduler as `StableDiffusionPipeline` runs it, for a prompt
    /// and a seed. For [`Reading::Exact`] the scheduler is [`Model::scheduler`].
    pub fn request(&self, prompt: &str, seed: u64) -> Request {
        let side = self.unet_config.sample_size * self.vae_config.factor();
        Request {
            prompt: prompt.into(),
            negative: String::new(),
            seed,
            steps: 50,
            guidance: Guidance::Constant(7.5),
            size: Size { height: side, width: side },
            scheduler: self.scheduler_in_pipeline.clone(),
            reading: Reading::Diffusers,
        }
    }

    /// Checks that a request can be run from noise, and returns its program.
    ///
    /// # Errors
    /// A size, guidance or number of steps that does not work.
    pub fn check(&self, request: &Request) -> Result<Plan> {
        self.check_start(request, &Start::Noise)
    }

    /// Checks that a request can be run from a start, and returns its program.
    fn check_start(&self, request: &Request, start: &Start) -> Result<Plan> {
        self.check_fields(request)?;
        start.plan(request)
    }

    /// Checks the size and the guidance of a request: what can be checked without its program.
    ///
    /// # Errors
    /// A size or guidance that does not work.
    pub fn check_fields(&self, request: &Request) -> Result<()> {
        request.size.latents(self.vae_config.factor())?;
        request.guidance.check()
    }

    /// Checks, plans and tokenises a request, once: whoever runs it, records it or counts what it costs takes it from
    /// here.
    ///
    /// # Errors
    /// A size, guidance, strength or number of steps that does not work.
    pub fn prepare(&self, request: Request, start: Start) -> Result<Prepared> {
        let plan = Arc::new(self.check_start(&request, &start)?);
        let tokens = [self.tokens(&request.prompt)?, self.tokens(&request.negative)?];
        Ok(Prepared { request, start, plan, tokens })
    }

    /// The tokens of a text.
    pub(crate) fn tokens(&self, text: &str) -> Result<Tokens> {
        counts::add(|counts| &mut counts.texts);
        Ok(self.tokenizer.encode(text)?)
    }

    /// Runs a request from noise; `pass` says who watches.
    ///
    /// # Errors
    /// The request cannot be run, or a tensor was not finite.
    pub fn run(&self, request: &Request, pass: &mut Pass) -> Result<Outcome> {
        self.go_on(request, &Start::Noise, &[], pass)
    }

    /// Runs a request whose first calls are known: see [`Model::make`].
    ///
    /// # Errors
    /// The request cannot be run, or a tensor was not finite.
    pub fn go_on(&self, request: &Request, start: &Start, past: &[Outputs], pass: &mut Pass) -> Result<Outcome> {
        self.make(&self.prepare(request.clone(), start.clone())?, past, pass)
    }

    /// [`Model::go_on`] without the picture: the final latents, `[1, 4, height / 8, width / 8]`.
    ///
    /// # Errors
    /// The request cannot be run, or a tensor was not finite.
    pub fn denoise(&self, request: &Request, start: &Start, past: &[Outputs], pass: &mut Pass) -> Result<Tensor> {
        self.sample(&self.prepare(request.clone(), start.clone())?, past, pass)
    }

    /// Runs what was prepared. `past` holds the network's outputs of the first calls, and the network is called from
    /// there on: the sampler's history is computed again from them, so that the rest is that of an unbroken run.
    ///
    /// # Errors
    /// A tensor was not finite, or the probe stopped the run.
    pub fn make(&self, prepared: &Prepared, past: &[Outputs], pass: &mut Pass) -> Result<Outcome> {
        let latents = self.sample(prepared, past, pass)?;
        let picture = self.decode(&latents, pass)?;
        Ok(Outcome { latents, picture, tokens: prepared.tokens.clone(), plan: prepared.plan.clone() })
    }

    /// [`Model::make`] without the picture: the final latents, `[1, 4, height / 8, width / 8]`.
    ///
    /// # Errors
    /// A tensor was not finite, or the probe stopped the run.
    pub fn sample(&self, prepared: &Prepared, past: &[Outputs], pass: &mut Pass) -> Result<Tensor> {
        let Prepared { plan, tokens: [prompt, negative], .. } = prepared;
        no_grad(|| {
            pass.set_moment(moment(plan, 0));
            pass.set_rows(Rows::Branch(Branch::Conditional));
            let conditional = self.encode_tokens(prompt, pass)?;
            pass.set_rows(Rows::Branch(Branch::Unconditional));
            let unconditional = self.encode_tokens(negative, pass)?;
            pass.set_rows(Rows::Images);
            let mut network = Guided { unet: &self.unet, unconditional, conditional };
            let mut network = Past { outputs: past, then: Some(&mut network) };
            self.execute(&[prepared], &mut network, pass)
        })
    }

    /// Runs images of one plan: the final latents, `[images, 4, height, width]`.
    pub(crate) fn execute(&self, images: &[&Prepared], network: &mut dyn Network, pass: &mut Pass) -> Result<Tensor> {
        let Some(Prepared { request, start, plan, .. }) = images.first() else { return Err(missing()) };
        let [height, width] = request.size.latents(self.vae_config.factor())?;
        let shape = [1, self.unet_config.in_channels, height, width];
        let seeds: Vec<u64> = images.iter().map(|image| image.request.seed).collect();
        let mut draws = Draws::of_images(&seeds, start.draws() + plan.draws(), shape, self.device);
        let execution = Execution {
            plan,
            prediction: request.scheduler.prediction(),
            guidance: images.iter().map(|image| image.request.guidance.clone()).collect(),
            taps: &self.sampler,
            given: self.given(images, &mut draws, pass)?,
        };
        execution.run(network, &mut draws, pass)?.ok_or_else(missing)
    }

    /// What the plan's given value stands for; pictures are encoded, each once.
    fn given(&self, images: &[&Prepared], draws: &mut Draws, pass: &mut Pass) -> Result<Given> {
        let rows = |of: &dyn Fn(&Start) -> Option<Tensor>| {
            let rows: Option<Vec<Tensor>> = images.iter().map(|image| of(&image.start)).collect();
            rows.filter(|rows| !rows.is_empty()).map(|rows| Tensor::cat(&rows, 0)).ok_or_else(missing)
        };
        Ok(match images[0].start {
            Start::Noise => Given::Nothing,
            Start::Sample { .. } => Given::Sample(rows(&|start| match start {
                Start::Sample { sample, .. } => Some(sample.to_device(self.device)),
                _ => None,
            })?),
            Start::Latents { .. } => {
                draws.next(); // the encoder's, which these latents have had
                Given::Image(rows(&|start| match start {
                    Start::Latents { latents, .. } => Some(latents.to_device(self.device)),
                    _ => None,
                })?)
            }
            Start::Picture { .. } => {
                let noise = draws.next().ok_or_else(missing)?;
                Given::Image(self.encode_pictures(images, &noise, pass)?)
            }
        })
    }

    /// Latents at unit variance of the pictures that images start from, `[images, 4, height, width]`; `noise` of the
    /// same shape chooses among those that the encoder thinks likely.
    fn encode_pictures(&self, images: &[&Prepared], noise: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let mut encoded: Vec<(&Arc<Picture>, Posterior)> = Vec::new();
        let mut rows = Vec::new();
        for (image, Prepared { request, start, .. }) in images.iter().enumerate() {
            let Start::Picture { picture, .. } = start else { return Err(missing()) };
            picture.check(request.size)?;
            let place = match encoded.iter().position(|(known, _)| *known == picture) {
                Some(place) => place,
                None => {
                    let pixels = picture.to_tensor().to_device(self.device).to_kind(self.unet.kind());
                    let moments = self.vae.moments(pass, &pixels);
                    if let Some(found) = fault(&moments) {
                        let context = self.context("vae.encoder.moments", Stage::Encoding);
                        return Err(blame(context, found, pass, |pass| self.vae.moments(pass, &pixels)));
                    }
                    encoded.push((picture, Posterior::of(&moments)));
                    encoded.len() - 1
                }
            };
            let Posterior { mean, log_variance } = &encoded[place].1;
            let posterior =
                Posterior { mean: mean.to_kind(Kind::Float), log_variance: log_variance.to_kind(Kind::Float) };
            rows.push(posterior.sample(&noise.narrow(0, image as i64, 1)) * self.vae_config.scaling_factor);
        }
        Ok(Tensor::cat(&rows, 0))
    }

    /// The text features of a prompt, `[1, tokens, features]`.
    ///
    /// # Errors
    /// The tokenizer fails, or a number of the features is not finite.
    pub fn encode(&self, prompt: &str, pass: &mut Pass) -> Result<(Tokens, Tensor)> {
        let tokens = self.tokens(prompt)?;
        let features = self.encode_tokens(&tokens, pass)?;
        Ok((tokens, features))
    }

    /// The text features of tokens, `[1, tokens, features]`.
    pub(crate) fn encode_tokens(&self, tokens: &Tokens, pass: &mut Pass) -> Result<Tensor> {
        let ids = Tensor::from_slice(&tokens.ids).unsqueeze(0).to_device(self.device);
        let encode = |pass: &mut Pass| no_grad(|| self.text_encoder.forward(pass, &ids));
        let features = encode(pass);
        match fault(&features) {
            None => Ok(features.to_kind(self.unet.kind())),
            Some(found) => Err(blame(self.context("text_encoder.out", Stage::Text), found, pass, encode)),
        }
    }

    /// The picture of latents `[1, 4, height, width]` in the UNet's scale.
    ///
    /// # Errors
    /// A number of the picture is not finite.
    pub fn decode(&self, latents: &Tensor, pass: &mut Pass) -> Result<Picture> {
        self.picture(latents, &self.pixels(latents, pass), pass)
    }

    /// The pictures of latents `[images, 4, height, width]` in the UNet's scale, all at once; in place of one that has
    /// numbers that are not finite, an error.
    pub fn decode_all(&self, latents: &Tensor) -> Vec<Result<Picture>> {
        let pixels = self.pixels(latents, &mut Pass::silent());
        let row = |tensor: &Tensor, image| tensor.narrow(0, image, 1);
        let picture = |image| self.picture(&row(latents, image), &row(&pixels, image), &mut Pass::silent());
        (0..pixels.size()[0]).map(picture).collect()
    }

    /// The picture of latents whose pixels are computed.
    fn picture(&self, latents: &Tensor, pixels: &Tensor, pass: &mut Pass) -> Result<Picture> {
        match fault(pixels) {
            None => Ok(Picture::of_finite(pixels)),
            Some(found) => {
                let context = self.context("vae.decoder.out", Stage::Decoding);
                Err(blame(context, found, pass, |pass| self.pixels(latents, pass)))
            }
        }
    }

    /// Where a fault of one of the networks belongs.
    fn context(&self, output: &str, stage: Stage) -> FaultContext {
        FaultContext { output: output.into(), stage, hint: hint(self.unet.kind()) }
    }

    /// `[images, 3, 8 height, 8 width]`, about -1..1
    fn pixels(&self, latents: &Tensor, pass: &mut Pass) -> Tensor {
        let scaled = (latents.to_kind(Kind::Float) / self.vae_config.scaling_factor).to_kind(self.unet.kind());
        no_grad(|| self.vae.decode(pass, &scaled))
    }
}
