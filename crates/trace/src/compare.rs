//! Two recorded runs, tensor by tensor.

use crate::error::Result;
use crate::{Entry, Key, Trace};
use latentrace_nn::tch::{Device, Kind, Tensor};

/// What became of two traces held against each other.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Every tensor that both hold, in the order of the first.
    pub differences: Vec<Difference>,
    /// How many tensors only the first trace holds.
    pub only_first: usize,
    /// How many tensors only the second trace holds.
    pub only_second: usize,
}

/// How far a tensor of one trace is from that of another.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which.
    pub key: Key,
    /// The sampler's step.
    pub step: usize,
    /// The largest difference of two numbers; infinite where the shapes differ, only one of two numbers is finite, or the
    /// largest of a tensor (`topk`) stand at other places.
    pub absolute: f64,
    /// The same over the largest magnitude in the first trace.
    pub relative: f64,
}

impl Comparison {
    /// The first tensor whose relative difference is above a tolerance, in the order in which they passed.
    pub fn first_beyond(&self, tolerance: f64) -> Option<&Difference> {
        self.differences.iter().find(|difference| difference.relative > tolerance)
    }

    /// How many tensors only one of the two holds.
    pub fn missing(&self) -> usize {
        self.only_first + self.only_second
    }

    /// The largest relative difference.
    pub fn worst(&self) -> Option<&Difference> {
        self.differences.iter().max_by(|a, b| a.relative.total_cmp(&b.relative))
    }
}

/// Holds two traces against each other, whatever their number formats, devices and batch sizes: a tensor is found by call,
/// tap, branch and image. Statistics without numbers are left out.
///
/// # Errors
/// A tensor of either is damaged.
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

/// A tensor's numbers; those of a `topk` in the order of their places.
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

/// `max |a - b|`, and that over `max |a| + 1e-12`; numbers that are the same infinity, or both NaN, do not differ.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> (f64, f64) {
    let (a, b) = (a.to_device(Device::Cpu), b.to_device(Device::Cpu));
    if a.size() != b.size() {
        return (f64::INFINITY, f64::INFINITY);
    }
    if a.numel() == 0 {
        return (0.0, 0.0);
    }
    let (absolute, size) = match (a.kind(), b.kind()) {
        // f32 holds halves and bytes exactly, and neither doubles nor long integers.
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

/// The largest difference and the largest finite magnitude of the first, in one walk over two contiguous tensors on the
/// CPU.
fn walk<T: Copy + Into<f64>>(a: &Tensor, b: &Tensor) -> (f64, f64) {
    let count = a.numel();
    #[allow(unsafe_code)]
    // Safety: contiguous, of this type by the caller's conversion, as many as there are, and held.
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
