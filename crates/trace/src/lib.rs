//! Records of a run: what went through its taps, step by step.
//!
//! Two types, in order of use: a [`Recorder`] is a probe that keeps the tensors of the taps it is told to keep, each
//! with its [`Moment`](latentrace_nn::Moment); what it kept is a list of [`Capture`]s, which [`write()`] puts into one
//! safetensors file that stock Python opens, with the moments in its header.
//!
//! One decision: the recorder keeps the tensor itself, not a copy. libtorch's tensors share storage, and no network
//! here writes into a tensor that has passed a tap, so keeping costs one reference.

mod both;
mod recorder;
mod safetensors;

pub use both::Both;
pub use recorder::{Capture, Recorder, rms};
pub use safetensors::write;
