//! Which original model a single file is of, or what the file is instead.

use super::names::{OPEN_CLIP, UNET, VAE};
use crate::error::{Error, Result, file};
use latentrace_nn::Header;
use std::path::Path;

/// The original model that a single file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Original {
    Sd1,
    Sd2,
}

/// A tensor whose last axis is the features of the text.
const TEXT_KEYS: &str = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";

/// Says which architecture a file has, or what it is instead.
pub(super) fn recognise(path: &Path, header: &Header) -> Result<Original> {
    if let Some(columns) = header.tensors.get(TEXT_KEYS).and_then(|tensor| tensor.shape.last()) {
        let has = |prefix: &str| header.tensors.keys().any(|name| name.starts_with(prefix));
        return match columns {
            _ if has("conditioner.embedders.") => {
                Err(refused(path, "a Stable Diffusion XL model, with two text encoders,"))
            }
            1024 => Ok(Original::Sd2),
            _ if has(OPEN_CLIP) => Ok(Original::Sd2),
            _ => Ok(Original::Sd1),
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
    ("conditioner.embedders.", "a Stable Diffusion XL model, which is not supported"),
    ("double_blocks.", "a FLUX model, which is not supported"),
    ("joint_blocks.", "a Stable Diffusion 3 model, which is not supported"),
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
