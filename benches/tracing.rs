//! What looking costs: `./just bench tracing`. Runs with and without are made in turn, and the medians of their ratios are
//! printed: of the time that passed, and of the time of all processor cores. Other work on the machine changes the first
//! more than the second.
//!
//! `LATENTRACE_BENCH_MODEL` names another checkpoint than the bundled one, `LATENTRACE_BENCH_PAIRS` says how many pairs.
//! `LATENTRACE_BENCH_FULL` names a checkpoint of full size, such as Stable Diffusion 1.x, for the cases of one call at
//! 512x512; without it these are skipped.

#![allow(clippy::print_stdout, missing_docs)] // a bench prints, and its macros make public items
use criterion::{Criterion, criterion_group, criterion_main};
use latentrace::nn::tch::{Device, Kind, Tensor};
use latentrace::nn::{Moment, Pass, Probe, Tap};
use latentrace::pipeline::{Dtype, Model, Options, Request, Size, Start};
use latentrace::trace::{Capture, Layout, Recorder, Rule, Words, Writer};
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is kept of a run, and what that is called.
type Captured = (&'static str, &'static [&'static str]);

/// Statistics of every tap that passes without a probe too: all but scores and probabilities.
const OF_FUSED_PATH: Captured = (
    "statistics of every tap of the fused path",
    &["unet.**.{out,norm*,conv*,time_emb_proj,skip,q,k,v,proj_*,net.*,waves} | stats", "unet.{sample,conv_*} | stats"],
);

/// Statistics of every tap.
const OF_ALL: Captured = ("statistics of every tap, probabilities too", &["unet.** | stats"]);

/// What is kept besides the sampler's values.
const CAPTURES: [Captured; 5] = [
    ("flight recorder", &[]),
    OF_FUSED_PATH,
    OF_ALL,
    ("attention to text, mean over heads", &["unet.**.attn2.probs | head_mean"]),
    ("every block and resnet whole", &["unet.**.out"]),
];

/// The cost of a tap that nobody looks at.
fn off(criterion: &mut Criterion) {
    let (model, request) = model();
    let tap = Tap::named("unet.mid_block.out");
    let mut tensor = Some(Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    criterion.bench_function("off: one tap", |bench| {
        let mut pass = Pass::silent();
        bench.iter(|| tensor = tensor.take().map(|tensor| black_box(&mut pass).tap(black_box(&tap), tensor)));
    });
    let mut pass = Pass::silent();
    let count = 10_000_000;
    let began = Instant::now();
    for _ in 0..count {
        tensor = tensor.take().map(|tensor| black_box(&mut pass).tap(black_box(&tap), tensor));
    }
    let each = began.elapsed().as_secs_f64() / f64::from(count);
    let call = seconds(|| _ = denoise(&model, &request, &mut Pass::silent()))
        / model.check(&request).map_or(1, |plan| plan.calls()) as f64;
    let share = 100.0 * each * model.taps.len() as f64 / call;
    println!("off: {} taps of {:.1} ns in a call of {:.1} ms: {share:.4} %", model.taps.len(), 1e9 * each, 1e3 * call);
}

/// A probe that wants nothing.
struct Nobody;

impl Probe for Nobody {
    fn wants(&self, _: &Tap, _: &Moment) -> bool {
        false
    }
    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        tensor
    }
}

/// Pairs of runs in turn.
fn on(_: &mut Criterion) {
    let (model, request) = model();
    let plain = || _ = denoise(&model, &request, &mut Pass::silent());
    plain();
    let nobody = || _ = denoise(&model, &request, &mut Pass::watched(&mut Nobody));
    ratio_of("a probe that wants nothing", pairs(30), plain, nobody, || ());
    captures(&model, &request, &CAPTURES, pairs(30));
}

/// The same for one call of a full-size model at 512x512, where most of the work is self-attention.
fn full(_: &mut Criterion) {
    let Some(path) = std::env::var("LATENTRACE_BENCH_FULL").ok().map(PathBuf::from) else {
        println!("full size: not measured, because LATENTRACE_BENCH_FULL names no checkpoint");
        return;
    };
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let model = Model::open(&path, Options { dtype, ..Options::default() }).expect("the full-size model");
        let size = Size { width: 512, height: 512 };
        let request = Request { steps: 1, size, ..model.request("a red circle", 193) };
        let _ = denoise(&model, &request, &mut Pass::silent()); // reads the weights
        println!("full size, {dtype:?}:");
        captures(&model, &request, &[OF_FUSED_PATH, OF_ALL], pairs(5));
    }
}

/// Pairs of runs for each of some captures.
fn captures(model: &Model, request: &Request, captures: &[Captured], pairs: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = || _ = denoise(model, request, &mut Pass::silent());
    let trace = folder.path().join("trace");
    for (name, rules) in captures {
        let mut bytes = 0;
        let remove = || {
            bytes = size(&trace);
            std::fs::remove_dir_all(&trace).ok();
        };
        ratio_of(name, pairs, plain, || record(model, request, rules, &trace), remove);
        println!("{:>60} MB kept of each run", format!("{:.2}", bytes as f64 / 1e6));
    }
}

/// How many pairs of runs are made.
fn pairs(usual: usize) -> usize {
    std::env::var("LATENTRACE_BENCH_PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(usual)
}

/// How fast everything is kept, against how fast the disk takes plain files.
fn disk(_: &mut Criterion) {
    let (model, request) = model();
    if std::env::var("LATENTRACE_BENCH_MODEL").is_ok() {
        return; // every tensor of a full-size call is 14 GB
    }
    let folder = tempfile::tempdir().expect("a folder");
    let rules: &[&str] = &["unet.**"];
    let calls = model.check(&request).expect("a plan").calls();
    let plain = seconds(|| _ = denoise(&model, &request, &mut Pass::silent()));
    let trace = folder.path().join("trace");
    let traced = seconds(|| record(&model, &request, rules, &trace));
    let bytes = size(&trace) as f64;
    let block = vec![0x5au8; (bytes / calls as f64) as usize];
    let files = seconds(|| {
        for call in 0..calls {
            let mut file = std::fs::File::create(folder.path().join(format!("plain-{call}"))).expect("a file");
            file.write_all(&block).expect("written");
            file.sync_all().expect("on the disk");
        }
    });
    println!(
        "everything kept: {:.0} MB in {traced:.2} s ({plain:.2} s without), {:.0} MB/s; the disk takes {:.0} MB/s",
        bytes / 1e6,
        bytes / 1e6 / traced,
        bytes / 1e6 / files
    );
}

fn record(model: &Model, request: &Request, rules: &[&str], trace: &Path) {
    let rules = rules.iter().map(|rule| Rule::parse(rule).expect("a rule")).collect();
    let writer = Writer::create(trace, &serde_json::json!({}), Layout::LIVE).expect("a trace");
    let capture = Capture { rules, budget: None };
    let mut recorder =
        Recorder::new(&capture, &model.taps, Words::default(), request.steps, writer).expect("a recorder");
    let _ = denoise(model, request, &mut Pass::watched(&mut recorder));
    recorder.end(None).expect("a record");
}

/// A run without the picture, which no step has a part in.
fn denoise(model: &Model, request: &Request, pass: &mut Pass) -> Tensor {
    model.denoise(request, &Start::Noise, &[], pass).expect("a run")
}

fn model() -> (Model, Request) {
    let bundled = || Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/shapes");
    let named = std::env::var("LATENTRACE_BENCH_MODEL").ok().map(PathBuf::from);
    let steps = if named.is_some() { 1 } else { 50 };
    let model = Model::open(&named.unwrap_or_else(bundled), Options::default()).expect("the model");
    let request = Request { steps, ..model.request("a large red circle on the left, white background", 193) };
    (model, request)
}

/// Prints the medians of the ratios of pairs, of the time and of the cores' time. `after` follows each pair, and is not
/// timed.
fn ratio_of(name: &str, pairs: usize, mut without: impl FnMut(), mut with: impl FnMut(), mut after: impl FnMut()) {
    let [mut times, mut of_cores] = [Vec::new(), Vec::new()];
    for _ in 0..pairs {
        let [plain, cores_plain] = both_times(&mut without);
        let [time, cores] = both_times(&mut with);
        times.push(time / plain);
        of_cores.push(cores / cores_plain);
        after();
    }
    times.sort_by(f64::total_cmp);
    of_cores.sort_by(f64::total_cmp);
    let at = |ratios: &[f64], part: f64| ratios[((ratios.len() - 1) as f64 * part) as usize];
    let [quarter, half, most] = [0.25, 0.5, 0.75].map(|part| at(&times, part));
    let cores = at(&of_cores, 0.5);
    println!("{name:>50}: {half:.4} of the time without ({quarter:.3} to {most:.3}), {cores:.3} of the cores' time");
}

/// The seconds that work takes, and those that all threads of the process had on a core.
fn both_times(work: impl FnOnce()) -> [f64; 2] {
    let before = cores();
    let time = seconds(work);
    [time, cores() - before]
}

/// The seconds that all threads of this process had on a core so far, in hundredths; NaN where the system does not say it
/// as Linux does.
fn cores() -> f64 {
    let about = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = about.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> =
        after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    if ticks.len() == 2 { ticks.iter().sum::<f64>() / 100.0 } else { f64::NAN }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() {
                    size(&entry.path())
                } else {
                    entry.metadata().map_or(0, |about| about.len())
                }
            },
        )
        .sum()
}

criterion_group!(tracing, off, on, disk, full);
criterion_main!(tracing);
