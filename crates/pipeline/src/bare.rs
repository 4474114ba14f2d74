//! A sampler's run with a UNet alone.

use crate::error::Result;
use crate::execute::{Execution, Given, missing};
use crate::network::Guided;
use crate::noise::Draws;
use crate::{Guidance, SamplerTaps};
use latentrace_nn::tch::{Tensor, no_grad};
use latentrace_nn::{Pass, Rows};
use latentrace_schedulers::{Plan, Prediction};
use latentrace_unet::Unet;

/// A sampler's run with a UNet of any channels and size between two texts: without tokenizer, text encoder and VAE, so for
/// a denoiser of pixels as well.
pub struct Bare<'a> {
    /// The denoising network.
    pub unet: &'a Unet,
    /// The text features of the prompt, `[1, tokens, features]`.
    pub conditional: &'a Tensor,
    /// The text features of the negative prompt, `[1, tokens, features]`.
    pub unconditional: &'a Tensor,
    /// The program that is run, from noise.
    pub plan: &'a Plan,
    /// What the network predicts.
    pub prediction: Prediction,
    /// `w` in `u + w (c - u)`.
    pub guidance: f64,
    /// The seed of the start and of every later draw.
    pub seed: u64,
    /// `[1, channels, height, width]`
    pub shape: [i64; 4],
}

impl Bare<'_> {
    /// Runs the plan and gives the final sample.
    ///
    /// # Errors
    /// A tensor was not finite.
    pub fn run(&self, pass: &mut Pass) -> Result<Tensor> {
        no_grad(|| {
            pass.set_rows(Rows::Images);
            let mut draws = Draws::new(self.seed, self.plan.draws(), self.shape, self.unet.device());
            let (conditional, unconditional) = (self.conditional.shallow_clone(), self.unconditional.shallow_clone());
            let mut network = Guided { unet: self.unet, unconditional, conditional };
            let (prediction, guidance) = (self.prediction, vec![Guidance::Constant(self.guidance)]);
            let taps = &SamplerTaps::new();
            let execution = Execution { plan: self.plan, prediction, guidance, taps, given: Given::Nothing };
            execution.run(&mut network, &mut draws, pass)?.ok_or_else(missing)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, Options, Request, Start};
    use std::path::Path;

    #[test]
    fn with_a_models_own_unet_it_is_the_models_own_run() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/shapes");
        let model = Model::open(&folder, Options::default()).unwrap();
        let own = model.request("a large red circle on the left, white background", 193);
        for class in ["PNDMScheduler", "DDPMScheduler"] {
            let scheduler = own.scheduler.with_class(class).unwrap();
            let request = Request { steps: 3, guidance: 4.0.into(), scheduler, ..own.clone() };
            let encode = |text: &str| model.encode(text, &mut Pass::silent()).unwrap().1;
            let bare = Bare {
                unet: &model.unet,
                conditional: &encode(&request.prompt),
                unconditional: &encode(""),
                plan: &Start::Noise.plan(&request).unwrap(),
                prediction: request.scheduler.prediction(),
                guidance: 4.0,
                seed: request.seed,
                shape: [1, 4, 8, 8],
            };
            let whole = model.denoise(&request, &Start::Noise, &[], &mut Pass::silent()).unwrap();
            assert!(bare.run(&mut Pass::silent()).unwrap().equal(&whole), "{class}");
        }
    }
}
