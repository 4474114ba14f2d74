//! Records of runs: tensors that passed the taps of a run, call by call, in a folder; and what can be done with a
//! record.
//!
//! In order of use: a [`Selector`] selects tensors by tap and moment, and a [`Rule`] says what is kept of them. A
//! [`Course`] knows before a run what will pass, and counts how often each rule will fire. A [`Recorder`] is the probe
//! that records; its [`Writer`] writes the folder in a thread, and [`Trace`] reads it. [`Edits`] is the probe that
//! changes tensors, as its [`EditRule`]s say. [`Playback`] continues a run from its record, [`Against`] verifies a run
//! with its record, and [`compare()`] compares two records.
//!
//! The folder can be read at any time. A shard never changes and is on the disk before a line of the index refers to
//! it, and every line and every tensor has a checksum. So after a kill, a truncated file or a flipped bit, everything
//! else can still be read. The format is described in `docs/trace.md`; plain `safetensors` opens the shards.
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
mod incoming;
mod lines;
mod numbering;
mod numbers;
mod owner;
mod playback;
mod prune;
mod recorder;
mod reduction;
mod rule;
mod selector;
mod statistics;
mod totals;
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
pub use trace::{A_RUN, Trace};
pub use words::{Prompt, Words};
pub use writer::{Layout, Writer};
