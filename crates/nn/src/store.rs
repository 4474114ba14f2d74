//! Files that are written completely or not at all, safetensors among them.

use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensorError, TensorView, View, serialize, serialize_to_file};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind, Tensor};

pub use latentrace_files::PARTIAL;

/// Writes tensors and a few words about them into one safetensors file. The file appears whole or not at all, and is on
/// the disk when this returns.
///
/// # Errors
/// The file cannot be written, or a tensor is of a kind that safetensors does not hold.
pub fn write_safetensors(path: &Path, tensors: &[(String, Tensor)], about: HashMap<String, String>) -> Result<()> {
    let fail = |cause: String| Error::File { file: path.display().to_string(), cause };
    let stored: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let dtype =
                dtype(tensor.kind()).ok_or_else(|| fail(format!("{name}: no format for {:?}", tensor.kind())))?;
            let shape = tensor.size().iter().map(|&size| size as usize).collect();
            Ok((name.as_str(), dtype, shape, bytes(tensor)))
        })
        .collect::<Result<_>>()?;
    let views =
        stored.iter().map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)));
    let whole = views.collect::<std::result::Result<Vec<_>, _>>().and_then(|views| serialize(views, Some(about)));
    replace(path, &whole.map_err(|error: SafeTensorError| fail(error.to_string()))?)
}

/// A tensor that is made when it is written, so that a file can be larger than memory.
pub struct Lazy<'a> {
    /// The number format.
    pub kind: Kind,
    /// The shape.
    pub shape: Vec<i64>,
    /// Makes the tensor, with this shape and number format.
    pub make: Box<dyn Fn() -> Tensor + 'a>,
}

struct Written<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    tensor: Lazy<'a>,
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = (self.tensor.make)();
        assert_eq!(
            (tensor.size(), tensor.kind()),
            (self.tensor.shape.clone(), self.tensor.kind),
            "the tensor is as told"
        );
        Cow::Owned(bytes(&tensor))
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.tensor.kind.elt_size_in_bytes()
    }
}

/// Writes tensors into one safetensors file, one at a time. The file appears whole or not at all, never replaces one,
/// and is on the disk when this returns.
///
/// # Errors
/// The file cannot be written or exists already, or a tensor is of a kind that safetensors does not hold.
pub fn create_safetensors(path: &Path, tensors: Vec<(String, Lazy)>, about: HashMap<String, String>) -> Result<()> {
    let fail = |cause: String| Error::File { file: path.display().to_string(), cause };
    let mut written = Vec::new();
    for (name, tensor) in tensors {
        let kind = tensor.kind;
        let dtype = dtype(kind).ok_or_else(|| fail(format!("{name}: no format for {kind:?}")))?;
        let shape = tensor.shape.iter().map(|&size| size as usize).collect();
        written.push((name, Written { dtype, shape, tensor }));
    }
    create(path, |temporary| {
        serialize_to_file(written, Some(about), temporary).map_err(|error| match error {
            SafeTensorError::IoError(error) => error,
            other => std::io::Error::other(other.to_string()),
        })
    })
    .map_err(|error| fail(latentrace_files::said(&error)))
}

/// Writes a file, or replaces the one of this name; see [`latentrace_files::replace`].
///
/// # Errors
/// The file cannot be written; an earlier file of this name is then unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |error: latentrace_files::Error| Error::File {
        file: path.display().to_string(),
        cause: error.into_io().to_string(),
    };
    latentrace_files::replace(path, bytes).map_err(fail)
}

/// Creates a file, and never replaces one; see [`latentrace_files::create`].
///
/// # Errors
/// The file cannot be written, or exists already ([`AlreadyExists`](std::io::ErrorKind::AlreadyExists)).
pub fn create(path: &Path, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    latentrace_files::create(path, fill).map_err(latentrace_files::Error::into_io)
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

/// The bytes of a tensor, row by row.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Init, Weights};
    use tch::Device;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let tensor = Tensor::from_slice(&[0.5f32, -3.0, f32::MIN_POSITIVE, 7e30]).view([2, 2]);
        let halves = tensor.transpose(0, 1).to_kind(Kind::Half);
        let named = [("x".to_string(), tensor.shallow_clone()), ("h".to_string(), halves.shallow_clone())];
        write_safetensors(&path, &named, HashMap::from([("step".into(), "3".into())])).unwrap();
        let weights = Weights::open("test", &[&path], Kind::Float, Device::Cpu).unwrap();
        assert!(weights.tensor("x", &[2, 2], Init::Zeros).unwrap().equal(&tensor));
        assert!(weights.tensor("h", &[2, 2], Init::Zeros).unwrap().equal(&halves.to_kind(Kind::Float)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_created_file_never_replaces_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let put = || create(&path, |temporary| std::fs::write(temporary, ""));
        put().unwrap();
        assert_eq!(put().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_the_file() {
        let error = replace(Path::new("/nowhere/x"), b"").unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x: "), "{error}");
    }
}
