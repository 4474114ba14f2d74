//! Thousands of descriptions that no run has: whatever `run.json` says, what reads it gives an answer or an error, and
//! nothing panics or asks for memory that the record has no use for.

#![allow(clippy::print_stdout)] // the counts are for who asks with --nocapture
use latentrace_experiments::views;
use latentrace_pipeline::nn::seeded;
use latentrace_pipeline::nn::tch::{Kind, Tensor};
use latentrace_pipeline::{Model, Options};
use latentrace_plot::{RgbImage, save_png};
use latentrace_runs::{Cell, Description, Job, Kept, Phased, Sampler, Scalars, Verification};
use latentrace_trace::{Layout, Trace};
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Sets how many mutations are tried; without it there are so many that the other tests do not wait.
const COUNT: &str = "LATENTRACE_MUTATIONS";
const FEW: usize = 600;

/// Numbers below some bound, from a seed.
struct Dice(Vec<i64>, usize);

impl Dice {
    fn new(seed: u64) -> Dice {
        let draw = || Tensor::randint(i64::MAX, [4096], (Kind::Int64, latentrace_pipeline::nn::tch::Device::Cpu));
        Dice(seeded(seed, draw).try_into().unwrap(), 0)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.1 += 1;
        self.0[self.1 % self.0.len()] as usize % bound.max(1)
    }
}

/// A record of each kind, made by the tiny checkpoint: of a run, of a fork and of a fork of it, of a fork with another
/// sampler, of a run from a picture, and of a run that was cut off.
fn records(folder: &Path, model: &Model) -> Vec<PathBuf> {
    let at = |name: &str| folder.join(name).with_extension("trace");
    let kept = Kept { capture: vec!["unet.mid_block.out @branch{cond}".parse().unwrap()], budget: Some(100_000) };
    let record = |job: Job, name: &str| job.record(&at(name), Layout::EVERY_CALL, &()).unwrap();
    let cell = |guidance: f64| Cell {
        prompt: "a cat".into(),
        steps: 4,
        guidance: guidance.into(),
        model: Some(model.checkpoint.place().to_path_buf()),
        edits: vec!["unet.mid_block.out @step[1] => scale(0.5)".parse().unwrap()],
        ..Cell::default()
    };
    let first = record(Job::new(model, &cell(3.0), &kept).unwrap(), "run").trace;
    let fork =
        |cell: Cell, of: &Trace, name: &str| record(Job::fork(model, of, 2, |_| cell, None).unwrap().0, name).trace;
    let second = fork(cell(1.0), &first, "fork");
    fork(cell(5.0), &second, "fork-of-fork");
    let sampler = Some(Sampler::Named("lms".into()));
    fork(Cell { sampler, ..cell(5.0) }, &first, "other-sampler");
    let picture = folder.join("picture.png");
    save_png(&picture, &RgbImage::from_fn(64, 64, |x, y| [x as u8, y as u8, 9].into()), &[]).unwrap();
    let from_picture = Cell { image: Some(picture), strength: Some(0.6), ..cell(2.0) };
    record(Job::new(model, &from_picture, &kept).unwrap(), "picture");
    fork(cell(1.0), &first, "cut");
    let names = ["run", "fork", "fork-of-fork", "other-sampler", "picture", "cut"];
    for name in names {
        let index = at(name).join("index.jsonl");
        let text = std::fs::read_to_string(&index).unwrap();
        let lines = if name == "cut" { text.lines().count() / 2 } else { usize::MAX };
        // As a record of before, which does not know that its description has changed.
        let old: String = text.lines().take(lines).map(of_before).collect();
        std::fs::write(&index, old).unwrap();
    }
    names.map(at).to_vec()
}

/// An index line without its number and checksums.
fn of_before(line: &str) -> String {
    let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
    for name in ["line", "check", "run_crc32"] {
        line.remove(name);
    }
    format!("{}\n", Value::Object(line))
}

/// Where values are, as JSON pointers.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| {
                pointers(value, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), all)
            });
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| pointers(value, format!("{at}/{index}"), all))
        }
        _ => {}
    }
    all.push(at);
}

/// Values that a careless or a malicious hand may put anywhere.
fn odd(dice: &mut Dice) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(64),
        json!(1_000_000_000u64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(-0.0),
        json!(1e-320),
        json!(1e308),
        json!(-1e308),
        json!(100_000),
        json!(8192),
        json!(""),
        json!("x"),
        json!("x".repeat(20_000)),
        json!("../../.."),
        json!("/"),
        json!("\u{0}"),
        json!([]),
        json!({}),
        json!([1, 2, 3]),
        json!([0, 0, 0]),
        json!([-1, 4, 4]),
        json!([4, 1_000_000_000, 1_000_000_000]),
        json!([1.5]),
        json!({"weight": 3, "sigma": [0, 1e300]}),
        json!({"sigma": [1, 2], "weight": [1]}),
        json!({"t": 1e300, "sigma": 1e300}),
        json!({"t": 0, "sigma": 1e-300}),
        json!("unet.** => zero"),
        json!("sampler.sample => scale(1e30)"),
        json!("unet.** => replace(/nowhere)"),
        json!(vec!["a"; 10_000]),
        json!("EulerAncestralDiscreteScheduler"),
        json!("edm_sde"),
        json!("exact"),
    ];
    odd[dice.below(odd.len())].clone()
}

/// Changes one thing of a description.
fn mutate(run: &mut Value, dice: &mut Dice) {
    let mut all = Vec::new();
    pointers(run, String::new(), &mut all);
    let at = all[dice.below(all.len())].clone();
    let other = all[dice.below(all.len())].clone();
    let (parent, name) = at.rsplit_once('/').unwrap_or_default();
    match dice.below(8) {
        0 => match run.pointer_mut(parent) {
            Some(Value::Object(fields)) => _ = fields.remove(name),
            Some(Value::Array(list)) => _ = list.pop(),
            _ => {}
        },
        1 => {
            let value = run.pointer(&other).cloned().unwrap_or_default();
            if let Some(place) = run.pointer_mut(&at) {
                *place = value;
            }
        }
        2 | 3 => {
            let factor = [-1.0, 2.0, 0.5, 1000.0, 1e9][dice.below(5)];
            if let Some(place) = run.pointer_mut(&at)
                && let Some(number) = place.as_f64()
            {
                let integer = place.is_i64() || place.is_u64();
                let step = [number + 1.0, number - 1.0, number * factor][dice.below(3)];
                *place = if integer { json!(step as i64) } else { json!(step) };
            }
        }
        4 => {
            let known = [
                ("/cell", "strength"),
                ("/cell", "image"),
                ("/cell", "mask"),
                ("/cell", "height"),
                ("/cell", "sampler"),
                ("/cell", "spacing"),
                ("/cell", "edits"),
                ("", "fork"),
                ("", "budget"),
                ("", "capture"),
                ("/fork", "level"),
                ("/fork", "past"),
                ("/scheduler", "trained_betas"),
                ("/scheduler", "use_karras_sigmas"),
                ("", "traces"),
            ];
            let (parent, name) = known[dice.below(known.len())];
            if let Some(Value::Object(fields)) = run.pointer_mut(parent) {
                fields.insert(name.into(), odd(dice));
            }
        }
        5 => {
            if let Some(Value::Array(list)) = run.pointer_mut(&at) {
                let more = list.clone();
                list.extend(more);
            }
        }
        _ => {
            let value = odd(dice);
            if let Some(place) = run.pointer_mut(&at) {
                *place = value;
            }
        }
    }
}

/// Everything that reads a record, as the program's commands do.
fn use_all(path: &Path, model: &Model, dice: &mut Dice) -> anyhow::Result<()> {
    let trace = Trace::open(path)?;
    let description = Description::of(&trace)?;
    let _ = Verification::of(&trace, &description, 1e-6);
    let folder = tempfile::tempdir()?;
    let scalars = Scalars::of(&trace, &description);
    let _ = views::words(folder.path(), &trace, &description, &());
    if dice.below(30) == 0 {
        let _ = scalars.and_then(|scalars| views::curves(folder.path(), &scalars, &description));
        let _ = views::commitment(folder.path(), &trace, &description);
        let _ = views::spectrum(folder.path(), &trace, &description);
        let _ = views::health(folder.path(), &trace);
        let _ = views::trajectory(folder.path(), std::slice::from_ref(&trace));
    }
    let taken_over = match dice.below(8) {
        0 => Phased::new(model, &trace, None, &()).and_then(|run| run.taken_over()).unwrap_or(None),
        _ => None,
    };
    let past = taken_over.as_ref().map(|(_, past)| past);
    let resumed = Job::resume(model, &trace, past).and_then(|job| job.check().map(|_| job));
    if let Ok(job) = resumed
        && job.calls() == 0
        && dice.below(4) == 0
    {
        let _ = job.again();
    }
    for call in [0, 1, 3] {
        let forked = Job::fork(model, &trace, call, |before| Cell { guidance: 2.0.into(), ..before.clone() }, None)
            .and_then(|(job, _)| job.check().map(|_| job));
        if let Ok(job) = forked
            && dice.below(8) == 0
        {
            let _ = job.record(&folder.path().join(call.to_string()), Layout::WHOLE, &());
        }
    }
    if trace.complete() == description.calls
        && let Ok(run) = Phased::new(model, &trace, None, &())
        && dice.below(8) == 0
    {
        let _ = run.patched(&"unet.mid_block.out => scale(0)".parse()?, dice.below(3));
    }
    Ok(())
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

#[test]
fn no_description_makes_a_reader_panic() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let model = Model::open(&home.join("data/golden/networks/sd1"), Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let records = records(folder.path(), &model);
    let mut dice = Dice::new(12);
    for path in &records {
        use_all(path, &model, &mut dice).unwrap(); // the unchanged ones are read
    }
    let before = peak();
    let count = std::env::var(COUNT).ok().and_then(|count| count.parse().ok()).unwrap_or(FEW);
    let (mut refused, mut used) = (0, 0);
    for round in 0..count {
        let mut dice = Dice::new(round as u64);
        let path = &records[round % records.len()];
        let file = path.join("run.json");
        let good = std::fs::read(&file).unwrap();
        let mut run: Value = serde_json::from_slice(&good).unwrap();
        (0..1 + dice.below(3)).for_each(|_| mutate(&mut run, &mut dice));
        let mut text = run.to_string().into_bytes();
        if dice.below(10) == 0 {
            let place = dice.below(text.len());
            text[place] ^= 1 << dice.below(8);
        }
        std::fs::write(&file, &text).unwrap();
        match catch_unwind(AssertUnwindSafe(|| use_all(path, &model, &mut dice))) {
            Ok(Ok(())) => used += 1,
            Ok(Err(error)) => {
                refused += 1;
                let said = format!("{error:#}");
                let short: String = said.chars().take(2000).collect();
                assert!(said.contains("run.json: ") && said == short, "round {round}: {short}");
            }
            Err(_) => panic!("round {round} panicked: {}", String::from_utf8_lossy(&text)),
        }
        std::fs::write(&file, &good).unwrap();
    }
    println!("{count} descriptions: {refused} refused, {used} used; {} MB more than before", (peak() - before) >> 20);
    assert!(refused > count / 4 && used > count / 20, "{refused} refused, {used} used");
    assert!(peak() - before < 512 << 20, "{} bytes more than before", peak() - before);
}
