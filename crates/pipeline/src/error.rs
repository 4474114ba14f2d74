//! What can go wrong between a folder and a picture.

use std::fmt;
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
    #[error("{tap}: {found} {stage}, the first such tensor of the run\nhint: {hint}")]
    NotFinite {
        /// The first tap that showed it.
        tap: String,
        /// What it showed.
        found: String,
        /// What was computed.
        stage: Stage,
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

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// A prompt goes through the text encoder.
    Text,
    /// The picture that the run starts from goes through the VAE's encoder.
    Encoding,
    /// A call of the UNet, and the sampler's sums before and after it.
    Call {
        /// Which, counted from 0.
        call: usize,
        /// The network's time.
        t: f64,
    },
    /// Latents go through the VAE's decoder.
    Decoding,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Text => f.write_str("while the text was encoded"),
            Stage::Encoding => f.write_str("while the picture was encoded"),
            Stage::Call { call, t } => write!(f, "at call {call} (t = {t})"),
            Stage::Decoding => f.write_str("while the latents were decoded"),
        }
    }
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn file(path: &Path, cause: impl ToString) -> Error {
    Error::File { file: path.display().to_string(), cause: cause.to_string() }
}
