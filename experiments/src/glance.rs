//! What the folders of a store show of its cells at one moment: names alone, and who holds the claims.

use crate::lease::Standing;
use crate::list::Listed;
use crate::store::Store;
use anyhow::Result;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// The folders of a store, each listed once.
pub(crate) struct Glance {
    /// The folders of the cells that are done, by their keys.
    pub(crate) done: HashMap<String, PathBuf>,
    /// The claims of the cells that processes have in hand, by their keys.
    pub(crate) in_hand: HashMap<String, Standing>,
    /// The keys of the cells that could not be made.
    pub(crate) failed: HashSet<String>,
}

/// What is true of a cell. If several are, the first counts.
pub(crate) enum State<'a> {
    /// There is a folder of it.
    Done,
    /// A process has it in hand.
    Running(&'a Standing),
    /// It could not be made, as the note under this key says.
    Failed(&'a str),
    /// Nobody has begun it, or its process was lost.
    Left,
}

impl Glance {
    /// Looks at a store.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub(crate) fn at(store: &Store) -> Result<Glance> {
        let in_hand = store.in_hand()?.into_iter().map(|claim| (claim.name.clone(), claim)).collect();
        Ok(Glance { done: store.folders()?, in_hand, failed: store.failures()? })
    }

    /// What is true of a cell. It is done if one of its folders is there and `is_sound`, which is asked by the key.
    pub(crate) fn state(&self, cell: &Listed, is_sound: &dyn Fn(&str) -> bool) -> State<'_> {
        if cell.keys().any(|key| self.done.contains_key(key) && is_sound(key)) {
            return State::Done;
        }
        if let Some(claim) = cell.keys().find_map(|key| self.in_hand.get(key)) {
            return State::Running(claim);
        }
        cell.keys().find_map(|key| self.failed.get(key)).map_or(State::Left, |key| State::Failed(key))
    }
}
