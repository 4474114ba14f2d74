//! The guidance weight.

use crate::error::{Error, Result};
use latentrace_schedulers::Weight;

/// The weight `w` of classifier-free guidance in `u + w (c - u)` (Ho and Salimans 2022, equation 6, in the scale of
/// papers on latent diffusion: 1 is no guidance). Every real number is possible.
pub type Guidance = Weight<1>;

/// Checks that every noise level has a finite guidance weight.
///
/// # Errors
/// See [`Weight::problem`].
pub fn check_guidance(guidance: &Guidance) -> Result<()> {
    match guidance.problem() {
        Some(expected) => {
            Err(Error::Range { field: "guidance", expected: expected.into(), found: guidance.to_string() })
        }
        None => Ok(()),
    }
}
