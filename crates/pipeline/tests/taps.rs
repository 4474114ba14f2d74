//! The sampler's values at their taps: a probe that only looks changes no bit, and an edit changes what follows.

use latentrace_pipeline::nn::tch::{self, Kind, Tensor};
use latentrace_pipeline::nn::{Moment, Pass, Probe, Tap};
use latentrace_pipeline::schedulers::Reading;
use latentrace_pipeline::{Device, Dtype, Model, Options, Outputs, Request, Start, replay};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks").join(name)
}

fn tiny(name: &str) -> Model {
    tch::set_num_threads(1); // more threads than one only wait for each other on networks this small
    Model::open(&golden(name), Options { device: Device::Cpu, ..Options::default() }).unwrap()
}

fn request(model: &Model) -> Request {
    Request { steps: 4, guidance: 3.0.into(), ..model.request("a cat", 5) }
}

/// A probe of the taps whose names a predicate selects, made of a function.
struct Each<W, F>(W, F);

impl<W: Fn(&str) -> bool, F: FnMut(&str, Moment, Tensor) -> Tensor> Probe for Each<W, F> {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        (self.0)(tap.name())
    }
    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        (self.1)(tap.name(), moment, tensor)
    }
}

fn latents(model: &Model, request: &Request, probe: &mut dyn Probe) -> Tensor {
    model.run(request, &mut Pass::watched(probe)).unwrap().latents
}

#[test]
fn watching_every_tap_changes_no_bit_in_any_format() {
    for name in ["sd1", "sd2"] {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            let model =
                Model::open(&golden(name), Options { device: Device::Cpu, dtype, ..Options::default() }).unwrap();
            for sampler in ["ddpm", "pndm", "lms"] {
                let request = request(&model);
                let scheduler = request.scheduler.with_class(sampler).unwrap();
                let request = Request { scheduler, ..request };
                let silent = model.run(&request, &mut Pass::silent()).unwrap();
                let mut probabilities = 0;
                let watched = latents(
                    &model,
                    &request,
                    &mut Each(
                        |_: &str| true,
                        |name: &str, _, tensor| {
                            probabilities += usize::from(name.ends_with(".probs"));
                            tensor
                        },
                    ),
                );
                assert!(silent.latents.equal(&watched), "{name} {dtype:?} {sampler}");
                assert!(probabilities >= 4 * 10, "{probabilities} tensors of probabilities passed");
            }
        }
    }
}

#[test]
fn the_sampler_values_are_consistent() {
    for (name, reading) in [("sd1", Reading::Diffusers), ("sd2", Reading::Exact)] {
        let model = tiny(name);
        let request = Request { reading, ..request(&model) };
        let mut calls: Vec<(Moment, Vec<(String, Tensor)>)> = Vec::new();
        let keep = |name: &str, moment: Moment, tensor: Tensor| {
            if calls.last().is_none_or(|(last, _)| last.call != moment.call) {
                calls.push((moment, Vec::new()));
            }
            calls.last_mut().unwrap().1.push((name.to_string(), tensor.shallow_clone()));
            tensor
        };
        let _ = latents(&model, &request, &mut Each(|name: &str| name.starts_with("sampler."), keep));
        assert_eq!(calls.len(), 5, "four steps of PNDM are five calls");
        for (moment, tensors) in &calls {
            let find = |name: &str| &tensors.iter().find(|(tap, _)| tap == name).unwrap().1;
            let [x, u, c, e, d] =
                ["sample", "epsilon.unconditional", "epsilon.conditional", "epsilon.guided", "denoised"]
                    .map(|word| find(&format!("sampler.{word}")));
            // Each side is a few f32 operations on numbers of the size of x.
            let close = |a: Tensor, b: &Tensor| {
                let size = x.abs().max().double_value(&[]);
                assert!((a - b).abs().max().double_value(&[]) < 1e-5 * size, "{name}, call {}", moment.call);
            };
            close(u + (c - u) * 3.0, e);
            close(x - e * moment.sigma, d);
        }
    }
}

#[test]
fn a_run_continues_with_what_an_edit_returns() {
    let model = tiny("sd1");
    let request = request(&model);
    let plain = model.run(&request, &mut Pass::silent()).unwrap().latents;
    // Without guidance the output is the conditional one, so replacing the unconditional one changes nothing.
    let zero = |guidance: f64| {
        let request = Request { guidance: guidance.into(), ..request.clone() };
        let untouched = model.run(&request, &mut Pass::silent()).unwrap().latents;
        let is = |name: &str| name == "sampler.epsilon.unconditional";
        let edited = latents(&model, &request, &mut Each(is, |_: &str, _, tensor: Tensor| tensor.zeros_like()));
        (untouched - edited).abs().max().double_value(&[]) / plain.abs().max().double_value(&[])
    };
    assert!(zero(1.0) < 1e-6, "u + 1 (c - u) is c up to rounding");
    assert!(zero(3.0) > 1e-4);
    // A sample that is replaced at the last call decides the result.
    let last = model.check(&request).unwrap().calls() - 1;
    let replace = |name: &str, moment: Moment, tensor: Tensor| match (name, moment.call == last) {
        ("sampler.sample", true) => tensor.ones_like() * 7.0,
        (_, true) => tensor.zeros_like(),
        _ => tensor,
    };
    let is = |name: &str| name == "sampler.sample" || name == "sampler.epsilon.guided";
    let edited = latents(&model, &request, &mut Each(is, replace));
    assert!((&edited - &plain).abs().min().double_value(&[]) > 0.0);
}

#[test]
fn a_half_precision_network_keeps_its_sampler_in_f32() {
    let options = Options { device: Device::Cpu, dtype: Dtype::Bf16, ..Options::default() };
    let model = Model::open(&golden("sd1"), options).unwrap();
    let full = tiny("sd1");
    let both = [&model, &full].map(|model| {
        let mut kinds = Vec::new();
        let keep = |_: &str, _, tensor: Tensor| {
            kinds.push(tensor.kind());
            tensor
        };
        let latents = latents(model, &request(model), &mut Each(|name: &str| name.starts_with("sampler."), keep));
        assert!(kinds.iter().all(|kind| *kind == Kind::Float));
        latents
    });
    let size = both[1].abs().max().double_value(&[]);
    let error = (&both[0] - &both[1]).abs().max().double_value(&[]) / size;
    // bf16 has 8 significant bits: the network's error is a few thousandths, and guidance 3 triples it.
    assert!(error > 0.0 && error < 0.1, "{error}");
}

#[test]
fn no_network_writes_into_a_tensor_that_has_passed() {
    let model = tiny("sd1");
    let mut kept: Vec<(String, Tensor, Tensor)> = Vec::new();
    let keep = |name: &str, _, tensor: Tensor| {
        kept.push((name.to_string(), tensor.shallow_clone(), tensor.copy()));
        tensor
    };
    let _ = latents(&model, &Request { steps: 1, ..request(&model) }, &mut Each(|_: &str| true, keep));
    let changed: Vec<&String> =
        kept.iter().filter(|(_, tensor, copy)| !tensor.equal(copy)).map(|(name, ..)| name).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

#[test]
fn edited_probabilities_agree_with_the_fused_kernel() {
    for name in ["sd1", "sd2"] {
        let model = tiny(name);
        let request = Request { steps: 1, guidance: 1.0.into(), ..request(&model) };
        let outputs = |factor: f64| {
            let mut found = None;
            let edit = |name: &str, _, tensor: Tensor| match name {
                "unet.out" => {
                    found = Some(tensor.shallow_clone());
                    tensor
                }
                _ => tensor * factor,
            };
            let _ =
                latents(&model, &request, &mut Each(|name: &str| name == "unet.out" || name.ends_with(".probs"), edit));
            found.unwrap()
        };
        let fused = model_output(&model, &request);
        assert!(fused.equal(&outputs(1.0)), "{name}: nothing was changed");
        let multiplied = outputs(1.0 + 2f64.powi(-23)); // a unit in the last place changes every row
        let size = fused.abs().max().double_value(&[]);
        let apart = (&fused - &multiplied).abs().max().double_value(&[]) / size;
        // Both sum the same products in f32, in different orders.
        assert!(apart > 0.0 && apart < 1e-5, "{name}: {apart:.1e}");
    }
}

/// The network's output of the only call, without an edit.
fn model_output(model: &Model, request: &Request) -> Tensor {
    let mut found = None;
    let keep = |_: &str, _, tensor: Tensor| {
        found = Some(tensor.shallow_clone());
        tensor
    };
    let _ = latents(model, request, &mut Each(|name: &str| name == "unet.out", keep));
    found.unwrap()
}

#[test]
fn a_run_continues_from_its_own_outputs_to_the_bit() {
    for (name, sampler) in [("sd1", "pndm"), ("sd1", "ddpm"), ("sd2", "lms")] {
        let model = tiny(name);
        let request = request(&model);
        let request = Request { scheduler: request.scheduler.with_class(sampler).unwrap(), ..request };
        let mut halves: Vec<Tensor> = Vec::new();
        let keep = |_: &str, _, tensor: Tensor| {
            halves.push(tensor.shallow_clone());
            tensor
        };
        let is = |name: &str| name.starts_with("sampler.output.") && name.ends_with("conditional");
        let whole = latents(&model, &request, &mut Each(is, keep));
        let both = |pair: &[Tensor]| {
            let [unconditional, conditional] = [&pair[0], &pair[1]].map(Tensor::shallow_clone);
            Outputs::Both { unconditional, conditional }
        };
        let outputs: Vec<Outputs> = halves.chunks(2).map(both).collect();
        for known in [0, 1, 3, outputs.len()] {
            let rest = model.denoise(&request, &Start::Noise, &outputs[..known], &mut Pass::silent()).unwrap();
            assert!(rest.equal(&whole), "{sampler} from call {known}");
        }
        let shape = whole.size().try_into().unwrap();
        let plan = model.check(&request).unwrap();
        let again =
            replay(&request, &Start::Noise, &plan, &outputs, shape, &model.sampler, &mut Pass::silent()).unwrap();
        assert!(again.unwrap().equal(&whole), "without the network");
        let cut =
            replay(&request, &Start::Noise, &plan, &outputs[..2], shape, &model.sampler, &mut Pass::silent()).unwrap();
        assert!(cut.is_none(), "the record ends first");
    }
}

/// A probe that leaves out the module of a tap, and counts how often.
struct LeaveOut(&'static str, usize);

impl Probe for LeaveOut {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name() == self.0
    }
    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        tensor
    }
    fn leave_out(&mut self, _: &Tap, _: Moment, tensor: Tensor, without: &dyn Fn() -> Tensor) -> Tensor {
        self.1 += 1;
        let without = without();
        assert_eq!((tensor.size(), tensor.kind()), (without.size(), without.kind()), "{}", self.0);
        without
    }
}

#[test]
fn every_residual_module_can_be_left_out_and_changes_the_result() {
    let model = tiny("sd1");
    let request = Request { steps: 2, ..request(&model) };
    let whole = model.run(&request, &mut Pass::silent()).unwrap();
    let residual: Vec<&Tap> = model.taps.iter().filter(|tap| tap.is_residual()).collect();
    assert!(residual.len() > 20, "{}", residual.len());
    for tap in residual {
        if tap.name().starts_with("vae.encoder") {
            continue; // no picture is encoded here
        }
        let mut probe = LeaveOut(Box::leak(tap.name().to_string().into_boxed_str()), 0);
        let without = model.run(&request, &mut Pass::watched(&mut probe)).unwrap();
        assert!(probe.1 > 0, "{} was not left out", tap.name());
        let same = without.latents.equal(&whole.latents) && without.picture == whole.picture;
        assert!(!same, "{} changes nothing", tap.name());
    }
}
