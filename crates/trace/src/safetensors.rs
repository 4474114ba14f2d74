//! Captures as a safetensors file.

use crate::{Capture, Error, Result};
use latentrace_nn::tch::{Kind, Tensor};
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// Writes captures into one file: each tensor as `name/call` (`sampler.sample/007`), and in the header's metadata, under
/// the same key, its time and noise level. The file appears whole or not at all, and is on the disk when this returns.
///
/// # Errors
/// The file cannot be written, or a tensor is of a kind that safetensors does not hold.
pub fn write(path: &Path, captures: &[Capture]) -> Result<()> {
    let fail = |cause: String| Error::File { file: path.display().to_string(), cause };
    let mut about = HashMap::from([("format".to_string(), "pt".to_string())]);
    let mut stored = Vec::new();
    for capture in captures {
        let key = format!("{}/{:03}", capture.name, capture.moment.call);
        let dtype = dtype(capture.tensor.kind())
            .ok_or_else(|| fail(format!("{key}: no format for {:?}", capture.tensor.kind())))?;
        about.insert(key.clone(), format!("t={} sigma={}", capture.moment.t, capture.moment.sigma));
        let shape = capture.tensor.size().iter().map(|&size| size as usize).collect();
        stored.push((key, dtype, shape, bytes(&capture.tensor)));
    }
    let views = stored.iter().map(|(key, dtype, shape, bytes): &(String, Dtype, Vec<usize>, Vec<u8>)| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (key.as_str(), view))
    });
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(|error| fail(error.to_string()))?;
    let whole = serialize(views, Some(about)).map_err(|error| fail(error.to_string()))?;
    replace(path, &whole).map_err(|error| fail(error.to_string()))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Float => Dtype::F32,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Double => Dtype::F64,
        Kind::Int64 => Dtype::I64,
        _ => return None,
    })
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::Moment;
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    proptest! {
        #[test]
        fn what_was_captured_is_what_the_file_holds(values in prop::collection::vec(any::<f32>(), 1..40), call in 0usize..2000) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("latents.safetensors");
            let moment = Moment { call, t: 981.0, sigma: 13.5 };
            let tensor = Tensor::from_slice(&values);
            write(&path, &[Capture { name: "sampler.sample".into(), moment, tensor }]).unwrap();
            let file = std::fs::read(&path).unwrap();
            let read = SafeTensors::deserialize(&file).unwrap();
            let view = read.tensor(&format!("sampler.sample/{call:03}")).unwrap();
            let expected: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            prop_assert_eq!(view.data(), expected);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_the_file() {
        let error = write(Path::new("/nowhere/x.safetensors"), &[]).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x.safetensors: "), "{error}");
    }
}
