//! Statistics of a tensor's numbers, in one loop over them.

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
        match (tensor.device(), tensor.kind()) {
            (Device::Cpu, Kind::Float) => floats(tensor, Statistics::of_slice),
            (Device::Cpu, _) => floats(&tensor.to_kind(Kind::Float), Statistics::of_slice),
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
        let [sum, squares, min, max] = sums(&x, &x.square());
        if squares.is_finite() {
            return Block { sum, squares, min: min as f32, max: max as f32 }.over(count as f64);
        }
        let finite = x.masked_select(&x.isfinite()).to_kind(Kind::Double); // where squares of f32 do not overflow
        let nan = x.isnan().sum(Kind::Int64).int64_value(&[]) as u64;
        let inf = (count - finite.numel()) as u64 - nan;
        if finite.numel() == 0 {
            return Statistics { nan, inf, ..Statistics::default() };
        }
        let [sum, squares, min, max] = sums(&finite, &finite.square());
        let total = Block { sum, squares, min: min as f32, max: max as f32 };
        Statistics { nan, inf, ..total.over(finite.numel() as f64) }
    }

    /// Of a slice.
    pub fn of_slice(numbers: &[f32]) -> Statistics {
        let total = numbers.chunks(BLOCK).map(Block::of).fold(Block::default(), Block::and);
        // The fast loop assumes that every number is finite. If not, the sum is not.
        if !total.squares.is_finite() {
            return Statistics::of_unclean(numbers);
        }
        total.over(numbers.len() as f64)
    }

    fn of_unclean(numbers: &[f32]) -> Statistics {
        let finite: Vec<f32> = numbers.iter().copied().filter(|number| number.is_finite()).collect();
        let nan = numbers.iter().filter(|number| number.is_nan()).count() as u64;
        let inf = (numbers.len() - finite.len()) as u64 - nan;
        let total = finite.chunks(BLOCK).map(Block::of_large).fold(Block::default(), Block::and);
        Statistics { nan, inf, ..total.over(finite.len() as f64) }
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

/// The sum, the sum of squares, the least and the greatest number of a flat tensor, copied from its device at once.
/// Blocks are summed in the tensor's number format, the sums of blocks in f64.
fn sums(x: &Tensor, squares: &Tensor) -> [f64; 4] {
    let total = |x: &Tensor| {
        let whole = x.numel() as i64 / BLOCK as i64 * BLOCK as i64;
        let blocks = x.narrow(0, 0, whole).view([-1, BLOCK as i64]).sum_dim_intlist(1, false, x.kind());
        let rest = x.narrow(0, whole, x.numel() as i64 - whole);
        blocks.sum(Kind::Double) + rest.sum(Kind::Double)
    };
    let found = [total(x), total(squares), x.min().to_kind(Kind::Double), x.max().to_kind(Kind::Double)];
    let found = Tensor::stack(&found, 0).to_device(Device::Cpu);
    [0, 1, 2, 3].map(|place| found.double_value(&[place]))
}

/// The numbers of a contiguous f32 tensor on the CPU.
fn floats<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> T {
    let tensor = tensor.contiguous();
    let count = tensor.numel();
    if count == 0 {
        return read(&[]);
    }
    #[allow(unsafe_code)] // Safety: contiguous, f32, on the CPU, and alive until `read` returns.
    read(unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const f32, count) })
}

/// How many numbers are summed in f32 before the sum is added in f64: 16 lanes of 64 numbers, so that the rounding
/// error of a lane stays below 64 units of 2^-24.
const BLOCK: usize = 1024;
const LANES: usize = 16;

/// Sums over some numbers.
#[derive(Clone, Copy)]
struct Block {
    sum: f64,
    squares: f64,
    min: f32,
    max: f32,
}

impl Default for Block {
    fn default() -> Block {
        Block { sum: 0.0, squares: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY }
    }
}

impl Block {
    fn of(numbers: &[f32]) -> Block {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[allow(unsafe_code)] // Safety: the processor has it.
            return unsafe { Block::of_avx2(numbers) };
        }
        Block::in_lanes(numbers)
    }

    /// The same loop, compiled for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn of_avx2(numbers: &[f32]) -> Block {
        Block::in_lanes(numbers)
    }

    /// In lanes, which the compiler keeps in vector registers.
    #[inline(always)]
    fn in_lanes(numbers: &[f32]) -> Block {
        let (mut sum, mut squares) = ([0f32; LANES], [0f32; LANES]);
        let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let lanes = numbers.chunks_exact(LANES);
        let rest = lanes.remainder();
        for lane in lanes {
            for i in 0..LANES {
                let x = lane[i];
                sum[i] += x;
                squares[i] += x * x;
                min[i] = if x < min[i] { x } else { min[i] };
                max[i] = if x > max[i] { x } else { max[i] };
            }
        }
        let total = |lanes: [f32; LANES]| lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        let lanes = Block {
            sum: total(sum),
            squares: total(squares),
            min: min.iter().copied().fold(f32::INFINITY, f32::min),
            max: max.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        };
        lanes.and(Block::of_large(rest))
    }

    /// One by one in f64, where squares of f32 do not overflow.
    fn of_large(numbers: &[f32]) -> Block {
        numbers.iter().fold(Block::default(), |total, &x| Block {
            sum: total.sum + f64::from(x),
            squares: total.squares + f64::from(x).powi(2),
            min: total.min.min(x),
            max: total.max.max(x),
        })
    }

    fn and(self, other: Block) -> Block {
        Block {
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    fn over(self, count: f64) -> Statistics {
        if count == 0.0 {
            return Statistics::default();
        }
        let (mean, rms) = (self.sum / count, (self.squares / count).sqrt());
        Statistics { mean, rms, min: self.min.into(), max: self.max.into(), nan: 0, inf: 0 }
    }
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
