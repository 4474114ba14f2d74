//! Who is told what happens while runs are made.

/// What happens, as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A call of the network was made.
    Call,
    /// Something that may surprise. A hint, if there is one, follows on a line of its own.
    Note(&'a str),
    /// Something was lost or left out.
    Warning(&'a str),
}

/// Is told what happens. `()` hears nothing; a closure over an [`Event`] is an observer.
pub trait Observer {
    /// Something has happened.
    fn tell(&self, event: Event);

    /// Something that may surprise.
    fn note(&self, text: &str) {
        self.tell(Event::Note(text));
    }

    /// Something was lost or left out.
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
