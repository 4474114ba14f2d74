//! What a run is made of, timed: `./just bench`.

#![allow(clippy::print_stdout, missing_docs)] // a bench prints, and its macros make public items
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use latentrace::nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace::nn::{Pass, seeded};
use latentrace::pipeline::{Model, Options, Request, SamplerTaps};
use latentrace::schedulers::{Config, Reading};
use latentrace::trace::Recorder;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

/// Stable Diffusion 1.4's scheduler.
const PNDM: &str = r#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "beta_end": 0.012, "skip_prk_steps": true, "steps_offset": 1}"#;

fn bundled() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/shapes");
    Model::open(&folder, Options::default()).expect("the bundled model")
}

fn plans(criterion: &mut Criterion) {
    let config = Config::from_json(PNDM).expect("a scheduler config");
    for steps in [50, 500] {
        let name = format!("plan: PNDM, {steps} steps");
        criterion.bench_function(&name, |bench| {
            bench.iter(|| config.plan(black_box(steps), Reading::Diffusers).expect("a plan"))
        });
    }
}

fn networks(criterion: &mut Criterion) {
    let model = bundled();
    let caption = "a small red circle on the left and a large blue square on the right, white background";
    criterion
        .bench_function("tokenizer: one caption", |bench| bench.iter(|| model.tokenizer.encode(black_box(caption))));
    let draw =
        |batch| seeded(1, || Tensor::randn([batch, 4, 8, 8], (Kind::Float, Device::Cpu))).to_device(model.device);
    let (_, text) = model.encode(caption, &mut Pass::silent()).expect("text features");
    let text = Tensor::cat(&[&text, &text], 0);
    let time = Tensor::from_slice(&[500f32]).to_device(model.device);
    let sample = draw(2);
    criterion.bench_function("unet: one step under guidance", |bench| {
        bench.iter(|| no_grad(|| model.unet.forward(&mut Pass::silent(), &sample, &time, &text)));
    });
    let latents = draw(1);
    criterion.bench_function("vae: decode", |bench| bench.iter(|| model.decode(&latents, &mut Pass::silent())));
}

/// A whole run, watched by nobody and by the recorder of every sampler value; and, because a difference of a percent
/// drowns between two benches, the ratio of the two from runs in turn.
fn tracing(criterion: &mut Criterion) {
    let model = bundled();
    let request = Request { steps: 10, ..model.request("a large red circle on the left, white background", 193) };
    let taps = SamplerTaps::new();
    let untraced = || model.run(&request, &taps, &mut Pass::silent()).expect("a run");
    let recorder = || {
        Recorder::of([
            "sampler.sample",
            "sampler.epsilon.unconditional",
            "sampler.epsilon.conditional",
            "sampler.epsilon.guided",
            "sampler.denoised",
            "sampler.noise",
        ])
    };
    let traced = |recorder: &mut Recorder| model.run(&request, &taps, &mut Pass::watched(recorder)).expect("a run");
    criterion.bench_function("run: 10 steps, untraced", |bench| bench.iter(untraced));
    criterion.bench_function("run: 10 steps, recorded", |bench| {
        bench.iter_batched(recorder, |mut recorder| traced(&mut recorder), BatchSize::PerIteration);
    });
    let mut ratios: Vec<f64> = (0..40)
        .map(|_| {
            let began = Instant::now();
            untraced();
            let off = began.elapsed();
            let mut recorder = recorder();
            let began = Instant::now();
            traced(&mut recorder);
            began.elapsed().as_secs_f64() / off.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("run: recorded against untraced, 40 pairs in turn: median ratio {:.3}", ratios[20]);
}

criterion_group! {
    name = speed;
    config = Criterion::default().sample_size(20);
    targets = plans, networks, tracing
}
criterion_main!(speed);
