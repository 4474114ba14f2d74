//! Attention on the CPU by our kernels and by libtorch's, in GFLOP/s: `cargo bench -p latentrace-nn --bench attention`.
//!
//! Arguments choose lines that contain one of them, such as `bf16` or `4096x4096`. All of a line are timed in turn, round
//! after round; the median and the best are printed.

#![allow(clippy::print_stdout)] // a bench prints
#![allow(dead_code, unused_imports)] // of the library's module, what only the library and its tests use

#[path = "../src/cpu/mod.rs"]
mod cpu;

use cpu::Engine;
#[cfg(test)]
use latentrace_nn::seeded; // for the tests of the module
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor, no_grad};

/// At least so many rounds.
const ROUNDS: usize = 5;
/// Rounds go on for so long, up to ten times as many.
const LASTING: Duration = Duration::from_millis(700);

/// Batch, heads, pixels, tokens, features.
const SHAPES: [[i64; 5]; 15] = [
    [2, 8, 4096, 4096, 40],
    [2, 8, 1024, 1024, 80],
    [2, 8, 256, 256, 160],
    [2, 8, 64, 64, 160],
    [2, 8, 4096, 77, 40],
    [1, 1, 2048, 4096, 40],
    [1, 1, 1024, 1024, 80],
    [2, 8, 1024, 77, 80],
    [2, 8, 256, 77, 160],
    [2, 8, 64, 77, 160],
    [2, 5, 4096, 4096, 64],
    [2, 10, 1024, 1024, 64],
    [2, 20, 256, 256, 64],
    [1, 5, 9216, 9216, 64],
    [1, 1, 4096, 4096, 512],
];

/// What computes attention: one of our engines, or libtorch.
type Way = Option<Engine>;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for (name, kind) in [("f32", Kind::Float), ("bf16", Kind::BFloat16)] {
        for threads in [1, 2] {
            for shape in SHAPES {
                let [batch, heads, pixels, tokens, features] = shape;
                let line = format!("{name} {threads}t {batch}x{heads} {pixels}x{tokens} d={features}");
                if wanted.iter().all(|part| line.contains(part.as_str())) {
                    print_line(&line, shape, kind, threads);
                }
            }
        }
    }
}

fn print_line(line: &str, [batch, heads, pixels, tokens, features]: [i64; 5], kind: Kind, threads: i32) {
    let draw = |rows: i64| {
        let flat = Tensor::randn([batch, rows, heads * features], (Kind::Float, Device::Cpu)).to_kind(kind);
        flat.view([batch, rows, heads, features]).transpose(1, 2)
    };
    let inputs = [draw(pixels), draw(tokens), draw(tokens)];
    tch::set_num_threads(threads);
    let ways: Vec<Way> = [None]
        .into_iter()
        .chain(Engine::ALL.map(Some))
        .filter(|way| *way != Some(Engine::Portable) && compute(*way, &inputs, threads).is_some())
        .collect();
    let mut times = vec![Vec::new(); ways.len()];
    let began = Instant::now();
    while times[0].len() < ROUNDS || (began.elapsed() < LASTING && times[0].len() < 100 * ROUNDS) {
        for (way, times) in ways.iter().zip(&mut times) {
            let start = Instant::now();
            let out = compute(*way, &inputs, threads);
            times.push(start.elapsed().as_secs_f64());
            drop(out);
        }
    }
    let work = 4.0 * (batch * heads * pixels * tokens * features) as f64; // two products
    print!("{line:32}");
    for (way, times) in ways.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let name = way.map_or("libtorch".into(), |engine| format!("{engine:?}"));
        print!("  {name} {:.0} (best {:.0})", work / times[times.len() / 2] / 1e9, work / times[0] / 1e9);
    }
    println!();
}

fn compute(way: Way, [q, k, v]: &[Tensor; 3], threads: i32) -> Option<Tensor> {
    no_grad(|| match way {
        None => Some(Tensor::scaled_dot_product_attention::<Tensor>(q, k, v, None, 0.0, false, None, false)),
        Some(engine) => engine.attention(q, k, v, threads as usize),
    })
}
