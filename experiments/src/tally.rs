//! The cells of a sweep, counted again and again while it is made.

use crate::glance::{Glance, State};
use crate::list::List;
use crate::rest::Rest;
use crate::store::Store;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// How many cells of a sweep are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them, with references.
    pub cells: usize,
    /// Those that are done.
    pub done: usize,
    /// Those that a process has in hand.
    pub running: usize,
    /// Those that could not be made.
    pub failed: usize,
    /// Those that nobody has begun, or whose process was lost.
    pub left: usize,
}

/// Counts the cells of a sweep. The list is read once, and a count lists each of the store's folders once: it is cheap also where
/// there are many cells.
pub struct Tally {
    store: Store,
    list: List,
}

impl Tally {
    /// Counts the cells of the list in a store.
    ///
    /// # Errors
    /// There is no store in the folder, or it has no list.
    pub fn of(root: &Path) -> Result<Tally> {
        let store = Store::look(root)?;
        let hint = "hint: `latentrace run` or `submit` writes it";
        let list =
            List::read(root)?.with_context(|| format!("{}: no list of cells in this store\n{hint}", root.display()))?;
        Ok(Tally { store, list })
    }

    /// The name of the experiment.
    pub fn name(&self) -> &str {
        &self.list.name
    }

    /// How many cells are in each state now, and how long those that are left may take.
    ///
    /// # Errors
    /// A folder of the store cannot be read.
    pub fn count(&self) -> Result<(Counts, Option<Duration>)> {
        let glance = Glance::at(&self.store)?;
        let cells = &self.list.cells;
        let (mut counts, mut rest) = (Counts { cells: cells.len(), ..Counts::default() }, Rest::default());
        for cell in cells {
            match glance.state(cell, &|_| true) {
                State::Done => counts.done += 1,
                State::Running(claim) => {
                    counts.running += 1;
                    rest.add(cell, Some(&claim.holder));
                }
                State::Failed(_) => counts.failed += 1,
                State::Left => {
                    counts.left += 1;
                    rest.add(cell, None);
                }
            }
        }
        Ok((counts, rest.time(cells, &glance.done)))
    }
}
