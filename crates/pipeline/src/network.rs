//! Classifier-free guidance, and where the outputs it mixes come from.

use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Pass, Rows};
use latentrace_unet::Unet;

/// The network's two outputs for one sample, `[1, 4, height, width]` each, in f32.
#[derive(Debug)]
pub struct Outputs {
    /// Without the prompt.
    pub unconditional: Tensor,
    /// With the prompt.
    pub conditional: Tensor,
}

impl Outputs {
    /// What the sampler goes on with: `u + w (c - u)` (Ho and Salimans 2022, equation 6, in the scale that papers on latent
    /// diffusion use: 1 is no guidance, and every real number is run).
    pub fn guide(&self, guidance: f64) -> Tensor {
        &self.unconditional + (&self.conditional - &self.unconditional) * guidance
    }
}

/// What a plan calls.
pub(crate) trait Network {
    /// Both outputs for the input `[1, 4, height, width]` of a call at time `t`, or `None` where there are no more.
    fn outputs(&mut self, pass: &mut Pass, call: usize, input: &Tensor, t: f64) -> Option<Outputs>;

    /// What to try when an output is not finite.
    fn hint(&self) -> &'static str;
}

/// The UNet, between two texts.
pub(crate) struct Guided<'a> {
    pub(crate) unet: &'a Unet,
    /// `[1, tokens, features]`
    pub(crate) unconditional: Tensor,
    /// `[1, tokens, features]`
    pub(crate) conditional: Tensor,
}

impl Network for Guided<'_> {
    /// Both outputs in one batch.
    fn outputs(&mut self, pass: &mut Pass, _: usize, input: &Tensor, t: f64) -> Option<Outputs> {
        let both = |tensor: &Tensor| Tensor::cat(&[tensor, tensor], 0).to_kind(self.unet.kind());
        let text = Tensor::cat(&[&self.unconditional, &self.conditional], 0);
        let times = Tensor::from_slice(&[t as f32]).to_device(self.unet.device());
        pass.set_rows(Rows::Branches);
        let outputs = self.unet.forward(pass, &both(input), &times, &text).to_kind(Kind::Float);
        pass.set_rows(Rows::Images);
        Some(Outputs { unconditional: outputs.narrow(0, 0, 1), conditional: outputs.narrow(0, 1, 1) })
    }

    fn hint(&self) -> &'static str {
        match self.unet.kind() {
            Kind::Half => "f16 holds nothing above 65504; try --dtype f32 or bf16",
            _ => "the checkpoint's weights, the guidance or an edit are too large",
        }
    }
}

/// Outputs that are known, and after them those of another network.
pub(crate) struct Past<'a> {
    pub(crate) outputs: &'a [Outputs],
    pub(crate) then: Option<&'a mut dyn Network>,
}

impl Network for Past<'_> {
    fn outputs(&mut self, pass: &mut Pass, call: usize, input: &Tensor, t: f64) -> Option<Outputs> {
        match (self.outputs.get(call), &mut self.then) {
            (Some(Outputs { unconditional, conditional }), _) => {
                Some(Outputs { unconditional: unconditional.shallow_clone(), conditional: conditional.shallow_clone() })
            }
            (None, Some(network)) => network.outputs(pass, call, input, t),
            (None, None) => None,
        }
    }

    fn hint(&self) -> &'static str {
        self.then.as_ref().map_or("the record holds such numbers", |network| network.hint())
    }
}
