//! The layers that a LoRA can change, by all names that trainers give them.

use crate::checkpoint::{Checkpoint, Part};
use crate::error::Result;
use crate::single::{inverse, names};
use latentrace_nn::tch::{Kind, no_grad};
use latentrace_nn::{Asked, Weights};
use latentrace_text::{TextConfig, TextEncoder};
use latentrace_unet::{Unet, UnetConfig};
use std::collections::BTreeMap;

/// A network that a LoRA can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Network {
    /// A text encoder, by the name of its part.
    Text(&'static str),
    Unet,
}

impl Network {
    /// The name of the part, which is that in diffusers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Network::Text(part) => part,
            Network::Unet => "unet",
        }
    }
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

/// The layers of a network by their names, which are kept flat: with `_` for every `.`, as kohya's trainers write them.
type Layers = BTreeMap<String, Target>;

/// The layers of a checkpoint.
pub(super) struct Targets {
    pub(super) base: Base,
    /// Those of each text encoder, with the name of its part.
    texts: Vec<(&'static str, Layers)>,
    unet: Layers,
}

/// The models that LoRAs are made for, as far as they differ in names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// Stable Diffusion 1.x or 2.x.
    Sd,
    Sdxl,
    /// The refiner of SDXL.
    Refiner,
}

impl Base {
    fn of(checkpoint: &Checkpoint) -> Base {
        match (&checkpoint.unet.config.added, checkpoint.texts.len()) {
            (None, _) => Base::Sd,
            (Some(_), 1) => Base::Refiner,
            (Some(_), _) => Base::Sdxl,
        }
    }
}

/// What a name says of its network.
#[derive(Clone, Copy)]
enum Said {
    Unet,
    /// It is the first text encoder, whichever part that is. Trainers of a model with only one write this.
    FirstText,
    /// It is the text encoder of this part.
    Text(&'static str),
}

/// What stands before a flat name. The shorter ones follow the longer ones that they begin.
const PREFIXES: [(&str, Said); 9] = [
    ("lora_unet_", Said::Unet),
    ("lora_te_", Said::FirstText),
    ("lora_te1_", Said::Text("text_encoder")),
    ("lora_te2_", Said::Text("text_encoder_2")),
    ("unet_", Said::Unet),
    ("text_encoder_2_", Said::Text("text_encoder_2")),
    ("text_encoder_", Said::Text("text_encoder")),
    ("model_diffusion_model_", Said::Unet),
    ("diffusion_model_", Said::Unet),
];

impl Targets {
    /// The layers of a checkpoint's text encoders and UNet. Reads no weights.
    ///
    /// # Errors
    /// A network cannot be built, or a weight file of a text encoder cannot be opened.
    pub(super) fn of(checkpoint: &Checkpoint) -> Result<Targets> {
        let unet = &checkpoint.unet;
        let (weights, asked) = Weights::asked("unet", Kind::Float);
        no_grad(|| Unet::load(&weights, &unet.config))?;
        let unet = unet_targets(&asked, &unet.config);
        let texts = checkpoint.texts.iter().map(|text| layers_of_text(&text.encoder)).collect::<Result<_>>()?;
        Ok(Targets { base: Base::of(checkpoint), texts, unet })
    }

    /// The layer of a name. A name that says no network is one of the UNet, or of the text encoder if there is only one.
    pub(super) fn find(&self, name: &str) -> Option<&Target> {
        let flat = flat(name);
        let named = said(&flat).and_then(|(said, name)| self.layers(said)?.get(name));
        let only = || match self.texts.as_slice() {
            [(_, layers)] => layers.get(&flat),
            _ => None,
        };
        named.or_else(|| self.unet.get(&flat)).or_else(only)
    }

    /// Whether a name is that of a layer of several text encoders, and does not say of which.
    pub(super) fn is_ambiguous(&self, name: &str) -> bool {
        let flat = flat(name);
        self.texts.iter().filter(|(_, layers)| layers.contains_key(&flat)).count() > 1
    }

    /// The layer with the most similar name.
    pub(super) fn near(&self, name: &str) -> Option<&str> {
        let flat = flat(name);
        let (said, name) = said(&flat).unwrap_or((Said::Unet, &flat));
        let layers = self.layers(said)?;
        let near = latentrace_files::near(name, layers.keys().map(String::as_str))?;
        layers.get(near).map(|target| target.layer.as_str())
    }

    /// The layers of a network, if the checkpoint has it.
    fn layers(&self, said: Said) -> Option<&Layers> {
        match said {
            Said::Unet => Some(&self.unet),
            Said::FirstText => self.texts.first().map(|(_, layers)| layers),
            Said::Text(part) => self.texts.iter().find(|(name, _)| *name == part).map(|(_, layers)| layers),
        }
    }
}

/// The layers of a text encoder, with the name of its part.
fn layers_of_text(part: &Part<TextConfig>) -> Result<(&'static str, Layers)> {
    let (weights, asked) = Weights::asked(part.name(), Kind::Float);
    no_grad(|| TextEncoder::load(&weights, &part.config))?;
    let is_below = part.tensors()?.names().any(|name| name.starts_with(TEXT_ROOT));
    Ok((part.name(), text_targets(Network::Text(part.name()), &asked, is_below)))
}

/// A name with `_` for every `.`, without what says nothing of the layer.
fn flat(name: &str) -> String {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    name.replace(".processor", "").replace('.', "_")
}

/// What a flat name says of its network, and the rest of the name.
fn said(flat: &str) -> Option<(Said, &str)> {
    PREFIXES.iter().find_map(|(prefix, said)| Some((*said, flat.strip_prefix(prefix)?)))
}

/// The layers that a network has asked for: those whose weight is a matrix or a kernel.
fn layers(asked: &Asked) -> impl Iterator<Item = (String, Vec<i64>)> {
    let weights = asked.take().into_iter().filter(|(_, (shape, _))| matches!(shape.len(), 2 | 4));
    weights.filter_map(|(name, (shape, _))| Some((name.strip_suffix(".weight")?.to_owned(), shape)))
}

fn unet_targets(asked: &Asked, config: &UnetConfig) -> Layers {
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

fn text_targets(network: Network, asked: &Asked, is_below: bool) -> Layers {
    let mut targets = BTreeMap::new();
    for (name, shape) in layers(asked) {
        let below = name.strip_prefix(TEXT_ROOT).unwrap_or(&name).to_owned();
        let layer = if is_below { name.clone() } else { below.clone() };
        let target = || Target { network, layer: layer.clone(), shape: shape.clone() };
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
