//! The figures of an experiment: each reads the store's folders and writes beside them.

mod curves;
mod grid;

pub use curves::curves;
pub use grid::grid;

use crate::cell::Cell;
use crate::spec::Spec;
use std::path::{Path, PathBuf};

/// An experiment whose cells are done.
pub struct Finished<'a> {
    /// Where its figures go.
    pub root: &'a Path,
    /// What varies and what not.
    pub spec: &'a Spec,
    /// What is the same everywhere.
    pub title: &'a str,
    /// Its cells, in the order of the spec.
    pub cells: &'a [Done],
}

/// A cell that is done.
pub struct Done {
    /// Its settings.
    pub cell: Cell,
    /// What the grid and the legend call it.
    pub label: String,
    /// Its folder: `image.png`, `cell.json`, and its record in `trace/`.
    pub folder: PathBuf,
}
