//! A network that is called many times with the same shapes, recorded on a GPU and replayed.

use crate::cuda::Graph;
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

/// How many recordings are kept. A sweep calls a network with two or three batch sizes in turn.
const KEPT: usize = 3;

/// Remembers the computations of a network by the shapes of their inputs. On a CUDA device, the second call with the same
/// shapes is recorded, and further calls replay the recording: the same kernels on the same numbers, launched at once.
/// Everywhere else, and where gradients of the output will be asked for, each call computes.
pub struct Replay {
    records: Records,
    known: RefCell<Vec<(Shapes, Seen)>>,
}

/// Which computations are recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Records {
    /// Those of 16-bit formats. In f32 the kernels of a large network take so much longer than their launches that a recording
    /// would only take memory.
    Halves,
    /// All.
    All,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay { records: Records::Halves, known: RefCell::default() }
    }
}

/// Shape and number format of each input.
type Shapes = Vec<(Vec<i64>, Kind)>;

enum Seen {
    Once,
    Recorded(Graph),
    /// It cannot be recorded.
    Refused,
}

impl Replay {
    /// For a computation of many small kernels, such as a step of a training: recorded in every number format.
    pub fn of_every_format() -> Replay {
        Replay { records: Records::All, ..Replay::default() }
    }

    /// The output of `compute`, which depends on nothing that changes but its inputs.
    pub fn run(&self, inputs: &[&Tensor], compute: impl Fn(&[Tensor]) -> Tensor) -> Tensor {
        let compute_now = || compute(&inputs.iter().map(|tensor| tensor.shallow_clone()).collect::<Vec<_>>());
        if !inputs.first().is_some_and(|tensor| self.records.worthwhile(tensor)) {
            return compute_now();
        }
        let shapes: Shapes = inputs.iter().map(|tensor| (tensor.size(), tensor.kind())).collect();
        let mut known = self.known.borrow_mut();
        let mut seen = match known.iter().position(|(other, _)| *other == shapes) {
            Some(index) => known.remove(index).1,
            None => {
                let output = compute_now();
                let seen = if output.requires_grad() { Seen::Refused } else { Seen::Once };
                keep(&mut known, shapes, seen);
                return output;
            }
        };
        if let Seen::Once = seen {
            seen = Graph::record(inputs, &compute).map_or(Seen::Refused, Seen::Recorded);
        }
        let output = match &mut seen {
            Seen::Recorded(graph) => graph.run(inputs),
            Seen::Once | Seen::Refused => compute_now(),
        };
        keep(&mut known, shapes, seen);
        output
    }
}

/// Keeps the last used at the end, and drops the first if there are too many.
fn keep(known: &mut Vec<(Shapes, Seen)>, shapes: Shapes, seen: Seen) {
    known.push((shapes, seen));
    if known.len() > KEPT {
        known.remove(0);
    }
}

impl Records {
    fn worthwhile(self, tensor: &Tensor) -> bool {
        let format = self == Records::All || matches!(tensor.kind(), Kind::Half | Kind::BFloat16);
        format && matches!(tensor.device(), Device::Cuda(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn on_a_cpu_every_call_computes() {
        let (replay, calls) = (Replay::default(), Cell::new(0));
        for value in 1..5 {
            let x = Tensor::full([2], value, (Kind::BFloat16, Device::Cpu));
            let y = replay.run(&[&x], |inputs| {
                calls.set(calls.get() + 1);
                &inputs[0] * 2.0
            });
            assert_eq!((y.double_value(&[1]), calls.get()), (2.0 * value as f64, value));
        }
    }
}
