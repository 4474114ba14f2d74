//! Names of values by what they are computed from.

use latentrace_nn::tch::{Device, Kind, Tensor};
use std::fmt;

/// The name of a value by all that decides it: a hash of the operation that computes it and of the lineages of its operands. Values
/// with equal lineages are computed from equal numbers by the same operations in the same order, so they are equal in every bit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage([u8; 16]);

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u128::from_be_bytes(self.0) >> 64)
    }
}

/// A lineage in the making: an operation and its operands, each with a letter for its kind.
#[derive(Clone)]
pub(crate) struct Parts(blake3::Hasher);

impl Parts {
    /// The parts of what an operation computes.
    pub(crate) fn of(operation: &str) -> Parts {
        Parts(blake3::Hasher::new()).text(operation)
    }

    /// And a text, with its length.
    pub(crate) fn text(self, text: &str) -> Parts {
        self.bytes(text.as_bytes())
    }

    /// And bytes, with their number.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Parts {
        let Parts(mut hasher) = self.count(bytes.len());
        hasher.update(bytes);
        Parts(hasher)
    }

    /// And a whole number.
    pub(crate) fn count(mut self, count: usize) -> Parts {
        self.0.update(b"c").update(&(count as u64).to_le_bytes());
        self
    }

    /// And a number, by its bits.
    pub(crate) fn number(mut self, number: f64) -> Parts {
        self.0.update(b"n").update(&number.to_bits().to_le_bytes());
        self
    }

    /// And a value.
    pub(crate) fn value(mut self, Lineage(value): Lineage) -> Parts {
        self.0.update(b"v").update(&value);
        self
    }

    /// And the numbers of a tensor, with its shape.
    pub(crate) fn tensor(self, tensor: &Tensor) -> Parts {
        let numbers = tensor.to_device(Device::Cpu).to_kind(Kind::Float).flatten(0, -1);
        let numbers = Vec::<f32>::try_from(numbers).unwrap_or_default();
        let shape = tensor.size().into_iter().fold(self.count(tensor.dim()), |parts, side| parts.count(side as usize));
        let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
        shape.bytes(&bytes)
    }

    /// The lineage.
    pub(crate) fn lineage(self) -> Lineage {
        let mut name = [0; 16];
        name.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        Lineage(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_any_part_has_another_lineage() {
        let tensor = |numbers: &[f32]| Tensor::from_slice(numbers);
        let of = |parts: Parts| parts.lineage();
        let all = [
            of(Parts::of("a")),
            of(Parts::of("a").text("")),
            of(Parts::of("a").text("b").text("c")),
            of(Parts::of("a").text("bc")),
            of(Parts::of("a").text("b")),
            of(Parts::of("a").number(0.0)),
            of(Parts::of("a").number(-0.0)),
            of(Parts::of("a").value(of(Parts::of("a")))),
            of(Parts::of("a").tensor(&tensor(&[1.0, 2.0]))),
            of(Parts::of("a").tensor(&tensor(&[1.0, 2.0]).view([2, 1]))),
            of(Parts::of("a").tensor(&tensor(&[1.0, -2.0]))),
        ];
        let different: std::collections::HashSet<Lineage> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of(Parts::of("a").text("b")), of(Parts::of("a").text("b")));
    }
}
