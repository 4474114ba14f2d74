//! What the networks are built on: every other crate of Latentrace uses libtorch through this one.
//!
//! The main types, in order of use: [`Weights`] is a place in a checkpoint, from which a module reads its tensors by
//! their names in the checkpoint; a [`Tap`] is a named place in a forward pass, made when the module is loaded, with a
//! [`Role`] that says what passes there; and a [`Pass`] is one forward pass, with the [`Probe`] that watches it, if
//! any.
//!
//! A module never asks *who* is watching. It passes each tensor through [`Pass::tap`]; the probe decides whether the
//! tensor is recorded, edited or left alone. Without a probe a tap costs one branch.
//!
//! ```
//! use latentrace_nn::{Linear, Pass, Weights, tch::{Device, Kind, Tensor}};
//! let weights = Weights::random("demo", 7, Kind::Float, Device::Cpu);
//! let layer = Linear::load(&weights.at("proj"), 3, 2, true)?;
//! let y = layer.forward(&Tensor::ones([1, 3], (Kind::Float, Device::Cpu)));
//! assert_eq!(y.size(), [1, 2]);
//! # Ok::<(), latentrace_nn::Error>(())
//! ```

mod attention;
mod block;
mod config;
mod cpu;
mod cuda;
mod error;
mod header;
mod kernels;
mod layers;
mod low_rank;
mod memory;
mod moment;
mod probe;
mod random;
mod replay;
mod resample;
mod resnet;
mod role;
mod scores;
mod shapes;
mod shortage;
mod source;
mod store;
mod strips;
mod tap;
mod tensors;
mod threads;
mod weights;

/// The version of libtorch that the workspace is built on.
pub const LIBTORCH: &str = "2.11.0";

pub use attention::{Attention, AttentionShape};
pub use block::{Block, Place};
pub use config::{Config, Supported};
pub use cpu::{Engine, Items, share};
pub use cuda::{Cuda, cuda, first_cuda, fixed_order_on_cuda};
pub use error::{Error, Result};
pub use header::{Header, Stored};
pub use kernels::{Kernels, Layout, Linears, Passes, UnknownKernels};
pub use layers::{Activation, Conv2d, Embedding, GatedGelu, GroupNorm, LayerNorm, Linear};
pub use low_rank::{Applied, Changes, LowRank, SharedScale};
pub use memory::keep_freed_memory;
pub use moment::{Branch, Moment, Row, Rows};
pub use probe::{Fastest, fastest};
pub use random::seeded;
pub use replay::Replay;
pub use resample::{Downsample, Padding, Upsample};
pub use resnet::{ResnetBlock, ResnetShape};
pub use role::{Attends, Conditioning, ModuleValue, Part, Role, SamplerValue, UnknownRole};
pub use shapes::{is_shape_only, shape_only};
pub use shortage::{MemoryOf, Shortage, if_it_fits};
pub use source::{Init, Named, Naming, Pages, Piece, Source, diffusers_names};
pub use store::{Lazy, PARTIAL, create, create_safetensors, replace, write_safetensors};
pub use strips::with_strips_of;
pub use tap::{Both, Pass, Probe, Tap};
pub use tch;
pub use tensors::Tensors;
pub use threads::{HeldThreads, MOST_THREADS, all_threads, given_threads, hold_threads, set_threads, threads_in};
pub use weights::{Asked, Variables, Weights};
