//! Records of a run: what went through its taps, call by call, on the disk; and what can be done with a record.
//!
//! In order of use: a [`Selector`] says which tensors and when, a [`Rule`] what is kept of them; a [`Course`] knows what will
//! pass in a run that is not yet made, and how often each rule will fire; a [`Recorder`] is the probe
//! that keeps, and gives them to a [`Writer`], whose thread brings them to a folder; [`Trace`] reads that folder. [`Edits`]
//! is the probe that changes what a selector selects; [`Playback`] and [`Against`] bring a record back to the doors of a
//! run, to go on from it and to verify it; [`compare()`] holds two records against each other.
//!
//! One decision: the folder can be read at any time. A shard is immutable, is on the disk before a line of the index
//! speaks of it, and every line and every tensor has its checksum; so a killed run, a cut file or a flipped bit leave a
//! record of everything else. The format is in `docs/trace.md`; stock `safetensors` opens the shards.
//!
//! ```
//! use latentrace_nn::tch::{Device, Kind, Tensor};
//! use latentrace_nn::{Moment, Pass, Tap};
//! use latentrace_trace::{Capture, Layout, Recorder, Rule, Trace, Words, Writer};
//!
//! let folder = tempfile::tempdir()?;
//! let tap = Tap::named("unet.mid_block.out");
//! let writer = Writer::create(folder.path(), &serde_json::json!({}), Layout::LIVE)?;
//! let capture = Capture { rules: vec![Rule::parse("unet.** @step[0:4]")?], budget: None };
//! let mut recorder = Recorder::new(&capture, &[tap.clone()], Words::default(), 8, writer)?;
//! let mut pass = Pass::watched(&mut recorder);
//! for call in 0..8 {
//!     pass.set_moment(Moment { call, step: call, ..Moment::default() });
//!     let _ = pass.tap(&tap, Tensor::full([1, 3], call as f64, (Kind::Float, Device::Cpu)));
//! }
//! recorder.end(None)?;
//!
//! let trace = Trace::open(folder.path())?;
//! assert_eq!(trace.of_tap("unet.mid_block.out").count(), 4);
//! assert_eq!(trace.get("unet.mid_block.out", 3, None)?.double_value(&[0, 2]), 3.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[macro_use]
mod as_text;
mod call;
mod compare;
mod course;
mod edit;
mod entry;
mod error;
mod lines;
mod numbering;
mod numbers;
mod owner;
mod playback;
mod recorder;
mod reduction;
mod rule;
mod selector;
mod statistics;
mod trace;
mod words;
mod writer;

pub use compare::{Comparison, Difference, compare};
pub use course::{Course, Foreseen, Passage, PerTap, Unmet};
pub use edit::{Edit, EditRule, Edits};
pub use entry::{End, Entry, FORMAT, Key, Stored};
pub use error::{Error, Result};
pub use owner::Owner;
pub use playback::{Against, Check, Playback};
pub use recorder::{Capture, Recorder};
pub use reduction::{Reduced, Reduction, Storage};
pub use rule::Rule;
pub use selector::Selector;
pub use statistics::Statistics;
pub use trace::Trace;
pub use words::{Prompt, Words};
pub use writer::{Layout, Writer};
