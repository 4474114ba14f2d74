//! What can go wrong in training.

use std::path::Path;

/// An error of training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{file}: {cause}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        cause: String,
    },
    /// A network that cannot be built.
    #[error(transparent)]
    Network(#[from] latentrace_nn::Error),
    /// The tokenizer cannot be built or read.
    #[error(transparent)]
    Text(#[from] latentrace_text::Error),
    /// The noise schedule cannot be read.
    #[error(transparent)]
    Schedule(#[from] latentrace_schedulers::Error),
    /// A state that another recipe made.
    #[error(
        "{file}: the state of another recipe: {field} is {there} there and {here} here\nhint: use that recipe, or another --output"
    )]
    OtherRecipe {
        /// The state's file.
        file: String,
        /// The first field that differs.
        field: String,
        /// Its value in the recipe of the state.
        there: String,
        /// Its value in the recipe of this training.
        here: String,
    },
    /// A checkpoint to begin with that has not the weights of the recipe's networks.
    #[error(
        "the checkpoint that the training begins with has no weight {name} of shape {shape:?}, as its recipe says\nhint: the same channels and layers as that checkpoint's, or no `start`"
    )]
    Start {
        /// The weight, by `part/name`.
        name: String,
        /// Its shape.
        shape: Vec<i64>,
    },
    /// A thread of the training has ended early.
    #[error(
        "a thread of the training ended, perhaps for want of memory\nhint: the state is kept; start again to go on"
    )]
    Thread,
    /// No denoiser of pixels is known beside one of latents.
    #[error(
        "channels {channels:?}: no denoiser of pixels is known that has as many parameters as one of latents with these"
    )]
    Pixels {
        /// The channels of the denoiser of latents.
        channels: Vec<i64>,
    },
    /// The loss is no longer finite.
    #[error("{phase}: loss {loss} at step {step}\nhint: try a smaller learning rate, or another seed")]
    Diverged {
        /// Which training.
        phase: &'static str,
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn file(path: &Path, cause: impl ToString) -> Error {
    Error::File { file: path.display().to_string(), cause: cause.to_string() }
}
