//! Runs on disk: made and recorded, found again, verified, resumed, forked and compared.
//!
//! The main types, in order of use: a [`Cell`] is everything that decides a picture's pixels. A [`Job`] is a run of a
//! cell that has been checked with its model; [`Job::record`] makes the run, and its record describes it with a
//! [`Description`]. [`Verification`] computes a run again from its record, without the model. [`Phased`] and
//! [`CausalTracing`] make recorded runs again with a change. The file of a picture has a [`Provenance`], which says how
//! it was made, and [`Like`] makes it again from that. An [`Observer`] is told what happens; nothing in this crate
//! prints.

mod causal;
mod cautions;
mod cell;
mod computing;
mod cost;
mod description;
mod files;
mod folder;
mod frames;
mod home;
mod hub;
mod init_image;
mod inputs;
mod kept_hashes;
mod key;
mod like;
mod lineage;
mod located;
pub mod lost;
mod mask;
mod models;
mod observer;
mod past;
mod phases;
pub mod processor;
mod provenance;
mod ready;
mod record;
mod rules;
mod sampler;
mod scalars;
mod sources;
mod stem;
mod together;
pub mod unstable;
mod verify;
mod whole;

pub use causal::CausalTracing;
pub use cautions::NEGATIVE_UNUSED;
pub use cell::{Cell, FIELDS, PAIRS, STRENGTH, parse_guidance, parse_lora};
pub use computing::Computing;
pub use cost::Cost;
pub use description::{Description, ForkPoint, Phase, PhaseSettings, Program, RecordedModel, Text, TimeIds};
pub use files::RunFile;
pub use folder::RunFolder;
pub use frames::{Frames, about_eight, captions};
pub use home::{Origin, bundled, home, page};
pub use hub::{go_offline, hub, is_id};
pub use init_image::{Fit, check as check_picture};
pub use inputs::{Inputs, Instead};
pub use key::{Computed, Kept, Mode, hash, hash_of_trace, key};
pub use like::{Like, Likeness};
pub use located::Located;
pub use models::{Loaded, checkpoint, fetched, on_disk, open, open_at, open_recorded};
pub use observer::{Event, Observer};
pub use past::call_of_step;
pub use phases::Phased;
pub use provenance::{Lost, Provenance, Used, What, of_grid, text};
pub use ready::Ready;
pub use record::{Job, Recorded, pixels};
pub use rules::{Does, Fires, OfCells, OfSweep, RuleCounts};
pub use sampler::{PREFIX, Sampler, configured, is_known, parse_option, set_by_pipeline};
pub use scalars::{COLUMNS, Scalars, label};
pub use sources::{Source, Sources};
pub use stem::{grid, take};
pub use together::record_together;
pub use verify::{TOLERANCE, Verification, is_beyond};
