//! The headings of options in a command's help.

/// What pictures are made of, and how many.
pub const PICTURES: &str = "Pictures";

/// The checkpoint, and how it runs.
pub const MODEL: &str = "Model";

/// What of a checkpoint is used, where there is a choice.
pub const PARTS: &str = "Parts of the checkpoint";

/// Seed, steps, sampler, size and guidance.
pub const SAMPLING: &str = "Sampling";

/// How the texts are read.
pub const TEXT: &str = "Text";

/// What SDXL takes besides a prompt.
pub const SDXL: &str = "SDXL";

/// What is kept of a run, and what is changed on the way.
pub const RECORDING: &str = "Recording";

/// Where results go.
pub const OUTPUT: &str = "Output";

/// What every command has.
pub const GENERAL: &str = "General";
