//! Text to the tensor that a latent diffusion network listens to.
//!
//! Three types, in order of use: a [`Tokenizer`] turns a prompt into [`Tokens`], 77 numbers with what they stand for,
//! and a [`TextEncoder`] turns those into `[batch, tokens, width]`.
//!
//! One decision: nothing is lost silently. Tokens know which words of the prompt did not fit, and the text that each
//! number stands for, so that a heat map can be labelled and a cut prompt reported.

mod encoder;
mod specials;
mod tokenizer;

pub use encoder::{TextConfig, TextEncoder};
pub use tokenizer::{Error, Tokenizer, Tokens};
