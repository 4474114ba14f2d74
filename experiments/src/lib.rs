//! Experiments on runs: sweeps from a spec, with their store, measures and figures; pictures of recorded runs; and one page
//! that shows runs in a browser.
//!
//! In order of use: a [`Spec`] says what is fixed and what varies; a [`Sweep`] has checked and planned every cell of it, and
//! [`Sweep::run`] makes what is missing in a store; [`Results`] are its rows. [`views`] draws one recorded run, and
//! [`page::write`] writes the page. Nothing here prints: who runs a sweep is told of its [`Progress`].

mod about;
mod cost;
mod done;
mod experiment;
mod figures;
mod glance;
mod lease;
mod list;
mod making;
mod manifest;
mod measure;
pub mod page;
mod parallel;
mod part;
mod pictures;

mod previews;
mod progress;
mod rest;
mod results;
mod shown;
mod sound;
mod spec;
mod status;
mod store;
mod stores;
mod sweep;
mod tables;
mod tally;
mod time_left;
pub mod views;

pub use cost::Estimate;
pub use done::Done;
pub use figures::{Figure, Finished};
pub use lease::{Holder, Lease, Leases, Pace, Standing};
pub use list::{List, Listed};
pub use manifest::Differences;
pub use measure::Measure;
pub use part::{Part, Shard};

pub use pictures::{Picture, Pictures, Watch};
pub use previews::{draw_previews, enlargement, keep, keep_files};
pub use progress::{End, Progress};
pub use results::{Failed, Results, Row};
pub use spec::{Axis, AxisField, Draft, Expanded, Point, Spec};
pub use status::{Running, Status, There};
pub use store::Store;
pub use stores::{Health, Merged, Pruned, merge, prune, verify};
pub use sweep::{How, Sweep};
pub use tally::{Counts, Tally};
