//! Saved states of a training.

use crate::error::{Result, file};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::write_safetensors;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A saved state: a safetensors file whose metadata has the step, and the recipe if it is of one.
pub(crate) struct State {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Steps done.
    pub(crate) step: u64,
    /// The recipe.
    pub(crate) recipe: Option<Value>,
}

/// Writes a state. The file appears whole or not at all; what was there stays until then.
pub(crate) fn write(path: &Path, tensors: &[(&str, &Tensor)], step: u64, recipe: Option<&Value>) -> Result<()> {
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.shallow_clone())).collect();
    let mut about = HashMap::from([("step".to_string(), step.to_string())]);
    about.extend(recipe.map(|recipe| ("recipe".to_string(), recipe.to_string())));
    Ok(write_safetensors(path, &named, about)?)
}

impl State {
    /// Reads a state; `None` if there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<State>> {
        let fail = |cause: String| file(path, format!("{cause}\nhint: remove it to begin again"));
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file(path, error)),
        };
        SafeTensors::deserialize(&bytes).map_err(|error| fail(error.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| fail(error.to_string()))?;
        let said = |name: &str| header.metadata().as_ref()?.get(name).cloned();
        let step = said("step").and_then(|step| step.parse().ok()).ok_or_else(|| fail("no step number".into()))?;
        let recipe = said("recipe")
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| fail(error.to_string()))?;
        Ok(Some(State { path: path.into(), bytes, step, recipe }))
    }

    /// A tensor of this shape, on the CPU.
    pub(crate) fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let fail = |cause: String| file(&self.path, cause);
        let saved = SafeTensors::deserialize(&self.bytes).map_err(|error| fail(error.to_string()))?;
        let view = saved.tensor(name).map_err(|error| fail(error.to_string()))?;
        let found: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        if found != shape || view.dtype() != safetensors::Dtype::F32 {
            let cause =
                format!("{name}: expected f32 {shape:?}, found {:?} {found:?}\nhint: another --output", view.dtype());
            return Err(fail(cause));
        }
        Ok(Tensor::from_data_size(view.data(), shape, Kind::Float))
    }
}
