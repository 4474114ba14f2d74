//! What a download tells while it runs.

use crate::Error;
use std::time::Duration;

/// Is told how a download goes; enough for a bar with the time that is left. Each method does nothing unless it is
/// implemented. `()` is the progress that nobody watches.
pub trait Progress {
    /// The files are known: `total` bytes are wanted, and `already` of them are on the disk.
    fn begin(&mut self, total: u64, already: u64) {
        let _ = (total, already);
    }

    /// A file of so many bytes is downloaded next, or the rest of it.
    fn file(&mut self, name: &str, bytes: u64) {
        let _ = (name, bytes);
    }

    /// So many more bytes are on the disk.
    fn advance(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// So many bytes that were counted must be downloaded again.
    fn lose(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// Another process downloads this file; this one waits for it.
    fn waiting(&mut self, name: &str) {
        let _ = name;
    }

    /// Something failed and is tried again after a pause; also before [`Progress::begin`], for the list of files.
    fn again(&mut self, cause: &Error, pause: Duration) {
        let _ = (cause, pause);
    }

    /// After [`Progress::begin`], once: everything is there, or the download has failed.
    fn end(&mut self) {}
}

impl Progress for () {}
