//! From a checkpoint folder and a prompt to a picture, with everything on the way passing a door by name.
//!
//! Three types, in order of use: a [`Model`] is a checkpoint folder read into its networks; a [`Request`] is one
//! picture asked of it; and [`Model::run`] runs the request's plan and gives an [`Outcome`], the final latents and the
//! picture.
//!
//! One decision: the sampler's own values go through taps as the networks' do. [`SamplerTaps`] lists them
//! (`sampler.sample`, `sampler.denoised`, `sampler.epsilon.conditional`, ...), so that a progress bar, a preview, a
//! recorder and an edit are all probes, and this crate has an option for none of them.

mod bare;
mod checkpoint;
mod counts;
mod error;
mod execute;
mod guidance;
mod network;
mod noise;
mod outline;
mod picture;
mod replay;
mod request;
mod sampler;
mod sharing;
mod size;
mod together;
mod tripwire;

pub use bare::Bare;
pub use checkpoint::{Device, Dtype, Model, Options};
pub use counts::{Counts, counts};
pub use error::{Error, Result, Stage};
pub use execute::moment;
pub use guidance::{Curve, Guidance, Window};
pub use latentrace_nn as nn;
pub use latentrace_schedulers as schedulers;
pub use latentrace_text::Tokens;
pub use latentrace_unet::Unet;
pub use network::Outputs;
pub use noise::Draws;
pub use outline::{Outlined, When, outline};
pub use picture::Picture;
pub use replay::replay;
pub use request::{Outcome, Prepared, Request, Start, steps};
pub use sampler::SamplerTaps;
pub use sharing::evaluations;
pub use size::Size;
pub use together::Together;
