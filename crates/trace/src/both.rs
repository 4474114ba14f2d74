//! Two probes on one pass.

use latentrace_nn::tch::Tensor;
use latentrace_nn::{Moment, Probe, Tap};

/// Two probes in turn: the second sees what the first returns.
pub struct Both<A, B>(pub A, pub B);

impl<A: Probe, B: Probe> Probe for Both<A, B> {
    fn wants(&self, tap: &Tap) -> bool {
        self.0.wants(tap) || self.1.wants(tap)
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        let tensor = if self.0.wants(tap) { self.0.visit(tap, moment, tensor) } else { tensor };
        if self.1.wants(tap) { self.1.visit(tap, moment, tensor) } else { tensor }
    }
}
