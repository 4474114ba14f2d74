//! Comparison of two recorded runs, tensor by tensor.

use crate::error::Result;
use crate::{Entry, Key, Trace};
use latentrace_nn::tch::{Device, Kind, Tensor};

/// The result of comparing two traces.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Of every tensor that both traces have, in the order of the first.
    pub differences: Vec<Difference>,
    /// How many tensors only the first trace has.
    pub only_first: usize,
    /// How many tensors only the second trace has.
    pub only_second: usize,
}

/// The difference of a tensor in two traces.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which tensor.
    pub key: Key,
    /// The sampler's step.
    pub step: usize,
    /// The largest difference of two numbers. It is infinite if the shapes differ, if only one of two numbers is
    /// finite, or if the numbers of a `topk` are from other places.
    pub absolute: f64,
    /// The same divided by the largest magnitude in the first trace.
    pub relative: f64,
}

impl Comparison {
    /// The first tensor whose relative difference is above a tolerance or not a number, in the order of recording.
    pub fn first_beyond(&self, tolerance: f64) -> Option<&Difference> {
        self.differences.iter().find(|difference| difference.relative > tolerance || difference.relative.is_nan())
    }

    /// How many tensors only one of the two traces has.
    pub fn missing(&self) -> usize {
        self.only_first + self.only_second
    }

    /// The largest relative difference.
    pub fn worst(&self) -> Option<&Difference> {
        self.differences.iter().max_by(|a, b| a.relative.total_cmp(&b.relative))
    }
}

/// Compares two traces of any number formats, devices and batch sizes. Tensors are matched by call, tap, branch, image
/// and what was kept of them. Entries that have only statistics are left out.
///
/// # Errors
/// A tensor of one of the traces is damaged.
pub fn compare(first: &Trace, second: &Trace) -> Result<Comparison> {
    let held = |entry: &&Entry| entry.stored.is_some();
    let mut result = Comparison::default();
    for entry in first.entries().iter().filter(held) {
        let key = entry.key();
        match second.find(&key).filter(held) {
            None => result.only_first += 1,
            Some(other) => {
                let (a, b) = (by_place(first, entry)?, by_place(second, other)?);
                let (absolute, relative) = match a.places == b.places {
                    true => distance(&a.numbers, &b.numbers),
                    false => (f64::INFINITY, f64::INFINITY),
                };
                result.differences.push(Difference { key, step: entry.step, absolute, relative });
            }
        }
    }
    result.only_second =
        second.entries().iter().filter(held).filter(|entry| first.find(&entry.key()).is_none()).count();
    Ok(result)
}

/// A tensor's numbers. Those of a `topk` are sorted by their places.
struct Numbers {
    numbers: Tensor,
    places: Option<Vec<i64>>,
}

fn by_place(trace: &Trace, entry: &Entry) -> Result<Numbers> {
    let numbers = trace.tensor(entry)?;
    let Some(places) = trace.places(entry)? else { return Ok(Numbers { numbers, places: None }) };
    let (places, order) = places.flatten(0, -1).sort(0, false);
    let places = (0..places.numel() as i64).map(|index| places.int64_value(&[index])).collect();
    Ok(Numbers { numbers: numbers.flatten(0, -1).index_select(0, &order), places: Some(places) })
}

/// `max |a - b|`, and that divided by `max |a| + 1e-12`. Two equal infinities do not differ, and neither do two NaN.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> (f64, f64) {
    let (a, b) = (a.to_device(Device::Cpu), b.to_device(Device::Cpu));
    if a.size() != b.size() {
        return (f64::INFINITY, f64::INFINITY);
    }
    if a.numel() == 0 {
        return (0.0, 0.0);
    }
    let (absolute, size) = match (a.kind(), b.kind()) {
        // f32 represents F16, BF16 and U8 exactly, but not F64 and I64.
        (Kind::Double | Kind::Int64, _) | (_, Kind::Double | Kind::Int64) => {
            let (a, b) = (a.to_kind(Kind::Double).contiguous(), b.to_kind(Kind::Double).contiguous());
            walk::<f64>(&a, &b)
        }
        _ => {
            let (a, b) = (a.to_kind(Kind::Float).contiguous(), b.to_kind(Kind::Float).contiguous());
            walk::<f32>(&a, &b)
        }
    };
    (absolute, absolute / (size + 1e-12))
}

/// The largest difference, and the largest finite magnitude of the first tensor, in one loop over two contiguous
/// tensors on the CPU.
fn walk<T: Copy + Into<f64>>(a: &Tensor, b: &Tensor) -> (f64, f64) {
    let count = a.numel();
    #[allow(unsafe_code)]
    // Safety: the tensor is contiguous, of type T by the caller's conversion, has `count` numbers, and outlives the
    // slice.
    let numbers = |tensor: &Tensor| unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), count) };
    numbers(a).iter().zip(numbers(b)).fold((0.0, 0.0), |(gap, size): (f64, f64), (&x, &y)| {
        let (x, y): (f64, f64) = (x.into(), y.into());
        let apart = (x - y).abs();
        let apart = match apart.is_nan() {
            true if x.is_nan() && y.is_nan() || x == y => 0.0, // the same infinity
            true => f64::INFINITY,
            false => apart,
        };
        (gap.max(apart), if x.is_finite() { size.max(x.abs()) } else { size })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_the_largest_and_is_infinite_where_numbers_cannot_be_compared() {
        let of = |numbers: &[f32]| Tensor::from_slice(numbers);
        let (absolute, relative) = distance(&of(&[4.0, -8.0]), &of(&[4.5, -6.0]).to_kind(Kind::Half));
        assert_eq!((absolute, relative), (2.0, 2.0 / (8.0 + 1e-12)));
        let odd = [f32::NAN, f32::INFINITY, 1.0];
        assert_eq!(distance(&of(&odd), &of(&odd)).0, 0.0);
        assert_eq!(distance(&of(&[1.0, 2.0]), &of(&[1.0, f32::NAN])).0, f64::INFINITY);
        assert_eq!(distance(&of(&[1.0]), &of(&[1.0, 2.0])).1, f64::INFINITY);
        let long = |number: i64| Tensor::from_slice(&[number]);
        assert_eq!(distance(&long(1 << 40), &long((1 << 40) + 1)).0, 1.0);
    }
}
