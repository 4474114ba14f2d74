//! A run that is done, and its place in an experiment.

use latentrace_runs::{Cell, RunFolder};

/// A run that is done.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its settings.
    pub cell: Cell,
    /// What the legend calls it.
    pub label: String,
    /// For each axis, which of its values it has.
    pub place: Vec<usize>,
    /// Its folder.
    pub run: RunFolder,
}
