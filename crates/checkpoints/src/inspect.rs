//! What a checkpoint has, compared with what its configurations say that it should have.

use crate::checkpoint::{Checkpoint, Part, TextPart};
use crate::error::Result;
use latentrace_nn::tch::{Kind, no_grad};
use latentrace_nn::{Tensors, Weights};
use latentrace_text::TextEncoder;
use latentrace_unet::Unet;
use latentrace_vae::Vae;
use std::collections::BTreeMap;

/// One part of a checkpoint, compared with its configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspected {
    /// The part: `text_encoder`, `text_encoder_2`, `unet` or `vae`.
    pub part: &'static str,
    /// The number of tensors that the network reads.
    pub tensors: usize,
    /// The number of parameters of the network.
    pub parameters: u64,
    /// The parameters of the files in each number format.
    pub formats: BTreeMap<String, u64>,
    /// The size of the tensors in bytes.
    pub bytes: u64,
    /// Tensors that the network needs and that are not there.
    pub missing: Vec<String>,
    /// Tensors that are there and that the network does not read.
    pub extra: Vec<String>,
    /// Tensors of another shape: the name, the shape that the network needs and the one that is there.
    pub misshapen: Vec<(String, Vec<i64>, Vec<i64>)>,
}

impl Inspected {
    /// Whether the network can be loaded.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }
}

impl Checkpoint {
    /// Compares each part's files with its configuration: the text encoders, the UNet and the VAE. Reads headers only.
    ///
    /// # Errors
    /// A file is missing, cannot be opened or is incomplete, or a configuration cannot be built.
    pub fn inspect(&self) -> Result<Vec<Inspected>> {
        let text =
            |text: &TextPart| inspected(&text.encoder, |weights, config| TextEncoder::load(weights, config).map(drop));
        let mut parts = self.texts.iter().map(text).collect::<Result<Vec<_>>>()?;
        parts.push(inspected(&self.unet, |weights, config| Unet::load(weights, config).map(drop))?);
        parts.push(inspected(&self.vae, |weights, config| Vae::load(weights, config).map(drop))?);
        Ok(parts)
    }
}

/// Compares the files of a part with the tensors that its network reads.
fn inspected<C>(part: &Part<C>, load: impl Fn(&Weights, &C) -> latentrace_nn::Result<()>) -> Result<Inspected> {
    let (weights, asked) = Weights::asked(part.name(), Kind::Float);
    no_grad(|| load(&weights, &part.config))?;
    let (asked, tensors) = (asked.take(), part.tensors()?);
    let mut found = Inspected { part: part.name(), tensors: asked.len(), ..Inspected::default() };
    let names: BTreeMap<String, &str> = tensors.names().map(|name| (rooted(part.name(), name), name)).collect();
    for (name, (shape, _)) in &asked {
        let count: u64 = shape.iter().product::<i64>() as u64;
        found.parameters += count;
        match names.get(name) {
            None => found.missing.push(name.clone()),
            Some(stored) => {
                let (there, kind) = tensors.form(stored)?;
                *found.formats.entry(format(kind).into()).or_default() += count;
                found.bytes += count * kind.elt_size_in_bytes() as u64;
                // A 1x1 convolution is read as a linear layer.
                let is_same = there == shape || matches!(there, [head @ .., 1, 1] if head == shape.as_slice());
                if !is_same {
                    found.misshapen.push((name.clone(), shape.clone(), there.to_vec()));
                }
            }
        }
    }
    let is_known = |name: &str| name.ends_with("embeddings.position_ids");
    let extra = names.iter().filter(|(name, _)| !asked.contains_key(*name) && !is_known(name));
    found.extra = extra.map(|(_, stored)| (*stored).to_owned()).collect();
    Ok(found)
}

/// The name of a tensor as `CLIPTextModel` has it, which is below `text_model`.
fn rooted(part: &str, name: &str) -> String {
    let below = part.starts_with("text_encoder")
        && (name.starts_with("embeddings.") || name.starts_with("encoder.") || name.starts_with("final_layer_norm."));
    if below { format!("text_model.{name}") } else { name.to_owned() }
}

/// The name of a number format.
pub(crate) fn format(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "f32",
        Kind::Half => "f16",
        Kind::BFloat16 => "bf16",
        Kind::Double => "f64",
        _ => "other",
    }
}

/// How a tensor of one checkpoint differs from that of another.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// Only the first has it.
    OnlyFirst,
    /// Only the second has it.
    OnlySecond,
    /// The shapes differ.
    Shape(Vec<i64>, Vec<i64>),
    /// The numbers differ.
    Numbers {
        /// The largest difference, relative to the first tensor's root mean square.
        largest: f64,
        /// The root mean square of the difference, relative to that of the first tensor.
        rms: f64,
    },
}

impl Checkpoint {
    /// Compares the tensors of two checkpoints. Calls `tell` with each name, as `part.name`, and its difference; `None`
    /// for tensors that are equal.
    ///
    /// # Errors
    /// A file is missing, cannot be opened or is incomplete.
    pub fn differences(&self, other: &Checkpoint, mut tell: impl FnMut(&str, Option<Difference>)) -> Result<()> {
        let mut pairs = Vec::new();
        let mut texts: Vec<&'static str> = self.texts.iter().map(|text| text.encoder.name()).collect();
        let others = other.texts.iter().map(|text| text.encoder.name());
        texts.extend(others.filter(|name| !self.texts.iter().any(|text| text.encoder.name() == *name)));
        for name in texts {
            pairs.push((name, self.text_tensors(name)?, other.text_tensors(name)?));
        }
        pairs.push(("unet", Some(self.unet.tensors()?), Some(other.unet.tensors()?)));
        pairs.push(("vae", Some(self.vae.tensors()?), Some(other.vae.tensors()?)));
        for (part, first, second) in &pairs {
            let (names, others) = (named(part, first.as_ref()), named(part, second.as_ref()));
            for (name, stored) in &names {
                let difference = match (first, second, others.get(name)) {
                    (Some(first), Some(second), Some(other)) => between(first, stored, second, other)?,
                    _ => Some(Difference::OnlyFirst),
                };
                tell(&format!("{part}.{name}"), difference);
            }
            for name in others.keys().filter(|name| !names.contains_key(*name)) {
                tell(&format!("{part}.{name}"), Some(Difference::OnlySecond));
            }
        }
        Ok(())
    }

    /// The tensors of a text encoder, if there is one of this name.
    fn text_tensors(&self, name: &str) -> Result<Option<Tensors>> {
        let text = self.texts.iter().find(|text| text.encoder.name() == name);
        text.map(|text| text.encoder.tensors()).transpose()
    }
}

/// The tensors of a part by the names that both checkpoints know, with the names that they are stored by.
fn named(part: &str, tensors: Option<&Tensors>) -> BTreeMap<String, String> {
    let names = tensors.into_iter().flat_map(Tensors::names).filter(|name| !name.ends_with("embeddings.position_ids"));
    names.map(|name| (rooted(part, name), name.to_owned())).collect()
}

/// The difference of two tensors; `None` if they are equal.
fn between(first: &Tensors, a: &str, second: &Tensors, b: &str) -> Result<Option<Difference>> {
    let (one, two) = (first.get(a)?, second.get(b)?);
    let squeezed = |shape: Vec<i64>| match shape.as_slice() {
        [head @ .., 1, 1] if head.len() == 2 => head.to_vec(),
        _ => shape,
    };
    let (shape, other) = (squeezed(one.size()), squeezed(two.size()));
    if shape != other {
        return Ok(Some(Difference::Shape(shape, other)));
    }
    let (one, two) = (one.view(shape.as_slice()).to_kind(Kind::Float), two.view(shape.as_slice()).to_kind(Kind::Float));
    if one.equal(&two) || one.numel() == 0 {
        return Ok(None);
    }
    let rms = |tensor: &latentrace_nn::tch::Tensor| tensor.square().mean(Kind::Double).sqrt().double_value(&[]);
    let (apart, scale) = (&one - &two, rms(&one));
    let relative = |value: f64| if scale > 0.0 { value / scale } else { f64::INFINITY };
    Ok(Some(Difference::Numbers { largest: relative(apart.abs().max().double_value(&[])), rms: relative(rms(&apart)) }))
}
