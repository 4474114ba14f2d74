//! The factor of a change where no tensor says it: in the header of a file of diffusers, or in PEFT's configuration.

use crate::error::{Result, file};
use regex::Regex;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The key under which diffusers writes PEFT's configuration into the header of a LoRA.
const METADATA: &str = "lora_adapter_metadata";
/// The files of PEFT.
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
pub(crate) const CONFIG: &str = "adapter_config.json";

/// The configuration of a LoRA, if there is one besides its tensors.
pub(super) struct Alphas(Value);

/// The file with PEFT's configuration of a LoRA, if it has one.
pub(super) fn config_file(path: &Path) -> Option<PathBuf> {
    let is_peft = path.file_name().is_some_and(|name| name == WEIGHTS);
    Some(path.with_file_name(CONFIG)).filter(|config| is_peft && config.is_file())
}

fn are_numbers(map: &Map<String, Value>) -> bool {
    map.values().all(Value::is_number)
}

impl Alphas {
    /// Reads the configuration of a LoRA from its header or from the file beside it.
    ///
    /// # Errors
    /// The configuration cannot be read, or is of another kind of change.
    pub(super) fn read(path: &Path, header: &HashMap<String, String>) -> Result<Alphas> {
        let (place, text) = match (header.get(METADATA), config_file(path)) {
            (Some(text), _) => (path.to_path_buf(), text.clone()),
            (None, Some(config)) => {
                let text = crate::error::read(&config)?;
                (config, text)
            }
            (None, None) => return Ok(Alphas(Value::Null)),
        };
        let json: Value = serde_json::from_str(&text).map_err(|error| file(&place, format!("{METADATA}: {error}")))?;
        let fail =
            |key: &str, expected: &str| Err(file(&place, format!("{key}: expected {expected}, found {}", json[key])));
        let Value::Object(all) = &json else {
            return Err(file(&place, "the configuration of a LoRA: expected an object"));
        };
        for (key, value) in all {
            match key.rsplit('.').next().unwrap_or_default() {
                "use_dora" if *value == true => {
                    return Err(file(&place, format!("{key}: DoRA is not supported\nhint: a LoRA without DoRA is")));
                }
                "use_rslora" if !(value.is_boolean() || value.is_null()) => return fail(key, "true or false"),
                "lora_alpha" if !value.is_number() => return fail(key, "a number"),
                "alpha_pattern" if !(value.is_null() || value.as_object().is_some_and(are_numbers)) => {
                    return fail(key, "a number for each pattern");
                }
                "peft_type" if *value != "LORA" => return fail(key, "\"LORA\""),
                _ => {}
            }
        }
        Ok(Alphas(json))
    }

    /// Whether a factor is stated.
    pub(super) fn is_stated(&self) -> bool {
        !self.0.is_null()
    }

    /// The factor of a layer's change: `alpha / rank`, and `alpha / sqrt(rank)` for a rank-stabilised LoRA
    /// (Kalajdzievski 2023, arXiv 2312.03732). 1 if nothing is said. `network` is the name of the network in diffusers,
    /// and `layers` are the names of the layer.
    ///
    /// # Errors
    /// A pattern cannot be read.
    pub(super) fn factor(&self, path: &Path, network: &str, layers: &[&str], rank: i64) -> Result<f64> {
        let of = |key: &str| {
            let own = &self.0[format!("{network}.{key}")];
            if own.is_null() { &self.0[key] } else { own }
        };
        let mut alpha = of("lora_alpha").as_f64();
        for (pattern, special) in of("alpha_pattern").as_object().into_iter().flatten() {
            // PEFT matches a pattern with the end of a name, from the beginning or after a dot.
            let whole = Regex::new(&format!("^(?:.*\\.)?(?:{pattern})$"))
                .map_err(|_| file(path, format!("alpha_pattern: {pattern} cannot be read as a regular expression")))?;
            if layers.iter().any(|layer| whole.is_match(layer)) {
                alpha = special.as_f64();
                break;
            }
        }
        let (Some(alpha), rank) = (alpha, rank as f64) else { return Ok(1.0) };
        Ok(alpha / if of("use_rslora") == true { rank.sqrt() } else { rank })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_are_those_of_peft() {
        let alphas = Alphas(json!({
            "unet.lora_alpha": 2, "unet.alpha_pattern": {"^down.0.to_k": 3, ".*attn1\\.to_q": 20, "to_v": 5},
            "text_encoder.lora_alpha": 8, "text_encoder.use_rslora": true,
        }));
        let of = |network: &str, layers: &[&str]| alphas.factor(Path::new("a"), network, layers, 4).unwrap() * 4.0;
        for (layer, alpha) in [
            ("down.0.to_k", 3.0),
            ("mid.down.0.to_k", 2.0), // ^ holds at the beginning only
            ("up.1.attn1.to_q", 20.0),
            ("up.1.attn2.to_q", 2.0),
            ("to_v", 5.0),
            ("up.to_v", 5.0),
            ("up.not_to_v", 2.0),
        ] {
            assert_eq!(of("unet", &[layer]), alpha, "{layer}");
        }
        assert_eq!(of("text_encoder", &["x"]), 8.0 / 2.0 * 4.0);
        assert_eq!(Alphas(Value::Null).factor(Path::new("a"), "unet", &["x"], 4).unwrap(), 1.0);
        let broken = Alphas(json!({"alpha_pattern": {"(": 1}}));
        assert!(broken.factor(Path::new("a"), "unet", &["x"], 4).unwrap_err().to_string().contains("alpha_pattern: ("));
    }
}
