//! The pictures that runs start from. Each is read once.

use crate::cell::Cell;
use crate::init_image::{self, Fit};
use crate::located::Located;
use anyhow::Result;
use latentrace_pipeline::{Picture, Size};
use std::path::PathBuf;
use std::sync::Arc;

/// The pictures that several runs start from. A file is read once for each size that it is scaled to, and its hash is
/// that of the bytes that were read.
#[derive(Default)]
pub struct Sources {
    read: Vec<(Asked, Source)>,
}

/// Everything that decides the pixels, besides the file's content.
type Asked = (PathBuf, Size, Fit);

/// A picture that a run starts from, and the file that it was read from.
#[derive(Clone)]
pub struct Source {
    /// The picture, scaled to the run's size.
    pub picture: Arc<Picture>,
    /// The file with its hash.
    pub file: Located,
}

impl Sources {
    /// The picture that a cell starts from, scaled to a size. `None` if the cell starts from noise.
    ///
    /// # Errors
    /// The file has a format that cannot be read, is too large, or is damaged.
    pub fn of(&mut self, cell: &Cell, size: Size) -> Result<Option<Source>> {
        let Some(path) = &cell.image else { return Ok(None) };
        let asked = (path.clone(), size, cell.fit);
        if let Some((_, known)) = self.read.iter().find(|(known, _)| *known == asked) {
            return Ok(Some(known.clone()));
        }
        let (picture, blake3) = init_image::open(path, size, cell.fit)?;
        let file = Located { path: std::path::absolute(path)?, relative: None, blake3 };
        let source = Source { picture: Arc::new(picture), file };
        self.read.push((asked, source.clone()));
        Ok(Some(source))
    }

    /// How many times a file was read.
    pub fn reads(&self) -> usize {
        self.read.len()
    }
}
