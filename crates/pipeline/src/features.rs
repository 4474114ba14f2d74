//! Text features that a run is given in place of its texts.

use crate::error::{Error, Result};
use crate::tripwire::fault;
use crate::{Model, Prepared};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Pass, Tensors, write_safetensors};
use std::collections::HashMap;
use std::path::Path;

/// The text features of a run, `[1, tokens, features]` each, by the names that diffusers has for them: a file of both
/// can be given to `StableDiffusionPipeline.__call__` as keyword arguments.
#[derive(Debug)]
pub struct Features {
    /// Those of the prompt, `prompt_embeds`.
    pub prompt: Tensor,
    /// Those of the negative prompt, `negative_prompt_embeds`.
    pub negative: Tensor,
}

const NAMES: [&str; 2] = ["prompt_embeds", "negative_prompt_embeds"];

impl Clone for Features {
    /// The copy shares the tensors.
    fn clone(&self) -> Features {
        Features { prompt: self.prompt.shallow_clone(), negative: self.negative.shallow_clone() }
    }
}

impl Features {
    /// Reads a safetensors file with both tensors.
    ///
    /// # Errors
    /// The file cannot be read, lacks a tensor, or has shapes or numbers that no text encoder returns.
    pub fn open(path: &Path) -> Result<Features> {
        let fail = |cause: String| Error::Features { file: path.display().to_string(), cause };
        let tensors = Tensors::open(&[path], &|stored| latentrace_nn::diffusers_names(stored))?;
        let read = |name: &str| {
            if !tensors.names().any(|there| there == name) {
                let there = tensors.names().take(3).collect::<Vec<_>>().join(", ");
                return Err(fail(format!(
                    "no {name}, but {there}\nhint: a file of features has {} and {}",
                    NAMES[0], NAMES[1]
                )));
            }
            let tensor = tensors.get(name)?.to_kind(Kind::Float);
            match (tensor.dim(), fault(&tensor)) {
                (3, None) if tensor.size()[0] == 1 && tensor.size()[1] > 0 => Ok(tensor),
                (_, Some(found)) => Err(fail(format!("{name}: {found}"))),
                _ => Err(fail(format!("{name}: expected a shape of [1, tokens, features], found {:?}", tensor.size()))),
            }
        };
        let features = Features { prompt: read(NAMES[0])?, negative: read(NAMES[1])? };
        let [of_prompt, of_negative] = [&features.prompt, &features.negative].map(Tensor::size);
        match of_prompt == of_negative {
            true => Ok(features),
            false => {
                Err(fail(format!("{} has the shape {of_prompt:?}, but {} has {of_negative:?}", NAMES[0], NAMES[1])))
            }
        }
    }

    /// Writes both tensors.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = [&self.prompt, &self.negative].map(|tensor| tensor.contiguous());
        let named: Vec<(String, Tensor)> = NAMES.iter().map(|name| name.to_string()).zip(tensors).collect();
        Ok(write_safetensors(path, &named, HashMap::new())?)
    }

    /// The number of tokens.
    pub fn tokens(&self) -> i64 {
        self.prompt.size()[1]
    }
}

impl Model {
    /// The features that a prepared run gives to the UNet.
    ///
    /// # Errors
    /// They are not finite.
    pub fn features(&self, prepared: &Prepared, pass: &mut Pass) -> Result<Features> {
        let _held = self.hold_threads(prepared.request.size, 1);
        let encode = |index: usize, pass: &mut Pass| {
            self.encode_tokens(&prepared.tokens[index], prepared.request.text.clip_skip, pass)
        };
        match &prepared.request.features {
            Some(given) => Ok(given.clone()),
            None => Ok(Features { prompt: encode(0, pass)?, negative: encode(1, pass)? }),
        }
    }

    /// Checks that the UNet takes features of this width.
    pub(crate) fn check_features(&self, features: &Features) -> Result<()> {
        let (width, found) = (self.checkpoint.unet.config.cross_attention_dim, features.prompt.size()[2]);
        if width == found {
            return Ok(());
        }
        let expected = format!("{width} for each token, which the UNet takes (cross_attention_dim)");
        Err(Error::Range { field: "features", expected, found: found.to_string() })
    }
}
