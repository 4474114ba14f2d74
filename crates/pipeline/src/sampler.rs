//! The taps of the sampler's values.

use latentrace_nn::{Conditioning, SamplerValue, Tap};

/// The taps of the sampler's values, each `[images, 4, height, width]` in f32; a mask has one channel. Samples are in
/// `x = x0 + sigma * noise`.
pub struct SamplerTaps {
    /// The sample that a network call is made for; with a mask and an ordinary UNet, after its known part was replaced. An
    /// edit changes the sample that the sampler continues with.
    pub sample: Tap,
    /// The noise that the network predicts without the prompt. An edit changes the network's output.
    pub unconditional: Tap,
    /// The noise that the network predicts with the prompt. An edit changes the network's output.
    pub conditional: Tap,
    /// The predicted noise after guidance. An edit changes the output that the sampler continues with.
    pub guided: Tap,
    /// The network's output without the prompt, in the terms it was trained in (noise, velocity or sample).
    pub output_unconditional: Tap,
    /// The network's output with the prompt.
    pub output_conditional: Tap,
    /// The output after guidance, with which the sampler continues.
    pub output: Tap,
    /// The clean estimate, after clipping if there is any. An edit has an effect in samplers that use the clean
    /// estimate.
    pub denoised: Tap,
    /// The normal noise that the run starts from; with a mask, also that of the known part of every sample.
    pub start: Tap,
    /// The latents of the picture that the run starts from, at unit variance.
    pub image: Tap,
    /// The mask at the size of the latents, `[images, 1, height, width]`: 1 where the picture is made anew.
    pub mask: Tap,
    /// The latents of the picture without its masked part, at unit variance, which an inpainting UNet takes.
    pub masked: Tap,
    /// The normal noise that a call's step adds: after the call in ancestral samplers, before the call in samplers with
    /// churn.
    pub noise: Tap,
    /// The final latents, at unit variance, as they go to the decoder.
    pub latents: Tap,
}

impl SamplerTaps {
    /// Makes the taps.
    pub fn new() -> SamplerTaps {
        use Conditioning::{Conditional, Guided, Unconditional};
        SamplerTaps {
            sample: Tap::of_sampler(SamplerValue::Sample),
            unconditional: Tap::of_sampler(SamplerValue::Epsilon(Unconditional)),
            conditional: Tap::of_sampler(SamplerValue::Epsilon(Conditional)),
            guided: Tap::of_sampler(SamplerValue::Epsilon(Guided)),
            output_unconditional: Tap::of_sampler(SamplerValue::Output(Unconditional)),
            output_conditional: Tap::of_sampler(SamplerValue::Output(Conditional)),
            output: Tap::of_sampler(SamplerValue::Output(Guided)),
            denoised: Tap::of_sampler(SamplerValue::Denoised),
            start: Tap::of_sampler(SamplerValue::Start),
            image: Tap::of_sampler(SamplerValue::Image),
            mask: Tap::of_sampler(SamplerValue::Mask),
            masked: Tap::of_sampler(SamplerValue::Masked),
            noise: Tap::of_sampler(SamplerValue::Noise),
            latents: Tap::of_sampler(SamplerValue::Latents),
        }
    }

    /// All of them, in the order in which a call passes them.
    pub fn all(&self) -> [&Tap; 14] {
        [
            &self.mask,
            &self.masked,
            &self.image,
            &self.start,
            &self.sample,
            &self.unconditional,
            &self.output_unconditional,
            &self.conditional,
            &self.output_conditional,
            &self.guided,
            &self.output,
            &self.denoised,
            &self.noise,
            &self.latents,
        ]
    }
}

impl Default for SamplerTaps {
    fn default() -> SamplerTaps {
        SamplerTaps::new()
    }
}
