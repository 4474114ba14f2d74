//! Errors of loading and running a model.

use latentrace_nn::Shortage;
use std::fmt;

/// An error of loading or running a model. Its text is one line with the field, the value and the file; a hint may
/// follow on a second line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A checkpoint that cannot be opened.
    #[error(transparent)]
    Checkpoint(#[from] latentrace_checkpoints::Error),
    /// A network that cannot be read or run.
    #[error(transparent)]
    Network(latentrace_nn::Error),
    /// There is not enough memory.
    #[error("{0}\nhint: a smaller picture needs less, and so does --dtype bf16, or another --device has more")]
    Memory(Shortage),
    /// A tokenizer that cannot be read or run.
    #[error(transparent)]
    Text(#[from] latentrace_text::Error),
    /// A scheduler configuration, or a number of steps, that cannot be sampled.
    #[error(transparent)]
    Schedule(#[from] latentrace_schedulers::Error),
    /// A file of text features that cannot be used.
    #[error("{file}: {cause}")]
    Features {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A picture size that the model cannot produce.
    #[error("{side}: {found} pixels cannot be made\nhint: {works}")]
    Size {
        /// `height` or `width`.
        side: &'static str,
        /// The requested size, in pixels.
        found: i64,
        /// The sizes that work.
        works: String,
    },
    /// An inpainting model without a mask.
    #[error(
        "{file}: an inpainting model, which takes a picture and a mask\nhint: latentrace vary PICTURE PROMPT --mask MASK"
    )]
    NoMask {
        /// The checkpoint.
        file: String,
    },
    /// A number that is out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Range {
        /// Its name.
        field: &'static str,
        /// The values that are possible.
        expected: String,
        /// The value that was given.
        found: String,
    },
    /// A tensor of a run has NaN or infinite elements.
    #[error("{tap}: {found} {stage}, the first such tensor of the run\nhint: {hint}")]
    NotFinite {
        /// The first tap that such a tensor passed.
        tap: String,
        /// How many elements are NaN, and how many are infinite.
        found: String,
        /// The part of the run.
        stage: Stage,
        /// What might help.
        hint: &'static str,
    },
    /// A probe has stopped the run.
    #[error("stopped before call {call}: {cause}")]
    Stopped {
        /// The network call that was not made.
        call: usize,
        /// The reason that the probe gave.
        cause: String,
    },
    /// An error of libtorch itself.
    #[error("libtorch: {0}")]
    Torch(latentrace_nn::tch::TchError),
}

impl From<latentrace_nn::Error> for Error {
    fn from(error: latentrace_nn::Error) -> Error {
        match error {
            latentrace_nn::Error::Memory(shortage) => Error::Memory(shortage),
            latentrace_nn::Error::Torch(error) => Error::Torch(error),
            other => Error::Network(other),
        }
    }
}

impl From<latentrace_nn::tch::TchError> for Error {
    fn from(error: latentrace_nn::tch::TchError) -> Error {
        latentrace_nn::Error::from(error).into()
    }
}

impl From<Shortage> for Error {
    fn from(shortage: Shortage) -> Error {
        Error::Memory(shortage)
    }
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// The text encoder runs.
    Text,
    /// The VAE's encoder runs on the picture that the run starts from.
    Encoding,
    /// A call of the UNet, with the sampler's arithmetic before and after it.
    Call {
        /// The index of the call, from 0.
        call: usize,
        /// The time that the network is given.
        t: f64,
    },
    /// The VAE's decoder runs.
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
