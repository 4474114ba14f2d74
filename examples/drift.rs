//! How far a picture drifts where only rounding differs: by number format, kernels, threads, and the batch that it is made in.
//!
//!     cargo run --release --example drift -- MODEL [STEPS]
//!
//! (`./just bench-drift`) prints a table for [docs/bench/drift.md](../docs/bench/drift.md). Each row is one way to compute the same picture; the first is the reference. *Latents* is the root mean square
//! of the difference of the final latents as a share of that of the latents; *bytes* the share of the picture's bytes that differ,
//! and the largest difference of one. A sampler's errors add up along its steps, and guidance multiplies them by its weight.

#![allow(clippy::print_stdout)] // the table

use latentrace::nn::tch::{Device as Place, Kind, Tensor};
use latentrace::nn::{Engine, Kernels, Layout, Pass, all_threads, keep_freed_memory};
use latentrace::pipeline::{Device, Dtype, KernelChoice, Model, Options, Outcome, Request, Start, Threads};
use std::error::Error;
use std::path::Path;

const PROMPT: &str = "a large red circle on the left, white background";
const GUIDANCE: f64 = 7.5;
/// The scales of the others in its batch.
const OTHERS: [f64; 3] = [1.0, 4.0, 10.0];

/// A way to compute the picture.
struct Way {
    name: String,
    dtype: Dtype,
    kernels: KernelChoice,
    threads: usize,
    batched: bool,
}

impl Way {
    /// The ways that this machine has.
    fn all() -> Vec<Way> {
        let alone = |name: String, dtype, kernels, threads| Way { name, dtype, kernels, threads, batched: false };
        let all = all_threads();
        let mut ways = Vec::new();
        for (dtype, label) in [(Dtype::F32, "f32"), (Dtype::Bf16, "bf16")] {
            let plain = KernelChoice::Exactly(Kernels::PLAIN);
            ways.push(alone(format!("{label}, plain, 1 thread"), dtype, plain, 1));
            if all > 1 {
                ways.push(alone(format!("{label}, plain, {all} threads"), dtype, plain, all));
            }
            for kernels in kernels(dtype.kind()) {
                ways.push(alone(format!("{label}, {kernels}, 1 thread"), dtype, KernelChoice::Exactly(kernels), 1));
            }
            let name = format!("{label}, plain, 1 thread, in a batch of {}", 1 + OTHERS.len());
            ways.push(Way { batched: true, ..alone(name, dtype, plain, 1) });
        }
        ways
    }

    fn compute(&self, place: &Path, steps: usize) -> Result<Outcome, Box<dyn Error>> {
        let options = Options { dtype: self.dtype, device: Device::Cpu, kernels: self.kernels, ..Options::default() };
        let mut model = Model::open(place, options)?;
        model.threads = Threads::Recorded(self.threads);
        let request = |guidance: f64| Request { steps, guidance: guidance.into(), ..model.request(PROMPT, 193) };
        if !self.batched {
            return Ok(model.run(&request(GUIDANCE), &mut Pass::silent())?);
        }
        let requests: Vec<Request> = [GUIDANCE].iter().chain(&OTHERS).map(|guidance| request(*guidance)).collect();
        let images: Vec<(&Request, &Start)> = requests.iter().map(|request| (request, &Start::Noise)).collect();
        let outcomes = model.run_together(&images, &mut Pass::silent())?.outcomes;
        Ok(outcomes.into_iter().next().ok_or("no outcome")?)
    }
}

/// Kernels of this CPU for a number format, besides libtorch's own.
fn kernels(kind: Kind) -> Vec<Kernels> {
    let engines = Engine::ALL.into_iter().filter(|engine| engine.computes(kind));
    let with = |engine| Kernels { attention: Some(engine), ..Kernels::PLAIN };
    let channels_last = Kernels { layout: Layout::ChannelsLast, ..Kernels::PLAIN };
    [channels_last].into_iter().chain(engines.map(with)).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (place, steps) = match arguments.as_slice() {
        [place] => (place, 50),
        [place, steps] => (place, steps.parse()?),
        _ => return Err("expected MODEL [STEPS]".into()),
    };
    println!("`{}`, guidance {GUIDANCE}, {steps} steps of its own scheduler.\n", place);
    println!("| way | latents | bytes that differ | largest |\n|---|---|---|---|");
    let mut reference: Option<Outcome> = None;
    for way in Way::all() {
        let made = way.compute(Path::new(place), steps)?;
        match &reference {
            None => println!("| {} | reference | | |", way.name),
            Some(reference) => println!("| {} | {} |", way.name, compared(reference, &made)),
        }
        reference = reference.or(Some(made));
    }
    Ok(())
}

/// The cells of the table for an outcome.
fn compared(reference: &Outcome, made: &Outcome) -> String {
    let size = |latents: &Tensor| {
        latents.to_device(Place::Cpu).to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
    };
    let drift = size(&(&made.latents - &reference.latents)) / size(&reference.latents);
    let pairs = reference.picture.pixels.iter().zip(&made.picture.pixels);
    let apart: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).filter(|apart| *apart > 0).collect();
    let share = apart.len() as f64 / reference.picture.pixels.len() as f64;
    format!("{drift:.1e} | {:.2} % | {}", 100.0 * share, apart.iter().max().unwrap_or(&0))
}
