//! The trained model as a folder in the diffusers layout.

use crate::Recipe;
use crate::autoencoder::Autoencoder;
use crate::denoiser::Denoiser;
use crate::error::{Result, file};
use crate::networks;
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{replace, write_safetensors};
use latentrace_text::Vocabulary;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Writes the whole folder, with weights as f16.
pub(crate) fn write(
    folder: &Path,
    recipe: &Recipe,
    vocabulary: &Vocabulary,
    autoencoder: &Autoencoder,
    denoiser: &Denoiser,
) -> Result<()> {
    let mut vae = networks::vae(recipe);
    vae["scaling_factor"] = json!(denoiser.scaling_factor);
    let configs = [
        ("vae/config.json", vae),
        ("unet/config.json", networks::unet(recipe)),
        ("text_encoder/config.json", networks::text_encoder(recipe, vocabulary.len())),
        ("scheduler/scheduler_config.json", json!(recipe.scheduler)),
        ("model_index.json", networks::index(recipe)),
        ("recipe.json", recipe.json()),
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
