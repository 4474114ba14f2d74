//! How the tensors of a part are named in a single file.

use super::names;
use latentrace_nn::Named;
use std::collections::HashMap;
use std::sync::Arc;

/// How the tensors of one part are named in a file.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// The UNet below a prefix.
    Unet { prefix: &'static str, layers: usize },
    /// The moving average of the UNet: each stored name, and its name in diffusers.
    Averages(Arc<HashMap<String, String>>),
    /// The VAE below a prefix.
    Vae { prefix: &'static str, blocks: usize },
    /// A text encoder with so many layers that are used, and with a projection that is used or not.
    Text { names: TextNames, layers: usize, projects: bool },
    /// The names of diffusers.
    Diffusers,
}

impl Layout {
    /// The names by which modules read a stored tensor; none if it belongs to another part.
    pub(crate) fn names(&self, stored: &str) -> Vec<Named> {
        let below = |prefix: &str| stored.strip_prefix(prefix);
        match self {
            Layout::Unet { prefix, layers } => names::one(below(prefix).and_then(|name| names::unet(name, *layers))),
            Layout::Averages(known) => names::one(known.get(stored).cloned()),
            Layout::Vae { prefix, blocks } => names::one(below(prefix).and_then(|name| names::vae(name, *blocks))),
            Layout::Text { names: TextNames::Clip(prefix), .. } => below(prefix).map_or_else(Vec::new, names::clip),
            Layout::Text { names: TextNames::OpenClip(prefix), layers, projects } => {
                below(prefix).map_or_else(Vec::new, |name| names::open_clip(name, *layers, *projects))
            }
            Layout::Diffusers => latentrace_nn::diffusers_names(stored),
        }
    }
}

/// Whose names the tensors of a text encoder have in a file, and what they begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextNames {
    /// Those of CLIP, which are those of transformers.
    Clip(&'static str),
    /// Those of OpenCLIP.
    OpenClip(&'static str),
}

impl TextNames {
    /// The beginning of every name.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            TextNames::Clip(prefix) | TextNames::OpenClip(prefix) => prefix,
        }
    }
}
