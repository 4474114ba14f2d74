//! Statistics of a tensor's numbers, in one walk over them.

use crate::totals::Totals;
use latentrace_nn::tch::{Device, Kind, Tensor};
use serde::{Deserialize, Serialize};

/// Statistics of a tensor's finite numbers, and how many of its numbers are not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// The mean.
    pub mean: f64,
    /// The root mean square.
    pub rms: f64,
    /// The least number.
    pub min: f64,
    /// The greatest number.
    pub max: f64,
    /// How many are NaN.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nan: u64,
    /// How many are infinite.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub inf: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Statistics {
    /// Of a tensor of any number format. They are computed on the tensor's device, and only the results are copied.
    pub fn of(tensor: &Tensor) -> Statistics {
        match tensor.device() {
            Device::Cpu => Totals::of(tensor, 1).statistics(),
            _ => Statistics::by_operators(tensor),
        }
    }

    /// By libtorch's operators, wherever the tensor is.
    fn by_operators(tensor: &Tensor) -> Statistics {
        let x = tensor.to_kind(Kind::Float).flatten(0, -1);
        let count = x.numel();
        if count == 0 {
            return Statistics::default();
        }
        let found = sums(&x, &x.square());
        if found[1].is_finite() {
            return Statistics::from_sums(found, count);
        }
        let finite = x.masked_select(&x.isfinite()).to_kind(Kind::Double); // where squares of f32 do not overflow
        let nan = x.isnan().sum(Kind::Int64).int64_value(&[]) as u64;
        let inf = (count - finite.numel()) as u64 - nan;
        if finite.numel() == 0 {
            return Statistics { nan, inf, ..Statistics::default() };
        }
        Statistics { nan, inf, ..Statistics::from_sums(sums(&finite, &finite.square()), finite.numel()) }
    }

    /// Of `count` finite numbers with a sum, a sum of squares, a least and a greatest number.
    pub(crate) fn from_sums([sum, squares, min, max]: [f64; 4], count: usize) -> Statistics {
        let count = count as f64;
        Statistics { mean: sum / count, rms: (squares / count).sqrt(), min, max, nan: 0, inf: 0 }
    }

    /// Of a slice.
    pub fn of_slice(numbers: &[f32]) -> Statistics {
        Totals::of_slice(numbers).statistics()
    }

    /// The standard deviation, over all numbers.
    pub fn std(&self) -> f64 {
        (self.rms * self.rms - self.mean * self.mean).max(0.0).sqrt()
    }

    /// The largest magnitude.
    pub fn absmax(&self) -> f64 {
        self.max.abs().max(self.min.abs())
    }

    /// Whether every number was finite.
    pub fn is_finite(&self) -> bool {
        self.nan == 0 && self.inf == 0
    }
}

/// How many numbers are summed in the tensor's number format before the sum is added in f64.
const BLOCK: i64 = 1024;

/// The sum, the sum of squares, the least and the greatest number of a flat tensor, copied from its device at once.
/// Blocks are summed in the tensor's number format, the sums of blocks in f64.
fn sums(x: &Tensor, squares: &Tensor) -> [f64; 4] {
    let total = |x: &Tensor| {
        let whole = x.numel() as i64 / BLOCK * BLOCK;
        let blocks = x.narrow(0, 0, whole).view([-1, BLOCK]).sum_dim_intlist(1, false, x.kind());
        let rest = x.narrow(0, whole, x.numel() as i64 - whole);
        blocks.sum(Kind::Double) + rest.sum(Kind::Double)
    };
    let found = [total(x), total(squares), x.min().to_kind(Kind::Double), x.max().to_kind(Kind::Double)];
    let found = Tensor::stack(&found, 0).to_device(Device::Cpu);
    [0, 1, 2, 3].map(|place| found.double_value(&[place]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fast_walk_is_the_plain_one(numbers in prop::collection::vec(-1e3f32..1e3, 0..3000)) {
            let fast = Statistics::of_slice(&numbers);
            let count = numbers.len().max(1) as f64;
            let sum: f64 = numbers.iter().map(|&x| f64::from(x)).sum();
            let squares: f64 = numbers.iter().map(|&x| f64::from(x).powi(2)).sum();
            let by_operators = Statistics::by_operators(&Tensor::from_slice(&numbers));
            // A lane sums 64 f32 numbers at most: half a unit of 2^-24 for each addition. libtorch sums in pairs.
            for found in [fast, by_operators] {
                prop_assert!((found.mean - sum / count).abs() <= 4e-6 * 1e3);
                prop_assert!((found.rms - (squares / count).sqrt()).abs() <= 4e-6 * 1e3);
            }
            prop_assert_eq!((fast.min, fast.max), (by_operators.min, by_operators.max));
            if let Some(least) = numbers.iter().copied().reduce(f32::min) {
                prop_assert_eq!((fast.min, fast.max), (f64::from(least), f64::from(numbers.iter().copied().fold(least, f32::max))));
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_counted_and_left_out() {
        let numbers = [1.0, f32::NAN, -3.0, f32::INFINITY, f32::NEG_INFINITY, 2.0];
        let found = Statistics::of_slice(&numbers);
        assert_eq!((found.nan, found.inf, found.mean, found.min, found.max), (1, 2, 0.0, -3.0, 2.0));
        assert!(!found.is_finite());
        let by_operators = |numbers: &[f32]| Statistics::by_operators(&Tensor::from_slice(numbers));
        assert_eq!(by_operators(&numbers), found);
        assert_eq!(by_operators(&[f32::NAN, f32::INFINITY]), Statistics::of_slice(&[f32::NAN, f32::INFINITY]));
        assert!((by_operators(&[3e30; 40]).rms / 3e30 - 1.0).abs() < 1e-6);
        // Squares that f32 cannot hold are no infinity.
        let large = Statistics::of_slice(&[3e30; 40]);
        assert!(large.is_finite() && (large.rms / 3e30 - 1.0).abs() < 1e-6);
        assert_eq!(Statistics::of_slice(&[]), Statistics::default());
        let halves = Tensor::from_slice(&[1f32, -2.0]).to_kind(Kind::BFloat16);
        let found = Statistics::of(&halves);
        assert!(found.absmax() == 2.0 && (found.std() - 1.5).abs() < 1e-12, "{found:?}");
    }
}
