//! What is said of every tensor before a run is what passes in the run.

use latentrace_pipeline::nn::tch::{self, Kind, Tensor};
use latentrace_pipeline::nn::{Moment, Pass, Probe, Tap};
use latentrace_pipeline::{Device, Model, Options, Request, Size, When, outline};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks").join(name)
}

/// Shape, format and number of visits of every tap.
#[derive(Default)]
struct Seen(BTreeMap<String, (Vec<i64>, Kind, usize)>);

impl Probe for Seen {
    fn wants(&self, _: &Tap, _: &Moment) -> bool {
        true
    }
    fn visit(&mut self, tap: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.0.entry(tap.name().into()).or_insert((tensor.size(), tensor.kind(), 0)).2 += 1;
        tensor
    }
}

#[test]
fn every_tensor_passes_in_the_shape_and_as_often_as_was_said() {
    tch::set_num_threads(1);
    for name in ["sd1", "sd2"] {
        let options = Options { device: Device::Cpu, ..Options::default() };
        let model = Model::open(&golden(name), options).unwrap();
        let own = model.request("a cat", 5);
        let factor = model.vae_config.factor();
        // Odd latents too, where the way down rounds up.
        for size in [own.size, Size { height: 9 * factor, width: 13 * factor }] {
            let request = Request { steps: 3, size, ..own.clone() };
            let mut seen = Seen::default();
            let plan = model.run(&request, &mut Pass::watched(&mut seen)).unwrap().plan;
            let outlined = outline(&golden(name), options, Some(size)).unwrap();
            let mut said: BTreeMap<String, (Vec<i64>, Kind, usize)> = BTreeMap::new();
            for one in outlined.iter().filter(|one| one.when != When::Picture) {
                let times = match one.when {
                    When::Text | When::Start | When::Pixels => 1,
                    When::Call => plan.calls(),
                    When::Draw => plan.draws() - 1,
                    When::Picture => 0,
                };
                if times == 0 {
                    continue;
                }
                let entry = said.entry(one.tap.name().into()).or_insert((one.shape.clone(), one.kind, 0));
                entry.2 += times;
            }
            assert_eq!(seen.0, said, "{name} at {size:?}");
            let listed: Vec<&str> = model.taps.iter().map(Tap::name).collect();
            assert!(outlined.iter().all(|one| listed.contains(&one.tap.name())), "the model has every tap of the list");
        }
    }
}

#[test]
fn a_tap_is_passed_once_a_call_and_no_two_have_one_name() {
    let model = Model::open(&golden("sd1"), Options { device: Device::Cpu, ..Options::default() }).unwrap();
    let mut names: Vec<&str> = model.taps.iter().map(Tap::name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
