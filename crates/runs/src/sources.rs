//! The pictures that runs start from, and their masks. Each file is read once.

use crate::cell::Cell;
use crate::init_image::{self, Fit, Opened};
use crate::located::Located;
use anyhow::Result;
use latentrace_pipeline::{Picture, Size};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The pictures that several runs start from, and their masks. A file is read once for each size that it is scaled to, and its hash is
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
    /// Width and height of the picture in the file.
    pub size: (u32, u32),
    /// Whether the file has a pixel that is not opaque.
    pub is_transparent: bool,
}

impl Sources {
    /// The picture that a cell starts from, scaled to a size. `None` if the cell starts from noise.
    ///
    /// # Errors
    /// The file has a format that cannot be read, is too large, or is damaged.
    pub fn of(&mut self, cell: &Cell, size: Size) -> Result<Option<Source>> {
        cell.image.as_deref().map(|path| self.source(path, size, cell.fit)).transpose()
    }

    /// The mask of a cell's picture, as the picture that it is read from, scaled to a size. `None` if the cell has no mask.
    ///
    /// # Errors
    /// As [`Sources::of`].
    pub fn mask_of(&mut self, cell: &Cell, size: Size) -> Result<Option<Source>> {
        cell.mask.as_deref().map(|path| self.source(path, size, cell.fit)).transpose()
    }

    fn source(&mut self, path: &Path, size: Size, fit: Fit) -> Result<Source> {
        let asked = (path.to_path_buf(), size, fit);
        if let Some((_, known)) = self.read.iter().find(|(known, _)| *known == asked) {
            return Ok(known.clone());
        }
        let Opened { picture, blake3, size, is_transparent } = init_image::open(path, size, fit)?;
        let file = Located { path: std::path::absolute(path)?, relative: None, blake3 };
        let source = Source { picture: Arc::new(picture), file, size, is_transparent };
        self.read.push((asked, source.clone()));
        Ok(source)
    }

    /// How many times a file was read.
    pub fn reads(&self) -> usize {
        self.read.len()
    }
}
