//! What the UNet is conditioned on: texts, and for SDXL a pooled text and numbers.

use crate::error::{Error, Result};
use crate::{Guidance, Model, Request};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_schedulers::Reading;
use latentrace_text::{Encoding, End, HiddenState};
use latentrace_unet::{Added, Condition};
use serde::{Deserialize, Serialize};

/// A text as the text encoders return it.
#[derive(Debug)]
pub struct EncodedText {
    /// The features of its tokens, of all text encoders side by side, `[1, tokens, features]`.
    pub features: Tensor,
    /// The pooled text of the last text encoder, `[1, features]`, for a UNet that takes one.
    pub pooled: Option<Tensor>,
}

impl Clone for EncodedText {
    /// The copy shares the tensors.
    fn clone(&self) -> EncodedText {
        self.map(Tensor::shallow_clone)
    }
}

impl EncodedText {
    /// The same text with each tensor mapped.
    pub(crate) fn map(&self, of: impl Fn(&Tensor) -> Tensor) -> EncodedText {
        EncodedText { features: of(&self.features), pooled: self.pooled.as_ref().map(of) }
    }

    /// Zeros in the place of the text.
    pub(crate) fn zeros(&self) -> EncodedText {
        self.map(Tensor::zeros_like)
    }

    /// The size of the tensors in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let of = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        of(&self.features) + self.pooled.as_ref().map_or(0, of)
    }
}

/// What stands for the negative prompt in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negative {
    /// Its text, or the features that are given.
    #[default]
    Text,
    /// Zeros in place of the features and of the pooled text, where there is no negative prompt.
    Zeros,
    /// Nothing: only the output for the prompt is computed. So a UNet of SDXL's kind runs at the constant guidance weight 1.
    Absent,
}

impl Negative {
    /// How many rows the network computes at a call of one image.
    pub fn rows(self) -> usize {
        if self == Negative::Absent { 1 } else { 2 }
    }

    /// Whether it is its text.
    pub fn is_text(&self) -> bool {
        *self == Negative::Text
    }
}

/// What no negative prompt means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmptyNegative {
    /// What the checkpoint says: zeros where its `model_index.json` has `force_zeros_for_empty_prompt`, as that of SDXL, and otherwise
    /// the empty text.
    #[default]
    Model,
    /// Zeros in place of its features and of its pooled text.
    Zeros,
    /// The empty text, encoded.
    Text,
}

/// The conditions of some rows of a network call.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// `[rows, tokens, features]`
    text: Tensor,
    /// The pooled text `[rows, features]` and the numbers `[rows, numbers]` in f32.
    added: Option<[Tensor; 2]>,
}

impl Conditions {
    /// Those of one row.
    pub(crate) fn of(EncodedText { features, pooled }: EncodedText, ids: Option<&[f64]>) -> Conditions {
        let device = features.device();
        let added = pooled.zip(ids).map(|(pooled, ids)| {
            let ids = Tensor::from_slice(ids).to_kind(Kind::Float).view([1, -1]);
            [pooled, ids.to_device(device)]
        });
        Conditions { text: features, added }
    }

    /// Those of a text alone, `[1, tokens, features]`.
    pub(crate) fn of_text(text: &Tensor) -> Conditions {
        Conditions { text: text.shallow_clone(), added: None }
    }

    /// The rows of several, one after the other.
    pub(crate) fn stacked(all: &[Conditions]) -> Conditions {
        let text: Vec<&Tensor> = all.iter().map(|one| &one.text).collect();
        let added: Option<Vec<&[Tensor; 2]>> = all.iter().map(|one| one.added.as_ref()).collect();
        let stack = |index: usize, added: &[&[Tensor; 2]]| {
            Tensor::cat(&added.iter().map(|added| &added[index]).collect::<Vec<_>>(), 0)
        };
        Conditions { text: Tensor::cat(&text, 0), added: added.map(|added| [stack(0, &added), stack(1, &added)]) }
    }

    /// Some of the rows, in any order.
    pub(crate) fn picked(&self, rows: &[i64]) -> Conditions {
        let rows = Tensor::from_slice(rows).to_device(self.text.device());
        let pick = |tensor: &Tensor| tensor.index_select(0, &rows);
        Conditions { text: pick(&self.text), added: self.added.as_ref().map(|[pooled, ids]| [pick(pooled), pick(ids)]) }
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> i64 {
        self.text.size()[0]
    }

    /// As the UNet takes them.
    pub(crate) fn as_condition(&self) -> Condition<'_> {
        let added = self.added.as_ref().map(|[pooled, ids]| Added { pooled, ids });
        Condition { text: &self.text, added }
    }
}

impl Model {
    /// What stands for the negative prompt of a request.
    pub(crate) fn negative(&self, request: &Request) -> Negative {
        let takes_pooled = self.checkpoint.unet.config.added.is_some();
        if takes_pooled && request.guidance == Guidance::Constant(1.0) {
            return Negative::Absent;
        }
        let zeros = match request.empty_negative {
            EmptyNegative::Model => self.checkpoint.zeros,
            EmptyNegative::Zeros => true,
            EmptyNegative::Text => false,
        };
        // diffusers looks at the first negative prompt only, and so does not use a second one that is given alone.
        let of_second = request.negative_2.as_deref().filter(|_| request.reading == Reading::Exact);
        let is_empty = request.negative.is_empty() && of_second.unwrap_or_default().is_empty();
        if zeros && is_empty && request.features.is_none() { Negative::Zeros } else { Negative::Text }
    }

    /// The texts of the prompt and of the negative prompt for a text encoder, by its place in the list. In diffusers an empty second text
    /// is none, and the first is in its place.
    pub(crate) fn texts_for<'a>(&self, request: &'a Request, encoder: usize) -> [&'a str; 2] {
        let second = |text: &'a Option<String>, first: &'a str| match (encoder, text, request.reading) {
            (0, ..) | (_, None, _) => first,
            (_, Some(text), Reading::Diffusers) if text.is_empty() => first,
            (_, Some(text), _) => text,
        };
        [second(&request.prompt_2, &request.prompt), second(&request.negative_2, &request.negative)]
    }

    /// What each text encoder is to return of the prompt, and of the negative prompt.
    pub(crate) fn encodings(&self, request: &Request) -> [Vec<Encoding>; 2] {
        let skip = request.text.clip_skip;
        // The pipelines of SDXL encode the negative prompt without clip_skip.
        let of_negative = match (self.checkpoint.state(), request.reading) {
            (HiddenState::LastButOne, Reading::Diffusers) => 0,
            _ => skip,
        };
        [skip, of_negative].map(|skip| self.encodings_of(skip, request.reading))
    }

    /// What each text encoder is to return of a text.
    pub(crate) fn encodings_of(&self, skipped: usize, reading: Reading) -> Vec<Encoding> {
        let state = self.checkpoint.state();
        let parts = self.texts.iter().zip(&self.checkpoint.texts);
        let encodings = parts.map(|(text, part)| {
            let end = match (&part.encoder.config.projection, reading) {
                (Some(projection), Reading::Diffusers) => projection.end(),
                _ => End::Of(text.tokenizer.end().into()),
            };
            Encoding { state, skipped, end }
        });
        encodings.collect()
    }

    /// Checks that the model has an encoder for each text.
    ///
    /// # Errors
    /// There is a second prompt, but no second text encoder.
    pub(crate) fn check_second_texts(&self, request: &Request) -> Result<()> {
        let given = [("prompt_2", &request.prompt_2), ("negative_2", &request.negative_2)];
        match given.into_iter().find_map(|(field, text)| Some((field, text.as_ref()?))) {
            Some((field, text)) if self.texts.len() == 1 => {
                let expected = format!(
                    "none: {} has one text encoder, which reads the {}",
                    self.checkpoint.place().display(),
                    if field == "prompt_2" { "prompt" } else { "negative prompt" }
                );
                Err(Error::Range { field, expected, found: format!("{text:?}") })
            }
            _ => Ok(()),
        }
    }
}
