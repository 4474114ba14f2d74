//! The two readings of one config.

use serde::{Deserialize, Serialize};

/// How a config is read: as diffusers runs it, or as the papers define it.
///
/// The exact reading corrects the faults of this table, and changes nothing else. `./just scheduler-atlas` in the repository of the
/// project writes the table. It measures what each fault costs on data whose exact flow is known: a mixture of two normal
/// distributions of size one ([`truth`](crate::truth)).
///
#[doc = include_str!("../docs/readings.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Every coefficient, and every time that the network gets, as in diffusers 0.42 with torch 2.11 and numpy 2 on a processor with
    /// AVX2 or newer, including faults, so that an image can be reproduced.
    Diffusers,
    /// The algorithm of the paper in double precision, without the faults.
    Exact,
}
