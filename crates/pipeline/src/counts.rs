//! How often something is done that a run needs once.

use std::cell::RefCell;

/// What was done on this thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Programs that were made of a scheduler and its steps.
    pub plans: usize,
    /// Texts that were tokenised.
    pub texts: usize,
}

thread_local! {
    static COUNTS: RefCell<Counts> = const { RefCell::new(Counts { plans: 0, texts: 0 }) };
}

/// What was done on this thread up to now: tests check with it that nothing is prepared twice.
pub fn counts() -> Counts {
    COUNTS.with_borrow(|counts| *counts)
}

pub(crate) fn add(of: fn(&mut Counts) -> &mut usize) {
    COUNTS.with_borrow_mut(|counts| *of(counts) += 1);
}
