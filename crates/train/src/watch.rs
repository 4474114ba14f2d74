//! What a training tells as it goes.

use crate::error::Result;
use crate::recipe::Phase;
use std::path::Path;
use std::time::Duration;

/// Is told how a training goes. What it does changes no bit of the training.
pub trait Watcher {
    /// The loss, now and then.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn loss(&mut self, progress: &TrainingProgress) -> Result<()>;

    /// A checkpoint of the denoiser so far, now and then, with the moving average of the weights. The folder is whole, and
    /// is replaced by the next.
    ///
    /// # Errors
    /// Whatever should end the training.
    fn checkpoint(&mut self, _step: u64, _folder: &Path) -> Result<()> {
        Ok(())
    }
}

/// How often a training tells and saves. It does not change the bytes of what is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Steps between two reports of the loss.
    pub report: u64,
    /// The time between two saved states.
    pub save: Duration,
    /// Steps of the denoiser between two checkpoints.
    pub checkpoint: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { report: 25, save: Duration::from_secs(60), checkpoint: 500 }
    }
}

/// A progress report of a training.
#[derive(Clone, Copy, Debug)]
pub struct TrainingProgress {
    /// Which training.
    pub phase: Phase,
    /// The number of steps done.
    pub step: u64,
    /// The number of steps in all.
    pub steps: u64,
    /// The mean loss since the last report.
    pub loss: f64,
    /// The time since this process began the training.
    pub elapsed: Duration,
}
