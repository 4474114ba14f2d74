//! From a prompt to the embeddings that a latent diffusion model is conditioned on.
//!
//! Three types, in order of use: a [`Tokenizer`] turns a prompt into [`Tokens`], 77 ids and their texts, and a
//! [`TextEncoder`] turns those into `[batch, tokens, width]`.
//!
//! Nothing is lost silently: [`Tokens`] has the part of the prompt that did not fit, so that it can be reported, and
//! the text of each id, so that a heat map can be labelled.

mod emphasis;
mod encoder;
mod specials;
mod tokenizer;
mod vocabulary;

pub use emphasis::plain;
pub use encoder::{Encoded, Encoding, End, HiddenState, Projection, TextConfig, TextEncoder};
pub use tokenizer::{Error, FILES, Form, MOST_CHUNKS, Tokenizer, Tokens};
pub use vocabulary::Vocabulary;
