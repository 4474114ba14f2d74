//! Runs with a mask: a part of a picture is made anew.

use latentrace_pipeline::checkpoints::{Architecture, Synthetic};
use latentrace_pipeline::nn::tch::{self, Device, Kind, Tensor};
use latentrace_pipeline::nn::{Moment, Pass, Probe, Tap};
use latentrace_pipeline::schedulers::{Config, Reading};
use latentrace_pipeline::{
    Checkpoint, Choice, Draws, Dtype, Known, Mask, Model, Options, Outputs, Picture, Request, Size, Start, TextShape,
    UnetInput, outline, replay,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Several steps in one, a history, several calls in one step, fresh noise.
const SAMPLERS: [&str; 8] = ["pndm", "euler", "dpm++2m", "heun", "dpm2", "unipc", "ddim", "euler_a"];

fn tiny() -> Model {
    tch::set_num_threads(1);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks/sd1");
    Model::open(&folder, Options::default()).unwrap()
}

/// An inpainting model with random weights, and its folder.
fn inpainting(dtype: Dtype) -> (tempfile::TempDir, Model) {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let to: PathBuf = folder.path().join("model");
    let (architecture, input, kind) = (Architecture::Sd1, UnetInput::Inpainting, Kind::Float);
    Synthetic { architecture, input, width: 0.05, kind, seed: 1 }.write(&to).unwrap();
    let model = Model::open(&to, Options { dtype, ..Options::default() }).unwrap();
    (folder, model)
}

const SIZE: Size = Size { height: 64, width: 128 };

fn picture() -> Arc<Picture> {
    let (width, height) = (SIZE.width as usize, SIZE.height as usize);
    let pixel = |place: usize| [(place % width * 2) as u8, (place / width * 4) as u8, 90];
    Arc::new(Picture { width, height, pixels: (0..width * height).flat_map(pixel).collect() })
}

/// A mask that is white in its first columns.
fn mask(columns: usize) -> Arc<Mask> {
    let (width, height) = (SIZE.width as usize, SIZE.height as usize);
    Arc::new(Mask { width, height, anew: (0..width * height).map(|place| place % width < columns).collect() })
}

fn masked(strength: f64, columns: usize) -> Start {
    Start::Masked { strength, picture: picture(), mask: mask(columns) }
}

fn request(model: &Model, sampler: &str, reading: Reading) -> Request {
    let own = match reading {
        Reading::Diffusers => &model.scheduler_in_pipeline,
        Reading::Exact => &model.scheduler,
    };
    let scheduler: Config = own.with_class(sampler).unwrap();
    Request { steps: 6, size: SIZE, guidance: 3.0.into(), scheduler, reading, ..model.request("a cat", 11) }
}

/// What passes the sampler's taps, by name and call.
#[derive(Default)]
struct Seen(BTreeMap<(String, usize), Tensor>);

impl Probe for Seen {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.role().is_of_sampler()
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        self.0.insert((tap.name().into(), moment.call), tensor.copy());
        tensor
    }
}

impl Seen {
    fn at(&self, name: &str, call: usize) -> Tensor {
        self.0[&(format!("sampler.{name}"), call)].shallow_clone()
    }
}

fn run(model: &Model, request: &Request, start: &Start) -> (Tensor, Seen) {
    let mut seen = Seen::default();
    let latents = model.denoise(request, start, &[], &mut Pass::watched(&mut seen)).unwrap();
    (latents, seen)
}

/// The draw of a seed at a place, `[1, 4, height, width]`.
fn draw(model: &Model, seed: u64, place: usize) -> Tensor {
    let [height, width] = SIZE.latents(model.checkpoint.vae.config.factor()).unwrap();
    Draws::new(seed, place + 1, [1, 4, height, width], Device::Cpu).last().unwrap()
}

#[test]
fn with_a_white_mask_the_run_is_that_from_the_picture() {
    let model = tiny();
    for reading in [Reading::Diffusers, Reading::Exact] {
        for sampler in SAMPLERS.into_iter().filter(|sampler| *sampler != "euler_a") {
            let request = request(&model, sampler, reading);
            let (whole, plain) = run(&model, &request, &Start::Picture { strength: 0.6, picture: picture() });
            let (latents, seen) = run(&model, &request, &masked(0.6, 128));
            assert!(latents.equal(&whole), "{sampler}, {reading:?}");
            assert!(seen.at("image", 0).equal(&plain.at("image", 0)), "{sampler}: the encoder's draw is the first");
            assert!(seen.at("start", 0).equal(&draw(&model, 11, 1)), "{sampler}: the start is the second draw");
        }
    }
    // The third draw of a run with a mask is the encoder's too, and the step's noise is the one after it.
    let request = request(&model, "euler_a", Reading::Diffusers);
    let (_, plain) = run(&model, &request, &Start::Picture { strength: 0.6, picture: picture() });
    let (_, seen) = run(&model, &request, &masked(0.6, 128));
    assert!(plain.at("noise", 0).equal(&draw(&model, 11, 2)));
    assert!(seen.at("noise", 0).equal(&draw(&model, 11, 3)));
}

#[test]
fn with_a_black_mask_the_picture_stays_and_every_sample_is_it_with_noise() {
    let model = tiny();
    for reading in [Reading::Diffusers, Reading::Exact] {
        for (sampler, strength) in SAMPLERS.into_iter().flat_map(|sampler| [(sampler, 0.6), (sampler, 1.0)]) {
            let request = request(&model, sampler, reading);
            let (latents, seen) = run(&model, &request, &masked(strength, 0));
            let (image, noise) = (seen.at("image", 0), seen.at("start", 0));
            assert!(latents.equal(&image), "{sampler} at {strength}, {reading:?}");
            let plan = masked(strength, 0).plan(&request).unwrap();
            for (call, step) in plan.steps().iter().enumerate().skip(1) {
                let known = &image * step.known.picture + &noise * step.known.noise;
                assert!(seen.at("sample", call).equal(&known), "{sampler} at {strength}, {reading:?}: call {call}");
            }
        }
    }
}

#[test]
fn half_of_a_picture_is_made_anew_and_the_rest_is_kept() {
    let model = tiny();
    let request = request(&model, "dpm++2m", Reading::Diffusers);
    let (latents, seen) = run(&model, &request, &masked(1.0, 64));
    let apart = (latents - seen.at("image", 0)).abs().amax([0, 1, 2], false); // [width]
    let columns = Vec::<f32>::try_from(apart).unwrap();
    let (anew, kept) = columns.split_at(columns.len() / 2);
    assert!(anew.iter().all(|apart| *apart > 1e-3) && kept.iter().all(|apart| *apart == 0.0), "{columns:?}");
}

/// The outputs of all calls that a run saw.
fn outputs(seen: &Seen, calls: usize) -> Vec<Outputs> {
    let of = |call| Outputs::Both {
        unconditional: seen.at("output.unconditional", call),
        conditional: seen.at("output.conditional", call),
    };
    (0..calls).map(of).collect()
}

#[test]
fn a_run_with_a_mask_is_replayed_and_continued_from_what_it_knows() {
    let (_folder, other) = inpainting(Dtype::F32);
    for (model, samplers) in [(&tiny(), &["heun", "euler_a", "pndm"][..]), (&other, &["euler_a"])] {
        for (sampler, strength) in samplers.iter().flat_map(|sampler| [(*sampler, 0.6), (*sampler, 1.0)]) {
            let request = request(model, sampler, Reading::Diffusers);
            let (whole, seen) = run(model, &request, &masked(strength, 64));
            let known = match model.checkpoint.input() {
                UnetInput::Sample => {
                    Known::Replaces { mask: seen.at("mask", 0), image: seen.at("image", 0), noise: seen.at("start", 0) }
                }
                UnetInput::Inpainting => Known::Given {
                    mask: seen.at("mask", 0),
                    masked: seen.at("masked", 0),
                    image: (strength != 1.0).then(|| seen.at("image", 0)),
                },
            };
            let start = Start::Known { strength, known: known.clone() };
            let plan = start.plan(&request).unwrap();
            let (outputs, shape) = (outputs(&seen, plan.calls()), whole.size().try_into().unwrap());
            let pass = &mut Pass::silent();
            let again = replay(&request, &start, &plan, &outputs, shape, &model.sampler, pass).unwrap().unwrap();
            assert!(again.equal(&whole), "{sampler} at {strength}: without the network");
            let rest = model.denoise(&request, &start, &outputs[..2], pass).unwrap();
            assert!(rest.equal(&whole), "{sampler} at {strength}: from its third call");

            // From a sample on the way, with another sampler.
            let level = plan.steps()[2].level;
            let start =
                Start::Sample { level, sample: seen.at("sample", 2), known: Some(known), is_from_picture: true };
            let other = Request { scheduler: request.scheduler.with_class("ddim").unwrap(), ..request.clone() };
            let (latents, seen) = run(model, &other, &start);
            if model.checkpoint.input() == UnetInput::Sample {
                let kept = (latents - seen.at("image", 0)).abs().narrow(3, 8, 8).max().double_value(&[]);
                assert_eq!(kept, 0.0, "{sampler} at {strength}");
            }
        }
    }
}

#[test]
fn an_inpainting_model_needs_a_mask_and_draws_only_for_what_it_encodes() {
    let (folder, model) = inpainting(Dtype::F32);
    let request = request(&model, "ddim", Reading::Diffusers);
    let place = folder.path().join("model");
    for start in [Start::Noise, Start::Picture { strength: 0.5, picture: picture() }] {
        let error = model.prepare(request.clone(), start).err().unwrap().to_string();
        let expected =
            "an inpainting model, which takes a picture and a mask\nhint: latentrace vary PICTURE PROMPT --mask MASK";
        assert_eq!(error, format!("{}: {expected}", place.display()));
    }
    let (all, half) = (run(&model, &request, &masked(1.0, 128)), run(&model, &request, &masked(1.0, 64)));
    assert!(!all.0.equal(&half.0), "the mask makes a difference");
    assert!(all.1.at("start", 0).equal(&draw(&model, 11, 0)), "at strength 1 the picture is not encoded");
    assert!(!all.1.0.contains_key(&("sampler.image".into(), 0)));
    let (_, seen) = run(&model, &request, &masked(0.6, 64));
    assert!(seen.at("start", 0).equal(&draw(&model, 11, 1)));

    // The taps are those of the outline, also with another strength.
    let checkpoint = Checkpoint::open(&place, &Choice::default()).unwrap();
    let outlined = outline(&checkpoint, Options::default(), Some(SIZE), TextShape::default()).unwrap();
    for (strength, seen) in [(1.0, &all.1), (0.6, &seen)] {
        let start = masked(strength, 64);
        let plan = start.plan(&request).unwrap();
        for one in outlined.iter().filter(|one| one.tap.role().is_of_sampler()) {
            let passed: Vec<usize> =
                (0..plan.calls()).filter(|call| seen.0.contains_key(&(one.tap.name().into(), *call))).collect();
            assert_eq!(passed, one.calls(&plan, &start), "{} at {strength}", one.tap.name());
        }
    }
}

#[test]
fn the_mask_and_the_picture_of_another_size_are_errors() {
    let model = tiny();
    let request = request(&model, "ddim", Reading::Diffusers);
    let small = || Arc::new(Mask { width: 8, height: 8, anew: vec![true; 64] });
    let start = Start::Masked { strength: 0.5, picture: picture(), mask: small() };
    let error = model.go_on(&request, &start, &[], &mut Pass::silent()).err().unwrap().to_string();
    assert_eq!(error, "mask: expected 128x64 pixels, found 8x8");
    // diffusers' IPNDM adds no noise to a picture, so it cannot keep one.
    let request = Request { scheduler: request.scheduler.with_class("ipndm").unwrap(), ..request };
    assert!(model.prepare(request.clone(), masked(1.0, 64)).err().unwrap().to_string().starts_with("strength: "));
    assert!(model.prepare(Request { reading: Reading::Exact, ..request }, masked(1.0, 64)).is_ok());
}

#[test]
fn runs_in_sixteen_bits_keep_what_is_known() {
    let (_folder, model) = inpainting(Dtype::Bf16);
    let request = request(&model, "pndm", Reading::Diffusers);
    let outcome = model.go_on(&request, &masked(0.6, 64), &[], &mut Pass::silent()).unwrap();
    assert_eq!((outcome.latents.kind(), outcome.picture.width), (Kind::Float, 128));
}

#[test]
fn masks_of_a_batch_are_used_as_alone() {
    let (_folder, other) = inpainting(Dtype::F32);
    for model in [tiny(), other] {
        let request = |seed| Request { seed, ..request(&model, "heun", Reading::Diffusers) };
        let requests = [request(1), request(2), request(1), request(1)];
        let starts = [64, 64, 128, 64].map(|columns| masked(0.6, columns));
        let images: Vec<(&Request, &Start)> = requests.iter().zip(&starts).collect();
        let together = model.run_together(&images, &mut Pass::silent()).unwrap();
        let calls = together.outcomes[0].plan.calls();
        // The last is equal to the first. An ordinary UNet does not see the mask at the first call, so there the third is too.
        let spared = if model.checkpoint.input() == UnetInput::Sample { 2 } else { 0 };
        assert_eq!(together.evaluations, 6 * calls - spared);
        for ((request, start), outcome) in images.iter().zip(&together.outcomes) {
            let alone = model.denoise(request, start, &[], &mut Pass::silent()).unwrap();
            let apart = (&outcome.latents - alone).abs().max().double_value(&[]);
            assert!(apart < 1e-3, "{apart}"); // rounding, which a random network at guidance 3 enlarges
        }
    }
    let model = tiny();
    let request = request(&model, "ddim", Reading::Diffusers);
    let mixed = [(&request, &masked(0.6, 64)), (&request, &Start::Picture { strength: 0.6, picture: picture() })];
    assert!(model.run_together(&mixed, &mut Pass::silent()).is_err());
}
