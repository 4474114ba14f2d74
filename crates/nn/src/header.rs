//! The header of a safetensors file: its tensors by name, without their numbers.

use crate::{Error, Result};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

/// The header of a safetensors file.
#[derive(Clone, Debug)]
pub struct Header {
    /// The tensors by their names in the file.
    pub tensors: BTreeMap<String, Stored>,
    /// What the file says of itself (`__metadata__`).
    pub about: HashMap<String, String>,
}

/// A tensor as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The number format, as safetensors writes it: `F32`, `F16`, `BF16`.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<i64>,
    /// The size in bytes.
    pub bytes: u64,
}

impl Header {
    /// Reads the header of a file, and checks that the file has the length that it says.
    ///
    /// # Errors
    /// The file cannot be read, or is not a whole safetensors file.
    pub fn read(path: &Path) -> Result<Header> {
        let map = map(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&map).map_err(|error| not_whole(path, &error))?;
        let stored = |info: &safetensors::tensor::TensorInfo| Stored {
            dtype: name_of(info.dtype),
            shape: info.shape.iter().map(|&size| size as i64).collect(),
            bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
        };
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, stored(info))).collect();
        Ok(Header { tensors, about: metadata.metadata().clone().unwrap_or_default() })
    }
}

/// The name of a number format, as safetensors writes it.
pub(crate) fn name_of(dtype: Dtype) -> String {
    format!("{dtype:?}")
}

/// Maps a file into memory.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let fail = |error: std::io::Error| Error::File { file: path.display().to_string(), cause: error.to_string() };
    let file = File::open(path).map_err(fail)?;
    #[allow(unsafe_code)] // Safety: the map is read-only; the file must not be cut while it is in use.
    unsafe { Mmap::map(&file) }.map_err(fail)
}

/// The error for a file that is cut, or is not a safetensors file.
pub(crate) fn not_whole(path: &Path, error: &safetensors::SafeTensorError) -> Error {
    let cause = format!("not a whole safetensors file ({error})\nhint: download the file again");
    Error::File { file: path.display().to_string(), cause }
}
