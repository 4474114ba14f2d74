//! The two readings of one config.

use serde::{Deserialize, Serialize};

/// How a config is read: as diffusers runs it, or as the mathematics means it.
///
/// The exact reading mends these faults, and changes nothing else:
///
/// | fault of the diffusers reading | the exact reading |
/// |---|---|
/// | the schedule is kept in single precision | double precision |
/// | one step with `linspace` starts at time 0, where there is hardly any noise | starts at the last time |
/// | PNDM goes down by `T / steps` whatever its list of times says | each step ends on the next time of the list |
/// | PNDM averages raw velocities of different noise levels, then converts the average | converts each output at its own level |
/// | PNDM with `set_alpha_to_one` false leaves the noise of time 0 in the image | always ends clean |
/// | PNDM from an image drops the second call of its first step, and stays one level off | makes both calls |
/// | PNDM's Runge-Kutta start fails below 4 steps, and overruns its list from an image | as many such steps as there are |
/// | LMS from an image weighs a history it does not have | the order grows with the history |
/// | LMS starts at variance sigma² for `linspace` and `trailing` | at sigma² + 1, as the network expects |
/// | DDPM draws a last noise of weight 1e-10 where the last time is above 0 | draws what it uses |
/// | DDPM's `fixed_large_log` is the square root of a negative number (an error) | the variance it means: `fixed_large` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Every number as diffusers 0.42 makes it, faults included, so that an image can be matched.
    Diffusers,
    /// The algorithm of the paper in double precision, with the faults mended.
    Exact,
}

impl Reading {
    /// A number as this reading stores it.
    pub(crate) fn round(self, x: f64) -> f64 {
        match self {
            Reading::Diffusers => f64::from(x as f32),
            Reading::Exact => x,
        }
    }
}
