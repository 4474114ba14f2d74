//! The tensors of safetensors files, by name: to compare, convert and count them.

use crate::source::{Files, Naming};
use crate::{Lazy, Result};
use std::path::Path;
use tch::{Kind, Tensor};

/// The tensors of memory-mapped safetensors files, under the names that modules read them by.
pub struct Tensors(Files);

impl Tensors {
    /// Opens files.
    ///
    /// # Errors
    /// A file cannot be opened or is incomplete, or two tensors get the same name.
    pub fn open(files: &[impl AsRef<Path>], naming: Naming) -> Result<Tensors> {
        Ok(Tensors(Files::open(files, naming)?))
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names()
    }

    /// The shape and number format of a tensor.
    ///
    /// # Errors
    /// There is no such tensor, or its number format is not supported.
    pub fn form(&self, name: &str) -> Result<(&[i64], Kind)> {
        self.0.form(name)
    }

    /// A tensor, in the number format of the file and without a copy, if it is not stored transposed.
    ///
    /// # Errors
    /// There is no such tensor, or its number format is not supported.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        self.0.stored(name)
    }

    /// A tensor to be written, in a number format; without one, in that of the file.
    ///
    /// # Errors
    /// There is no such tensor, or its number format is not supported.
    pub fn lazy(&self, name: &str, kind: Option<Kind>) -> Result<Lazy<'static>> {
        let (shape, stored) = self.form(name)?;
        // A whole number, such as the positions that old text encoders hold, has no other format.
        let kind = kind.filter(|_| stored != Kind::Int64).unwrap_or(stored);
        let (shape, tensor) = (shape.to_vec(), self.get(name)?);
        Ok(Lazy { kind, shape, make: Box::new(move || tensor.to_kind(kind)) })
    }
}
