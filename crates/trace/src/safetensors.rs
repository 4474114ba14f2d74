//! Captures as a safetensors file.

use crate::Capture;
use latentrace_nn::{Result, write_safetensors};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Writes captures into one file: each tensor as `name/call` (`sampler.sample/007`), and in the header's metadata, as
/// JSON under `moments`, the time and noise level of each. The same captures give the same bytes. The file appears whole
/// or not at all, and is on the disk when this returns.
///
/// # Errors
/// The file cannot be written, or a tensor is of a kind that safetensors does not hold.
pub fn write(path: &Path, captures: &[Capture]) -> Result<()> {
    let mut moments = BTreeMap::new();
    let mut tensors = Vec::new();
    for Capture { name, moment, tensor } in captures {
        let key = format!("{name}/{:03}", moment.call);
        moments.insert(key.clone(), json!({ "t": moment.t, "sigma": moment.sigma }));
        tensors.push((key, tensor.shallow_clone()));
    }
    // One entry only: safetensors writes its metadata in no order.
    let about = HashMap::from([("moments".to_string(), json!(moments).to_string())]);
    write_safetensors(path, &tensors, about)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::Moment;
    use latentrace_nn::tch::Tensor;
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    #[test]
    fn the_same_captures_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let captures: Vec<Capture> = (0..20)
                .map(|call| Capture {
                    name: "sampler.sample".into(),
                    moment: Moment { call, t: 0.5, sigma: 1.0 },
                    tensor: Tensor::from_slice(&[call as f32]),
                })
                .collect();
            write(&folder.path().join(name), &captures).unwrap();
            std::fs::read(folder.path().join(name)).unwrap()
        };
        assert_eq!(file("a"), file("b"));
    }

    proptest! {
        #[test]
        fn what_was_captured_is_what_the_file_holds(values in prop::collection::vec(any::<f32>(), 1..40), call in 0usize..2000) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("latents.safetensors");
            let moment = Moment { call, t: 981.0, sigma: 13.5 };
            let tensor = Tensor::from_slice(&values);
            write(&path, &[Capture { name: "sampler.sample".into(), moment, tensor }]).unwrap();
            let file = std::fs::read(&path).unwrap();
            let key = format!("sampler.sample/{call:03}");
            let read = SafeTensors::deserialize(&file).unwrap();
            let view = read.tensor(&key).unwrap();
            let expected: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            prop_assert_eq!(view.data(), expected);
            let (_, header) = SafeTensors::read_metadata(&file).unwrap();
            let moments: serde_json::Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["moments"]).unwrap();
            prop_assert_eq!(&moments[&key], &json!({ "t": 981.0, "sigma": 13.5 }));
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        }
    }
}
