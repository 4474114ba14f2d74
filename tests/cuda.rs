//! The networks and whole runs on a CUDA device, against the same on the CPU. Where no device answers, every test says so
//! in a visible line and passes. `tools/gpu` runs this on a machine that has one.
//!
//! The tolerances are for a largest difference relative to the largest magnitude. In f32 both devices sum the same products
//! in another order, and the random networks of `data/golden` enlarge that to 6e-5 (see docs/parity.md). They would enlarge
//! the rounding of halves by the same thousand, to nothing that could be compared; so halves are compared on the bundled
//! model, which enlarges rounding ten- to a hundredfold: f16 rounds to 5e-4 and bf16 to 4e-3.

use latentrace::nn::tch::{self, Kind, Tensor};
use latentrace::nn::{GatedGelu, GroupNorm, LayerNorm, Moment, Pass, Passes, Probe, Tap, Weights, first_cuda, seeded};
use latentrace::pipeline::{
    Device, Dtype, Guidance, Model, Options, Outcome, Picture, Request, Size, Start, evaluations,
};
use std::io::Write;
use std::path::Path;

const MODELS: [&str; 3] = ["data/golden/networks/sd1", "data/golden/networks/sd2", "data/models/shapes"];
const BUNDLED: &str = MODELS[2];
/// Tiny networks of SDXL's kind, each with a guidance weight.
const SDXL: [(&str, f64); 3] = [
    ("data/golden/networks/sdxl", 4.0),
    ("data/golden/networks/sdxl-turbo", 1.0),
    ("data/golden/networks/sdxl-refiner", 4.0),
];
const CAPTION: &str = "a large red circle on the left, white background";

/// How many rows the network computes for images that are run together.
fn count(model: &Model, images: &[(&Request, &Start)]) -> usize {
    let prepared: Vec<_> =
        images.iter().map(|(request, start)| model.prepare((*request).clone(), (*start).clone()).unwrap()).collect();
    evaluations(&prepared.iter().collect::<Vec<_>>())
}

/// Whether a CUDA device answers; says so on stderr, past the test harness, where none does.
fn on_cuda(test: &str) -> bool {
    let found = first_cuda().is_some();
    if !found {
        say(&format!("skipped: {test}: no CUDA device answers"));
    }
    found
}

/// A whole line, past the test harness, which would swallow it.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Cargo runs tests in the folder of their package; elsewhere this is run in the root of a checkout.
fn open(folder: &str, device: Device, dtype: Dtype) -> Model {
    Model::open(Path::new(folder), Options { dtype, device, ..Options::default() })
        .unwrap_or_else(|error| panic!("{error}"))
}

fn normal(seed: u64, shape: &[i64]) -> Tensor {
    seeded(seed, || Tensor::randn(shape, (Kind::Float, tch::Device::Cpu)))
}

/// The largest difference, relative to the largest magnitude of `right`.
fn relative(found: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(found.size(), right.size());
    let found = found.to_device(tch::Device::Cpu).to_kind(Kind::Double);
    let right = right.to_device(tch::Device::Cpu).to_kind(Kind::Double);
    (found - &right).abs().max().double_value(&[]) / right.abs().max().double_value(&[])
}

/// The rows of a test, all printed before any fails.
#[derive(Default)]
struct Rows {
    beyond: Vec<String>,
}

impl Rows {
    /// Prints a row, as `tools/gpu.py` reads it. What is not a number is beyond every tolerance.
    fn add(&mut self, what: &str, error: f64, tolerance: f64) {
        say(&format!("row: {what:<58} {error:>9.1e}   allowed {tolerance:.0e}"));
        let within = error <= tolerance;
        if !within {
            self.beyond.push(format!("{what}: {error:.3e}, allowed {tolerance:.1e}"));
        }
    }

    fn check(self) {
        assert!(self.beyond.is_empty(), "{}", self.beyond.join("\n"));
    }
}

/// The outputs of the three networks for fixed inputs: text features, one UNet call of two rows, a picture encoded, latents
/// decoded.
fn outputs(model: &Model) -> [Tensor; 4] {
    let device = model.device;
    let kind = model.unet.kind();
    let pass = &mut Pass::silent();
    let (_, text) = model.encode(CAPTION, pass).unwrap();
    tch::no_grad(|| {
        let [side, _] = model.checkpoint.unet.config.sample_size;
        let place = |tensor: Tensor| tensor.to_device(device).to_kind(kind);
        let sample = place(normal(1, &[2, 4, side, side]));
        // Text features of their own, so that the UNet is compared and not the text encoder again.
        let context = place(normal(2, &[2, 77, model.checkpoint.unet.config.cross_attention_dim]));
        let time = Tensor::from_slice(&[500f32]).to_device(device);
        let noise = model.unet.forward(pass, &sample, &time, &context);
        let pixels = side * model.checkpoint.vae.config.factor();
        let picture = place(normal(3, &[1, 3, pixels, pixels]).tanh());
        let encoded = model.vae.encode(pass, &picture).mean;
        let decoded = model.vae.decode(pass, &place(normal(4, &[1, 4, side, side])));
        [text, noise, encoded, decoded].map(|tensor| tensor.to_kind(Kind::Float))
    })
}

#[test]
fn networks_on_cuda_compute_what_they_compute_on_the_cpu() {
    if !on_cuda("networks_on_cuda_compute_what_they_compute_on_the_cpu") {
        return;
    }
    let mut rows = Rows::default();
    for folder in MODELS {
        let right = outputs(&open(folder, Device::Cpu, Dtype::F32));
        let formats = [(Dtype::F32, 2e-4), (Dtype::F16, 3e-2), (Dtype::Bf16, 0.2)];
        for (dtype, tolerance) in formats.into_iter().take(if folder == BUNDLED { 3 } else { 1 }) {
            let found = outputs(&open(folder, Device::Cuda, dtype));
            for (part, (found, right)) in
                ["text encoder", "UNet", "VAE encoder", "VAE decoder"].iter().zip(found.iter().zip(&right))
            {
                rows.add(&format!("{folder}, {part}, {dtype:?}"), relative(found, right), tolerance);
            }
        }
    }
    rows.check();
}

/// Looks at the tensors of one tap, or of every tap whose name ends so, and changes nothing.
struct Look<'a>(&'a str, usize);

impl Probe for Look<'_> {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name().ends_with(self.0)
    }

    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.1 += 1;
        tensor
    }
}

/// Weights from a seed on the device.
fn drawn(kind: Kind) -> Weights {
    Weights::random("test", 7, kind, tch::Device::Cuda(0))
}

#[test]
fn kernels_of_halves_on_cuda_compute_what_f64_does() {
    if !on_cuda("kernels_of_halves_on_cuda_compute_what_f64_does") {
        return;
    }
    let mut rows = Rows::default();
    // Half a unit of the last place of the result, next to results of size 4 to 8; and a rounding between for GEGLU.
    for (kind, tolerance) in [(Kind::Half, 1e-3), (Kind::BFloat16, 8e-3)] {
        assert_eq!(drawn(kind).kernels().passes, Passes::Fused, "the compiler of kernels is there");
        let place = |x: &Tensor| x.to_kind(kind).to_device(tch::Device::Cuda(0));
        // The shapes of Stable Diffusion, of the bundled model, and odd ones; and a mean far from zero.
        let pictures =
            [[2, 320, 64, 64], [1, 2560, 8, 8], [3, 960, 13, 7], [1, 128, 512, 512], [18, 640, 32, 32], [2, 64, 1, 1]];
        for shape in pictures {
            for mean in [0.0, 30.0] {
                let x = place(&(normal(5, &shape) + mean));
                let norm = GroupNorm::load(&drawn(kind).at("norm"), shape[1], 32, 1e-5).unwrap();
                let found = norm.forward(&x);
                let wide = x.to_kind(Kind::Double);
                let right = wide.group_norm::<Tensor>(32, None, None, 1e-5, false);
                rows.add(
                    &format!("group norm of {shape:?}, mean {mean}, {kind:?}"),
                    relative(&found, &right),
                    tolerance,
                );
                let silu = norm.then_silu(&mut Pass::silent(), &Tap::named("a"), &x);
                let apart = norm.then_silu(&mut Pass::watched(&mut Look("a", 0)), &Tap::named("a"), &x);
                assert!(silu.equal(&apart), "{shape:?}, {kind:?}: watched and unwatched");
                rows.add(
                    &format!("then SiLU of {shape:?}, mean {mean}, {kind:?}"),
                    relative(&silu, &right.silu()),
                    2.0 * tolerance,
                );
            }
        }
        for shape in [[2, 4096, 320], [1, 64, 1280], [3, 7, 640], [2, 77, 768], [1, 5, 8], [1, 3, 2048]] {
            let (x, y) = (place(&(normal(6, &shape) + 3.0)), place(&normal(7, &shape)));
            let norm = LayerNorm::load(&drawn(kind).at("norm"), shape[2], 1e-5).unwrap();
            let right = |x: &Tensor| x.to_kind(Kind::Double).layer_norm::<Tensor>([shape[2]], None, None, 1e-5, false);
            rows.add(&format!("layer norm of {shape:?}, {kind:?}"), relative(&norm.forward(&x), &right(&x)), tolerance);
            let (sum, normed) = norm.of_sum(&x, &y);
            assert!(sum.equal(&(&x + &y)) && normed.equal(&norm.forward(&sum)), "{shape:?}, {kind:?}: of a sum");
            let gated = GatedGelu::load(&drawn(kind)).forward(&Tensor::cat(&[&y, &x], 2));
            let right = y.to_kind(Kind::Double) * x.to_kind(Kind::Double).gelu("none");
            rows.add(&format!("gated GELU of {shape:?}, {kind:?}"), relative(&gated, &right), tolerance);
            let apart = &y * x.gelu("none");
            assert!(gated.equal(&apart), "{shape:?}, {kind:?}: as libtorch rounds");
        }
    }
    rows.check();
}

#[test]
fn looking_at_a_network_on_cuda_changes_no_bit_and_neither_does_replaying_it() {
    if !on_cuda("looking_at_a_network_on_cuda_changes_no_bit_and_neither_does_replaying_it") {
        return;
    }
    for dtype in [Dtype::F16, Dtype::Bf16] {
        for folder in [BUNDLED, MODELS[0]] {
            let model = open(folder, Device::Cuda, dtype);
            let place = |tensor: Tensor| tensor.to_device(model.device).to_kind(model.unet.kind());
            let [side, _] = model.checkpoint.unet.config.sample_size;
            let context = place(normal(2, &[2, 77, model.checkpoint.unet.config.cross_attention_dim]));
            let call = |pass: &mut Pass, seed| {
                let time = Tensor::from_slice(&[seed as f32 * 100.0]).to_device(model.device);
                let sample = place(normal(seed, &[2, 4, side, side]));
                tch::no_grad(|| model.unet.forward(pass, &sample, &time, &context))
            };
            // Every tap at once, so nothing is replayed and no kernel does the work of two.
            let mut all = Look("", 0);
            let right: Vec<Tensor> = (1..5).map(|seed| call(&mut Pass::watched(&mut all), seed)).collect();
            assert!(all.1 > 100);
            // The first computes, the second is recorded, the others are replayed.
            for (seed, right) in (1..5).zip(&right) {
                assert!(call(&mut Pass::silent(), seed).equal(right), "{folder}, {dtype:?}, call {seed}");
            }
            for tap in ["norm1", "conv1", "norm2", "conv2", "conv_shortcut", "resnets.0.out", "time_emb_proj", "probs"]
            {
                let mut look = Look(tap, 0);
                assert!(call(&mut Pass::watched(&mut look), 3).equal(&right[2]), "{folder}, {dtype:?}: {tap}");
                assert!(look.1 > 0, "{tap}");
            }
        }
    }
}

/// Keeps the start noise.
struct StartNoise(Option<Tensor>);

impl Probe for StartNoise {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name() == "sampler.start"
    }

    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.0 = Some(tensor.to_device(tch::Device::Cpu));
        tensor
    }
}

/// A run, and its start noise.
fn run(model: &Model, request: &Request, start: &Start) -> (Outcome, Option<Tensor>) {
    let mut noise = StartNoise(None);
    let outcome = model.go_on(request, start, &[], &mut Pass::watched(&mut noise)).unwrap();
    (outcome, noise.0)
}

fn request(model: &Model, sampler: &str, guidance: Guidance) -> Request {
    let own = model.request(CAPTION, 193);
    Request { steps: 20, guidance, scheduler: own.scheduler.with_class(sampler).unwrap(), ..own }
}

fn levels(a: &Picture, b: &Picture) -> f64 {
    f64::from(a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0))
}

#[test]
fn runs_on_cuda_end_where_they_end_on_the_cpu() {
    if !on_cuda("runs_on_cuda_end_where_they_end_on_the_cpu") {
        return;
    }
    let (cpu, cuda) = (open(BUNDLED, Device::Cpu, Dtype::F32), open(BUNDLED, Device::Cuda, Dtype::F32));
    let mut rows = Rows::default();
    // Noise draws, a multistep history, clipping by quantile, and a solver of two calls a step.
    for sampler in ["pndm", "lms", "ddpm", "dpm++2m", "heun"] {
        let right = run(&cpu, &request(&cpu, sampler, 4.0.into()), &Start::Noise);
        let found = run(&cuda, &request(&cuda, sampler, 4.0.into()), &Start::Noise);
        assert!(found.1.unwrap().equal(&right.1.unwrap()), "{sampler}: the start noise is drawn on the CPU");
        rows.add(&format!("run of 20 steps, {sampler}, F32"), relative(&found.0.latents, &right.0.latents), 1e-4);
        // A number half way between two bytes may be rounded to either; clipped estimates of DDPM move more.
        rows.add(&format!("run of 20 steps, {sampler}, F32: bytes"), levels(&found.0.picture, &right.0.picture), 2.0);
    }
    let picture = run(&cpu, &request(&cpu, "pndm", 4.0.into()), &Start::Noise).0.picture;
    let start = || Start::Picture { strength: 0.6, picture: picture.clone().into() };
    let right = run(&cpu, &request(&cpu, "pndm", 6.0.into()), &start()).0;
    let found = run(&cuda, &request(&cuda, "pndm", 6.0.into()), &start()).0;
    rows.add("run from a picture, F32", relative(&found.latents, &right.latents), 1e-4);
    rows.check();
}

/// Two texts, the numbers and their sines, zeros, one row without guidance, and a VAE in f32 beside networks in halves.
#[test]
fn runs_of_sdxl_on_cuda_end_where_they_end_on_the_cpu() {
    if !on_cuda("runs_of_sdxl_on_cuda_end_where_they_end_on_the_cpu") {
        return;
    }
    let mut rows = Rows::default();
    for (folder, guidance) in SDXL {
        let (cpu, cuda) = (open(folder, Device::Cpu, Dtype::F32), open(folder, Device::Cuda, Dtype::F32));
        let size = Size { height: 32, width: 48 };
        let of = |model: &Model| Request { steps: 4, guidance: guidance.into(), size, ..model.request(CAPTION, 193) };
        let right = run(&cpu, &of(&cpu), &Start::Noise).0;
        // The first run computes and records a call, a later one replays it.
        for time in ["first", "second"] {
            let found = run(&cuda, &of(&cuda), &Start::Noise).0;
            // Of the same size as between two kinds of processor, which random networks enlarge.
            rows.add(&format!("{folder}, {time} run, F32"), relative(&found.latents, &right.latents), 2e-4);
        }
        let halves = open(folder, Device::Cuda, Dtype::Bf16);
        assert_eq!((halves.unet.kind(), halves.vae.kind()), (Kind::BFloat16, Kind::Float), "{folder}");
        let [first, second] = [(); 2].map(|()| run(&halves, &of(&halves), &Start::Noise).0);
        assert!(first.latents.equal(&second.latents) && first.picture == second.picture, "{folder}");
    }
    rows.check();
}

#[test]
fn a_run_on_cuda_made_twice_is_the_same_in_every_bit() {
    if !on_cuda("a_run_on_cuda_made_twice_is_the_same_in_every_bit") {
        return;
    }
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let model = open(BUNDLED, Device::Cuda, dtype);
        let request = request(&model, "ddpm", 4.0.into());
        let [first, second] = [(); 2].map(|()| run(&model, &request, &Start::Noise).0);
        assert!(first.latents.equal(&second.latents), "{dtype:?}");
        assert_eq!(first.picture, second.picture, "{dtype:?}");
    }
}

#[test]
fn halves_on_cuda_stay_near_f32() {
    if !on_cuda("halves_on_cuda_stay_near_f32") {
        return;
    }
    let of = |dtype| {
        let model = open(BUNDLED, Device::Cuda, dtype);
        run(&model, &request(&model, "dpm++2m", 4.0.into()), &Start::Noise).0
    };
    let right = of(Dtype::F32);
    let mut rows = Rows::default();
    // Guidance 4 and twenty steps enlarge the error of one call about tenfold.
    for (dtype, tolerance) in [(Dtype::F16, 0.1), (Dtype::Bf16, 0.5)] {
        rows.add(
            &format!("run of 20 steps, {dtype:?} beside F32"),
            relative(&of(dtype).latents, &right.latents),
            tolerance,
        );
    }
    rows.check();
}

#[test]
fn a_batch_on_cuda_is_its_images_alone() {
    if !on_cuda("a_batch_on_cuda_is_its_images_alone") {
        return;
    }
    let model = open(BUNDLED, Device::Cuda, Dtype::F32);
    let requests: Vec<Request> =
        [0.0, 1.0, 2.0, 4.0, 8.0].map(|weight| request(&model, "dpm++2m", Guidance::Constant(weight))).into();
    let images: Vec<(&Request, &Start)> = requests.iter().map(|request| (request, &Start::Noise)).collect();
    let together = model.run_together(&images, &mut Pass::silent()).unwrap();
    let mut rows = Rows::default();
    assert_eq!(together.evaluations, count(&model, &images));
    for (request, outcome) in requests.iter().zip(&together.outcomes) {
        let alone = run(&model, request, &Start::Noise).0;
        rows.add(
            &format!("image at guidance {} in a batch of 5, F32", request.guidance),
            relative(&outcome.latents, &alone.latents),
            1e-4,
        );
    }
    rows.check();
}

#[test]
fn a_number_that_is_not_finite_is_found_on_cuda() {
    if !on_cuda("a_number_that_is_not_finite_is_found_on_cuda") {
        return;
    }
    /// Puts a NaN into one tensor.
    struct Spoil;
    impl Probe for Spoil {
        fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
            tap.name() == "unet.mid_block.out" && moment.call == 2
        }
        fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            tensor * f64::NAN
        }
    }
    let model = open(BUNDLED, Device::Cuda, Dtype::F16);
    let error = model.run(&request(&model, "lms", 4.0.into()), &mut Pass::watched(&mut Spoil)).err().expect("an error");
    assert!(error.to_string().contains("unet.mid_block"), "{error}");
}
