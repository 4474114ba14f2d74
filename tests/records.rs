//! Recorded runs, as the program's users make, check, kill, go on with and compare them.

#![allow(clippy::print_stdout)] // a test says what it skipped, and what it counted
use assert_cmd::Command;
use latentrace_trace::{Trace, compare};
use predicates::prelude::*;
use predicates::str::contains;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn tiny() -> String {
    home().join("data/golden/networks/sd1").display().to_string()
}

fn latentrace(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("latentrace").unwrap();
    command.args(arguments).env("OMP_NUM_THREADS", "1");
    command
}

/// Euler with noise put in at every step.
const CHURN: &str = r#"{"_class_name": "EulerDiscreteScheduler", "s_churn": 3, "timestep_spacing": "trailing"}"#;

/// A folder with one recorded run in it.
struct Made {
    folder: tempfile::TempDir,
    trace: PathBuf,
}

impl Made {
    fn with(more: &[&str]) -> Made {
        Made::of("a cat", more)
    }

    fn of(prompt: &str, more: &[&str]) -> Made {
        let folder = tempfile::tempdir().unwrap();
        let (out, model) = (folder.path().display().to_string(), tiny());
        let mut all = vec!["generate", prompt, "--seed", "7", "--guidance", "3", "--output", &out];
        if !more.contains(&"--model") {
            all.extend(["--model", &model]);
        }
        if !more.contains(&"--steps") {
            all.extend(["--steps", "6"]);
        }
        all.extend(more);
        latentrace(&all).assert().success();
        let trace = folder.path().join(format!("{}-7.trace", prompt.replace(' ', "-")));
        Made { folder, trace }
    }

    fn path(&self) -> &str {
        self.trace.to_str().unwrap()
    }

    fn beside(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn open(&self) -> Trace {
        Trace::open(&self.trace).unwrap()
    }
}

fn latents(trace: &Path) -> Vec<f32> {
    let trace = Trace::open(trace).unwrap();
    let entry = trace.of_tap("sampler.latents").next().expect("a whole run");
    trace.tensor(entry).unwrap().flatten(0, -1).try_into().unwrap()
}

/// The largest relative difference of two traces.
fn apart(a: &Path, b: &Path) -> f64 {
    compare(&Trace::open(a).unwrap(), &Trace::open(b).unwrap()).unwrap().worst().expect("tensors in both").relative
}

#[test]
fn a_recorded_run_is_computed_again_from_its_record_to_the_bit() {
    for model in ["sd1", "sd2"] {
        let model = home().join("data/golden/networks").join(model).display().to_string();
        for (sampler, edits) in [
            ("pndm", vec![]),
            ("ddpm", vec!["--edit", "unet.mid_block.out => scale(0.5)"]),
            ("lms", vec!["--edit", "sampler.sample @step[2] => noise(0.1)"]),
            // Its name sets options that diffusers reads in no file; and churn draws before its call, in both Euler and Heun.
            ("edm_sde", vec!["--exact"]),
            (CHURN, vec!["--exact"]),
        ] {
            let made = Made::with(&[&["--model", &model, "--sampler", sampler][..], &edits].concat());
            latentrace(&["verify", made.path(), "--tolerance", "0"])
                .assert()
                .success()
                .stdout(contains("worst relative difference 0.0e0"));
        }
    }
}

#[test]
fn a_changed_number_is_found_by_verify() {
    let made = Made::with(&[]);
    let trace = made.open();
    let stored = trace.of_tap("sampler.denoised").nth(3).unwrap().stored.clone().unwrap();
    let shard = made.trace.join("shards").join(&stored.shard);
    let mut bytes = std::fs::read(&shard).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    latentrace(&["verify", made.path()]).assert().code(1).stdout(contains("have changed since they were recorded"));
}

#[test]
fn a_fork_with_nothing_changed_is_the_same_run_and_one_with_a_change_is_not() {
    for sampler in ["pndm", "ddpm", "lms"] {
        let made = Made::with(&["--sampler", sampler, "--capture", "unet.mid_block.out"]);
        let same = made.beside("same.trace");
        latentrace(&["fork", made.path(), "--at", "3", "--output", &same]).assert().success();
        assert_eq!(latents(&made.trace), latents(Path::new(&same)), "{sampler}");
        assert_eq!(apart(&made.trace, Path::new(&same)), 0.0, "{sampler}: every tensor, those of the network too");
        latentrace(&["verify", &same, "--tolerance", "0"]).assert().success();
        // The first three steps are those of the first run, the rest is not.
        latentrace(&["fork", made.path(), "--at", "3", "--guidance", "1", "--prompt", "a dog"]).assert().success();
        let other = made.beside("a-cat-7-at-3-guidance-1-a-dog.trace");
        let (first, second) = (made.open(), Trace::open(Path::new(&other)).unwrap());
        let found = compare(&first, &second).unwrap();
        assert!(found.first_beyond(0.0).is_some_and(|difference| difference.step == 3), "{sampler}");
        latentrace(&["verify", &other, "--tolerance", "0"]).assert().success();
        // Forked again, its own past is both runs'.
        let again = made.beside("again.trace");
        latentrace(&["fork", &other, "--at", "5", "--output", &again]).assert().success();
        assert_eq!(latents(Path::new(&other)), latents(Path::new(&again)), "{sampler}");
    }
}

#[test]
fn another_sampler_begins_at_the_sample_of_a_step() {
    let made = Made::with(&["--sampler", "pndm"]);
    let other = made.beside("lms.trace");
    latentrace(&["fork", made.path(), "--at", "2", "--sampler", "lms", "--output", &other]).assert().success();
    let (before, after) = (made.open(), Trace::open(Path::new(&other)).unwrap());
    let call = before.entries().iter().find(|entry| entry.step == 2).unwrap().call;
    let sample = |trace: &Trace, call| trace.get("sampler.sample", call, None).unwrap();
    assert!(sample(&before, call).equal(&sample(&after, 0)));
    latentrace(&["verify", &other, "--tolerance", "0"]).assert().success();
    latentrace(&["fork", &other, "--at", "1", "--output", &made.beside("on.trace")]).assert().success();
    assert_eq!(latents(Path::new(&other)), latents(Path::new(&made.beside("on.trace"))));
}

#[test]
fn a_run_killed_at_twenty_moments_is_readable_each_time_and_goes_on_to_the_same_end() {
    let steps = ["--steps", "120"];
    let whole = Made::with(&steps);
    let expected = whole.open();
    let lasted = {
        let began = Instant::now();
        drop(Made::with(&steps));
        began.elapsed()
    };
    let mut counts = Vec::new();
    for kill in 0..20u32 {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().display().to_string();
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("latentrace"))
            .args(["generate", "a cat", "--model", &tiny(), "--seed", "7", "--guidance", "3", "--output", &out])
            .args(steps)
            .env("OMP_NUM_THREADS", "1")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Golden-ratio steps: spread over the run, and never in step with the writer.
        let part = (f64::from(kill) * 0.618_034).fract();
        std::thread::sleep(Duration::from_secs_f64(0.1 + lasted.as_secs_f64() * part));
        child.kill().ok();
        child.wait().unwrap();
        let path = folder.path().join("a-cat-7.trace");
        if !path.join("run.json").exists() {
            counts.push(None); // killed before it began
            continue;
        }
        let trace = Trace::open(&path).unwrap();
        for call in 0..trace.complete() {
            for entry in expected.entries().iter().filter(|entry| entry.call == call) {
                let found = trace.find(&entry.key()).unwrap_or_else(|| panic!("{} of {call}", entry.tap));
                assert!(trace.tensor(found).unwrap().equal(&expected.tensor(entry).unwrap()), "{}", entry.tap);
            }
        }
        for entry in trace.entries() {
            let _ = trace.tensor(entry).unwrap();
        }
        counts.push(Some(trace.complete()));
        if kill % 4 == 0 {
            latentrace(&["resume", path.to_str().unwrap()]).assert().success();
            assert_eq!(latents(&path), latents(&whole.trace), "from call {}", trace.complete());
            assert_eq!(apart(&path, &whole.trace), 0.0);
            latentrace(&["verify", path.to_str().unwrap(), "--tolerance", "0"]).assert().success();
        }
    }
    println!("whole calls after each kill, of {}: {counts:?}", expected.complete());
    assert!(counts.iter().flatten().any(|&calls| calls > 0 && calls < expected.complete()), "{counts:?}");
}

#[test]
fn a_folder_that_is_cut_or_foreign_is_one_clear_error() {
    let made = Made::with(&[]);
    let expect = |path: &str, text: &str| {
        for command in ["verify", "trace", "resume"] {
            latentrace(&[command, path]).assert().code(1).stderr(contains(text).and(contains("panicked").not()));
        }
    };
    expect(&made.beside("nothing"), "no such folder");
    expect(made.folder.path().to_str().unwrap(), "no run.json");
    let run = made.trace.join("run.json");
    let text = std::fs::read_to_string(&run).unwrap();
    std::fs::write(&run, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    expect(made.path(), "format version 2, and this program reads up to 1");
    std::fs::write(&run, "{\"format\": 1}").unwrap();
    expect(made.path(), "not the record of a run of latentrace");
    std::fs::write(&run, text).unwrap();
    std::fs::remove_file(made.trace.join("index.jsonl")).unwrap();
    latentrace(&["verify", made.path()]).assert().code(1).stderr(contains("panicked").not());
}

#[test]
fn rules_that_fit_nothing_are_told_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (folder.path().join("out").display().to_string(), tiny());
    let generate = |more: &[&str]| {
        let all = [&["generate", "a cat", "--model", &model, "--steps", "2", "--output", &out], more].concat();
        latentrace(&all).assert().code(1).stderr(contains("hint: ").and(contains("panicked").not()))
    };
    generate(&["--capture", "unet.mid_blok.out"]).stderr(contains("near names: unet.mid_block.out"));
    generate(&["--capture", "unet.mid_block.out | head_mean"]).stderr(contains("has no heads"));
    generate(&["--capture", "unet.**.attn2.probs | tokens(dog)"]).stderr(contains("no such word in the prompt"));
    generate(&["--edit", "unet.mid_block.out => halve"]).stderr(contains("edits are zero, mean"));
    generate(&["--edit", "unet.conv_in => skip"]).stderr(contains("cannot be skipped"));
    generate(&["--edit", "unet.mid_block.out => replace(/no/such)"]).stderr(contains("/no/such"));
    assert!(!Path::new(&out).exists(), "nothing was written");
}

#[test]
fn a_tensor_of_one_run_leads_another_and_the_map_is_drawn() {
    let cat = Made::with(&["--capture", "unet.{mid_block,up_blocks.0}.out"]);
    let sites = "unet.{mid_block,up_blocks.0}.out";
    let dog = Made::of("a dog", &["--capture", sites, "--capture", "unet.out"]);
    let dog = dog.path();
    let map = cat.beside("map");
    latentrace(&["causal", cat.path(), "--from", dog, "--sites", sites, "--blocks", "2", "--output", &map])
        .assert()
        .success();
    let csv = std::fs::read_to_string(Path::new(&map).join("causal.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3, "{csv}");
    // The network's whole output of every step is the other run.
    latentrace(&["causal", cat.path(), "--from", dog, "--sites", "unet.out", "--blocks", "1", "--output", &map])
        .assert()
        .success();
    let csv = std::fs::read_to_string(Path::new(&map).join("causal.csv")).unwrap();
    let last: f64 = csv.lines().nth(1).unwrap().rsplit(',').next().unwrap().parse().unwrap();
    assert!((last - 1.0).abs() < 1e-6, "{csv}");
    latentrace(&["causal", dog, "--from", cat.path(), "--sites", "unet.out"])
        .assert()
        .code(1)
        .stderr(contains("record it with --capture"));
}

#[test]
fn every_view_is_drawn_from_what_was_kept() {
    let made =
        Made::with(&["--capture", "unet.**.attn2.probs @branch{cond} | head_mean", "--capture", "unet.** | stats"]);
    latentrace(&["trace", made.path()]).assert().success().stdout(contains("7 of 7 calls"));
    let figures = made.trace.join("figures");
    for name in [
        "curves.png",
        "commitment-on-picture.png",
        "spectrum-denoised.csv",
        "trajectory.svg",
        "words.png",
        "word-mass.csv",
        "word-entropy.png",
        "health-rms.png",
        "health-f16.csv",
        "scalars.csv",
    ] {
        assert!(figures.join(name).is_file(), "{name}");
    }
    let scalars = std::fs::read_to_string(figures.join("scalars.csv")).unwrap();
    assert_eq!(scalars, std::fs::read_to_string(made.trace.join("scalars.csv")).unwrap());
    assert_eq!(scalars.lines().count(), 1 + 7);
    let words = std::fs::read_to_string(figures.join("words.csv")).unwrap();
    assert!(words.contains("\"cat\""), "{words}");
}

#[test]
fn a_dry_run_says_exactly_what_will_be_kept() {
    let rules = [
        "--capture",
        "unet.**.out @step[1:5:2] @branch{cond} | f16",
        "--capture",
        "unet.**.attn2.probs | tokens(cat) | down(4)",
    ];
    let said =
        latentrace(&[&["generate", "a cat", "--model", &tiny(), "--steps", "6", "--dry-run"], &rules[..]].concat())
            .assert()
            .success();
    let said = String::from_utf8(said.get_output().stdout.clone()).unwrap();
    let made = Made::with(&rules);
    let trace = made.open();
    for (rule, kept) in [(rules[1], "f16"), (rules[3], "tokens(cat) | down(4)")] {
        let count = trace.entries().iter().filter(|entry| entry.kept == kept).count();
        let line = said.lines().find(|line| line.ends_with(rule)).unwrap();
        assert_eq!(line.split_whitespace().next().unwrap(), count.to_string(), "{said}");
    }
}

#[test]
fn taps_are_listed_without_a_weight() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["text_encoder", "unet", "vae"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
        std::fs::copy(Path::new(&tiny()).join(part).join("config.json"), folder.path().join(part).join("config.json"))
            .unwrap();
    }
    std::fs::copy(Path::new(&tiny()).join("model_index.json"), folder.path().join("model_index.json")).unwrap();
    let model = folder.path().display().to_string();
    let select = |selector: &str| latentrace(&["taps", "--model", &model, "--select", selector]).assert();
    select("unet.mid_block.out").success().stdout(contains("every call, skip").and(contains("1 taps")));
    select("unet.mid_blok.out").code(1).stderr(contains("near names: unet.mid_block.out"));
}

#[test]
fn a_budget_stops_the_capture_and_not_the_run() {
    let made = Made::with(&["--capture", "unet.**.out", "--budget", "20kB"]);
    let trace = made.open();
    let end = trace.end().unwrap();
    assert!(end.beyond_budget > 0 && end.error.is_none());
    let bytes: usize = trace
        .entries()
        .iter()
        .filter(|entry| entry.tap.starts_with("unet."))
        .map(|entry| 4 * entry.shape.iter().product::<usize>())
        .sum();
    assert!(bytes > 0 && bytes <= 20_000, "{bytes}");
    assert_eq!(trace.complete(), 7);
    latentrace(&["verify", made.path(), "--tolerance", "0"]).assert().success();
}

#[test]
fn nan_stops_the_run_by_name_and_its_record_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (folder.path().display().to_string(), tiny());
    latentrace(&[
        "generate",
        "a cat",
        "--model",
        &model,
        "--seed",
        "7",
        "--steps",
        "6",
        "--output",
        &out,
        "--edit",
        "unet.mid_block.out @step[3] => scale(1e39)",
    ])
    .assert()
    .code(1)
    .stderr(contains("unet.mid_block.out").and(contains("call 4")).and(contains("its record is kept")));
    let trace = Trace::open(&folder.path().join("a-cat-7.trace")).unwrap();
    assert_eq!(trace.complete(), 4, "two calls of the first step, and one of each of the next two");
    assert!(trace.end().unwrap().error.as_ref().unwrap().contains("unet.mid_block.out"));
}

#[test]
fn pictures_and_records_are_never_written_over() {
    let made = Made::with(&[]);
    let (out, model) = (made.folder.path().display().to_string(), tiny());
    latentrace(&[
        "generate",
        "a cat",
        "--model",
        &model,
        "--seed",
        "7",
        "--guidance",
        "3",
        "--steps",
        "6",
        "--output",
        &out,
    ])
    .assert()
    .success()
    .stdout(contains("a-cat-7-2.png"));
    assert_eq!(apart(&made.trace, &made.folder.path().join("a-cat-7-2.trace")), 0.0);
}

#[test]
fn stock_python_reads_a_record() {
    let script = home().join("tests/python/read_trace.py");
    let python = ["python3", ".parity/venv/bin/python"]
        .map(|name| if name.contains('/') { home().join(name) } else { name.into() });
    let has = |python: &&PathBuf| {
        let found = std::process::Command::new(python).args(["-c", "import safetensors.numpy"]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let Some(python) = python.iter().find(has) else {
        println!("skipped: no Python with safetensors and numpy here");
        return;
    };
    let made =
        Made::with(&["--capture", "unet.**.out @branch{cond} | q8", "--capture", "unet.mid_block.out | histogram(8)"]);
    let output = std::process::Command::new(python).arg(script).arg(&made.trace).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
