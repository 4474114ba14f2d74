//! Classifier-free guidance.

use crate::tripwire;
use latentrace_nn::Pass;
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_unet::Unet;

/// The network under guidance: `u + w (c - u)` of its outputs without and with the prompt (Ho and Salimans 2022,
/// equation 6, in the scale that papers on latent diffusion use: 1 is no guidance, and every real number is run).
pub(crate) struct Guided<'a> {
    pub(crate) unet: &'a Unet,
    /// `[1, tokens, features]`
    pub(crate) unconditional: Tensor,
    /// `[1, tokens, features]`
    pub(crate) conditional: Tensor,
    pub(crate) guidance: f64,
}

/// The network's two outputs, `[1, 4, height, width]` each, in f32.
pub(crate) struct Outputs {
    pub(crate) unconditional: Tensor,
    pub(crate) conditional: Tensor,
}

impl Guided<'_> {
    /// Both outputs for one sample `[1, 4, height, width]`, in one batch.
    pub(crate) fn outputs(&self, pass: &mut Pass, sample: &Tensor, t: f64) -> Outputs {
        let both = |tensor: &Tensor| Tensor::cat(&[tensor, tensor], 0).to_kind(self.unet.kind());
        let text = Tensor::cat(&[&self.unconditional, &self.conditional], 0);
        let times = Tensor::from_slice(&[t as f32]).to_device(self.unet.device());
        let outputs = self.unet.forward(pass, &both(sample), &times, &text).to_kind(Kind::Float);
        Outputs { unconditional: outputs.narrow(0, 0, 1), conditional: outputs.narrow(0, 1, 1) }
    }

    /// The output that the sampler goes on with.
    pub(crate) fn guide(&self, outputs: &Outputs) -> Tensor {
        let Outputs { unconditional, conditional } = outputs;
        unconditional + (conditional - unconditional) * self.guidance
    }

    /// The first tap of a call that shows NaN or infinity.
    pub(crate) fn first_fault(&self, sample: &Tensor, t: f64) -> Option<(String, String)> {
        let mut probe = tripwire::FirstFault::default();
        self.outputs(&mut Pass::watched(&mut probe), sample, t);
        probe.found
    }
}
