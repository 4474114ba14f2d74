//! What a run is made of, timed: `./just bench`.

#![allow(clippy::print_stdout, missing_docs)] // a bench prints, and its macros make public items
use criterion::{Criterion, criterion_group, criterion_main};
use latentrace::nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace::nn::{Pass, seeded};
use latentrace::pipeline::{Model, Options, Outputs, Request, SamplerTaps, Start, replay};
use latentrace::schedulers::{Config, Reading};
use std::hint::black_box;
use std::path::Path;

/// Stable Diffusion 1.4's scheduler.
const PNDM: &str = r#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "beta_end": 0.012, "skip_prk_steps": true, "steps_offset": 1}"#;

fn bundled() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/shapes");
    Model::open(&folder, Options::default()).expect("the bundled model")
}

fn plans(criterion: &mut Criterion) {
    let config = Config::from_json(PNDM).expect("a scheduler config");
    for name in ["pndm", "lms", "dpm++2m", "unipc", "sa_solver"] {
        let config = config.with_class(name).expect("a sampler");
        for steps in [50, 999] {
            criterion.bench_function(&format!("plan: {name}, {steps} steps"), |bench| {
                bench.iter(|| config.plan(black_box(steps), Reading::Diffusers).expect("a plan"))
            });
        }
    }
}

/// What a run of 50 steps costs beside its network: the outputs are there already. To be held against "unet: one step under
/// guidance", times the calls.
fn executor(criterion: &mut Criterion) {
    let model = bundled();
    let [side, _] = model.checkpoint.unet.config.sample_size;
    let shape = [1, 4, side, side];
    let draw = |seed| seeded(seed, || Tensor::randn(shape, (Kind::Float, Device::Cpu)));
    for name in ["euler", "pndm", "lms", "dpm++2m", "dpm++sde", "unipc", "sa_solver"] {
        let scheduler = model.scheduler.with_class(name).expect("a sampler");
        let request = Request { scheduler, ..model.request("", 193) };
        let plan = Start::Noise.plan(&request).expect("a plan");
        let calls = plan.calls() as u64;
        let outputs: Vec<Outputs> = (0..calls)
            .map(|call| Outputs::Both { unconditional: draw(2 * call), conditional: draw(2 * call + 1) })
            .collect();
        criterion.bench_function(&format!("executor: {name}, 50 steps of {calls} calls"), |bench| {
            bench.iter(|| {
                let pass = &mut Pass::silent();
                replay(&request, &Start::Noise, &plan, black_box(&outputs), shape, &SamplerTaps::new(), pass)
                    .expect("a run")
            });
        });
    }
}

fn networks(criterion: &mut Criterion) {
    let model = bundled();
    let caption = "a small red circle on the left and a large blue square on the right, white background";
    criterion
        .bench_function("tokenizer: one caption", |bench| bench.iter(|| model.tokenizer().encode(black_box(caption))));
    let [side, _] = model.checkpoint.unet.config.sample_size;
    let draw =
        |batch| seeded(1, || Tensor::randn([batch, 4, side, side], (Kind::Float, Device::Cpu))).to_device(model.device);
    let (_, text) = model.encode(caption, &mut Pass::silent()).expect("text features");
    let text = Tensor::cat(&[&text, &text], 0);
    let time = Tensor::from_slice(&[500f32]).to_device(model.device);
    let sample = draw(2);
    criterion.bench_function("unet: one step under guidance", |bench| {
        bench.iter(|| no_grad(|| model.unet.forward(&mut Pass::silent(), &sample, &time, &text)));
    });
    let latents = draw(1);
    criterion.bench_function("vae: decode", |bench| {
        bench.iter(|| model.decode(&latents, &mut Pass::silent()).expect("a picture"))
    });
}

fn runs(criterion: &mut Criterion) {
    let model = bundled();
    let request = Request { steps: 10, ..model.request("a large red circle on the left, white background", 193) };
    criterion.bench_function("run: 10 steps", |bench| {
        bench.iter(|| model.run(&request, &mut Pass::silent()).expect("a run"));
    });
}

criterion_group! {
    name = speed;
    config = Criterion::default().sample_size(20);
    targets = plans, executor, networks, runs
}
criterion_main!(speed);
