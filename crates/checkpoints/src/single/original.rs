//! Which original model a single file is of, or what the file is instead.

use super::layout::TextNames;
use super::names::{CLIP, OPEN_CLIP, REFINER_OPEN_CLIP, UNET, VAE, XL_CLIP, XL_OPEN_CLIP};
use crate::error::{Error, Result, file};
use crate::index::{SLOTS, Slot};
use latentrace_nn::Header;
use std::path::Path;

/// The original model that a single file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Original {
    Sd1,
    Sd2,
    /// SDXL, its Turbo among it: no file says which of the two it is.
    Sdxl,
    SdxlRefiner,
}

impl Original {
    /// The name after "Stable Diffusion".
    pub(super) fn name(self) -> &'static str {
        match self {
            Original::Sd1 => "1.x",
            Original::Sd2 => "2.x",
            Original::Sdxl => "XL",
            Original::SdxlRefiner => "XL refiner",
        }
    }

    /// The text encoders, in the order of their features.
    pub(super) fn texts(self) -> &'static [Slot] {
        match self {
            Original::Sd1 | Original::Sd2 => &SLOTS[..1],
            Original::Sdxl => &SLOTS,
            Original::SdxlRefiner => &SLOTS[1..],
        }
    }

    /// The names that the tensors of a text encoder can have, the likely ones first.
    pub(super) fn text_names(self, slot: Slot) -> &'static [TextNames] {
        match self {
            Original::Sd1 | Original::Sd2 => &[TextNames::OpenClip(OPEN_CLIP), TextNames::Clip(CLIP)],
            Original::Sdxl if slot == SLOTS[0] => &[TextNames::Clip(XL_CLIP)],
            Original::Sdxl => &[TextNames::OpenClip(XL_OPEN_CLIP)],
            Original::SdxlRefiner => &[TextNames::OpenClip(REFINER_OPEN_CLIP)],
        }
    }

    /// Whether the UNet takes a pooled text.
    pub(super) fn is_xl(self) -> bool {
        matches!(self, Original::Sdxl | Original::SdxlRefiner)
    }
}

/// A tensor whose last axis is the features of the text.
const TEXT_KEYS: &str = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";

/// Says which architecture a file has, or what it is instead.
pub(super) fn recognise(path: &Path, header: &Header) -> Result<Original> {
    let has = |prefix: &str| header.tensors.keys().any(|name| name.starts_with(prefix));
    if let Some(columns) = header.tensors.get(TEXT_KEYS).and_then(|tensor| tensor.shape.last()) {
        return match columns {
            _ if has("conditioner.embedders.") => {
                Err(refused(path, "a model with encoders as Stable Diffusion XL stores them, and with another UNet,"))
            }
            1024 => Ok(Original::Sd2),
            _ if has(OPEN_CLIP) => Ok(Original::Sd2),
            _ => Ok(Original::Sd1),
        };
    }
    // The first blocks of SDXL attend to no text, so its text encoders say what it is.
    let xl = [(XL_OPEN_CLIP, Original::Sdxl), (REFINER_OPEN_CLIP, Original::SdxlRefiner)];
    if let Some((_, original)) = xl.into_iter().find(|(prefix, _)| has(UNET) && has(prefix)) {
        return match EDM.iter().find(|name| header.tensors.contains_key(**name)) {
            Some(_) => Err(refused(path, "a model with the noise levels of EDM, as Playground 2.5 has them,")),
            None => Ok(original),
        };
    }
    let what = what(header);
    Err(file(
        path,
        format!(
            "{what}\nhint: a single file has the UNet below {UNET}, the VAE below {VAE} and the text encoder below cond_stage_model."
        ),
    ))
}

/// Tensors by which a file says that it was trained with other noise levels.
const EDM: [&str; 2] = ["edm_mean", "edm_vpred.sigma_max"];

fn refused(path: &Path, family: &'static str) -> Error {
    Error::Family { file: path.display().to_string(), class: "single file".into(), family }
}

/// Beginnings or middles of tensor names, and what a file with such names is. The first that fits is it.
const KINDS: &[(&str, &str)] = &[
    ("lora_unet_", "a LoRA: name it with --lora beside a --model"),
    ("lora_te_", "a LoRA: name it with --lora beside a --model"),
    (".lora_A.", "a LoRA: name it with --lora beside a --model"),
    (".lora_down.", "a LoRA: name it with --lora beside a --model"),
    (".lora.down.", "a LoRA: name it with --lora beside a --model"),
    (".hada_w1_a", "a LoHa, which is not supported"),
    (".lokr_w1", "a LoKr, which is not supported"),
    ("emb_params", "a textual inversion: name it with --embedding beside a --model"),
    ("string_to_param", "a textual inversion: name it with --embedding beside a --model"),
    ("control_model.", "a ControlNet, which is not supported"),
    ("controlnet_cond_embedding.", "a ControlNet, which is not supported"),
    (
        "conditioner.embedders.",
        "a part of a Stable Diffusion XL model: a whole one has a UNet and OpenCLIP's text encoder, below conditioner.embedders.1.model., or of the refiner below conditioner.embedders.0.model.",
    ),
    ("double_blocks.", "a FLUX model, which is not supported"),
    ("joint_blocks.", "a Stable Diffusion 3 model, which is not supported"),
    // Only a UNet of SDXL, or of unCLIP, has it, and the names of its blocks have those of diffusers in them.
    ("label_emb.", "a UNet alone, without the VAE and the text encoder: name it with --unet beside a --model"),
    (
        "transformer_blocks.",
        "a UNet or transformer alone, with the names of diffusers: a checkpoint folder with this file in unet/ can be opened",
    ),
    ("decoder.up_blocks.", "a VAE alone, with the names of diffusers: name it with --vae beside a --model"),
    ("decoder.up.", "a VAE alone: name it with --vae beside a --model"),
    ("text_model.encoder.", "a text encoder alone: name its folder with --text-encoder beside a --model"),
    ("input_blocks.", "a UNet alone, without the VAE and the text encoder: name it with --unet beside a --model"),
    ("taesd", "a tiny autoencoder (TAESD), which is not supported"),
];

/// What a safetensors file is that is not a whole checkpoint.
pub(super) fn what(header: &Header) -> String {
    let has = |part: &str| header.tensors.keys().any(|name| name.contains(part));
    match KINDS.iter().find(|(part, _)| has(part)) {
        Some((_, what)) => (*what).to_owned(),
        None => {
            let some: Vec<&str> = header.tensors.keys().take(3).map(String::as_str).collect();
            format!("not a checkpoint: {} tensors, such as {}", header.tensors.len(), some.join(", "))
        }
    }
}
