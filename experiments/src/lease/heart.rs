//! The thread that keeps the leases of a process alive.

use super::Held;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Renews leases, as long as it lives. The thread starts with the first of them.
pub(super) struct Heart {
    beat: Duration,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: Vec<Arc<Held>>,
    is_over: bool,
}

impl Heart {
    /// One that renews every `beat`.
    pub(super) fn new(beat: Duration) -> Heart {
        Heart { beat, shared: Arc::default(), thread: Mutex::default() }
    }

    /// Renews a lease from now on.
    pub(super) fn add(&self, held: &Arc<Held>) {
        locked(&self.shared.state).held.push(held.clone());
        let mut thread = locked(&self.thread);
        if thread.is_none() {
            let (shared, beat) = (self.shared.clone(), self.beat);
            *thread = std::thread::Builder::new().name("leases".into()).spawn(move || shared.run(beat)).ok();
        }
    }

    /// Renews a lease no more.
    pub(super) fn remove(&self, held: &Arc<Held>) {
        locked(&self.shared.state).held.retain(|other| !Arc::ptr_eq(other, held));
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        locked(&self.shared.state).is_over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = locked(&self.thread).take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn run(&self, beat: Duration) {
        let mut state = locked(&self.state);
        while !state.is_over {
            let waited = self.changed.wait_timeout(state, beat).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() {
                let held = state.held.clone();
                drop(state); // a file system may take its time
                held.iter().for_each(|held| held.renew());
                state = locked(&self.state);
            }
        }
    }
}

/// What a mutex guards. A thread that panicked leaves a whole list.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
