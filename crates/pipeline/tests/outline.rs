//! `outline` lists exactly the tensors that pass in a run.

use latentrace_pipeline::nn::tch::{self, Kind, Tensor};
use latentrace_pipeline::nn::{Moment, Pass, Probe, Tap};
use latentrace_pipeline::schedulers::{Config, Plan, Reading};
use latentrace_pipeline::{
    Checkpoint, Choice, Device, Known, Mask, Model, Options, Outlined, Picture, Request, Size, Start, TextShape,
    outline,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks").join(name)
}

/// Shape, format, grid and calls of every tap.
#[derive(Default)]
struct Seen(Passed);

type Passed = BTreeMap<String, (Vec<i64>, Kind, Option<[i64; 2]>, Vec<usize>)>;

impl Probe for Seen {
    fn wants(&self, _: &Tap, _: &Moment) -> bool {
        true
    }
    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        if let (Some([height, width]), 3) = (moment.grid, tensor.dim()) {
            assert_eq!(tensor.size()[1], height * width, "{}", tap.name());
        }
        let entry = self.0.entry(tap.name().into());
        entry.or_insert((tensor.size(), tensor.kind(), moment.grid, Vec::new())).3.push(moment.call);
        tensor
    }
}

fn pixels_of(size: Size) -> usize {
    (size.height * size.width) as usize
}

/// What an outline says of the taps that some tensor passes.
fn expected(outlined: &[Outlined], plan: &Plan, start: &Start) -> Passed {
    let mut expected = Passed::new();
    for one in outlined {
        let calls = one.calls(plan, start);
        if !calls.is_empty() {
            let entry = expected.entry(one.tap.name().into());
            entry.or_insert((one.shape.clone(), one.kind, one.grid, Vec::new())).3.extend(calls);
        }
    }
    expected
}

#[test]
fn every_tensor_passes_in_the_shape_and_at_the_calls_of_the_outline() {
    tch::set_num_threads(1);
    let churn = r#"{"_class_name": "EulerDiscreteScheduler", "s_churn": 3, "timestep_spacing": "trailing"}"#;
    for name in ["sd1", "sd2"] {
        let options = Options { device: Device::Cpu, ..Options::default() };
        let model = Model::open(&golden(name), options).unwrap();
        let own = Request { negative: "a dog".into(), ..model.request("a cat", 5) };
        let factor = model.checkpoint.vae.config.factor();
        // Latents with odd sides too, whose halves are rounded up.
        for size in [own.size, Size { height: 9 * factor, width: 13 * factor }] {
            let outlined = outline(
                &Checkpoint::open(&golden(name), &Choice::default()).unwrap(),
                options,
                Some(size),
                TextShape::default(),
            )
            .unwrap();
            for sampler in ["pndm", "ddpm", "lms", "dpm2", "dpm++2m_sde", "heun", churn] {
                let scheduler = match sampler.starts_with('{') {
                    true => Config::from_json(sampler).unwrap(),
                    false => own.scheduler.with_class(sampler).unwrap(),
                };
                let reading = Reading::Exact; // in which every sampler takes the churn and the strength
                let request = Request { steps: 4, size, scheduler, reading, ..own.clone() };
                let pixels = vec![128; 3 * pixels_of(size)];
                let picture = Picture { width: size.width as usize, height: size.height as usize, pixels };
                let latents =
                    Tensor::ones([1, 4, size.height / factor, size.width / factor], (Kind::Float, tch::Device::Cpu));
                let mask = Mask { width: picture.width, height: picture.height, anew: vec![true; pixels_of(size)] };
                let known = Known::Replaces {
                    mask: latents.narrow(1, 0, 1),
                    image: latents.shallow_clone(),
                    noise: latents.shallow_clone(),
                };
                let (picture, mask) = (Arc::new(picture), Arc::new(mask));
                let masked = |strength| Start::Masked { strength, picture: picture.clone(), mask: mask.clone() };
                let level = request.scheduler.plan(4, reading).unwrap().steps()[1].level;
                for start in [
                    Start::Noise,
                    Start::Picture { strength: 0.5, picture: picture.clone() },
                    masked(0.5),
                    masked(1.0),
                    Start::Known { strength: 0.5, known: known.clone() },
                    Start::Known { strength: 1.0, known: known.clone() },
                    Start::Latents { strength: 0.75, latents: latents.shallow_clone() },
                    Start::Sample { level, sample: &latents * level.sigma, known: None, is_from_picture: false },
                    Start::Sample { level, sample: latents * level.sigma, known: Some(known), is_from_picture: true },
                ] {
                    let mut seen = Seen::default();
                    let plan = model.go_on(&request, &start, &[], &mut Pass::watched(&mut seen)).unwrap().plan;
                    assert_eq!(seen.0, expected(&outlined, &plan, &start), "{name} at {size:?}, {sampler}, {start:?}");
                }
            }
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
