//! The sampler's values by the names of their taps.

/// The sample of a call, `x0 + sigma * noise`.
pub const SAMPLE: &str = "sampler.sample";
/// The noise that the unconditional branch predicts.
pub const UNCONDITIONAL: &str = "sampler.epsilon.unconditional";
/// The noise that the conditional branch predicts.
pub const CONDITIONAL: &str = "sampler.epsilon.conditional";
/// The noise after guidance.
pub const GUIDED: &str = "sampler.epsilon.guided";
/// The network's output of the unconditional branch.
pub const OUTPUT_UNCONDITIONAL: &str = "sampler.output.unconditional";
/// The network's output of the conditional branch.
pub const OUTPUT_CONDITIONAL: &str = "sampler.output.conditional";
/// The network's output after guidance.
pub const OUTPUT_GUIDED: &str = "sampler.output.guided";
/// The latents of the picture that a run starts from.
pub const IMAGE: &str = "sampler.image";
/// The clean estimate.
pub const DENOISED: &str = "sampler.denoised";
/// The final latents.
pub const LATENTS: &str = "sampler.latents";
