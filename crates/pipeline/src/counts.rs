//! Counters of work that a run should do only once.

use std::cell::RefCell;

/// How often this thread has done some work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Plans that were made.
    pub plans: usize,
    /// Texts that were tokenized.
    pub texts: usize,
    /// Texts that were encoded.
    pub encoded: usize,
    /// Rows that the UNet computed in runs: a row is one sample with one text.
    pub rows: usize,
}

thread_local! {
    static COUNTS: RefCell<Counts> = const { RefCell::new(Counts { plans: 0, texts: 0, encoded: 0, rows: 0 }) };
}

/// The counters of this thread. Tests use them to check that nothing is prepared or computed twice.
pub fn counts() -> Counts {
    COUNTS.with_borrow(|counts| *counts)
}

/// Adds 1 to a counter of this thread.
pub(crate) fn add(of: fn(&mut Counts) -> &mut usize) {
    add_many(of, 1);
}

/// Adds to a counter of this thread.
pub(crate) fn add_many(of: fn(&mut Counts) -> &mut usize, count: usize) {
    COUNTS.with_borrow_mut(|counts| *of(counts) += count);
}
