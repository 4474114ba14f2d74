//! Taps: named places in a forward pass, and the probes that watch or edit what goes through them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tch::Tensor;

/// One forward pass and who is listening.
#[derive(Default)]
pub struct Pass<'a> {
    probe: Option<&'a mut dyn Probe>,
    moment: Moment,
}

impl<'a> Pass<'a> {
    /// A pass that a probe watches from a given moment on.
    pub fn watched(probe: &'a mut dyn Probe) -> Pass<'a> {
        Pass { probe: Some(probe), moment: Moment::default() }
    }

    /// A pass that nobody watches.
    pub fn silent() -> Pass<'static> {
        Pass::default()
    }

    /// Says where in a run the tensors that follow belong.
    pub fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    /// Where in a run this pass stands.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// Whether the probe asks for what goes through `tap`, so that a fast path which never makes that tensor is left
    /// only when somebody looks.
    #[inline]
    pub fn wants(&self, tap: &Tap) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.wants(tap))
    }

    /// Moves a tensor through a tap: what comes back is what the network goes on with.
    #[inline]
    pub fn tap(&mut self, tap: &Tap, tensor: Tensor) -> Tensor {
        match &mut self.probe {
            Some(probe) if probe.wants(tap) => probe.visit(tap, self.moment, tensor),
            _ => tensor,
        }
    }
}

/// Watches or edits the tensors of a forward pass.
pub trait Probe {
    /// Whether this probe asks for the tensors of `tap`. Called for every tap of every pass: keep it cheap.
    fn wants(&self, tap: &Tap) -> bool;
    /// Receives a tensor and returns what the network goes on with: the same one, to watch; another, to intervene.
    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor;
}

/// A named place in a forward pass. Its name is the checkpoint's path plus one word, such as
/// `unet.mid_block.attentions.0.transformer_blocks.0.attn2.probs`.
#[derive(Clone, Debug)]
pub struct Tap {
    id: u32,
    name: Arc<str>,
}

impl Tap {
    /// A tap with a name of its own, for values that belong to no module (`sampler.denoised`).
    pub fn named(name: impl Into<Arc<str>>) -> Tap {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Tap { id: NEXT.fetch_add(1, Ordering::Relaxed), name: name.into() }
    }

    /// The full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A number that no other tap of this process has, for probes that decide once and look up after.
    pub fn id(&self) -> u32 {
        self.id
    }
}

/// Where in a run a tensor belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// The network call, counted from 0.
    pub call: usize,
    /// The network's time.
    pub t: f64,
    /// The noise level, in `x = x0 + sigma * noise`.
    pub sigma: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    struct Double;
    impl Probe for Double {
        fn wants(&self, tap: &Tap) -> bool {
            tap.name().ends_with("out")
        }
        fn visit(&mut self, _: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
            tensor * (moment.call as f64)
        }
    }

    #[test]
    fn a_probe_edits_only_what_it_wants_and_knows_the_moment() {
        let (out, probs) = (Tap::named("a.out"), Tap::named("a.probs"));
        let one = || Tensor::ones([1], (Kind::Float, Device::Cpu));
        let mut probe = Double;
        let mut pass = Pass::watched(&mut probe);
        pass.set_moment(Moment { call: 3, ..Moment::default() });
        assert_eq!(pass.tap(&out, one()).double_value(&[0]), 3.0);
        assert_eq!(pass.tap(&probs, one()).double_value(&[0]), 1.0);
        assert!(pass.wants(&out) && !pass.wants(&probs));
        assert!(out.id() != probs.id());
    }

    #[test]
    fn a_silent_pass_hands_back_the_same_tensor() {
        let tensor = Tensor::ones([4], (Kind::Float, Device::Cpu));
        let address = tensor.data_ptr();
        assert_eq!(Pass::silent().tap(&Tap::named("a"), tensor).data_ptr(), address);
    }
}
