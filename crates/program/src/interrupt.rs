//! What Ctrl-C says: how to go on.

use crate::printer::aside;
use std::sync::{Mutex, Once, PoisonError};

static HOW: Mutex<String> = Mutex::new(String::new());

/// From here on Ctrl-C says this, and ends the program. What is half-written lies under a temporary name, and what was
/// recorded can be gone on with.
pub fn says(how: String) {
    static LISTEN: Once = Once::new();
    *HOW.lock().unwrap_or_else(PoisonError::into_inner) = how;
    LISTEN.call_once(|| {
        let stop = || {
            aside!("\nstopped\nhint: {}", HOW.lock().unwrap_or_else(PoisonError::into_inner));
            crate::end(130); // as a program that the signal has ended: 128 and its number
        };
        ctrlc::set_handler(stop).ok(); // without it Ctrl-C ends the program as well, only silently
    });
}
