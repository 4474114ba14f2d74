//! A prompt as tokens and as embeddings.

use anyhow::Result;
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::nn::tch::Kind;
use latentrace_pipeline::{Model, TextOptions};

/// A prompt, its tokens, and what the text encoder makes of them.
pub struct Embedded {
    /// The tokens up to the first end token: the id and the piece of text.
    pub tokens: Vec<(i64, String)>,
    /// How many tokens the text encoder gets.
    pub length: usize,
    /// The shape of the embeddings.
    pub shape: Vec<i64>,
    /// Their mean and standard deviation.
    pub moments: [f64; 2],
    /// How far they are from those of the empty prompt: the root mean square of the difference over that of the empty
    /// prompt's.
    pub from_empty: f64,
}

impl Embedded {
    /// Encodes a prompt.
    ///
    /// # Errors
    /// The prompt cannot be encoded.
    pub fn of(model: &Model, prompt: &str) -> Result<Embedded> {
        let options = TextOptions::default();
        let (tokens, features) = model.encode_as(prompt, options, &mut Pass::silent())?;
        let (_, empty) = model.encode_as("", options, &mut Pass::silent())?;
        let wide = features.to_kind(Kind::Double);
        let rms = |tensor: &latentrace_pipeline::nn::tch::Tensor| {
            tensor.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
        };
        // The start token, the pieces of the prompt as they are written, and the end token.
        let special = |at: usize| tokens.ids.get(at).and_then(|id| model.tokenizer().token(*id)).unwrap_or_default();
        let pieces = [special(0)].into_iter().chain(tokens.pieces.clone()).chain([special(tokens.pieces.len() + 1)]);
        Ok(Embedded {
            tokens: tokens.ids.iter().copied().zip(pieces).collect(),
            length: tokens.ids.len(),
            shape: features.size(),
            moments: [wide.mean(Kind::Double).double_value(&[]), wide.std(false).double_value(&[])],
            from_empty: rms(&(&features - &empty)) / rms(&empty),
        })
    }
}
