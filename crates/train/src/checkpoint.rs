//! The trained model as a folder in the diffusers layout.

use crate::Recipe;
use crate::autoencoder::Autoencoder;
use crate::denoiser::Denoiser;
use crate::error::{Error, Result, file};
use crate::networks;
use latentrace_nn::tch::{Kind, Tensor, no_grad};
use latentrace_nn::{replace, write_safetensors};
use latentrace_text::Vocabulary;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

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
    halves(folder, "vae", &autoencoder.weights)?;
    halves(folder, "unet", &denoiser.weights)?;
    halves(folder, "text_encoder", &denoiser.weights)
}

/// The file of one network's weights.
fn file_of(folder: &Path, part: &str) -> PathBuf {
    let name = if part == "text_encoder" { "model.safetensors" } else { "diffusion_pytorch_model.safetensors" };
    folder.join(part).join(name)
}

/// The weights of one network of a checkpoint, by `part/name`, as f32.
pub(crate) fn read(folder: &Path, part: &str) -> Result<BTreeMap<String, Tensor>> {
    let path = file_of(folder, part);
    let read = Tensor::read_safetensors(&path).map_err(|error| file(&path, error))?;
    Ok(read.into_iter().map(|(name, tensor)| (format!("{part}/{name}"), tensor.to_kind(Kind::Float))).collect())
}

/// Gives the variables the values of the weights of the same names.
///
/// # Errors
/// If there is none for a variable, or it has another shape.
pub(crate) fn set(variables: &mut [(String, Tensor)], weights: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, variable) in variables {
        let weight = weights.get(name).filter(|weight| weight.size() == variable.size());
        let weight = weight.ok_or_else(|| Error::Start { name: name.clone(), shape: variable.size() })?;
        no_grad(|| variable.copy_(weight));
    }
    Ok(())
}

/// Writes the tensors of one network as f16.
fn halves(folder: &Path, part: &str, weights: &BTreeMap<String, Tensor>) -> Result<()> {
    let own = |name: &str| name.strip_prefix(part)?.strip_prefix('/').map(str::to_string);
    let of_part = weights.iter().filter_map(|(name, tensor)| Some((own(name)?, tensor)));
    let halves: Vec<(String, Tensor)> = of_part.map(|(name, tensor)| (name, tensor.to_kind(Kind::Half))).collect();
    Ok(write_safetensors(&file_of(folder, part), &halves, HashMap::from([("format".to_string(), "pt".to_string())]))?)
}
