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
        let words = tokens.pieces.len() + 2; // with the start and the end
        let ids = tokens.ids.iter().copied().take(words);
        Ok(Embedded {
            tokens: ids.map(|id| (id, shown(model.tokenizer.token(id)))).collect(),
            length: tokens.ids.len(),
            shape: features.size(),
            moments: [wide.mean(Kind::Double).double_value(&[]), wide.std(false).double_value(&[])],
            from_empty: rms(&(&features - &empty)) / rms(&empty),
        })
    }
}

/// A token for a reader. The vocabulary of CLIP marks the end of a word.
fn shown(token: Option<String>) -> String {
    token.unwrap_or_default().replace("</w>", "")
}
