//! What is tried again, when, and how often.

use crate::progress::Progress;
use crate::settings::Patience;
use crate::{Error, Result};
use std::time::Duration;

/// A failure of one try.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may work later, after the pause that the hub asked for, if it did.
    Passing(Error, Option<Duration>),
    /// It would fail in the same way again.
    Lasting(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Lasting(error)
    }
}

/// The tries of one thing.
pub(crate) struct Tries<'a> {
    patience: &'a Patience,
    failed: u32,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(patience: &'a Patience) -> Tries<'a> {
        Tries { patience, failed: 0 }
    }

    /// Something was achieved, so the next failure is a first one.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits until the next try, or fails if there is none.
    pub(crate) fn wait(&mut self, failure: Failure, progress: &mut dyn Progress) -> Result<()> {
        self.failed = self.failed.saturating_add(1);
        let (error, asked) = match failure {
            Failure::Lasting(error) => return Err(error),
            Failure::Passing(error, asked) => (error.after(self.failed), asked),
        };
        let is_too_long = asked.is_some_and(|asked| asked > self.patience.asked);
        if is_too_long || self.failed >= self.patience.tries {
            return Err(error);
        }
        let pause = self.pause().max(asked.unwrap_or_default());
        progress.again(&error, pause);
        std::thread::sleep(pause);
        Ok(())
    }

    /// Doubles with every failure.
    fn pause(&self) -> Duration {
        let times = 2u32.saturating_pow(self.failed.saturating_sub(1));
        self.patience.pause.saturating_mul(times).min(self.patience.longest)
    }
}

/// Tries until it works, fails for good, or has failed too often in a row.
pub(crate) fn until_done<T>(
    patience: &Patience,
    progress: &mut dyn Progress,
    attempt: impl Fn() -> Result<T, Failure>,
) -> Result<T> {
    let mut tries = Tries::new(patience);
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(failure) => tries.wait(failure, progress)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Pauses(Vec<Duration>);

    impl Progress for Pauses {
        fn again(&mut self, _: &Error, pause: Duration) {
            self.0.push(pause);
        }
    }

    fn server() -> Error {
        Error::Server { url: "u".into(), status: 500, count: 0 }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_tries_are_counted() {
        let milliseconds = Duration::from_millis;
        let patience = Patience { tries: 5, pause: milliseconds(1), longest: milliseconds(3), ..Patience::default() };
        let mut pauses = Pauses::default();
        let error = until_done(&patience, &mut pauses, || Err::<(), _>(Failure::Passing(server(), None))).unwrap_err();
        assert_eq!(pauses.0, [1, 2, 3, 3].map(milliseconds));
        assert!(error.to_string().starts_with("u answers 500 after 5 tries\nhint: "), "{error}");
    }

    #[test]
    fn the_hub_can_ask_for_a_longer_pause_but_not_for_any() {
        let asked = Duration::from_millis(20);
        let mut patience = Patience { tries: 2, pause: Duration::ZERO, asked, ..Patience::default() };
        let mut pauses = Pauses::default();
        until_done(&patience, &mut pauses, || Err::<(), _>(Failure::Passing(server(), Some(asked)))).unwrap_err();
        assert_eq!(pauses.0, [asked]);
        patience.asked = Duration::from_millis(19);
        until_done(&patience, &mut pauses, || Err::<(), _>(Failure::Passing(server(), Some(asked)))).unwrap_err();
        assert_eq!(pauses.0.len(), 1, "no further pause");
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        let mut pauses = Pauses::default();
        let tried = std::cell::Cell::new(0);
        let attempt = || {
            tried.set(tried.get() + 1);
            Err::<(), _>(Failure::Lasting(server()))
        };
        until_done(&Patience::default(), &mut pauses, attempt).unwrap_err();
        assert_eq!((tried.get(), pauses.0.len()), (1, 0));
    }
}
