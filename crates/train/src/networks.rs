//! The configurations of the networks of a recipe, as diffusers and transformers write them.

use crate::error::Result;
use crate::recipe::Recipe;
use crate::vocabulary::LENGTH;
use latentrace_nn::Config;
use latentrace_text::TextConfig;
use latentrace_unet::UnetConfig;
use latentrace_vae::VaeConfig;
use serde_json::{Value, json};

/// The version of diffusers whose files these are.
const DIFFUSERS: &str = "0.42.1";

/// The networks of a recipe, as they are read from `config.json` files.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    pub(crate) vae: VaeConfig,
    pub(crate) unet: UnetConfig,
    pub(crate) text: TextConfig,
}

impl Networks {
    /// The networks of a recipe, for so many tokens.
    pub(crate) fn of(recipe: &Recipe, vocabulary: usize) -> Result<Networks> {
        let parse = |file: &str, config: Value| Config::parse(file, &config.to_string());
        Ok(Networks {
            vae: VaeConfig::read(&parse("autoencoder", vae(recipe))?)?,
            unet: UnetConfig::read(&parse("denoiser", unet(recipe))?)?,
            text: TextConfig::read(&parse("text_encoder", text_encoder(recipe, vocabulary))?)?,
        })
    }
}

/// `vae/config.json` without the scaling factor, which is measured.
pub(crate) fn vae(recipe: &Recipe) -> Value {
    let of = &recipe.autoencoder;
    let blocks = of.channels.len();
    json!({
        "_class_name": "AutoencoderKL", "_diffusers_version": DIFFUSERS, "act_fn": "silu",
        "block_out_channels": of.channels, "layers_per_block": of.layers, "norm_num_groups": of.groups,
        "down_block_types": vec!["DownEncoderBlock2D"; blocks], "up_block_types": vec!["UpDecoderBlock2D"; blocks],
        "mid_block_add_attention": of.attention,
        "in_channels": 3, "out_channels": 3, "latent_channels": of.latent_channels, "sample_size": recipe.side,
    })
}

/// `unet/config.json`. All resolutions attend to the text.
pub(crate) fn unet(recipe: &Recipe) -> Value {
    let of = &recipe.denoiser;
    let blocks = of.channels.len();
    let factor = 1 << (recipe.autoencoder.channels.len() - 1);
    json!({
        "_class_name": "UNet2DConditionModel", "_diffusers_version": DIFFUSERS, "act_fn": "silu",
        "block_out_channels": of.channels, "layers_per_block": of.layers, "norm_num_groups": of.groups, "norm_eps": 1e-5,
        "down_block_types": vec!["CrossAttnDownBlock2D"; blocks], "up_block_types": vec!["CrossAttnUpBlock2D"; blocks],
        "attention_head_dim": of.heads, "cross_attention_dim": recipe.text_encoder.features, "use_linear_projection": true,
        "center_input_sample": false, "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0,
        "in_channels": recipe.autoencoder.latent_channels, "out_channels": recipe.autoencoder.latent_channels,
        "mid_block_scale_factor": 1, "sample_size": recipe.side / factor,
    })
}

/// `text_encoder/config.json` for a vocabulary of this size.
pub(crate) fn text_encoder(recipe: &Recipe, vocabulary: usize) -> Value {
    let of = &recipe.text_encoder;
    json!({
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu",
        "hidden_size": of.features, "intermediate_size": 4 * of.features, "num_hidden_layers": of.layers,
        "num_attention_heads": of.heads, "projection_dim": of.features, "max_position_embeddings": LENGTH,
        "vocab_size": vocabulary, "layer_norm_eps": 1e-5, "attention_dropout": 0.0, "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1, "torch_dtype": "float16",
    })
}

/// `model_index.json`.
pub(crate) fn index(recipe: &Recipe) -> Value {
    json!({
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": DIFFUSERS,
        "feature_extractor": [null, null], "image_encoder": [null, null], "safety_checker": [null, null],
        "requires_safety_checker": false,
        "scheduler": ["diffusers", recipe.scheduler.get("_class_name")], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })
}
