//! Which model a LoRA was made for, by the names of layers that the checkpoint does not have.

use super::targets::Base;

/// What is in the names of layers of models that are not supported.
const UNSUPPORTED: [(&str, &str); 6] = [
    ("transformer.", "Flux or another transformer"),
    ("double_blocks", "Flux"),
    ("single_transformer_blocks", "Flux"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("lora_te3_", "Stable Diffusion 3"),
    ("text_encoder_3.", "Stable Diffusion 3"),
];

/// What is in the names of layers of SDXL: the second text encoder, and the MLP on the pooled text. The blocks of SDXL have up to
/// ten transformers, those of Stable Diffusion one.
const SDXL: [&str; 6] =
    ["lora_te2_", "text_encoder_2", "add_embedding", "label_emb", "transformer_blocks_1_", "transformer_blocks.1."];

/// What is in the names of layers of SDXL that its refiner has not: the first text encoder, attention at the first level of the way up,
/// and more than four transformers in a block.
const NOT_IN_REFINER: [&str; 7] = [
    "lora_te1_",
    "text_encoder.",
    "up_blocks_0_attentions_",
    "up_blocks.0.attentions.",
    "output_blocks_0_1_",
    "transformer_blocks_4_",
    "transformer_blocks.4.",
];

/// What is in the names of layers of Stable Diffusion 1.x and 2.x: attention at the finest level, where SDXL has none.
const SD: [&str; 7] = [
    "down_blocks_0_attentions_",
    "down_blocks.0.attentions.",
    "up_blocks_3_attentions_",
    "up_blocks.3.attentions.",
    "input_blocks_1_1_",
    "input_blocks.1.1.",
    "output_blocks_11_1_",
];

/// What is in the names of layers of the refiner that SDXL has not: a fourth level.
const REFINER: [&str; 6] = [
    "down_blocks_3_",
    "down_blocks.3.",
    "up_blocks_2_attentions_",
    "up_blocks.2.attentions.",
    "input_blocks_9_",
    "output_blocks_9_",
];

/// What a LoRA is for, if names of layers that the model does not have say so. Stable Diffusion's finest level is named before the fourth
/// level of the refiner, because Stable Diffusion has four levels too.
pub(super) fn model(unmatched: &[&str], base: Base) -> Option<String> {
    let has = |inside: &str| unmatched.iter().any(|name| name.contains(inside));
    if let Some((_, model)) = UNSUPPORTED.iter().find(|(inside, _)| has(inside)) {
        return Some(format!("this is a LoRA for {model}, which is not supported"));
    }
    let says = |names: &[&str]| names.iter().any(|inside| has(inside));
    let (of, model) = match base {
        Base::Sd if says(&SDXL) => ("SDXL", "one of Stable Diffusion 1.x or 2.x"),
        Base::Sdxl if says(&SD) => ("Stable Diffusion 1.x or 2.x", "SDXL"),
        Base::Refiner if says(&SD) => ("Stable Diffusion 1.x or 2.x", "the refiner of SDXL"),
        Base::Sdxl if says(&REFINER) => ("the refiner of SDXL", "SDXL itself"),
        Base::Refiner if says(&NOT_IN_REFINER) => ("SDXL itself", "its refiner"),
        _ => return None,
    };
    Some(format!("this is a LoRA for {of}, but the model is {model}"))
}
