//! Observers: they are told what happens while runs are made.

/// Something that happens while a run is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A network call is complete.
    Call,
    /// So many more of all the bytes of a download are on the disk. The first tells of those that were there already.
    Download {
        /// The bytes of all files.
        total: u64,
        /// How many more of them are on the disk.
        more: u64,
    },
    /// A download is complete, or has failed.
    Downloaded,
    /// A note about something that may be unexpected. A hint may follow on its own line.
    Note(&'a str),
    /// A warning: something was lost or left out.
    Warning(&'a str),
}

/// Something that is told of events. `()` ignores them, and a closure that takes an [`Event`] is an observer.
pub trait Observer {
    /// Tells of an event.
    fn tell(&self, event: Event);

    /// Tells of an [`Event::Note`].
    fn note(&self, text: &str) {
        self.tell(Event::Note(text));
    }

    /// Tells of an [`Event::Warning`].
    fn warn(&self, text: &str) {
        self.tell(Event::Warning(text));
    }
}

impl Observer for () {
    fn tell(&self, _: Event) {}
}

impl<F: Fn(Event)> Observer for F {
    fn tell(&self, event: Event) {
        self(event);
    }
}
