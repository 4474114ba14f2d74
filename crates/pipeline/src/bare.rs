//! Sampling with a UNet alone.

use crate::condition::Conditions;
use crate::error::Result;
use crate::execute::{Execution, Given, missing};
use crate::network::{Denoiser, Guided};
use crate::noise::Draws;
use crate::{Guidance, SamplerTaps};
use latentrace_nn::tch::{Tensor, no_grad};
use latentrace_nn::{Pass, Rows};
use latentrace_schedulers::{Plan, Prediction};
use latentrace_unet::Unet;

/// Sampling with a UNet and given text features, without tokenizer, text encoder and VAE. The UNet may have any number
/// of channels and any size, so it may also denoise pixels. It runs on as many CPU threads as libtorch is set to.
pub struct Bare<'a> {
    /// The denoising network.
    pub unet: &'a Unet,
    /// The text features of the prompt, `[1, tokens, features]`.
    pub conditional: &'a Tensor,
    /// The text features of the negative prompt, `[1, tokens, features]`.
    pub unconditional: &'a Tensor,
    /// The plan, which starts from noise.
    pub plan: &'a Plan,
    /// What the network predicts.
    pub prediction: Prediction,
    /// The guidance weight: `w` in `u + w (c - u)`.
    pub guidance: f64,
    /// The seed of all noise.
    pub seed: u64,
    /// The shape of the sample, `[1, channels, height, width]`.
    pub shape: [i64; 4],
}

impl Bare<'_> {
    /// Runs the plan and returns the final sample.
    ///
    /// # Errors
    /// A tensor is not finite.
    pub fn run(&self, pass: &mut Pass) -> Result<Tensor> {
        no_grad(|| {
            pass.set_rows(Rows::Images);
            let mut draws = Draws::new(self.seed, self.plan.draws(), self.shape, self.unet.device());
            let conditions = Conditions::stacked(&[self.unconditional, self.conditional].map(Conditions::of_text));
            let mut network = Guided { denoiser: Denoiser { unet: self.unet, varying: &[] }, conditions };
            let (prediction, guidance) = (self.prediction, vec![Guidance::Constant(self.guidance)]);
            let taps = &SamplerTaps::new();
            let execution =
                Execution { plan: self.plan, prediction, guidance, taps, given: Given::Nothing, known: None };
            execution.run(&mut network, &mut draws, pass)?.ok_or_else(missing)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, Options, Request, Start, Threads};
    use std::path::Path;

    #[test]
    fn with_the_unet_of_a_model_the_result_is_that_of_the_model() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/shapes");
        let mut model = Model::open(&folder, Options::default()).unwrap();
        model.threads = Threads::AsSet;
        let own = model.request("a large red circle on the left, white background", 193);
        let [side, _] = model.checkpoint.unet.config.sample_size;
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
                shape: [1, 4, side, side],
            };
            let whole = model.denoise(&request, &Start::Noise, &[], &mut Pass::silent()).unwrap();
            assert!(bare.run(&mut Pass::silent()).unwrap().equal(&whole), "{class}");
        }
    }
}
