//! What looking costs: `./just bench tracing`. Runs with and without are made in turn, and the median of their ratios is
//! printed. `LATENTRACE_BENCH_MODEL` names another checkpoint than the bundled one, `LATENTRACE_BENCH_PAIRS` says how
//! many pairs.

#![allow(clippy::print_stdout, missing_docs)] // a bench prints, and its macros make public items
use criterion::{Criterion, criterion_group, criterion_main};
use latentrace::nn::tch::{Device, Kind, Tensor};
use latentrace::nn::{Moment, Pass, Probe, Tap};
use latentrace::pipeline::{Model, Options, Request, Start};
use latentrace::trace::{Capture, Layout, Recorder, Rule, Words, Writer};
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is kept besides the sampler's values, and what that is called.
const CAPTURES: [(&str, &[&str]); 5] = [
    ("flight recorder", &[]),
    (
        "statistics of every tap of the fused path",
        &[
            "unet.**.{out,norm*,conv*,time_emb_proj,skip,q,k,v,proj_*,net.*,waves} | stats",
            "unet.{sample,conv_*} | stats",
        ],
    ),
    ("statistics of every tap, probabilities too", &["unet.** | stats"]),
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
    let pairs = std::env::var("LATENTRACE_BENCH_PAIRS").ok().and_then(|pairs| pairs.parse().ok()).unwrap_or(30);
    let folder = tempfile::tempdir().expect("a folder");
    let plain = || seconds(|| _ = denoise(&model, &request, &mut Pass::silent()));
    plain();
    let nobody = || seconds(|| _ = denoise(&model, &request, &mut Pass::watched(&mut Nobody)));
    ratio("a probe that wants nothing", pairs, plain, nobody);
    for (name, rules) in CAPTURES {
        let mut number = 0;
        let mut bytes = 0;
        let recorded = || {
            number += 1;
            let trace = folder.path().join(format!("{number}"));
            let time = seconds(|| record(&model, &request, rules, &trace));
            bytes = size(&trace);
            std::fs::remove_dir_all(&trace).ok();
            time
        };
        ratio(name, pairs, plain, recorded);
        println!("{:>60} MB kept of each run", format!("{:.2}", bytes as f64 / 1e6));
    }
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

/// Prints the median of the ratios of pairs.
fn ratio(name: &str, pairs: usize, mut without: impl FnMut() -> f64, mut with: impl FnMut() -> f64) {
    let mut ratios: Vec<f64> = (0..pairs).map(|_| without()).map(|without| with() / without).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |part: f64| ratios[((ratios.len() - 1) as f64 * part) as usize];
    println!("{name:>50}: {:.4} of the time without ({:.3} to {:.3})", at(0.5), at(0.25), at(0.75));
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

criterion_group!(tracing, off, on, disk);
criterion_main!(tracing);
