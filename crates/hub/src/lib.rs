//! Models of the Hugging Face hub, downloaded into the cache that Python uses. This crate knows no tensor.
//!
//! - [`Id`] is the checked name of a model.
//! - [`Hub`] finds a model in the cache, or downloads it, with the [`Settings`] of the environment or its own.
//! - [`Snapshot`] is the result: a folder with the files of one commit.
//!
//! A file is verified before it gets its name: SHA-256 for large files, git's SHA-1 for the others, both from the hub's
//! list of files. Whatever stops a download, the next one continues it. The library prints nothing; [`Progress`] is told.
//!
//! The cache has the layout and the locks of `huggingface_hub`, so that Python finds what was downloaded here, and this
//! crate what was downloaded there. It needs links and file locks, so it is for Unix.
//!
//! ```no_run
//! use latentrace_hub::{Error, Hub, Id, Listed};
//!
//! let hub = Hub::from_env(false)?;
//! let id = Id::parse("CompVis/stable-diffusion-v1-4")?;
//! let mut configs = |files: &[Listed]| -> Result<Vec<String>, Error> {
//!     Ok(files.iter().map(|file| file.name.clone()).filter(|name| name.ends_with(".json")).collect())
//! };
//! let snapshot = hub.fetch(&id, "main", &mut configs, &mut ())?;
//! assert!(snapshot.has("model_index.json"));
//! # Ok::<(), Error>(())
//! ```

mod certificates;
mod digest;
mod error;
mod fetch;
mod hub;
mod id;
mod list;
mod listing;
mod lock;
mod names;
mod progress;
mod refusal;
mod remote;
mod retry;
mod settings;
mod snapshot;
mod space;
mod store;
mod transfer;

pub use digest::Hash;
pub use error::{Error, Result};
pub use hub::{Choose, Hub};
pub use id::{Id, Moved};
pub use list::{CachedRepo, CachedRevision};
pub use listing::Listed;
pub use progress::Progress;
pub use settings::{HUGGING_FACE, Patience, Settings};
pub use snapshot::Snapshot;
