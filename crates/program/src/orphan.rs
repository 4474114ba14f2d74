//! Workers whose `submit` has ended, however it did, end too.

use crate::printer::aside;
use std::os::unix::process::parent_id;
use std::time::Duration;

/// The variable by which `submit` tells its workers its process number.
pub const PARENT: &str = "LATENTRACE_WORKER_OF";

/// How often a worker looks.
const PAUSE: Duration = Duration::from_millis(500);

/// From here on ends this program when the process that began it has ended, if that is a `submit`. What is half-written lies under a
/// temporary name, and its claim is over with this process.
pub fn watch() {
    let parent: Option<u32> = std::env::var(PARENT).ok().and_then(|number| number.parse().ok());
    let Some(parent) = parent else { return };
    std::thread::spawn(move || {
        while parent_id() == parent {
            std::thread::sleep(PAUSE);
        }
        aside!("stopped, because the process that began this worker has ended");
        crate::end(1);
    });
}
