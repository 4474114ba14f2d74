//! A tensor's numbers as a shard stores them.

use crate::Statistics;
use crate::error::{Result, file};
use crate::reduction::Storage;
use latentrace_nn::tch::{Kind, Tensor};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

/// A contiguous tensor on the CPU, seen as bytes.
pub(crate) struct Numbers {
    tensor: Tensor,
    shape: Vec<usize>,
    dtype: Dtype,
}

impl Numbers {
    /// The numbers of a contiguous tensor on the CPU, in the format that `storage` asks for.
    pub(crate) fn of(tensor: &Tensor, storage: Storage, statistics: &Statistics) -> Result<Numbers> {
        let tensor = match storage {
            Storage::F16 => tensor.to_kind(Kind::Half),
            Storage::Q8 => levels(tensor, statistics),
            _ => tensor.shallow_clone(),
        };
        let unsupported = || file(Path::new("trace"), format!("no safetensors format for {:?}", tensor.kind()));
        let dtype = dtype(tensor.kind()).ok_or_else(unsupported)?;
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        Ok(Numbers { tensor, shape, dtype })
    }

    /// The bytes, row by row.
    pub(crate) fn bytes(&self) -> &[u8] {
        let count = self.tensor.numel() * self.tensor.kind().elt_size_in_bytes();
        if count == 0 {
            return &[];
        }
        #[allow(unsafe_code)] // Safety: contiguous, on the CPU, and held as long as this.
        unsafe {
            std::slice::from_raw_parts(self.tensor.data_ptr() as *const u8, count)
        }
    }

    pub(crate) fn dtype_name(&self) -> &'static str {
        name(self.tensor.kind()).unwrap_or_default()
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Numbers) -> bool {
        (self.dtype, &self.shape) == (other.dtype, &other.shape) && self.bytes() == other.bytes()
    }
}

impl View for Numbers {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes().into()
    }
    fn data_len(&self) -> usize {
        self.bytes().len()
    }
}

/// Writes a shard: under a temporary name, to the disk, then its own name.
pub(crate) fn write(folder: &Path, name: &str, tensors: Vec<(String, Numbers)>) -> Result<()> {
    let (path, temporary) = (folder.join(name), folder.join(format!("{name}.unfinished")));
    let fail = |error: &dyn std::fmt::Display| file(&path, error);
    serialize_to_file(tensors, None, &temporary).map_err(|error| fail(&error))?;
    let place = || {
        File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    place().map_err(|error: std::io::Error| fail(&error))
}

/// 256 levels between the least and the greatest finite number.
fn levels(tensor: &Tensor, statistics: &Statistics) -> Tensor {
    let width = statistics.max - statistics.min;
    let scaled = (tensor.to_kind(Kind::Float) - statistics.min) * (if width > 0.0 { 255.0 / width } else { 0.0 });
    scaled.nan_to_num(0.0, 255.0, 0.0).clamp(0.0, 255.0).round().to_kind(Kind::Uint8)
}

/// The numbers that levels stand for.
pub(crate) fn from_levels(levels: &Tensor, [low, high]: [f64; 2]) -> Tensor {
    levels.to_kind(Kind::Float) * ((high - low) / 255.0) + low
}

const KINDS: [(Kind, Dtype, &str); 6] = [
    (Kind::Float, Dtype::F32, "F32"),
    (Kind::Half, Dtype::F16, "F16"),
    (Kind::BFloat16, Dtype::BF16, "BF16"),
    (Kind::Double, Dtype::F64, "F64"),
    (Kind::Int64, Dtype::I64, "I64"),
    (Kind::Uint8, Dtype::U8, "U8"),
];

fn dtype(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(of, _, _)| *of == kind).map(|(_, dtype, _)| *dtype)
}

/// The name that safetensors has for a number format.
pub(crate) fn name(kind: Kind) -> Option<&'static str> {
    KINDS.iter().find(|(of, _, _)| *of == kind).map(|(_, _, name)| *name)
}

/// The number format of a safetensors file's tensor.
pub(crate) fn kind(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(_, of, _)| *of == dtype).map(|(kind, _, _)| *kind)
}
