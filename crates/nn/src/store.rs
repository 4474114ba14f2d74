//! Files that are written completely or not at all, safetensors among them.

use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use tch::{Kind, Tensor};

/// Writes tensors and metadata into a safetensors file. The file is written completely or not at all, and is on the
/// disk when this returns.
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
    replace(path, &whole.map_err(|error: safetensors::SafeTensorError| fail(error.to_string()))?)
}

/// The prefix of the name of an unfinished file. A killed process may leave one.
pub const PARTIAL: &str = ".partial-";

/// Writes a file under a temporary name in the same folder, syncs it to the disk, and renames it.
///
/// # Errors
/// The file cannot be written. A file that had its name before is still there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = temporary(path)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error: std::io::Error| Error::File { file: path.display().to_string(), cause: error.to_string() })
}

/// Creates a file, which `fill` writes under a temporary name. The file is written completely or not at all, is on the
/// disk when this returns, and never replaces another: if a file has its name, the error is
/// [`ErrorKind::AlreadyExists`].
///
/// # Errors
/// The file cannot be written, or there is one already.
pub fn create(path: &Path, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    let file = temporary(path)?;
    fill(file.path())?;
    let filled = File::open(file.path())?; // may be another file than before: safetensors renames its own to this name
    #[cfg(unix)]
    filled.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    filled.sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => return Err(failed.error),
        // The file system has neither hard links nor renaming without replacement: an empty file reserves the name.
        Err(failed) => {
            File::create_new(path)?;
            failed.file.persist(path).map_err(|error| error.error)?;
        }
    }
    File::open(folder_of(path))?.sync_all()
}

/// An empty file beside `path`, removed when it is dropped.
fn temporary(path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)); // readable for others too
    builder.tempfile_in(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
    fn a_file_that_is_there_is_never_replaced_by_a_created_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let put = |text: &str| create(&path, |temporary| std::fs::write(temporary, text));
        put("first").unwrap();
        assert_eq!(put("second").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
        assert!(create(&folder.path().join("b"), |_| Err(std::io::Error::other("no"))).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_the_file() {
        let error = replace(Path::new("/nowhere/x"), b"").unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x: "), "{error}");
    }
}
