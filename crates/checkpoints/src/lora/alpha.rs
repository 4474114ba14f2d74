//! The factor of a change where no tensor says it: in the header of a file of diffusers, or in PEFT's configuration.

use crate::error::{Result, file};
use serde_json::Value;
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
        let is_on = |key: &&String| key.ends_with("use_dora") && json[key.as_str()] == true;
        match json.as_object().and_then(|object| object.keys().find(is_on)) {
            Some(key) => Err(file(&place, format!("{key}: DoRA is not supported\nhint: a LoRA without DoRA is"))),
            None => Ok(Alphas(json)),
        }
    }

    /// The factor of a layer's change: `alpha / rank`, and `alpha / sqrt(rank)` for a rank-stabilised LoRA
    /// (Kalajdzievski 2023, arXiv 2312.03732). 1 if nothing is said. `network` is the name of the network in diffusers.
    pub(super) fn factor(&self, network: &str, layer: &str, rank: i64) -> f64 {
        let of = |key: &str| {
            let own = &self.0[format!("{network}.{key}")];
            if own.is_null() { &self.0[key] } else { own }
        };
        // A pattern is the end of a layer's path.
        let is_end = |pattern: &str| layer == pattern || layer.ends_with(&format!(".{pattern}"));
        let special = of("alpha_pattern").as_object().and_then(|map| map.iter().find(|(pattern, _)| is_end(pattern)));
        let Some(alpha) = special.map_or_else(|| of("lora_alpha").as_f64(), |(_, alpha)| alpha.as_f64()) else {
            return 1.0;
        };
        let rank = rank as f64;
        alpha / if of("use_rslora") == true { rank.sqrt() } else { rank }
    }
}
