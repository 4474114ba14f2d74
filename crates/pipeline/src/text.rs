//! How the texts of a request are read and encoded.

use crate::error::{Error, Result};
use crate::{Features, Model, Negative, Prepared};
use latentrace_checkpoints::{Checkpoint, TextPart, Vectors};
use latentrace_text::{Form, HiddenState, Tokenizer};
use serde::{Deserialize, Serialize};

/// How the texts of a request are read and encoded. The default is what `StableDiffusionPipeline` does by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TextOptions {
    /// How many of the text encoder's last layers are left out, for both texts. The final norm is applied all the same.
    /// diffusers 0.42.1 does this for the prompt only, and encodes the negative prompt with all layers.
    ///
    /// For SDXL, which takes the last hidden state but one, they are left out before that one. In the reading of diffusers they then
    /// are left out for the prompt only. The pooled text is always that of all layers.
    pub clip_skip: usize,
    /// What becomes of a text that does not fit.
    pub long_prompts: LongPrompts,
    /// Whether `(word:1.3)` is a weight of a word, see [`plain`](latentrace_text::plain).
    pub weights: bool,
}

/// What becomes of a text that is longer than the text encoder's context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongPrompts {
    /// Its end is cut off.
    #[default]
    Cut,
    /// It goes on in further chunks, which are encoded separately and follow each other in the UNet's attention. The
    /// shorter of the two texts gets chunks without text.
    Chunks,
}

/// What of a run's texts decides which tensors pass, and their shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextShape {
    /// The number of the text encoders' last layers that are left out, for the prompt and for the negative prompt.
    pub skipped: [usize; 2],
    /// The number of chunks of each text.
    pub chunks: i64,
    /// The number of tokens whose features are given; `None` if the texts are encoded.
    pub given: Option<i64>,
    /// What stands for the negative prompt.
    pub negative: Negative,
}

impl Default for TextShape {
    /// One chunk, all layers, and both texts encoded.
    fn default() -> TextShape {
        TextShape { skipped: [0; 2], chunks: 1, given: None, negative: Negative::Text }
    }
}

impl TextShape {
    /// The shape of a prepared run.
    pub fn of(prepared: &Prepared) -> TextShape {
        let Prepared { request, length, negative, encodings, .. } = prepared;
        let [tokens, _] = prepared.first_tokens();
        let chunks = tokens.ids.len() / (*length).max(1);
        let given = request.features.as_ref().map(Features::tokens);
        let skipped = encodings.each_ref().map(|each| each[0].skipped);
        TextShape { skipped, chunks: chunks.max(1) as i64, given, negative: *negative }
    }
}

impl TextOptions {
    pub(crate) fn form(self) -> Form {
        Form { weights: self.weights, chunks: self.long_prompts == LongPrompts::Chunks }
    }
}

impl Model {
    /// Checks that each text encoder has the layers that are left out.
    pub(crate) fn check_text(&self, options: TextOptions) -> Result<()> {
        let layers = self.checkpoint.texts.iter().map(|text| text.encoder.config.num_hidden_layers).min().unwrap_or(0);
        let (most, what) = match self.checkpoint.state() {
            HiddenState::Last => (layers, "the number of the text encoder's layers"),
            HiddenState::LastButOne => (layers - 1, "the number of layers before the last, which SDXL does not use"),
        };
        if i64::try_from(options.clip_skip).is_ok_and(|skip| skip <= most) {
            return Ok(());
        }
        let expected = format!("0 to {most}, {what}");
        Err(Error::Range { field: "clip_skip", expected, found: options.clip_skip.to_string() })
    }
}

/// The tokenizer of each text encoder of a checkpoint, with the tokens of its textual inversions.
///
/// # Errors
/// A file is missing or malformed, or a tokenizer has a token already.
pub fn tokenizers(checkpoint: &Checkpoint) -> Result<Vec<Tokenizer>> {
    let vectors = checkpoint.vectors()?;
    let with_tokens = |part: &TextPart| {
        let mut tokenizer = own(part)?;
        for vectors in vectors.iter().filter(|vectors| vectors.part == part.encoder.name()) {
            tokenizer.add(&vectors.token, vectors.table.size()[0] as usize)?;
        }
        Ok(tokenizer)
    };
    checkpoint.texts.iter().map(with_tokens).collect()
}

/// A note for each token that only one of two text encoders has vectors for.
pub(crate) fn unknown_to_some(checkpoint: &Checkpoint, vectors: &[Vectors]) -> Vec<String> {
    let has = |part: &str, token: &str| vectors.iter().any(|known| known.part == part && known.token == token);
    let others = |known: &Vectors| {
        let parts = checkpoint.texts.iter().map(|text| text.encoder.name()).filter(|part| *part != known.part);
        let unknown = parts.filter(|part| !has(part, &known.token));
        unknown
            .map(|part| format!("{} is a token of {} alone: {part} reads its letters", known.token, known.part))
            .collect::<Vec<_>>()
    };
    vectors.iter().flat_map(others).collect()
}

/// The tokenizer of a text encoder as its files have it.
pub(crate) fn own(part: &TextPart) -> Result<Tokenizer> {
    let config = &part.encoder.config;
    let length = usize::try_from(config.max_position_embeddings).unwrap_or(usize::MAX);
    let tokenizer = Tokenizer::open(&part.tokenizer, length)?.for_embeddings(config.vocab_size);
    Ok(match &part.padding {
        Some(token) => tokenizer.padded_with(token)?,
        None => tokenizer,
    })
}
