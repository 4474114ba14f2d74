//! The two readings of one config.

use serde::{Deserialize, Serialize};

/// How a config is read: as diffusers runs it, or as the mathematics means it.
///
/// The exact reading mends these faults, and changes nothing else. What each costs is measured on data whose exact flow is
/// known, a mixture of two normal distributions of size one ([`truth`](crate::truth)), by `./just scheduler-atlas` in the
/// project's repository, which writes this table:
///
#[doc = include_str!("../docs/readings.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Every coefficient and told time as diffusers 0.42 has it with torch 2.11 and numpy 2 on a processor with AVX2 or newer, faults
    /// included, so that an image can be matched.
    Diffusers,
    /// The algorithm of the paper in double precision, with the faults mended.
    Exact,
}
