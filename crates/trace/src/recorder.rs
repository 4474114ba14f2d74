//! The probe that keeps.

use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Moment, Probe, Tap};
use std::collections::HashMap;

/// A probe that keeps every tensor of the taps whose names it was told.
#[derive(Debug, Default)]
pub struct Recorder {
    names: Vec<String>,
    /// What was kept, in the order in which it passed.
    pub captures: Vec<Capture>,
}

/// A tensor that passed a tap.
#[derive(Debug)]
pub struct Capture {
    /// The tap's name.
    pub name: String,
    /// When it passed.
    pub moment: Moment,
    /// The tensor.
    pub tensor: Tensor,
}

impl Recorder {
    /// A recorder of the taps of these names.
    pub fn of<const N: usize>(names: [&str; N]) -> Recorder {
        Recorder { names: names.map(str::to_string).into(), captures: Vec::new() }
    }

    /// The tensors of one tap by their call, in order.
    pub fn of_tap<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Capture> {
        self.captures.iter().filter(move |capture| capture.name == name)
    }

    /// The tensors of several taps that passed in the same call, for every call in which all of them did.
    pub fn together<const N: usize>(&self, names: [&str; N]) -> Vec<(Moment, [&Tensor; N])> {
        let mut calls: HashMap<usize, (Moment, [Option<&Tensor>; N])> = HashMap::new();
        for capture in &self.captures {
            if let Some(place) = names.iter().position(|name| *name == capture.name) {
                let entry = calls.entry(capture.moment.call).or_insert((capture.moment, [None; N]));
                entry.1[place] = Some(&capture.tensor);
            }
        }
        let mut all: Vec<(Moment, [&Tensor; N])> = Vec::new();
        for (moment, tensors) in calls.into_values() {
            let found: Vec<&Tensor> = tensors.into_iter().flatten().collect();
            all.extend(found.try_into().ok().map(|tensors| (moment, tensors)));
        }
        all.sort_by_key(|(moment, _)| moment.call);
        all
    }
}

impl Probe for Recorder {
    fn wants(&self, tap: &Tap) -> bool {
        self.names.iter().any(|name| name == tap.name())
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        self.captures.push(Capture { name: tap.name().into(), moment, tensor: tensor.shallow_clone() });
        tensor
    }
}

/// The root of the mean square of a tensor's numbers, summed in double precision.
pub fn rms(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::Pass;
    use latentrace_nn::tch::Device;

    #[test]
    fn keeps_what_it_was_told_with_its_moment_and_changes_nothing() {
        let [a, b, c] = ["x.a", "x.b", "x.c"].map(Tap::named);
        let mut recorder = Recorder::of(["x.a", "x.b"]);
        let mut pass = Pass::watched(&mut recorder);
        for call in 0..3 {
            pass.set_moment(Moment { call, t: 999.0 - call as f64, sigma: 1.0 });
            let tensor = Tensor::full([2], call as f64, (Kind::Float, Device::Cpu));
            let address = tensor.data_ptr();
            assert_eq!(pass.tap(&a, tensor).data_ptr(), address);
            if call != 1 {
                let _ = pass.tap(&b, Tensor::full([2], -3.0, (Kind::Float, Device::Cpu)));
            }
            let _ = pass.tap(&c, Tensor::new());
        }
        assert_eq!(recorder.captures.len(), 5);
        let together = recorder.together(["x.b", "x.a"]);
        assert_eq!(together.iter().map(|(moment, _)| moment.call).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(rms(together[1].1[0]), 3.0);
        assert_eq!(rms(together[1].1[1]), 2.0);
        assert_eq!(recorder.of_tap("x.a").count(), 3);
    }
}
