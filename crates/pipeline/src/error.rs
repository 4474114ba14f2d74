//! What can go wrong between a folder and a picture.

use std::path::Path;

/// An error of a run: one line with the noun, the value and the file, and a hint where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of a checkpoint that cannot be read.
    #[error("{file}: {cause}")]
    File {
        /// The file or folder.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A network that cannot be read or run.
    #[error(transparent)]
    Network(#[from] latentrace_nn::Error),
    /// A tokenizer that cannot be read or run.
    #[error(transparent)]
    Text(#[from] latentrace_text::Error),
    /// A scheduler configuration, or a number of steps, that cannot be sampled.
    #[error(transparent)]
    Schedule(#[from] latentrace_schedulers::Error),
    /// A scheduler configuration of a file.
    #[error("{file}: {cause}")]
    SchedulerFile {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: latentrace_schedulers::Error,
    },
    /// A picture size that the VAE cannot make.
    #[error("{side}: {found} pixels cannot be made\nhint: {works}")]
    Size {
        /// Height or width.
        side: &'static str,
        /// The size asked for.
        found: i64,
        /// The sizes that work.
        works: String,
    },
    /// A number that is out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Range {
        /// What it is.
        field: &'static str,
        /// The range.
        expected: String,
        /// The number.
        found: String,
    },
    /// NaN or infinity in a run.
    #[error("{tap}: {found} at call {call} (t = {t}), the first such tensor of the run\nhint: {hint}")]
    NotFinite {
        /// The first tap that showed it.
        tap: String,
        /// What it showed.
        found: String,
        /// The network call.
        call: usize,
        /// The network's time there.
        t: f64,
        /// What might help.
        hint: &'static str,
    },
    /// A probe that stopped the run.
    #[error("stopped before call {call}: {cause}")]
    Stopped {
        /// The network call that was not made.
        call: usize,
        /// Why, in the probe's words.
        cause: String,
    },
    /// An error of libtorch itself.
    #[error("libtorch: {0}")]
    Torch(#[from] latentrace_nn::tch::TchError),
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn file(path: &Path, cause: impl ToString) -> Error {
    Error::File { file: path.display().to_string(), cause: cause.to_string() }
}
