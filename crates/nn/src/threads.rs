//! The CPU threads that libtorch's operations run on.

use std::marker::PhantomData;
use std::sync::OnceLock;

/// The environment variables by which a number of threads is given to libtorch, in the order in which they count.
const GIVEN: [&str; 2] = ["MKL_NUM_THREADS", "OMP_NUM_THREADS"];

/// The largest number of threads that is believed. libtorch takes no more than the machine has, but OpenMP would start as
/// many as it is told to.
pub const MOST_THREADS: usize = 1024;

/// The number of threads in the value of `OMP_NUM_THREADS`; `None` if it is not from 1 to [`MOST_THREADS`]. The value may
/// be a list, one number for each level of nested parallel regions, of which only the first is of use here.
pub fn threads_in(value: &str) -> Option<usize> {
    let count = |number: &str| number.trim().parse().ok().filter(|count| (1..=MOST_THREADS).contains(count));
    let counts: Option<Vec<usize>> = value.split(',').map(count).collect();
    counts?.first().copied()
}

/// The environment variable that gives libtorch a number of threads, with its value, if one does.
pub fn given_threads() -> Option<(&'static str, String)> {
    let set = GIVEN.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    set.into_iter().find(|(_, value)| threads_in(value).is_some())
}

/// The number of threads that libtorch has: what the environment gives it, at most the processor's cores. It is what
/// libtorch said when it was first asked, so [`hold_threads`] does not change it.
pub fn all_threads() -> usize {
    static ALL: OnceLock<usize> = OnceLock::new();
    *ALL.get_or_init(set_threads)
}

/// The number of threads that the calling thread's operations run on.
pub fn set_threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Lets the operations of the calling thread run on so many threads, at least 1, until the returned value is dropped.
#[must_use = "the threads are held until this is dropped"]
pub fn hold_threads(count: usize) -> HeldThreads {
    all_threads(); // before libtorch says `count`
    let before = tch::get_num_threads();
    set(i32::try_from(count.max(1)).unwrap_or(before), before);
    HeldThreads { before, of_this_thread: PhantomData }
}

/// A number of threads, held; see [`hold_threads`].
pub struct HeldThreads {
    before: i32,
    of_this_thread: PhantomData<*const ()>, // libtorch keeps the number for each thread, so this is not sent to another
}

impl Drop for HeldThreads {
    fn drop(&mut self) {
        set(self.before, tch::get_num_threads());
    }
}

/// Sets the number of threads, if it is another one.
fn set(count: i32, now: i32) {
    if count != now {
        tch::set_num_threads(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_threads_is_a_number_from_one_on() {
        for (value, count) in [("1", 1), ("2", 2), (" 16 ", 16), ("4,2", 4), ("1024", 1024)] {
            assert_eq!(threads_in(value), Some(count), "{value}");
        }
        for value in ["", "abc", "0", "-3", "1025", "999999", "99999999999999999999", "2,", "2,x", "1.5", "0x2"] {
            assert_eq!(threads_in(value), None, "{value}");
        }
    }

    #[test]
    fn threads_are_held_for_a_while() {
        let before = tch::get_num_threads();
        {
            let _one = hold_threads(1);
            assert_eq!(tch::get_num_threads(), 1);
            {
                let _three = hold_threads(3);
                assert_eq!(tch::get_num_threads(), 3);
            }
            assert_eq!((tch::get_num_threads(), all_threads() as i32), (1, before));
        }
        assert_eq!(tch::get_num_threads(), before);
    }
}
