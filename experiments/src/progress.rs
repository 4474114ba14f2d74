//! What is told while a sweep is made.

use latentrace_runs::{Event, Observer, OfCells, RunFolder};
use std::time::Duration;

/// What happens in a sweep, as it happens.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Something in one of its runs: a call of the network, a note, a warning.
    Run(Event<'a>),
    /// How often one of its rules fires.
    Rule(&'a OfCells),
    /// Texts that do not fit the text encoder: a line for each cell that loses some, of so many cells.
    Lost {
        /// The lines; never empty.
        lines: &'a [String],
        /// How many cells there are.
        cells: usize,
    },
    /// The clean estimates of some cells alternate from step to step: their solver was unstable.
    Unstable {
        /// What the legend calls these cells; never empty.
        labels: &'a [&'a str],
        /// How many cells there are.
        cells: usize,
    },
    /// Cells are about to be made.
    Begin {
        /// All that the sweep consists of.
        cells: usize,
        /// Those that are done already.
        done: usize,
        /// Network calls that are left, each picture's counted.
        calls: usize,
    },
    /// What the cells that are about to be made have in common is computed once.
    Shared {
        /// How many rows the network will compute: a row is one sample with one text.
        evaluations: usize,
        /// How many it would compute for each cell by itself, all together.
        of: usize,
    },
    /// A batch does not fit into memory. It, and those after it, are made in smaller ones.
    Smaller {
        /// How many pictures were to be made at once.
        from: usize,
        /// How many are made at once from now on.
        to: usize,
        /// What did not fit, in a line.
        cause: &'a str,
    },
    /// A cell is about to be made.
    Making(&'a str),
    /// Another process makes this cell, and is waited for.
    Waiting(&'a str),
    /// A cell has come to its end.
    Cell {
        /// What the legend calls it.
        label: &'a str,
        /// Its key in the store.
        key: &'a str,
        /// What became of it.
        end: End<'a>,
        /// How many cells are left.
        left: usize,
        /// How long they may take, where that can be said.
        time_left: Option<Duration>,
    },
}

/// What became of a cell.
#[derive(Debug)]
pub enum End<'a> {
    /// Its run was made.
    Made {
        /// How long that took.
        elapsed: Duration,
        /// How long it took with its frames and files.
        whole: Duration,
        /// Where it is.
        run: &'a RunFolder,
    },
    /// Another process made it.
    Kept,
    /// It cannot be made.
    Failed(&'a str),
}

impl End<'_> {
    /// How long the cell took with everything, if this process made it.
    pub(crate) fn whole(&self) -> Option<Duration> {
        match self {
            End::Made { whole, .. } => Some(*whole),
            End::Kept | End::Failed(_) => None,
        }
    }
}

/// Passes on what happens in the runs of a sweep.
pub(crate) struct OfRuns<'a>(pub(crate) &'a dyn Fn(Progress));

impl Observer for OfRuns<'_> {
    fn tell(&self, event: Event) {
        (self.0)(Progress::Run(event));
    }
}
