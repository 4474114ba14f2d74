//! Checkpoints as people have them, and what a path is if it is not one.
//!
//! A [`Checkpoint`] says where each part of a latent diffusion model is and how it is configured. It reads JSON and the
//! headers of weight files, no weight. The forms that it knows:
//!
//! - a folder in the diffusers layout, with any variant of its weights, in one file or in shards;
//! - a folder of Python's hub cache, `models--owner--name`;
//! - a single `.safetensors` file with the names of the original repositories, for Stable Diffusion 1.x and 2.x, SDXL and its
//!   refiner.
//!
//! Everything else is an error that says what the path is ([`describe`]) and what would work. What a file does not
//! state and was therefore assumed is in [`Checkpoint::notes`].

mod checkpoint;
mod choice;
mod convert;
mod describe;
mod embedding;
mod error;
mod family;
mod folder;
mod hashes;
mod index;
mod input;
mod inspect;
mod kind;
mod lora;
mod needed;
mod scheduler;
mod single;
mod synth;
mod weights;
mod whole;

pub use checkpoint::{Checkpoint, Ids, Part, TextPart};
pub use choice::Choice;
pub use convert::Form;
pub use describe::{Described, describe};
pub use embedding::{Inversion, Vectors};
pub use error::{Error, Result};
pub use family::Family;
pub use hashes::{known, sha256};
pub use input::UnetInput;
pub use inspect::{Difference, Inspected};
pub use lora::{Adapted, Lora, Scale};
pub use needed::{Use, lacks_text, needed};
pub use scheduler::SchedulerFile;
pub use synth::{Architecture, Synthetic};
