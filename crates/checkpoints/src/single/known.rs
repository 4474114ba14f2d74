//! What a single file does not say: the configurations of the original models, and what is assumed.

use super::original::Original;
use crate::choice::Choice;
use crate::error::{Result, file, read};
use crate::scheduler::Origin;
use latentrace_nn::Header;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The configurations of Stable Diffusion 1.x.
pub(crate) static SD1: LazyLock<Value> = LazyLock::new(|| known(include_str!("sd1.json")));
/// The configurations of Stable Diffusion 2.1 for 768 pixels.
pub(crate) static SD2: LazyLock<Value> = LazyLock::new(|| known(include_str!("sd2.json")));

fn known(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default() // a test reads both
}

/// Changes the configurations of Stable Diffusion 2.1 to those of its base model, for 512 pixels.
pub(crate) fn as_base(known: &mut Value) {
    known["unet"]["sample_size"] = 64.into();
    known["unet"]["upcast_attention"] = false.into();
    known["vae"]["sample_size"] = 512.into();
    known["scheduler"]["prediction_type"] = "epsilon".into();
}

impl Original {
    pub(super) fn known(self) -> Value {
        match self {
            Original::Sd1 => SD1.clone(),
            Original::Sd2 => SD2.clone(),
        }
    }
}

/// The configuration files of a folder, as those that a family has in this crate.
pub(super) fn configs_of(folder: &Path) -> Result<Value> {
    let json =
        |path: PathBuf| -> Result<Value> { serde_json::from_str(&read(&path)?).map_err(|error| file(&path, error)) };
    Ok(serde_json::json!({
        "text_encoder": json(folder.join("text_encoder/config.json"))?,
        "unet": json(folder.join("unet/config.json"))?,
        "vae": json(folder.join("vae/config.json"))?,
    }))
}

pub(super) fn scheduler(path: &Path, choice: &Choice, known: &Value) -> Origin {
    match &choice.config {
        Some(folder) => Origin::File(folder.join("scheduler/scheduler_config.json")),
        None => Origin::Known { file: path.into(), json: known["scheduler"].to_string() },
    }
}

/// Applies what the file says of itself, and notes what it does not say.
pub(super) fn assumptions(
    path: &Path,
    header: &Header,
    original: Original,
    known: &mut Value,
    notes: &mut Vec<String>,
) {
    let file = path.display();
    let says = header.about.get("modelspec.prediction_type").map(|kind| kind.to_lowercase());
    let stated = match says.as_deref() {
        Some("v") => Some(("v_prediction", "its metadata says so")),
        Some("epsilon") => Some(("epsilon", "its metadata says so")),
        _ if header.tensors.contains_key("v_pred") => Some(("v_prediction", "it has a tensor v_pred")),
        _ => None,
    };
    let usual = known["scheduler"]["prediction_type"].as_str().unwrap_or("epsilon").to_owned();
    let (prediction, why) = stated.unwrap_or((&usual, "assumed, because the file does not say"));
    known["scheduler"]["prediction_type"] = prediction.into();
    if header.tensors.contains_key("ztsnr") {
        known["scheduler"]["rescale_betas_zero_snr"] = true.into();
        known["scheduler"]["_class_name"] = "DDIMScheduler".into(); // PNDM has no such option
        known["scheduler"]["timestep_spacing"] = "trailing".into();
        notes.push(format!("{file}: zero terminal SNR, because it has a tensor ztsnr: DDIM with trailing times"));
    }
    // Stable Diffusion 2.1 has a base model of 512 pixels that predicts noise, and one of 768 that predicts v.
    let is_base = original == Original::Sd2 && prediction == "epsilon";
    if is_base {
        as_base(known);
    }
    let (name, side) = match (original, is_base) {
        (Original::Sd1, _) => ("1.x", 512),
        (Original::Sd2, true) => ("2.x base", 512),
        (Original::Sd2, false) => ("2.x", 768),
    };
    notes.push(format!(
        "{file}: Stable Diffusion {name}, {side}x{side}, prediction_type {prediction} ({why})\nhint: --set scheduler.prediction_type=, --height and --width replace it; --config names a folder with other configuration files"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::Config;

    #[test]
    fn the_configurations_in_this_crate_are_supported() {
        for original in [Original::Sd1, Original::Sd2] {
            let known = original.known();
            let config = |part: &str| Config::parse(part, &known[part].to_string()).unwrap();
            let text = latentrace_text::TextConfig::read(&config("text_encoder")).unwrap();
            let unet = latentrace_unet::UnetConfig::read(&config("unet")).unwrap();
            assert_eq!(text.hidden_size, unet.cross_attention_dim);
            assert_eq!(latentrace_vae::VaeConfig::read(&config("vae")).unwrap().factor(), 8);
            latentrace_schedulers::Config::from_json(&known["scheduler"].to_string()).unwrap();
        }
    }
}
