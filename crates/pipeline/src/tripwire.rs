//! The search for the first tensor with NaN or infinite elements.

use crate::error::{Error, Stage};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{ModuleValue, Moment, Pass, Probe, Role, Tap};

/// A probe that looks at every tensor until one has NaN or infinite elements.
#[derive(Default)]
struct FirstFault {
    /// The tap, and the fault.
    found: Option<(String, String)>,
}

impl Probe for FirstFault {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        // The scores of masked attention have infinities on purpose.
        self.found.is_none() && !matches!(tap.role(), Role::Module(_, ModuleValue::Scores(_)))
    }

    fn visit(&mut self, tap: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.found = fault(&tensor).map(|what| (tap.name().to_string(), what));
        tensor
    }
}

/// Where in a run a fault was found, for its error.
pub(crate) struct FaultContext {
    /// The name of the output with the fault. The error names it if no tap before it has one.
    pub(crate) output: String,
    /// The part of the run.
    pub(crate) stage: Stage,
    /// The error's hint.
    pub(crate) hint: &'static str,
}

/// The error of an output with a fault. Does `work` again, and names the first tap whose tensor has a fault.
pub(crate) fn blame<T>(
    context: FaultContext,
    found: String,
    pass: &mut Pass,
    work: impl FnOnce(&mut Pass) -> T,
) -> Error {
    let mut first = FirstFault::default();
    pass.again(&mut first, |pass| _ = work(pass));
    let FaultContext { output, stage, hint } = context;
    let (tap, found) = first.found.unwrap_or((output, found));
    Error::NotFinite { tap, found, stage, hint }
}

/// The hint for a network that runs in a number format.
pub(crate) fn hint(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "f16 holds nothing above 65504; try --dtype f32 or bf16",
        _ => "the checkpoint's weights, the guidance, a LoRA or an edit are too large or not finite",
    }
}

/// The hint for a VAE that runs in a number format.
pub(crate) fn hint_of_vae(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "f16 holds nothing above 65504; try --vae-dtype f32",
        other => hint(other),
    }
}

/// How many elements of a tensor are NaN and infinite. `None` if all are finite.
pub(crate) fn fault(tensor: &Tensor) -> Option<String> {
    if is_finite(&mark(tensor)) {
        return None;
    }
    // The sum of finite numbers may overflow, so a sum that is not finite proves nothing.
    if tensor.isfinite().all().int64_value(&[]) != 0 {
        return None;
    }
    let count = |mask: Tensor| mask.sum(Kind::Int64).int64_value(&[]);
    Some(format!("{} NaN and {} infinite of {} numbers", count(tensor.isnan()), count(tensor.isinf()), tensor.numel()))
}

/// A scalar on the tensor's device that is not finite if an element of the tensor is not. Marks can be added, so one
/// read from the device, which waits for it, checks several tensors.
pub(crate) fn mark(tensor: &Tensor) -> Tensor {
    tensor.sum(Kind::Float)
}

/// Whether a mark is finite. Reads it from the device.
pub(crate) fn is_finite(mark: &Tensor) -> bool {
    mark.double_value(&[]).is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::tch::Device;

    #[test]
    fn a_fault_is_counted_and_large_numbers_are_no_fault() {
        let finite = Tensor::full([64], 3e38, (Kind::Float, Device::Cpu)); // its sum is infinite
        assert!(!is_finite(&mark(&finite)));
        assert_eq!(fault(&finite), None);
        assert_eq!(fault(&Tensor::full([64], 65504.0, (Kind::Half, Device::Cpu))), None);
        let faulty = Tensor::from_slice(&[1f32, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0]);
        assert_eq!(fault(&faulty).unwrap(), "1 NaN and 2 infinite of 5 numbers");
        assert_eq!(fault(&faulty.to_kind(Kind::BFloat16)).unwrap(), "1 NaN and 2 infinite of 5 numbers");
        let opposite = Tensor::from_slice(&[f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(fault(&opposite).unwrap(), "0 NaN and 2 infinite of 2 numbers");
    }
}
