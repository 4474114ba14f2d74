//! Sums over numbers, from which statistics are made. They are read where they are in memory, and those of several parts
//! of a tensor can be added.

use crate::Statistics;
use latentrace_nn::share;
use latentrace_nn::tch::{Device, Kind, Tensor};
use std::sync::OnceLock;

/// Sums over the finite numbers of a tensor or of a part, and how many of its numbers are not finite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    /// How many are finite.
    count: usize,
    sum: f64,
    squares: f64,
    min: f32,
    max: f32,
    nan: u64,
    inf: u64,
}

/// A number format that is read where it is.
trait Number: Copy + Sync {
    fn to_f32(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

/// The bits of a bf16.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bf16(u16);

impl Number for Bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// The bits of an f16.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct F16(u16);

impl Number for F16 {
    /// Exact, and without branches, so that a compiler makes vectors of it.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let bits = u32::from(self.0);
        // The exponent is 112 too small, also that of a number that f16 has no exponent for.
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        // Beyond the greatest f16 are infinity and NaN, and f32 has another exponent for them.
        let beyond = if magnitude >= 65536.0 { 0x7f80_0000 } else { 0 };
        f32::from_bits(magnitude.to_bits() | beyond | (bits & 0x8000) << 16)
    }
}

/// Numbers that one thread walks over before another may take its turn: about 10 microseconds.
const SHARE: usize = 1 << 15;
/// Lanes that a sum is made in: enough that an addition need not wait for the one before.
const LANES: usize = 32;
/// How many numbers are summed in f32 before the sum is added in f64: 64 in each lane, so that the rounding error of a
/// lane stays below 64 units of 2^-24.
const BLOCK: usize = 64 * LANES;

impl Default for Totals {
    fn default() -> Totals {
        Totals { count: 0, sum: 0.0, squares: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY, nan: 0, inf: 0 }
    }
}

impl Totals {
    /// Of a tensor on the CPU, by so many of libtorch's threads where it pays. The result does not depend on their number.
    pub(crate) fn of(tensor: &Tensor, threads: usize) -> Totals {
        let all = match is_dense(&tensor.size(), &tensor.stride()) {
            true => Totals::of_memory(tensor, 0, tensor.numel(), threads),
            false => None,
        };
        all.unwrap_or_else(|| Totals::of_copy(tensor, threads))
    }

    /// Of each of some rows of a tensor on the CPU, whose first axis is that of the rows.
    pub(crate) fn of_rows(tensor: &Tensor, rows: impl Iterator<Item = i64>, threads: usize) -> Vec<Totals> {
        let (size, stride) = (tensor.size(), tensor.stride());
        let each: i64 = size.iter().skip(1).product();
        let dense = !size.is_empty() && is_dense(&size[1..], &stride[1..]);
        let in_place = |row: i64| match dense {
            true => Totals::of_memory(tensor, row * stride[0], each as usize, threads),
            false => None,
        };
        rows.map(|row| in_place(row).unwrap_or_else(|| Totals::of_copy(&tensor.narrow(0, row, 1), threads))).collect()
    }

    /// Of `count` numbers that lie next to each other in the memory of a tensor on the CPU, from its number `first` on.
    /// `None` if their format is not one that is read where it is.
    pub(crate) fn of_memory(tensor: &Tensor, first: i64, count: usize, threads: usize) -> Option<Totals> {
        if count == 0 {
            return Some(Totals::default());
        }
        let start = tensor.data_ptr().cast_const();
        match tensor.kind() {
            Kind::Float => Totals::at(start.cast::<f32>(), first, count, threads),
            Kind::BFloat16 => Totals::at(start.cast::<Bf16>(), first, count, threads),
            Kind::Half => Totals::at(start.cast::<F16>(), first, count, threads),
            _ => None,
        }
    }

    /// The same for a format.
    fn at<N: Number>(start: *const N, first: i64, count: usize, threads: usize) -> Option<Totals> {
        let start = start.wrapping_offset(first as isize);
        if start.is_null() || !start.is_aligned() {
            return None;
        }
        #[allow(unsafe_code)]
        // Safety: the tensor has `count` numbers of this format from there on, and outlives the call.
        Some(Totals::of_numbers(unsafe { std::slice::from_raw_parts(start, count) }, threads))
    }

    /// Of a tensor whose numbers are not next to each other, or are of another format: of a copy.
    fn of_copy(tensor: &Tensor, threads: usize) -> Totals {
        let mut copy = Tensor::empty(tensor.size(), (Kind::Float, Device::Cpu)); // in memory of its own, which is aligned
        copy.copy_(tensor);
        Totals::of_memory(&copy, 0, copy.numel(), threads).unwrap_or_default()
    }

    /// Of a slice.
    pub(crate) fn of_slice(numbers: &[f32]) -> Totals {
        Totals::of_numbers(numbers, 1)
    }

    fn of_numbers<N: Number>(numbers: &[N], threads: usize) -> Totals {
        if threads == 1 || numbers.len() < 2 * SHARE {
            return numbers.chunks(SHARE).map(Totals::of_part).fold(Totals::default(), Totals::and);
        }
        let parts: Vec<&[N]> = numbers.chunks(SHARE).collect();
        let found: Vec<OnceLock<Totals>> = parts.iter().map(|_| OnceLock::new()).collect();
        share(threads, parts.len(), &|items| {
            items.for_each(|item| _ = found[item].set(Totals::of_part(parts[item])));
        });
        found.into_iter().filter_map(OnceLock::into_inner).fold(Totals::default(), Totals::and)
    }

    fn of_part<N: Number>(numbers: &[N]) -> Totals {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            #[allow(unsafe_code)] // Safety: the processor has what the function is compiled for.
            if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                return unsafe { Totals::of_part_avx512(numbers) };
            }
            #[allow(unsafe_code)] // Safety: the processor has what the function is compiled for.
            if has!("avx2") {
                return unsafe { Totals::of_part_avx2(numbers) };
            }
        }
        Totals::of_blocks(numbers)
    }

    /// The same loop, compiled for wider registers. The order of its sums, and so every bit, is the same.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn of_part_avx512<N: Number>(numbers: &[N]) -> Totals {
        Totals::of_blocks(numbers)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn of_part_avx2<N: Number>(numbers: &[N]) -> Totals {
        Totals::of_blocks(numbers)
    }

    #[inline(always)]
    fn of_blocks<N: Number>(numbers: &[N]) -> Totals {
        let mut all = Totals::default();
        for block in numbers.chunks(BLOCK) {
            let lanes = block.chunks_exact(LANES);
            let rest = lanes.remainder();
            let found = Totals::in_lanes(&block[..block.len() - rest.len()]).and(Totals::one_by_one(rest));
            // The lanes assume that every number is finite, and its square. If not, their sum is not.
            all = all.and(if found.squares.is_finite() { found } else { Totals::one_by_one(block) });
        }
        all
    }

    /// Of a multiple of `LANES` numbers, in lanes, which the compiler keeps in vector registers.
    #[inline(always)]
    fn in_lanes<N: Number>(numbers: &[N]) -> Totals {
        let (mut sum, mut squares) = ([0f32; LANES], [0f32; LANES]);
        let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        for lane in numbers.chunks_exact(LANES) {
            for i in 0..LANES {
                let x = lane[i].to_f32();
                sum[i] += x;
                squares[i] += x * x;
                min[i] = if x < min[i] { x } else { min[i] };
                max[i] = if x > max[i] { x } else { max[i] };
            }
        }
        Totals {
            count: numbers.len(),
            sum: sum_of_lanes(sum),
            squares: sum_of_lanes(squares),
            min: min.iter().copied().fold(f32::INFINITY, f32::min),
            max: max.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            nan: 0,
            inf: 0,
        }
    }

    /// In f64, where squares of f32 do not overflow.
    #[inline(always)]
    fn one_by_one<N: Number>(numbers: &[N]) -> Totals {
        let mut all = Totals::default();
        for x in numbers.iter().map(|number| number.to_f32()) {
            if x.is_finite() {
                all.count += 1;
                all.sum += f64::from(x);
                all.squares += f64::from(x) * f64::from(x);
                all.min = all.min.min(x);
                all.max = all.max.max(x);
            } else if x.is_nan() {
                all.nan += 1;
            } else {
                all.inf += 1;
            }
        }
        all
    }

    /// Those of both.
    pub(crate) fn and(self, other: Totals) -> Totals {
        Totals {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            nan: self.nan + other.nan,
            inf: self.inf + other.inf,
        }
    }

    /// The statistics.
    pub(crate) fn statistics(&self) -> Statistics {
        let Totals { count, sum, squares, min, max, nan, inf } = *self;
        match count {
            0 => Statistics { nan, inf, ..Statistics::default() },
            _ => Statistics { nan, inf, ..Statistics::from_sums([sum, squares, min.into(), max.into()], count) },
        }
    }
}

/// The sum in f64, in pairs, which the compiler keeps in vector registers.
#[inline(always)]
fn sum_of_lanes(lanes: [f32; LANES]) -> f64 {
    let mut sums = lanes.map(f64::from);
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[half + i];
        }
        half /= 2;
    }
    sums[0]
}

/// Whether a tensor's numbers are next to each other in memory, in any order of its axes.
fn is_dense(size: &[i64], stride: &[i64]) -> bool {
    let axes = || size.iter().zip(stride).filter(|(size, _)| **size != 1);
    let mut next = 1;
    for _ in axes() {
        match axes().find(|(_, stride)| **stride == next) {
            Some((size, _)) => next *= size,
            None => return size.contains(&0),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::seeded;
    use proptest::prelude::*;

    /// The statistics of a tensor's numbers, one after another in f64.
    fn plain(tensor: &Tensor) -> Statistics {
        let numbers: Vec<f64> = tensor.to_kind(Kind::Double).flatten(0, -1).try_into().unwrap();
        let finite: Vec<f64> = numbers.iter().copied().filter(|x| x.is_finite()).collect();
        let nan = numbers.iter().filter(|x| x.is_nan()).count() as u64;
        let inf = (numbers.len() - finite.len()) as u64 - nan;
        if finite.is_empty() {
            return Statistics { nan, inf, ..Statistics::default() };
        }
        let (sum, squares) = (finite.iter().sum(), finite.iter().map(|x| x * x).sum());
        let (min, max) =
            (finite.iter().copied().fold(f64::MAX, f64::min), finite.iter().copied().fold(f64::MIN, f64::max));
        Statistics { nan, inf, ..Statistics::from_sums([sum, squares, min, max], finite.len()) }
    }

    /// A lane sums 64 numbers of f32 at most, with half a unit of 2^-24 of the sum for each addition, and as much for a
    /// square: 64 * 2^-24 = 4e-6 of the greatest number. Everything else is exact.
    fn assert_near(found: Statistics, of: &Tensor, what: &str) {
        let exact = plain(of);
        let size = exact.absmax();
        assert!((found.mean - exact.mean).abs() <= 4e-6 * size, "{what}: {found:?}, in f64 {exact:?}");
        assert!((found.rms - exact.rms).abs() <= 4e-6 * size, "{what}: {found:?}, in f64 {exact:?}");
        let exactly = |of: Statistics| (of.min, of.max, of.nan, of.inf);
        assert_eq!(exactly(found), exactly(exact), "{what}");
    }

    fn noise(shape: &[i64]) -> Tensor {
        seeded(7, || Tensor::randn(shape, (Kind::Float, Device::Cpu))) + 0.25
    }

    #[test]
    fn every_format_and_layout_in_memory_is_as_in_f64() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double, Kind::Int64, Kind::Uint8] {
            let x = (noise(&[2, 6, 11, 17]).abs() * 10.0).to_kind(kind);
            let layouts = [
                ("planar", x.shallow_clone()),
                ("channels last", x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])),
                ("heads", x.transpose(1, 2)),
                ("a part", x.narrow(2, 3, 5).narrow(3, 1, 9)),
                ("a column", x.narrow(3, 5, 1)),
                ("spread", x.narrow(1, 0, 1).expand([2, 6, 11, 17], false)),
                ("every second", x.slice(3, 0, 17, 2)),
                ("nothing", x.narrow(1, 0, 0)),
                ("one number", x.narrow(1, 0, 1).narrow(2, 0, 1).narrow(3, 0, 1)),
            ];
            for (name, x) in layouts {
                let what = format!("{kind:?}, {name}");
                assert_near(Totals::of(&x, 1).statistics(), &x, &what);
                let rows = Totals::of_rows(&x, [1, 0].into_iter(), 1);
                for (found, row) in rows.iter().zip([1, 0]) {
                    assert_near(found.statistics(), &x.narrow(0, row, 1), &format!("{what}, row {row}"));
                }
            }
        }
        assert_near(Totals::of(&Tensor::from(2.5f32), 1).statistics(), &Tensor::from(2.5f32).view([1]), "no axis");
    }

    #[test]
    fn every_number_of_16_bits_is_read_as_libtorch_reads_it() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_ne_bytes()).collect();
        let read = |kind| {
            let read = Tensor::from_data_size(&bytes, &[bits.len() as i64], kind).to_kind(Kind::Float);
            Vec::<f32>::try_from(read).unwrap()
        };
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        for (bits, (half, bf16)) in bits.iter().zip(read(Kind::Half).into_iter().zip(read(Kind::BFloat16))) {
            assert!(same(F16(*bits).to_f32(), half), "f16 {bits:#06x} is {half}");
            assert!(same(Bf16(*bits).to_f32(), bf16), "bf16 {bits:#06x} is {bf16}");
        }
    }

    proptest! {
        #[test]
        fn what_is_not_finite_and_what_is_huge_is_as_in_f64(
            length in 1i64..5000,
            odd in prop::collection::vec((0i64..5000, prop::sample::select(
                vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e30, -3e30, 1e-42, -0.0])), 0..6),
        ) {
            let x = noise(&[length]);
            for (place, number) in odd {
                let _ = x.get(place % length).fill_(number);
            }
            assert_near(Totals::of(&x, 1).statistics(), &x, "");
        }

        #[test]
        fn threads_change_no_bit(length in 0i64..300_000, threads in 2usize..5) {
            let x = noise(&[length]);
            prop_assert_eq!(Totals::of(&x, threads).statistics(), Totals::of(&x, 1).statistics());
        }
    }

    #[test]
    fn every_processor_sums_in_the_same_order() {
        let x = Vec::<f32>::try_from(noise(&[10_007])).unwrap();
        assert_eq!(Totals::of_part(&x).statistics(), Totals::of_blocks(&x).statistics());
    }

    #[test]
    fn sums_of_parts_are_those_of_the_whole() {
        let x = noise(&[3, 5000]);
        let parts = Totals::of_rows(&x, 0..3, 1).into_iter().fold(Totals::default(), Totals::and);
        assert_near(parts.statistics(), &x, "in parts");
    }
}
