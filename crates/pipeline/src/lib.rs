//! Latent diffusion from a checkpoint folder and a prompt to a picture. Every tensor on the way passes a named tap.
//!
//! The main types, in order of use: a [`Model`] is a checkpoint folder, read into its networks; a [`Request`] describes
//! one picture; and [`Model::run`] runs the request's plan and returns an [`Outcome`] with the final latents and the
//! picture.
//!
//! The sampler's values pass taps as the networks' tensors do. [`SamplerTaps`] lists them (`sampler.sample`,
//! `sampler.denoised`, `sampler.epsilon.conditional`, ...). So a progress bar, a preview, a recorder and an edit are
//! all probes, and this crate has no option for any of them.

mod bare;
mod coding;
mod common;
mod condition;
mod counts;
mod error;
mod execute;
mod features;
mod guidance;
mod kernels;
mod known;
mod lineage;
mod mask;
mod micro;
mod model;
mod network;
mod noise;
mod outline;
mod picture;
mod pool;
mod prepared;
mod replay;
mod request;
mod run;
mod sampler;
mod sharing;
mod size;
mod start;
mod text;
mod threads;
mod together;
mod tripwire;

pub use bare::Bare;
pub use common::{Common, Named, Work};
pub use condition::{EmptyNegative, EncodedText, Negative};
pub use counts::{Counts, counts};
pub use error::{Error, Result, Stage};
pub use execute::moment;
pub use features::Features;
pub use guidance::{Guidance, check_guidance};
pub use kernels::{KernelChoice, are_measured, measured_kernels};
pub use known::Known;
pub use latentrace_checkpoints::{self as checkpoints, Checkpoint, Choice, Ids, Inversion, Lora, Scale, UnetInput};
pub use latentrace_nn as nn;
pub use latentrace_schedulers::{self as schedulers, Curve, Weight, Window};
pub use latentrace_text::{Tokenizer, Tokens, plain};
pub use latentrace_unet::Unet;
pub use lineage::{Act, At, Call, Lineage, Lines, Mode, Networks, Setting};
pub use mask::Mask;
pub use micro::MicroConditions;
pub use model::{Device, Dtype, Model, Options, TextModel};
pub use network::Outputs;
pub use noise::Draws;
pub use outline::{Outlined, When, outline};
pub use picture::Picture;
pub use pool::{evaluations as evaluations_of, order};
pub use prepared::{Prepared, steps};
pub use replay::replay;
pub use request::Request;
pub use run::Outcome;
pub use sampler::SamplerTaps;
pub use sharing::evaluations;
pub use size::Size;
pub use start::Start;
pub use text::{LongPrompts, TextOptions, TextShape, tokenizers};
pub use threads::Threads;
pub use together::Together;
