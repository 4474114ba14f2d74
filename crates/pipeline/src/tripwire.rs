//! The search for the first tensor with NaN or infinity.

use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Moment, Probe, Tap};

/// A probe that looks at every tap until one shows NaN or infinity.
#[derive(Default)]
pub(crate) struct FirstFault {
    /// The tap, and what it showed.
    pub(crate) found: Option<(String, String)>,
}

impl Probe for FirstFault {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        // A causal mask puts infinities into scores on purpose.
        self.found.is_none() && !tap.name().ends_with(".scores")
    }

    fn visit(&mut self, tap: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.found = fault(&tensor).map(|what| (tap.name().to_string(), what));
        tensor
    }
}

/// What is wrong with a tensor, if anything is.
pub(crate) fn fault(tensor: &Tensor) -> Option<String> {
    if tensor.isfinite().all().int64_value(&[]) != 0 {
        return None;
    }
    let count = |mask: Tensor| mask.sum(Kind::Int64).int64_value(&[]);
    Some(format!("{} NaN and {} infinite of {} numbers", count(tensor.isnan()), count(tensor.isinf()), tensor.numel()))
}
