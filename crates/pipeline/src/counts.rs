//! Counters of work that a run should do only once.

use std::cell::RefCell;

/// How often this thread has done some work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Plans that were made.
    pub plans: usize,
    /// Texts that were tokenized.
    pub texts: usize,
}

thread_local! {
    static COUNTS: RefCell<Counts> = const { RefCell::new(Counts { plans: 0, texts: 0 }) };
}

/// The counters of this thread. Tests use them to check that nothing is prepared twice.
pub fn counts() -> Counts {
    COUNTS.with_borrow(|counts| *counts)
}

/// Adds 1 to a counter of this thread.
pub(crate) fn add(of: fn(&mut Counts) -> &mut usize) {
    COUNTS.with_borrow_mut(|counts| *of(counts) += 1);
}
