//! How the tensors of a part are named in a single file.

use super::names::{self, CLIP, OPEN_CLIP};
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
    /// CLIP's text encoder.
    Clip,
    /// OpenCLIP's text encoder.
    OpenClip { layers: usize },
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
            Layout::Clip => below(CLIP).map_or_else(Vec::new, names::clip),
            Layout::OpenClip { layers } => {
                below(OPEN_CLIP).map_or_else(Vec::new, |name| names::open_clip(name, *layers))
            }
            Layout::Diffusers => latentrace_nn::diffusers_names(stored),
        }
    }
}
