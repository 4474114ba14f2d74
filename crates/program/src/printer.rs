//! The one place that prints: results on stdout, all else on stderr, and a bar on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use latentrace::runs::{Event, Observer};
use std::fmt::Display;
use std::io::{StdoutLock, Write};
use std::sync::OnceLock;

/// A line of results, as `println!` takes it.
macro_rules! line {
    ($($text:tt)*) => { $crate::printer::out(format_args!($($text)*)) };
}

/// A line on stderr, as `eprintln!` takes it.
macro_rules! aside {
    ($($text:tt)*) => { $crate::printer::err(format_args!($($text)*)) };
}

pub(crate) use {aside, line};

/// A line of results.
pub fn out(text: impl Display) {
    written(|stdout| writeln!(stdout, "{text}"));
}

/// Results that have their own line ends.
pub fn text(text: impl Display) {
    written(|stdout| write!(stdout, "{text}"));
}

/// Why stdout could not be written, if it could not: the first error.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// Writes to stdout. What is lost there must not stop the work, so an error is only remembered.
fn written(write: impl FnOnce(&mut StdoutLock) -> std::io::Result<()>) {
    if let Err(error) = write(&mut std::io::stdout().lock()) {
        LOST.get_or_init(|| error);
    }
}

/// Writes what waits for stdout, and returns why something could not be written there, if so.
pub fn lost() -> Option<&'static std::io::Error> {
    written(|stdout| stdout.flush());
    LOST.get()
}

/// Writes to stderr. If that cannot be written, there is nowhere to say so.
fn aside_of(text: std::fmt::Arguments) {
    std::io::stderr().lock().write_fmt(text).ok();
}

/// The files that a command has written.
pub fn files(paths: &[std::path::PathBuf]) {
    paths.iter().for_each(|path| out(format!("  {}", path.display())));
}

/// Something that may surprise.
pub fn note(text: impl Display) {
    aside_of(format_args!("note: {text}\n"));
}

/// Something was lost or left out.
pub fn warn(text: impl Display) {
    aside_of(format_args!("warning: {text}\n"));
}

/// A line on stderr.
pub fn err(text: impl Display) {
    aside_of(format_args!("{text}\n"));
}

/// A question, whose answer is typed in its line.
pub fn ask(text: impl Display) {
    aside_of(format_args!("{text}"));
    std::io::stderr().flush().ok(); // without it the question comes late
}

/// What is said while runs are made: a bar over network calls, drawn only on a terminal, and what happens, above it.
pub struct Printer {
    bar: ProgressBar,
}

impl Printer {
    /// A printer without a bar.
    pub fn new() -> Printer {
        Printer { bar: ProgressBar::hidden() }
    }

    /// A printer with a bar over so many network calls.
    pub fn with_bar(calls: usize) -> Printer {
        let printer = Printer { bar: ProgressBar::new(0) };
        printer.begin(calls);
        printer
    }

    /// A printer whose bar begins later.
    pub fn waiting() -> Printer {
        let bar = ProgressBar::new(0);
        bar.set_draw_target(ProgressDrawTarget::hidden());
        Printer { bar }
    }

    /// A printer with a line in the place of a bar, for what is made now.
    pub fn with_line() -> Printer {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        Printer { bar }
    }

    /// Whether what is made now is seen: the bar or line is there, on a terminal.
    pub fn is_seen(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Begins the bar of one run.
    pub fn begin(&self, calls: usize) {
        self.begin_as("{msg:24} {wide_bar} {pos}/{len} calls, {eta} left", calls);
    }

    /// Begins the bar of a sweep, whose cells say how long the rest may take.
    pub fn begin_sweep(&self, calls: usize) {
        self.begin_as("{msg:24} {wide_bar} {pos}/{len} calls", calls);
    }

    fn begin_as(&self, template: &str, calls: usize) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_length(calls as u64);
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.reset();
    }

    /// So many more bytes of a download are there. The first call begins a bar over bytes.
    fn downloaded(&self, total: u64, more: u64) {
        if self.bar.length() != Some(total) || self.bar.is_finished() {
            let template = "{msg:24} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_length(total);
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.reset();
        }
        self.bar.inc(more);
    }

    /// What is made now.
    pub fn message(&self, text: impl Display) {
        self.bar.set_message(text.to_string());
    }

    /// So many network calls were made.
    pub fn called(&self, calls: usize) {
        self.bar.inc(calls as u64);
    }

    /// A line of results, above the bar.
    pub fn line(&self, text: impl Display) {
        self.bar.suspend(|| out(text));
    }

    /// A line on stderr, above the bar.
    pub fn aside(&self, text: impl Display) {
        self.bar.suspend(|| err(text));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Printer {
    fn tell(&self, event: Event) {
        match event {
            Event::Call => self.called(1),
            Event::Download { total, more } => self.downloaded(total, more),
            Event::Downloaded => self.end(),
            Event::Note(text) => self.bar.suspend(|| note(text)),
            Event::Warning(text) => self.bar.suspend(|| warn(text)),
        }
    }
}
