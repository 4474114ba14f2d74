//! Running of a prepared request.

use crate::common::Taking;
use crate::condition::{Conditions, EncodedText};
use crate::error::Result;
use crate::execute::{Execution, Given, missing, moment};
use crate::model::PagesOfNetworks;
use crate::network::{Guided, Network, Outputs, Past};
use crate::noise::{Draws, EncoderNoise};
use crate::prepared::first;
use crate::{Common, Known, Model, Named, Negative, Picture, Prepared, Request, Start, UnetInput, Work};
use latentrace_nn::tch::{Tensor, no_grad};
use latentrace_nn::{Branch, Pass, Rows, if_it_fits};
use latentrace_schedulers::Plan;
use latentrace_text::Tokens;
use std::sync::Arc;

/// The result of a run.
pub struct Outcome {
    /// The final latents in the UNet's scale, `[1, 4, height / 8, width / 8]`.
    pub latents: Tensor,
    /// The picture.
    pub picture: Picture,
    /// The tokens of the prompt and of the negative prompt for each text encoder, with the text that did not fit.
    pub tokens: [Vec<Tokens>; 2],
    /// The plan.
    pub plan: Arc<Plan>,
}

impl Outcome {
    /// The tokens of the prompt and of the negative prompt for the first text encoder. Records have these only.
    pub fn first_tokens(&self) -> [&Tokens; 2] {
        first(&self.tokens)
    }
}

impl Model {
    /// Runs a request from noise.
    ///
    /// # Errors
    /// The request cannot be run, or a tensor is not finite.
    pub fn run(&self, request: &Request, pass: &mut Pass) -> Result<Outcome> {
        self.go_on(request, &Start::Noise, &[], pass)
    }

    /// Runs a request from a start, with known outputs of the first calls; see [`Model::make`].
    ///
    /// # Errors
    /// The request cannot be run, or a tensor is not finite.
    pub fn go_on(&self, request: &Request, start: &Start, past: &[Outputs], pass: &mut Pass) -> Result<Outcome> {
        self.make(&self.prepare(request.clone(), start.clone())?, past, pass)
    }

    /// [`Model::go_on`] without decoding. Returns the final latents, `[1, 4, height / 8, width / 8]`.
    ///
    /// # Errors
    /// The request cannot be run, or a tensor is not finite.
    pub fn denoise(&self, request: &Request, start: &Start, past: &[Outputs], pass: &mut Pass) -> Result<Tensor> {
        self.sample(&self.prepare(request.clone(), start.clone())?, past, pass)
    }

    /// Runs a prepared request. `past` has the network's outputs of the first calls, and the network is called only
    /// after them. The sampler computes its history again from `past`, so the result is that of an uninterrupted run.
    ///
    /// # Errors
    /// A tensor is not finite, or the probe stops the run.
    pub fn make(&self, prepared: &Prepared, past: &[Outputs], pass: &mut Pass) -> Result<Outcome> {
        let latents = self.sample(prepared, past, pass)?;
        let picture = self.decode(&latents, pass)?;
        Ok(Outcome { latents, picture, tokens: prepared.tokens.clone(), plan: prepared.plan.clone() })
    }

    /// [`Model::make`] without past, for a run that has something in common with others. `run` has its lineages, for
    /// [`Mode::Alone`](crate::Mode::Alone). What `common` has is taken over, and the result is that of [`Model::make`] in
    /// every bit. Also returns the work that was done.
    ///
    /// # Errors
    /// As [`Model::make`].
    pub fn make_with(
        &self,
        prepared: &Prepared,
        run: Named,
        common: &mut Common,
        pass: &mut Pass,
    ) -> Result<(Outcome, Work)> {
        let _held = self.hold_threads(prepared.request.size, 1);
        let (latents, work) = no_grad(|| {
            let conditions = self.conditions(prepared, Some((&mut *common, run)), pass)?;
            let mut network = Guided { denoiser: self.denoiser(), conditions };
            let mut network = Taking { common, run, then: &mut network, work: Work::default() };
            let latents = self.execute(&[prepared], &mut network, pass)?;
            Ok::<_, crate::Error>((latents, network.work))
        })?;
        let picture = self.decode(&latents, pass)?;
        Ok((Outcome { latents, picture, tokens: prepared.tokens.clone(), plan: prepared.plan.clone() }, work))
    }

    /// [`Model::make`] without decoding. Returns the final latents, `[1, 4, height / 8, width / 8]`.
    ///
    /// # Errors
    /// A tensor is not finite, or the probe stops the run.
    pub fn sample(&self, prepared: &Prepared, past: &[Outputs], pass: &mut Pass) -> Result<Tensor> {
        let _held = self.hold_threads(prepared.request.size, 1);
        no_grad(|| {
            let conditions = self.conditions(prepared, None, pass)?;
            let mut network = Guided { denoiser: self.denoiser(), conditions };
            let mut network = Past { outputs: past, then: Some(&mut network) };
            self.execute(&[prepared], &mut network, pass)
        })
    }

    /// The conditions of the negative prompt and of the prompt, or of the prompt alone.
    fn conditions(
        &self,
        prepared: &Prepared,
        common: Option<(&mut Common, Named)>,
        pass: &mut Pass,
    ) -> Result<Conditions> {
        let (prompt, negative) = self.encoded_texts(prepared, common, pass)?;
        let prompt = Conditions::of(prompt, prepared.ids_of(Branch::Conditional));
        let negative = negative.map(|text| Conditions::of(text, prepared.ids_of(Branch::Unconditional)));
        Ok(Conditions::stacked(&negative.into_iter().chain([prompt]).collect::<Vec<_>>()))
    }

    /// What the text encoders return for the prompt and for the negative prompt, if there is one.
    fn encoded_texts(
        &self,
        prepared: &Prepared,
        mut common: Option<(&mut Common, Named)>,
        pass: &mut Pass,
    ) -> Result<(EncodedText, Option<EncodedText>)> {
        let Prepared { request, plan, tokens, encodings, negative, .. } = prepared;
        pass.set_moment(moment(plan, 0));
        if let Some(features) = &request.features {
            pass.set_rows(Rows::Images);
            let given = |text: &EncodedText| text.map(|tensor| tensor.to_device(self.device).to_kind(self.unet.kind()));
            let of_negative = (*negative != Negative::Absent).then(|| given(&features.negative));
            return Ok((given(&features.prompt), of_negative));
        }
        let mut encoded = |branch: Branch, index: usize| {
            pass.set_rows(Rows::Branch(branch));
            let mut encode = || self.encode_tokens(&tokens[index], &encodings[index], pass);
            match &mut common {
                Some((common, run)) => common.text(run.lines, branch, encode),
                None => encode(),
            }
        };
        let prompt = encoded(Branch::Conditional, 0)?;
        let negative = match negative {
            Negative::Text => Some(encoded(Branch::Unconditional, 1)?),
            Negative::Zeros => Some(prompt.zeros()),
            Negative::Absent => None,
        };
        pass.set_rows(Rows::Images);
        Ok((prompt, negative))
    }

    /// Runs images of one plan. Returns the final latents, `[images, 4, height, width]`.
    ///
    /// # Errors
    /// A tensor is not finite, the probe stops the run, or there is not enough memory.
    pub(crate) fn execute(&self, images: &[&Prepared], network: &mut dyn Network, pass: &mut Pass) -> Result<Tensor> {
        if_it_fits(|| self.execute_if_it_fits(images, network, pass))?
    }

    fn execute_if_it_fits(&self, images: &[&Prepared], network: &mut dyn Network, pass: &mut Pass) -> Result<Tensor> {
        let Some(Prepared { request, start, plan, .. }) = images.first() else { return Err(missing()) };
        let [height, width] = request.size.latents(self.checkpoint.vae.config.factor())?;
        let shape = [1, self.checkpoint.vae.config.latent_channels, height, width];
        let seeds: Vec<u64> = images.iter().map(|image| image.request.seed).collect();
        let encodings = start.encodings(self.checkpoint.input());
        let mut draws = Draws::of_images(&seeds, encodings.draws() + plan.draws(), shape, self.device);
        let noise = draws.take_for(encodings)?;
        let known = self.known(images, &noise, &draws, pass)?;
        let given = self.given(images, known.as_ref(), &noise, pass)?;
        PagesOfNetworks::release(self.pages.texts.iter().chain([&self.pages.vae])); // from here on the UNet computes
        let execution = Execution {
            plan,
            prediction: request.scheduler.prediction(),
            guidance: images.iter().map(|image| image.request.guidance.clone()).collect(),
            taps: &self.sampler,
            given,
            known,
        };
        execution.run(network, &mut draws, pass)?.ok_or_else(missing)
    }

    /// The value of the plan's [`Op::Given`](latentrace_schedulers::Op::Given). Equal pictures are encoded once.
    fn given(
        &self,
        images: &[&Prepared],
        known: Option<&Known>,
        noise: &EncoderNoise,
        pass: &mut Pass,
    ) -> Result<Given> {
        let rows = |of: &dyn Fn(&Start) -> Option<&Tensor>| {
            let rows: Option<Vec<Tensor>> =
                images.iter().map(|image| Some(of(&image.start)?.to_device(self.device))).collect();
            rows.filter(|rows| !rows.is_empty()).map(|rows| Tensor::cat(&rows, 0)).ok_or_else(missing)
        };
        Ok(match images[0].start {
            Start::Noise => Given::Nothing,
            Start::Sample { .. } => Given::Sample(rows(&|start| match start {
                Start::Sample { sample, .. } => Some(sample),
                _ => None,
            })?),
            Start::Latents { .. } => Given::Image(rows(&|start| match start {
                Start::Latents { latents, .. } => Some(latents),
                _ => None,
            })?),
            Start::Picture { .. } => {
                Given::Image(self.encode_pictures(images, noise.image.as_ref().ok_or_else(missing)?, pass)?)
            }
            Start::Masked { .. } | Start::Known { .. } => Given::of(known.ok_or_else(missing)?, &images[0].plan),
        })
    }

    /// What images with masks know of their pictures; `None` if they have no masks. `draws` are those that are left for the
    /// plan.
    fn known(
        &self,
        images: &[&Prepared],
        noise: &EncoderNoise,
        draws: &Draws,
        pass: &mut Pass,
    ) -> Result<Option<Known>> {
        if !matches!(images[0].start, Start::Masked { .. }) {
            let known: Vec<Known> =
                images.iter().filter_map(|image| Some(image.start.known()?.to_device(self.device))).collect();
            return match known.len() {
                0 => Ok(None),
                _ => Ok(Some(Known::stacked(&known.iter().collect::<Vec<_>>()).ok_or_else(missing)?)),
            };
        }
        let mask = self.masks(images)?;
        let image = match &noise.image {
            Some(noise) => Some(self.encode_pictures(images, noise, pass)?),
            None => None,
        };
        Ok(Some(match self.checkpoint.input() {
            UnetInput::Sample => Known::Replaces {
                mask,
                image: image.ok_or_else(missing)?,
                noise: draws.peek().ok_or_else(missing)?, // the start of the plan
            },
            UnetInput::Inpainting => {
                let noise = noise.masked.as_ref().ok_or_else(missing)?;
                Known::Given { mask, masked: self.encode_masked(images, noise, pass)?, image }
            }
        }))
    }
}
