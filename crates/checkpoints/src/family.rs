//! The families of models that a name can say where files do not.

use crate::checkpoint::{Checkpoint, Ids};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A family of Stable Diffusion XL. What a UNet takes says whether a model is one of them; that a model was distilled to few steps
/// without guidance, as SDXL-Turbo was, no file says for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Stable Diffusion XL, which is sampled with guidance.
    Sdxl,
    /// SDXL-Turbo, which is sampled in few steps without guidance.
    SdxlTurbo,
    /// The refiner of SDXL, which is told an aesthetic score.
    SdxlRefiner,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Family::Sdxl => "sdxl",
            Family::SdxlTurbo => "sdxl-turbo",
            Family::SdxlRefiner => "sdxl-refiner",
        })
    }
}

/// What is wrong if a checkpoint is not of the family that is named.
pub(crate) fn fault(checkpoint: &Checkpoint) -> Option<String> {
    let family = checkpoint.family?;
    let (what, hint) = match (checkpoint.ids(), family) {
        (Some(Ids::Target), Family::Sdxl | Family::SdxlTurbo) | (Some(Ids::Score), Family::SdxlRefiner) => return None,
        (None, _) => (
            "the UNet takes no pooled text (addition_embed_type), as those of Stable Diffusion 1.x and 2.x",
            "leave out the family, which is for models of Stable Diffusion XL",
        ),
        (Some(Ids::Score), _) => (
            "the UNet takes an aesthetic score (5 numbers), as that of the refiner of SDXL",
            "the family is sdxl-refiner, and need not be named",
        ),
        (Some(Ids::Target), _) => (
            "the UNet takes the size of a target (6 numbers), as those of SDXL and of its Turbo",
            "the family is sdxl or sdxl-turbo",
        ),
    };
    Some(format!("not of the family {family}: {what}\nhint: {hint}"))
}
