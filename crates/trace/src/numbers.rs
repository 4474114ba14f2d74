//! The numbers of a tensor as they are stored in a shard.

use crate::Statistics;
use crate::error::{Result, changed, file};
use crate::reduction::Storage;
use crate::totals::Totals;
use latentrace_files::{create, create_unsynced};
use latentrace_nn::tch::{Kind, Tensor};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, View, serialize_to_file};
use std::borrow::Cow;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

/// One row of a contiguous tensor on the CPU, as bytes.
pub(crate) struct Numbers {
    tensor: Tensor,
    /// The row's bytes in the tensor's.
    bytes: Range<usize>,
    form: Form,
}

/// What a line of the index says of numbers besides their statistics.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    /// The shape. The first axis is 1.
    pub(crate) shape: Vec<usize>,
    /// The number format.
    dtype: Dtype,
}

impl Form {
    /// Of a row of a tensor, as a tensor whose first axis is 1.
    ///
    /// # Errors
    /// safetensors has no such number format.
    pub(crate) fn of_row(shape: &[i64], kind: Kind) -> Result<Form> {
        let unsupported = || file(Path::new("trace"), format!("no safetensors format for {kind:?}"));
        let mut shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        if let Some(first) = shape.first_mut() {
            *first = 1;
        }
        Ok(Form { shape, dtype: dtype(kind).ok_or_else(unsupported)? })
    }

    /// The name of the number format.
    pub(crate) fn dtype_name(&self) -> &'static str {
        KINDS.iter().find(|(_, of, _)| *of == self.dtype).map_or("", |(_, _, name)| name)
    }
}

impl Numbers {
    /// A row of a contiguous tensor on the CPU, as a tensor whose first axis is 1.
    pub(crate) fn row(tensor: &Tensor, index: i64) -> Result<Numbers> {
        let size = tensor.size();
        let form = Form::of_row(&size, tensor.kind())?;
        let rows = size.first().map_or(1, |&rows| rows.max(1) as usize);
        let each = tensor.numel() * tensor.kind().elt_size_in_bytes() / rows;
        let start = index as usize * each;
        Ok(Numbers { tensor: tensor.shallow_clone(), bytes: start..start + each, form })
    }

    /// All of a contiguous tensor on the CPU.
    fn whole(tensor: Tensor) -> Result<Numbers> {
        let row = Numbers::row(&tensor, 0)?;
        let bytes = 0..tensor.numel() * tensor.kind().elt_size_in_bytes();
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        Ok(Numbers { bytes, form: Form { shape, ..row.form }, tensor: row.tensor })
    }

    /// The numbers in the format that `storage` asks for.
    pub(crate) fn stored(&self, storage: Storage, statistics: &Statistics) -> Result<Numbers> {
        match storage {
            Storage::F16 => Numbers::whole(self.tensor().to_kind(Kind::Half)),
            Storage::Q8 => Numbers::whole(levels(&self.tensor(), statistics)),
            _ => Ok(self.clone()),
        }
    }

    /// Statistics of the numbers.
    pub(crate) fn statistics(&self) -> Statistics {
        let each = self.tensor.kind().elt_size_in_bytes();
        let (first, count) = (self.bytes.start / each, self.bytes.len() / each);
        let in_place = Totals::of_memory(&self.tensor, first as i64, count, 1);
        in_place.unwrap_or_else(|| Totals::of(&self.tensor(), 1)).statistics()
    }

    /// A copy of the row.
    fn tensor(&self) -> Tensor {
        let shape: Vec<i64> = self.form.shape.iter().map(|&size| size as i64).collect();
        Tensor::from_data_size(self.bytes(), &shape, self.tensor.kind())
    }

    /// The bytes, row by row.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.bytes.is_empty() {
            return &[];
        }
        #[allow(unsafe_code)]
        // Safety: the tensor is contiguous, on the CPU and outlives the slice, and the range lies in it.
        unsafe {
            std::slice::from_raw_parts((self.tensor.data_ptr() as *const u8).add(self.bytes.start), self.bytes.len())
        }
    }

    /// Shape and number format.
    pub(crate) fn form(&self) -> &Form {
        &self.form
    }
}

impl Clone for Numbers {
    fn clone(&self) -> Numbers {
        let Numbers { tensor, bytes, form } = self;
        Numbers { tensor: tensor.shallow_clone(), bytes: bytes.clone(), form: form.clone() }
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Numbers) -> bool {
        self.form == other.form && self.bytes() == other.bytes()
    }
}

impl View for Numbers {
    fn dtype(&self) -> Dtype {
        self.form.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.form.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes().into()
    }
    fn data_len(&self) -> usize {
        self.bytes().len()
    }
}

/// Writes a shard under a temporary name, syncs it to the disk if `synced`, and renames it. No file may have its name.
pub(crate) fn write(path: &Path, tensors: Vec<(String, Numbers)>, synced: bool) -> Result<()> {
    // The kind of a failure of the disk is kept: another process may have removed the temporary file.
    let failed = |error| match error {
        SafeTensorError::IoError(error) => error,
        other => std::io::Error::other(other),
    };
    let fill = |temporary: &Path| serialize_to_file(tensors, None, temporary).map_err(failed);
    let created = if synced { create(path, fill) } else { create_unsynced(path, fill) };
    created.map_err(latentrace_files::Error::into_io).map_err(|error| match error.kind() {
        // There is such a file already, or another process has removed the temporary file.
        ErrorKind::AlreadyExists | ErrorKind::NotFound => changed(path),
        _ => file(path, error),
    })
}

/// 256 levels between the least and the greatest finite number.
fn levels(tensor: &Tensor, statistics: &Statistics) -> Tensor {
    let width = statistics.max - statistics.min;
    let scaled = (tensor.to_kind(Kind::Float) - statistics.min) * (if width > 0.0 { 255.0 / width } else { 0.0 });
    scaled.nan_to_num(0.0, 255.0, 0.0).clamp(0.0, 255.0).round().to_kind(Kind::Uint8)
}

/// The numbers of the levels.
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

/// The name of a number format in safetensors.
pub(crate) fn name(kind: Kind) -> Option<&'static str> {
    KINDS.iter().find(|(of, _, _)| *of == kind).map(|(_, _, name)| *name)
}

/// The number format of a safetensors file's tensor.
pub(crate) fn kind(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(_, of, _)| *of == dtype).map(|(kind, _, _)| *kind)
}
