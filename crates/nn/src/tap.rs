//! Taps: named places in a forward pass, and the probes that watch or edit what goes through them.

use crate::{Block, ModuleValue, Moment, Part, Role, Rows, SamplerValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tch::Tensor;

/// One forward pass, and the probe that watches it, if any.
#[derive(Default)]
pub struct Pass<'a> {
    probe: Option<&'a mut dyn Probe>,
    moment: Moment,
}

impl<'a> Pass<'a> {
    /// A pass that a probe watches.
    pub fn watched(probe: &'a mut dyn Probe) -> Pass<'a> {
        Pass { probe: Some(probe), moment: Moment::default() }
    }

    /// A pass without a probe.
    pub fn silent() -> Pass<'static> {
        Pass::default()
    }

    /// Sets where in a run the following tensors belong.
    pub fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    /// Sets what the rows of the following tensors stand for.
    pub fn set_rows(&mut self, rows: Rows) {
        self.moment.rows = rows;
    }

    /// Sets height and width of the picture whose pixels are one axis of the following tensors.
    pub fn set_grid(&mut self, grid: Option<[i64; 2]>) {
        self.moment.grid = grid;
    }

    /// Where in a run the tensors of this pass belong.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// Whether the probe wants the tensor of `tap`. A module that has a fast path without this tensor leaves the fast
    /// path only then.
    #[inline]
    pub fn wants(&self, tap: &Tap) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.wants(tap, &self.moment))
    }

    /// Whether the probe takes the tensor of `tap`, which it wants, in blocks.
    pub fn takes_blocks(&self, tap: &Tap) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.takes_blocks(tap, &self.moment))
    }

    /// Shows the probe a block of the tensor of `tap`.
    pub fn block(&mut self, tap: &Tap, block: &Block) {
        if let Some(probe) = &mut self.probe {
            probe.visit_block(tap, self.moment, block);
        }
    }

    /// Passes a tensor through a tap. The network continues with the tensor that is returned.
    #[inline]
    pub fn tap(&mut self, tap: &Tap, tensor: Tensor) -> Tensor {
        match &mut self.probe {
            Some(probe) if probe.wants(tap, &self.moment) => probe.visit(tap, self.moment, tensor),
            _ => tensor,
        }
    }

    /// Passes the output of a residual module through its tap. `without` computes the tensor as it would be without the
    /// module, for a probe that leaves the module out.
    #[inline]
    pub fn tap_residual(&mut self, tap: &Tap, tensor: Tensor, without: impl Fn() -> Tensor) -> Tensor {
        match &mut self.probe {
            Some(probe) if probe.wants(tap, &self.moment) => {
                let tensor = probe.leave_out(tap, self.moment, tensor, &without);
                probe.visit(tap, self.moment, tensor)
            }
            _ => tensor,
        }
    }

    /// Why the run must stop before the next network call, if it must.
    pub fn stop(&mut self) -> Option<String> {
        let moment = self.moment;
        self.probe.as_mut().and_then(|probe| probe.stop(&moment))
    }

    /// Does `work` again (see [`Moment::again`]) with a second probe after this pass's own. The second sees what the
    /// first returns.
    pub fn again<T>(&mut self, probe: &mut dyn Probe, work: impl FnOnce(&mut Pass) -> T) -> T {
        let moment = Moment { again: true, ..self.moment };
        match &mut self.probe {
            Some(first) => {
                let mut both = Both(&mut **first, probe);
                work(&mut Pass { probe: Some(&mut both), moment })
            }
            None => work(&mut Pass { probe: Some(probe), moment }),
        }
    }
}

/// Watches or edits the tensors of a forward pass.
pub trait Probe {
    /// Whether this probe wants the tensors of `tap` at this moment. Called for every tap of every pass, so it must be
    /// cheap.
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool;
    /// Receives a tensor and returns the one that the network continues with: the same to watch, another to intervene.
    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor;
    /// Whether this probe takes the tensor of `tap`, which it wants at this moment, in blocks (see [`Block`]). Such a probe
    /// can only watch it. A module that can compute the tensor in blocks then calls [`Probe::visit_block`] for each, and
    /// not [`Probe::visit`], so that the whole tensor is never in memory. Other modules, and those of which another probe
    /// wants the whole tensor, call [`Probe::visit`] as always.
    fn takes_blocks(&self, _: &Tap, _: &Moment) -> bool {
        false
    }
    /// Receives a block of a tensor, if [`Probe::takes_blocks`] says so. All blocks of a tensor come at the same moment, in
    /// order; those of another tap may come between them.
    fn visit_block(&mut self, _: &Tap, _: Moment, _: &Block) {}
    /// Receives the output of a residual module (see [`Tap::is_residual`]) before [`Probe::visit`] does, and returns
    /// it, or the tensor `without` the module, or some rows of each.
    fn leave_out(&mut self, _: &Tap, _: Moment, tensor: Tensor, _without: &dyn Fn() -> Tensor) -> Tensor {
        tensor
    }
    /// Why the run must stop, if it must. Called before every network call with the moment of the call, so that a run
    /// whose record cannot be written is not computed to its end.
    fn stop(&mut self, _: &Moment) -> Option<String> {
        None
    }
}

/// Two probes in turn: the second sees what the first returns.
pub struct Both<A, B>(pub A, pub B);

impl<A: Probe, B: Probe> Probe for Both<A, B> {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        self.0.wants(tap, moment) || self.1.wants(tap, moment)
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        let tensor = if self.0.wants(tap, &moment) { self.0.visit(tap, moment, tensor) } else { tensor };
        if self.1.wants(tap, &moment) { self.1.visit(tap, moment, tensor) } else { tensor }
    }

    /// Whether each takes them that wants the tensor.
    fn takes_blocks(&self, tap: &Tap, moment: &Moment) -> bool {
        let takes = |probe: &dyn Probe| !probe.wants(tap, moment) || probe.takes_blocks(tap, moment);
        takes(&self.0) && takes(&self.1)
    }

    fn visit_block(&mut self, tap: &Tap, moment: Moment, block: &Block) {
        for probe in [&mut self.0 as &mut dyn Probe, &mut self.1] {
            if probe.wants(tap, &moment) {
                probe.visit_block(tap, moment, block);
            }
        }
    }

    fn leave_out(&mut self, tap: &Tap, moment: Moment, tensor: Tensor, without: &dyn Fn() -> Tensor) -> Tensor {
        let leave_out = |probe: &mut dyn Probe, tensor| match probe.wants(tap, &moment) {
            true => probe.leave_out(tap, moment, tensor, without),
            false => tensor,
        };
        let tensor = leave_out(&mut self.0, tensor);
        leave_out(&mut self.1, tensor)
    }

    fn stop(&mut self, moment: &Moment) -> Option<String> {
        self.0.stop(moment).or_else(|| self.1.stop(moment))
    }
}

impl<P: Probe + ?Sized> Probe for &mut P {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        (**self).wants(tap, moment)
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        (**self).visit(tap, moment, tensor)
    }

    fn takes_blocks(&self, tap: &Tap, moment: &Moment) -> bool {
        (**self).takes_blocks(tap, moment)
    }

    fn visit_block(&mut self, tap: &Tap, moment: Moment, block: &Block) {
        (**self).visit_block(tap, moment, block);
    }

    fn leave_out(&mut self, tap: &Tap, moment: Moment, tensor: Tensor, without: &dyn Fn() -> Tensor) -> Tensor {
        (**self).leave_out(tap, moment, tensor, without)
    }

    fn stop(&mut self, moment: &Moment) -> Option<String> {
        (**self).stop(moment)
    }
}

/// A named place in a forward pass. Its name is a layer's path in the checkpoint, or a module's path and one word, such
/// as `unet.mid_block.attentions.0.transformer_blocks.0.attn2.probs`.
#[derive(Clone, Debug)]
pub struct Tap {
    id: u32,
    name: Arc<str>,
    role: Role,
}

impl Tap {
    /// A tap with a name and a role.
    pub fn new(name: impl Into<Arc<str>>, role: Role) -> Tap {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Tap { id: NEXT.fetch_add(1, Ordering::Relaxed), name: name.into(), role }
    }

    /// The tap of a value of the sampler, by its usual name.
    pub fn of_sampler(value: SamplerValue) -> Tap {
        Tap::new(value.name(), Role::Sampler(value))
    }

    /// A tap with a name and no particular role.
    pub fn named(name: impl Into<Arc<str>>) -> Tap {
        Tap::new(name, Role::Module(Part::Other, ModuleValue::Other))
    }

    /// What the tensors that pass here are.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether this is the output of a module that adds to a stream: the stream continues without it, so the module can
    /// be left out.
    pub fn is_residual(&self) -> bool {
        self.role.module() == Some(ModuleValue::Residual)
    }

    /// The full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A number that no other tap of this process has. A probe can decide once for each tap and look up its decision.
    pub fn id(&self) -> u32 {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    struct Double;
    impl Probe for Double {
        fn wants(&self, tap: &Tap, _: &Moment) -> bool {
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

    struct Without;
    impl Probe for Without {
        fn wants(&self, _: &Tap, moment: &Moment) -> bool {
            moment.call == 1
        }
        fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            tensor + 1.0
        }
        fn leave_out(&mut self, _: &Tap, _: Moment, _: Tensor, without: &dyn Fn() -> Tensor) -> Tensor {
            without()
        }
    }

    #[test]
    fn a_module_is_left_out_when_a_probe_says_so_and_probes_go_in_turn() {
        let out = Tap::new("a.out", Role::Module(Part::Other, ModuleValue::Residual));
        let one = || Tensor::ones([1], (Kind::Float, Device::Cpu));
        let (mut first, mut second) = (Without, Double);
        let mut both = Both(&mut first, &mut second);
        let mut pass = Pass::watched(&mut both);
        let mut at = |call| {
            pass.set_moment(Moment { call, ..Moment::default() });
            pass.tap_residual(&out, one() * 8.0, || one() * 2.0).double_value(&[])
        };
        assert_eq!(at(1), 3.0, "left out, one added, times one");
        assert_eq!(at(3), 24.0, "only the second looks");
        let alone = Pass::silent().again(&mut Double, |pass| pass.tap(&out, one()).double_value(&[]));
        assert_eq!(alone, 0.0, "at call 0");
    }

    struct Full;
    impl Probe for Full {
        fn wants(&self, _: &Tap, _: &Moment) -> bool {
            false
        }
        fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            tensor
        }
        fn stop(&mut self, _: &Moment) -> Option<String> {
            Some("the disk is full".into())
        }
    }

    #[test]
    fn either_of_two_probes_may_stop_a_run() {
        let stops = |mut probe: &mut dyn Probe| Pass::watched(&mut probe).stop();
        assert_eq!((Pass::silent().stop(), stops(&mut Both(Without, Double))), (None, None));
        for probe in [&mut Both(Full, Double) as &mut dyn Probe, &mut Both(Double, Full)] {
            assert_eq!(stops(probe).as_deref(), Some("the disk is full"));
        }
    }

    #[test]
    fn a_silent_pass_hands_back_the_same_tensor() {
        let tensor = Tensor::ones([4], (Kind::Float, Device::Cpu));
        let address = tensor.data_ptr();
        assert_eq!(Pass::silent().tap(&Tap::named("a"), tensor).data_ptr(), address);
    }
}
