//! Text features that a run is given in place of its texts.

use crate::condition::EncodedText;
use crate::error::{Error, Result};
use crate::tripwire::fault;
use crate::{Model, Negative, Prepared};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Branch, Pass, Tensors, write_safetensors};
use std::collections::HashMap;
use std::path::Path;

/// The text features of a run, by the names that diffusers has for them: the tensors of a file can be given to the pipeline of
/// diffusers as keyword arguments.
#[derive(Clone, Debug)]
pub struct Features {
    /// Those of the prompt: `prompt_embeds`, and for SDXL `pooled_prompt_embeds`.
    pub prompt: EncodedText,
    /// Those of the negative prompt: `negative_prompt_embeds`, and for SDXL `negative_pooled_prompt_embeds`.
    pub negative: EncodedText,
}

/// The names of the features of a branch, `[1, tokens, features]`, and of its pooled text, `[1, features]`.
fn names(branch: Branch) -> [&'static str; 2] {
    match branch {
        Branch::Conditional => ["prompt_embeds", "pooled_prompt_embeds"],
        Branch::Unconditional => ["negative_prompt_embeds", "negative_pooled_prompt_embeds"],
    }
}

impl Features {
    /// Reads a safetensors file with the features of both texts, and with both pooled texts or none.
    ///
    /// # Errors
    /// The file cannot be read, lacks a tensor, or has shapes or numbers that no text encoder returns.
    pub fn open(path: &Path) -> Result<Features> {
        let fail = |cause: String| Error::Features { file: path.display().to_string(), cause };
        let tensors = Tensors::open(&[path], &|stored| latentrace_nn::diffusers_names(stored))?;
        let has = |name: &str| tensors.names().any(|there| there == name);
        let branches = [Branch::Conditional, Branch::Unconditional];
        let has_pooled = branches.map(names).iter().any(|[_, pooled]| has(pooled));
        let read = |name: &str, axes: usize| {
            if !has(name) {
                let there = tensors.names().take(4).collect::<Vec<_>>().join(", ");
                let [[prompt, pooled], [negative, negative_pooled]] = branches.map(names);
                let hint = match has_pooled {
                    true => format!("{prompt}, {negative}, {pooled} and {negative_pooled}"),
                    false => format!("{prompt} and {negative}"),
                };
                return Err(fail(format!("no {name}, but {there}\nhint: a file of features has {hint}")));
            }
            let tensor = tensors.get(name)?.to_kind(Kind::Float);
            let size = tensor.size();
            let shape = if axes == 3 { "[1, tokens, features]" } else { "[1, features]" };
            match fault(&tensor) {
                Some(found) => Err(fail(format!("{name}: {found}"))),
                None if size.len() == axes && size[0] == 1 && size[1] > 0 => Ok(tensor),
                None => Err(fail(format!("{name}: expected a shape of {shape}, found {size:?}"))),
            }
        };
        let text = |branch| {
            let [features, pooled] = names(branch);
            let pooled = has_pooled.then(|| read(pooled, 2)).transpose()?;
            Ok::<_, Error>(EncodedText { features: read(features, 3)?, pooled })
        };
        let features = Features { prompt: text(Branch::Conditional)?, negative: text(Branch::Unconditional)? };
        features.check_shapes().map_or(Ok(features), |cause| Err(fail(cause)))
    }

    /// What is wrong if the two texts have different shapes.
    fn check_shapes(&self) -> Option<String> {
        let [prompt, negative] = [&self.prompt, &self.negative]
            .map(|text| [Some(text.features.size()), text.pooled.as_ref().map(Tensor::size)]);
        let named = names(Branch::Conditional).into_iter().zip(names(Branch::Unconditional));
        named.zip(prompt.into_iter().zip(negative)).find_map(|((name, other), shapes)| match shapes {
            (Some(prompt), Some(negative)) if prompt != negative => {
                Some(format!("{name} has the shape {prompt:?}, but {other} has {negative:?}"))
            }
            _ => None,
        })
    }

    /// Writes the tensors.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let of = |branch, text: &EncodedText| {
            let tensors = [Some(text.features.contiguous()), text.pooled.as_ref().map(Tensor::contiguous)];
            names(branch).map(String::from).into_iter().zip(tensors).filter_map(|(name, tensor)| Some((name, tensor?)))
        };
        let prompt = of(Branch::Conditional, &self.prompt);
        let named: Vec<(String, Tensor)> = prompt.chain(of(Branch::Unconditional, &self.negative)).collect();
        Ok(write_safetensors(path, &named, HashMap::new())?)
    }

    /// The number of tokens.
    pub fn tokens(&self) -> i64 {
        self.prompt.features.size()[1]
    }
}

impl Model {
    /// The features that a prepared run gives to the UNet. Where the run has no negative prompt, those of the empty text.
    ///
    /// # Errors
    /// They are not finite.
    pub fn features(&self, prepared: &Prepared, pass: &mut Pass) -> Result<Features> {
        if let Some(given) = &prepared.request.features {
            return Ok(given.clone());
        }
        let _held = self.hold_threads(prepared.request.size, 1);
        let encode = |index: usize, pass: &mut Pass| {
            self.encode_tokens(&prepared.tokens[index], &prepared.encodings[index], pass)
        };
        let prompt = encode(0, pass)?;
        let negative = match prepared.negative {
            Negative::Zeros => prompt.zeros(),
            Negative::Text | Negative::Absent => encode(1, pass)?,
        };
        Ok(Features { prompt, negative })
    }

    /// Checks that the UNet takes features of these widths.
    pub(crate) fn check_features(&self, features: &Features) -> Result<()> {
        let fail = |expected: String, found: String| Err(Error::Range { field: "features", expected, found });
        let (width, found) = (self.checkpoint.unet.config.cross_attention_dim, features.prompt.features.size()[2]);
        if width != found {
            let expected = format!("{width} for each token, which the UNet takes (cross_attention_dim)");
            return fail(expected, found.to_string());
        }
        let pooled = features.prompt.pooled.as_ref().map(|pooled| pooled.size()[1]);
        match (self.checkpoint.pooled(), pooled) {
            (expected, found) if expected == found => Ok(()),
            (Some(width), found) => {
                let found = found.map_or("none".into(), |found| found.to_string());
                fail(format!("a pooled text of {width} (pooled_prompt_embeds), which the UNet takes"), found)
            }
            (None, found) => {
                let found = found.map_or("none".into(), |found| format!("one of {found}"));
                fail("no pooled text (pooled_prompt_embeds), which only SDXL takes".into(), found)
            }
        }
    }
}
