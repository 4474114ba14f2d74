//! The trained model as a folder in the diffusers layout.

use crate::Recipe;
use crate::autoencoder::Autoencoder;
use crate::denoiser::Denoiser;
use crate::error::{Result, file};
use crate::vocabulary::LENGTH;
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{replace, write_safetensors};
use latentrace_text::Vocabulary;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::LazyLock;

/// `vae/config.json` without the scaling factor, which is measured.
pub(crate) static VAE: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.42.1", "act_fn": "silu",
        "block_out_channels": [16, 16, 32, 64], "layers_per_block": 1, "norm_num_groups": 4,
        "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": 64,
    })
});

/// `unet/config.json`.
pub(crate) static UNET: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.42.1", "act_fn": "silu",
        "block_out_channels": [48, 96], "layers_per_block": 1, "norm_num_groups": 16, "norm_eps": 1e-5,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "attention_head_dim": [3, 6], "cross_attention_dim": 96, "use_linear_projection": true,
        "center_input_sample": false, "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0,
        "in_channels": 4, "out_channels": 4, "mid_block_scale_factor": 1, "sample_size": 8,
    })
});

/// `scheduler/scheduler_config.json`: that of Stable Diffusion, for a network that predicts velocity.
pub(crate) static SCHEDULER: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.42.1", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "clip_sample": false, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
        "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "timestep_spacing": "leading",
        "trained_betas": null,
    })
});

/// `text_encoder/config.json` for a vocabulary of this size.
pub(crate) fn text_config(vocabulary: usize) -> Value {
    json!({
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu",
        "hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
        "projection_dim": 96, "max_position_embeddings": LENGTH, "vocab_size": vocabulary,
        "layer_norm_eps": 1e-5, "attention_dropout": 0.0, "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1, "torch_dtype": "float16",
    })
}

/// Writes the whole folder, with weights as f16.
///
/// # Errors
/// If a file cannot be written.
pub fn write(
    folder: &Path,
    recipe: &Recipe,
    vocabulary: &Vocabulary,
    autoencoder: &Autoencoder,
    denoiser: &Denoiser,
) -> Result<()> {
    let mut vae = VAE.clone();
    vae["scaling_factor"] = json!(denoiser.scaling_factor);
    let index = json!({
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
        "feature_extractor": [null, null], "image_encoder": [null, null], "safety_checker": [null, null],
        "requires_safety_checker": false,
        "scheduler": ["diffusers", "PNDMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    });
    let configs = [
        ("vae/config.json", &vae),
        ("unet/config.json", &UNET),
        ("text_encoder/config.json", &text_config(vocabulary.len())),
        ("scheduler/scheduler_config.json", &SCHEDULER),
        ("model_index.json", &index),
        ("recipe.json", &json!(recipe)),
    ];
    for (name, config) in configs {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| file(parent, error))?;
        replace(&path, format!("{config:#}\n").as_bytes())?;
    }
    crate::vocabulary::write(vocabulary, &folder.join("tokenizer"))?;
    halves(&folder.join("vae/diffusion_pytorch_model.safetensors"), "vae/", &autoencoder.weights)?;
    halves(&folder.join("unet/diffusion_pytorch_model.safetensors"), "unet/", &denoiser.weights)?;
    halves(&folder.join("text_encoder/model.safetensors"), "text_encoder/", &denoiser.weights)
}

/// Writes the tensors of one network as f16.
fn halves(path: &Path, part: &str, weights: &BTreeMap<String, Tensor>) -> Result<()> {
    let of_part = weights.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(part)?, tensor)));
    let halves: Vec<(String, Tensor)> =
        of_part.map(|(name, tensor)| (name.to_string(), tensor.to_kind(Kind::Half))).collect();
    Ok(write_safetensors(path, &halves, HashMap::from([("format".to_string(), "pt".to_string())]))?)
}
