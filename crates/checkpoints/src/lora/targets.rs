//! The layers that a LoRA can change, by all names that trainers give them.

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::single::{inverse, names};
use latentrace_nn::tch::{Kind, no_grad};
use latentrace_nn::{Asked, Weights};
use latentrace_text::TextEncoder;
use latentrace_unet::Unet;
use std::collections::BTreeMap;

/// A network that a LoRA can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Network {
    TextEncoder,
    Unet,
}

/// A layer that a LoRA can change.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) network: Network,
    /// The path of the layer in the checkpoint's files.
    pub(super) layer: String,
    /// The shape of its weight.
    pub(super) shape: Vec<i64>,
}

/// The layers of a checkpoint. A layer's names are kept flat, with `_` for every `.`, as kohya's trainers write them.
pub(super) struct Targets {
    text_encoder: BTreeMap<String, Target>,
    unet: BTreeMap<String, Target>,
}

/// What stands before a flat name. The shorter ones follow the longer ones that they begin.
const PREFIXES: [(&str, Network); 7] = [
    ("lora_unet_", Network::Unet),
    ("lora_te_", Network::TextEncoder),
    ("lora_te1_", Network::TextEncoder),
    ("unet_", Network::Unet),
    ("text_encoder_", Network::TextEncoder),
    ("model_diffusion_model_", Network::Unet),
    ("diffusion_model_", Network::Unet),
];

impl Targets {
    /// The layers of a checkpoint's text encoder and UNet. Reads no weights.
    ///
    /// # Errors
    /// A network cannot be built, or a weight file of the text encoder cannot be opened.
    pub(super) fn of(checkpoint: &Checkpoint) -> Result<Targets> {
        let (text, unet) = (&checkpoint.text().encoder, &checkpoint.unet);
        let (weights, asked) = Weights::asked("unet", Kind::Float);
        no_grad(|| Unet::load(&weights, &unet.config))?;
        let unet = unet_targets(&asked, &unet.config);
        let (weights, asked) = Weights::asked("text_encoder", Kind::Float);
        no_grad(|| TextEncoder::load(&weights, &text.config))?;
        let is_below = text.tensors()?.names().any(|name| name.starts_with(TEXT_ROOT));
        Ok(Targets { text_encoder: text_targets(&asked, is_below), unet })
    }

    /// The layer of a name.
    pub(super) fn find(&self, name: &str) -> Option<&Target> {
        let flat = flat(name);
        match network_of(&flat) {
            Some((Network::Unet, name)) => self.unet.get(name),
            Some((Network::TextEncoder, name)) => self.text_encoder.get(name),
            None => None,
        }
        .or_else(|| self.unet.get(&flat).or_else(|| self.text_encoder.get(&flat)))
    }

    /// The layer with the most similar name.
    pub(super) fn near(&self, name: &str) -> Option<&str> {
        let flat = flat(name);
        let (network, name) = network_of(&flat).unwrap_or((Network::Unet, &flat));
        let names = match network {
            Network::Unet => &self.unet,
            Network::TextEncoder => &self.text_encoder,
        };
        let near = latentrace_files::near(name, names.keys().map(String::as_str))?;
        names.get(near).map(|target| target.layer.as_str())
    }
}

/// A name with `_` for every `.`, without what says nothing of the layer.
fn flat(name: &str) -> String {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    name.replace(".processor", "").replace('.', "_")
}

/// The network that a flat name says, and the rest of the name.
fn network_of(flat: &str) -> Option<(Network, &str)> {
    PREFIXES.iter().find_map(|(prefix, network)| Some((*network, flat.strip_prefix(prefix)?)))
}

/// The layers that a network has asked for: those whose weight is a matrix or a kernel.
fn layers(asked: &Asked) -> impl Iterator<Item = (String, Vec<i64>)> {
    let weights = asked.take().into_iter().filter(|(_, (shape, _))| matches!(shape.len(), 2 | 4));
    weights.filter_map(|(name, (shape, _))| Some((name.strip_suffix(".weight")?.to_owned(), shape)))
}

fn unet_targets(asked: &Asked, config: &latentrace_unet::UnetConfig) -> BTreeMap<String, Target> {
    let per_block = config.layers_per_block.first().copied().unwrap_or_default();
    let is_regular = config.layers_per_block.iter().all(|layers| *layers == per_block);
    let mut targets = BTreeMap::new();
    for (layer, shape) in layers(asked) {
        let target = || Target { network: Network::Unet, layer: layer.clone(), shape: shape.clone() };
        if let Some(short) = layer.strip_suffix("to_out.0") {
            targets.insert(flat(&format!("{short}to_out")), target()); // diffusers before PEFT
        }
        // The names of the original repository.
        let original =
            || inverse::unet(&format!("{layer}.weight"), usize::try_from(per_block).ok()?, &config.up_attends);
        if let Some(original) = is_regular.then(original).flatten() {
            let below = original.strip_prefix(names::UNET).unwrap_or(&original);
            targets.insert(flat(below.trim_end_matches(".weight")), target());
        }
        targets.insert(flat(&layer), target());
    }
    targets
}

/// What stands before the names of `CLIPTextModel`.
const TEXT_ROOT: &str = "text_model.";

/// The names that diffusers gave the projections of the text encoder's attention before PEFT.
const OLD_PROJECTIONS: [(&str, &str); 4] =
    [("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out")];

fn text_targets(asked: &Asked, is_below: bool) -> BTreeMap<String, Target> {
    let mut targets = BTreeMap::new();
    for (name, shape) in layers(asked) {
        let below = name.strip_prefix(TEXT_ROOT).unwrap_or(&name).to_owned();
        let layer = if is_below { name.clone() } else { below.clone() };
        let target = || Target { network: Network::TextEncoder, layer: layer.clone(), shape: shape.clone() };
        for name in [&name, &below] {
            targets.insert(flat(name), target());
            let old = OLD_PROJECTIONS.iter().find_map(|(new, old)| Some(format!("{}{old}", name.strip_suffix(new)?)));
            if let Some(old) = old {
                targets.insert(flat(&old), target());
            }
        }
    }
    targets
}
