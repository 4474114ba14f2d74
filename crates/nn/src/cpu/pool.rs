//! Work shared by the threads of libtorch's own pool.
//!
//! libtorch's threads wait for work by spinning, so threads beside them would have to fight for the processor. The pool
//! is OpenMP's. What a compiler makes of `#pragma omp parallel` is a call of `GOMP_parallel`, which is called here.

#![allow(unsafe_code)] // A C function found by its name; each use says why it is safe.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// `void GOMP_parallel(void (*fn)(void *), void *data, unsigned num_threads, unsigned flags)`
type Parallel = unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, u32, u32);

/// The items that a thread has still to do, handed out one by one.
pub struct Items<'a> {
    shares: &'a [Share],
    own: usize,
}

/// A range of items. Its thread takes from it first, and then any thread that has nothing left.
#[repr(align(64))] // a cache line each
struct Share {
    next: AtomicUsize,
    end: usize,
}

impl Iterator for Items<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let from_own = (0..self.shares.len()).map(|step| (self.own + step) % self.shares.len());
        from_own.map(|share| &self.shares[share]).find_map(|share| {
            let item = share.next.fetch_add(1, Ordering::Relaxed);
            (item < share.end).then_some(item)
        })
    }
}

/// Does the items `0..items` on up to `threads` of libtorch's threads, each of which calls `work` once with the items that
/// are its own. Returns when all are done. A panic of `work` reaches the caller.
pub fn share(threads: usize, items: usize, work: &(dyn Fn(Items) + Sync)) {
    let threads = threads.clamp(1, items.max(1));
    let bounds = |share: usize| share * (items / threads) + share.min(items % threads);
    let shares: Vec<Share> =
        (0..threads).map(|share| Share { next: AtomicUsize::new(bounds(share)), end: bounds(share + 1) }).collect();
    if threads == 1 {
        return work(Items { shares: &shares, own: 0 });
    }
    let job = Job { work, shares, arrived: AtomicUsize::new(0), panic: Mutex::new(None) };
    match openmp() {
        // Safety: the job lives until the call returns, when all threads have left it; it is shared by reference only.
        Some(parallel) => unsafe { parallel(enter, (&raw const job).cast_mut().cast(), threads as u32, 0) },
        None => std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| job.take_part());
            }
            job.take_part();
        }),
    }
    let panic = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

struct Job<'a> {
    work: &'a (dyn Fn(Items) + Sync),
    shares: Vec<Share>,
    arrived: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    /// What each thread does. A panic is kept for the caller: it must not unwind into C.
    fn take_part(&self) {
        let own = self.arrived.fetch_add(1, Ordering::Relaxed) % self.shares.len();
        let done = catch_unwind(AssertUnwindSafe(|| (self.work)(Items { shares: &self.shares, own })));
        if let Err(panic) = done {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

unsafe extern "C" fn enter(job: *mut c_void) {
    // Safety: `share` passes its job.
    unsafe { &*job.cast::<Job>() }.take_part();
}

/// The pool of the OpenMP library that libtorch has loaded, if it is one that GCC's programs can use.
fn openmp() -> Option<Parallel> {
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // Safety: a look-up by name; the type is that of the function of this name.
        unsafe {
            let address = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
            (!address.is_null()).then(|| std::mem::transmute::<*mut c_void, Parallel>(address))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_done_once() {
        for threads in 1..5 {
            for items in [0, 1, 2, 3, 7, 100] {
                let done: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                share(threads, items, &|mine| {
                    mine.for_each(|item| {
                        done[item].fetch_add(1, Ordering::Relaxed);
                    });
                });
                assert!(done.iter().all(|times| times.load(Ordering::Relaxed) == 1), "{threads} threads, {items}");
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        for threads in [1, 2] {
            let caught = catch_unwind(|| {
                share(threads, 10, &|mine| mine.for_each(|item| assert!(item != 3, "the third")));
            });
            assert!(caught.unwrap_err().downcast_ref::<&str>().is_some_and(|text| text.contains("the third")));
        }
    }

    #[test]
    fn libtorch_brings_openmp() {
        tch::get_num_threads();
        assert!(openmp().is_some());
    }
}
