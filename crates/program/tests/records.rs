//! Recorded runs, as the program's users make, check, kill, go on with and compare them.

#![allow(clippy::print_stdout)] // a test says what it skipped, and what it counted
use assert_cmd::Command;
use latentrace::trace::{Trace, compare};
use predicates::prelude::*;
use predicates::str::contains;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
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
        let trace = folder.path().join(format!("{}-7/trace", prompt.replace(' ', "-")));
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
        let same = made.beside("same");
        latentrace(&["fork", made.path(), "--at", "3", "--output", &same]).assert().success();
        assert_eq!(latents(&made.trace), latents(Path::new(&same)), "{sampler}");
        assert_eq!(apart(&made.trace, Path::new(&same)), 0.0, "{sampler}: every tensor, those of the network too");
        latentrace(&["verify", &same, "--tolerance", "0"]).assert().success();
        // The first three steps are those of the first run, the rest is not.
        latentrace(&["fork", made.path(), "--at", "3", "--guidance", "1", "--prompt", "a dog"]).assert().success();
        let other = made.beside("a-cat-7-at-3-guidance-1-a-dog");
        let (first, second) = (made.open(), Trace::open(Path::new(&other)).unwrap());
        let found = compare(&first, &second).unwrap();
        assert!(found.first_beyond(0.0).is_some_and(|difference| difference.step == 3), "{sampler}");
        latentrace(&["verify", &other, "--tolerance", "0"]).assert().success();
        // Forked again, its own past is both runs'.
        let again = made.beside("again");
        latentrace(&["fork", &other, "--at", "5", "--output", &again]).assert().success();
        assert_eq!(latents(Path::new(&other)), latents(Path::new(&again)), "{sampler}");
    }
}

#[test]
fn another_sampler_begins_at_the_sample_of_a_step() {
    let made = Made::with(&["--sampler", "pndm"]);
    let other = made.beside("lms");
    latentrace(&["fork", made.path(), "--at", "2", "--sampler", "lms", "--output", &other]).assert().success();
    let (before, after) = (made.open(), Trace::open(Path::new(&other)).unwrap());
    let call = before.entries().iter().find(|entry| entry.step == 2).unwrap().call;
    let sample = |trace: &Trace, call| trace.get("sampler.sample", call, None).unwrap();
    assert!(sample(&before, call).equal(&sample(&after, 0)));
    latentrace(&["verify", &other, "--tolerance", "0"]).assert().success();
    latentrace(&["fork", &other, "--at", "1", "--output", &made.beside("on")]).assert().success();
    assert_eq!(latents(Path::new(&other)), latents(Path::new(&made.beside("on"))));
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
        let path = folder.path().join("a-cat-7/trace");
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
    expect(made.folder.path().to_str().unwrap(), "is expected");
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
fn a_rule_that_cannot_fire_is_an_error_that_says_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (folder.path().join("out").display().to_string(), tiny());
    let fails = |more: &[&str], said: &str| {
        let all = [&["generate", "3 tired cats", "--model", &model, "--steps", "5", "--output", &out], more].concat();
        latentrace(&all)
            .assert()
            .code(1)
            .stderr(contains(said).and(contains("hint: ")).and(contains("panicked").not()));
    };
    for (rule, said) in [
        ("unet.mid_block.out @step[60:70]", "hint: steps are 0 to 4"),
        ("unet.mid_block.out @step[3:1]", "@step[3:1] selects nothing of this run"),
        ("unet.mid_block.out @sigma[20:30]", "sigma goes from"),
        ("unet.mid_block.out @eval[3]", "calls of a step are 0 to 1"),
        ("unet.mid_block.out @image[1]", "a run is one image: @image[0]"),
        ("vae.encoder.**", "it passes where a run starts from a picture"),
    ] {
        fails(&["--edit", &format!("{rule} => zero")], said);
        fails(&["--capture", rule], said);
    }
    for (edit, said) in [
        ("unet.**.attn2.probs => reweight(99, 5)", "99: no such word"),
        ("unet.**.attn2.probs => reweight(#99, 5)", "#99: no such place"),
        ("unet.**.attn2.scores => mask(99)", "99: no such word"),
        ("unet.**.attn2.scores => mask(#77)", "places are #0 to #76"),
        ("unet.**.attn2.scores => mask(red)", "red: no such word in the prompt"),
        ("unet.**.attn2.scores @branch{uncond} => mask(cats)", "cats: not in the text of the branch"),
    ] {
        fails(&["--edit", edit], said);
    }
    for (rule, said) in [
        ("tokens(-1)", "-1: no such word"),
        ("tokens(red)", "red: no such word"),
        ("topk(4) | down(2)", "down after topk"),
        ("topk(4) | tokens(cats)", "tokens after topk"),
        ("histogram(4) | head_mean", "head_mean after histogram"),
        ("tokens(cats) | tokens(3)", "tokens after tokens"),
    ] {
        fails(&["--capture", &format!("unet.**.attn2.probs | {rule}")], said);
    }
    fails(&["--guidance", "{ weight = 8, sigma = [20, 30] }"], "guidance 8 for sigma 20 to 30: no noise level");
    assert!(!Path::new(&out).exists(), "nothing was written");
}

#[test]
fn how_often_a_rule_fires_is_said_and_recorded_and_is_so() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (folder.path().display().to_string(), tiny());
    let rules = [
        "--capture",
        "unet.**.attn2.probs @step[3:60] | tokens(3)",
        "--edit",
        "unet.mid_block.out @step[4:] @branch{cond} => scale(0.5)",
        "--edit",
        "unet.time_embedding.** @branch{cond} @step[1] => scale(1.1)",
        "--guidance",
        "{ weight = 8, sigma = [0, 1] }",
    ];
    let all =
        [&["generate", "3 red cats", "--model", &model, "--seed", "7", "--steps", "6", "--output", &out], &rules[..]];
    latentrace(&all.concat())
        .assert()
        .success()
        .stderr(contains("scale(0.5): changes 2 tensors, at 2 of 7 calls").and(contains("selects it for both")));
    let trace = Trace::open(&folder.path().join("3-red-cats-7/trace")).unwrap();
    let kept: Vec<_> = trace.entries().iter().filter(|entry| !entry.kept.is_empty()).collect();
    let levels = trace.of_tap("sampler.sample").filter(|entry| entry.sigma <= 1.0).count();
    let fires = &trace.run()["fires"];
    assert_eq!(fires["capture"][0], kept.len());
    assert_eq!((&fires["edits"][0], &fires["guidance"]), (&2.into(), &levels.into()));
    assert!(kept.iter().all(|entry| entry.shape[3] == 1), "3 is a word here, and not place 3");
}

#[test]
fn rules_that_came_with_a_record_may_lie_in_what_is_over() {
    let made = Made::with(&[
        "--edit",
        "unet.mid_block.out @step[1] => scale(0.5)",
        "--edit",
        "unet.**.attn2.scores => mask(cat)",
        "--capture",
        "unet.mid_block.out @step[0:2]",
    ]);
    let dog = made.beside("dog");
    latentrace(&["fork", made.path(), "--at", "3", "--prompt", "a dog", "--output", &dog])
        .assert()
        .success()
        .stderr(contains("came with the record, and does not fire again").and(contains("cat: no such word")));
    assert_eq!(
        Trace::open(Path::new(&dog)).unwrap().run()["fires"],
        serde_json::json!({"capture": [0], "edits": [0, 0]})
    );
    latentrace(&["verify", &dog, "--tolerance", "0"]).assert().success();
    // The same given to the fork itself is an error.
    latentrace(&["fork", made.path(), "--at", "3", "--edit", "unet.conv_in @step[0:3] => zero"])
        .assert()
        .code(1)
        .stderr(contains("lies before the first step that this run makes\nhint: this run makes the steps 3 to 5"));
}

#[test]
fn an_edited_text_is_the_same_in_a_fork() {
    let made = Made::with(&["--edit", "text_encoder.** => scale(1.25)"]);
    let same = made.beside("same");
    latentrace(&["fork", made.path(), "--at", "3", "--output", &same]).assert().success();
    assert_eq!(latents(&made.trace), latents(Path::new(&same)), "its texts are encoded again, and edited again");
}

#[test]
fn the_last_steps_of_a_run_from_a_picture_are_those_that_it_makes() {
    let made = Made::with(&[]);
    let (picture, out) = (made.beside("a-cat-7/image.png"), made.beside("varied"));
    let last = ["--capture", "unet.mid_block.out @step[-1] | stats", "--capture", "vae.encoder.** | stats"];
    let run = ["vary", &picture, "a cat", "--model", &tiny(), "--images", "1", "--steps", "8", "--strength", "0.5"];
    latentrace(&[&run[..], &["--output", &out], &last].concat()).assert().success();
    let mut entries = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let run = entries.find(|path| path.is_dir()).unwrap();
    assert!(run.ends_with("a-cat-7-a-cat-193"), "{}", run.display());
    let trace = Trace::open(&run).unwrap();
    let calls: Vec<usize> = trace.of_tap("unet.mid_block.out").map(|entry| entry.call).collect();
    assert_eq!(calls, [trace.complete() - 1; 2], "both branches of the last of fewer than 8 steps");
    assert!(trace.of_tap("vae.encoder.out").chain(trace.of_tap("vae.encoder.conv_in")).next().is_some());
}

#[test]
fn looking_at_probabilities_changes_no_bit_of_a_run() {
    for dtype in ["f32", "bf16", "f16"] {
        let silent = Made::with(&["--dtype", dtype]);
        let looked = Made::with(&["--dtype", dtype, "--capture", "unet.**.{probs,scores} | stats"]);
        assert_eq!(latents(&silent.trace), latents(&looked.trace), "{dtype}");
        let nothing = Made::with(&["--dtype", dtype, "--edit", "unet.**.probs => scale(1)"]);
        assert_eq!(latents(&silent.trace), latents(&nothing.trace), "{dtype}: an edit that changes no number");
        let out = silent.beside("edited");
        let run = ["generate", "a cat", "--model", &tiny(), "--steps", "2", "--dtype", dtype, "--output", &out];
        let said = latentrace(&[&run[..], &["--edit", "unet.**.probs => scale(1.5)"]].concat()).assert().success();
        let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
        assert_eq!(said.contains("rounded otherwise than by the fused kernel"), dtype != "f32", "{said}");
    }
}

#[test]
fn a_comparison_that_is_checked_fails_where_tensors_are_missing() {
    let (more, less) = (Made::with(&["--capture", "unet.**.out"]), Made::with(&[]));
    let compare = |rest: &[&str]| latentrace(&[&["compare", more.path(), less.path()], rest].concat()).assert();
    compare(&[]).success();
    compare(&["--check"]).code(1).stderr(contains("tensors are only in the first and 0 only in the second"));
    compare(&["--check", "--common"]).success();
    latentrace(&["compare", less.path(), more.path(), "--check"]).assert().code(1);
    latentrace(&["compare", less.path(), less.path(), "--check"]).assert().success();
}

/// The cubic convolution of Keys (1981) with a = -0.75, pixel centres half a pixel in, edges repeated: of a grid of
/// `from` to a picture of `to`, both height and width.
fn bicubic(grid: &[f64], from: [usize; 2], to: [usize; 2]) -> Vec<f64> {
    let weight = |x: f64| match x.abs() {
        x if x <= 1.0 => 1.25 * x * x * x - 2.25 * x * x + 1.0,
        x if x < 2.0 => -0.75 * (x * x * x - 5.0 * x * x + 8.0 * x - 4.0),
        _ => 0.0,
    };
    let taps = |at: usize, from: usize, to: usize| {
        let place = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = place.floor() as i64 - 1;
        (first..first + 4).map(move |tap| (tap.clamp(0, from as i64 - 1) as usize, weight(place - tap as f64)))
    };
    let value = |row: usize, column: usize| {
        let rows = taps(row, from[0], to[0]);
        rows.map(|(y, a)| taps(column, from[1], to[1]).map(|(x, b)| a * b * grid[y * from[1] + x]).sum::<f64>()).sum()
    };
    (0..to[0] * to[1]).map(|pixel| value(pixel / to[1], pixel % to[1])).collect()
}

/// Maps of words as `words.csv` has them, by word.
fn word_maps(trace: &Path) -> BTreeMap<String, Vec<f64>> {
    latentrace(&["trace", trace.to_str().unwrap()]).assert().success();
    let mut maps = BTreeMap::<String, Vec<f64>>::new();
    for line in std::fs::read_to_string(trace.with_file_name("figures").join("words.csv")).unwrap().lines().skip(1) {
        let (left, number) = line.rsplit_once(',').unwrap();
        maps.entry(left.split('"').nth(1).unwrap().into()).or_default().push(number.parse().unwrap());
    }
    maps
}

#[test]
fn maps_of_words_are_what_the_recorded_probabilities_say_at_odd_sizes() {
    // Latents of 20 by 9, which the bundled model halves to 10 by 5; of 9 by 13, which the tiny one halves three times.
    let bundled = home().join("data/models/shapes").display().to_string();
    let tiny = tiny();
    for (model, latents) in [("bundled", [20, 9]), ("tiny", [9, 13])] {
        let folder = if model == "tiny" { &tiny } else { &bundled };
        let [height, width] = latents.map(|side| (8 * side).to_string());
        let of = |more: &[&str]| {
            let size = ["--steps", "3", "--height", &height, "--width", &width];
            Made::of("a red cat", &[&["--model", folder][..], &size, more].concat())
        };
        let whole = of(&["--capture", "unet.**.attn2.probs"]);
        let trace = whole.open();
        let tokens = trace.run()["prompt"]["tokens"].as_array().unwrap().clone();
        let (mut grids, mut heads) = (BTreeSet::new(), 0.0);
        let mut sums = vec![vec![0.0; latents[0] * latents[1]]; tokens.len()];
        let mut averaged = sums.clone();
        let mut layers = 0.0;
        for entry in trace.entries().iter().filter(|entry| entry.tap.ends_with("attn2.probs")) {
            if entry.branch != Some(latentrace::pipeline::nn::Branch::Conditional) {
                continue;
            }
            let (from, shape) = (entry.grid.unwrap(), &entry.shape);
            grids.insert(from);
            let probs: Vec<f32> = trace.tensor(entry).unwrap().flatten(0, -1).try_into().unwrap();
            let at = |head: usize, pixel: usize, token: usize| {
                f64::from(probs[(head * shape[2] + pixel) * shape[3] + token])
            };
            for token in 0..tokens.len() {
                let pixels = (0..shape[2]).map(|pixel| (0..shape[1]).map(|head| at(head, pixel, token + 1)).sum());
                let map = bicubic(&pixels.collect::<Vec<f64>>(), from, latents);
                for (pixel, value) in map.into_iter().enumerate() {
                    sums[token][pixel] += value;
                    averaged[token][pixel] += value / shape[1] as f64;
                }
            }
            heads += shape[1] as f64;
            layers += 1.0;
        }
        println!("{model}: grids {grids:?}");
        assert!(grids.len() > 1, "{grids:?}");
        let words = trace.run()["cell"]["prompt"].as_str().unwrap().split(' ').map(str::to_string).collect::<Vec<_>>();
        // A word of several tokens is their mean; the tokens of a word follow each other.
        let expected = |sums: &[Vec<f64>], count: f64| {
            let mut maps = BTreeMap::new();
            let mut token = 0;
            for word in &words {
                let first = token;
                let mut joined = String::new();
                while joined != *word {
                    joined += tokens[token].as_str().unwrap();
                    token += 1;
                }
                let mean = (0..latents[0] * latents[1]).map(|pixel| {
                    let of = |token: usize| (sums[token][pixel] / count).max(0.0);
                    (first..token).map(of).sum::<f64>() / (token - first) as f64
                });
                maps.insert(word.clone(), mean.collect::<Vec<f64>>());
            }
            maps
        };
        let close = |found: &BTreeMap<String, Vec<f64>>, expected: &BTreeMap<String, Vec<f64>>, what: &str| {
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
            for (word, map) in found {
                let size = expected[word].iter().fold(0.0, |size: f64, x| size.max(*x));
                let apart = map.iter().zip(&expected[word]).fold(0.0, |gap: f64, (a, b)| gap.max((a - b).abs()));
                assert_eq!(map.len(), expected[word].len());
                // f32 probabilities, summed in f64 by both.
                assert!(apart < 1e-5 * size, "{model}, {what}, {word}: {apart:.1e} of {size:.1e}");
            }
        };
        close(&word_maps(&whole.trace), &expected(&sums, heads), "whole");
        // Several rules for the same tensors count each once.
        let more = ["--capture", "unet.**.attn2.probs", "--capture", "unet.mid_block.**.attn2.probs | f16"];
        let more = of(&[&more[..], &["--capture", "unet.**.attn2.probs @step[1] | topk(4)"]].concat());
        close(&word_maps(&more.trace), &expected(&sums, heads), "several rules");
        let mean = ["--capture", "unet.**.attn2.probs | head_mean", "--capture", "unet.mid_block.**.attn2.probs"];
        let mean = of(&mean);
        close(&word_maps(&mean.trace), &expected(&averaged, layers), "mean over heads");
    }
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
    let figures = made.trace.with_file_name("figures");
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
    select("unet.mid_block.out").success().stdout(contains("every call, skip").and(contains("1 tap;")));
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
    let trace = Trace::open(&folder.path().join("a-cat-7/trace")).unwrap();
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
    .stdout(contains("a-cat-7-2/image.png"));
    assert_eq!(apart(&made.trace, &made.folder.path().join("a-cat-7-2/trace")), 0.0);
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
    let made = Made::with(&[
        "--capture",
        "unet.**.out @branch{cond} | q8",
        "--capture",
        "unet.mid_block.out | histogram(8)",
        "--capture",
        "unet.mid_block.out | topk(5)",
        "--capture",
        "unet.**.attn1.probs @step[1] | topk(3) | f16",
        "--capture",
        "unet.**.attn2.probs @step[1] | down(3) | topk(7) | q8",
        "--capture",
        "unet.**.attn2.{q,k,probs,out} @step[2]",
        "--capture",
        "unet.**.attn2.probs @step[2] | tokens(cat) | down(3)",
    ]);
    let output = std::process::Command::new(python).arg(script).arg(&made.trace).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The root mean square of the difference of two lists.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

#[test]
fn a_site_put_into_the_past_of_a_fork_is_put_into_the_run_that_was_forked() {
    let site = "unet.mid_block.out";
    let base = Made::with(&["--sampler", "lms", "--capture", site]);
    let other = Made::of("a fox", &["--sampler", "lms", "--capture", site]);
    let change = ["--at", "3", "--prompt", "a dog", "--guidance", "5"];
    let fork = |trace: &str, output: &str| {
        latentrace(&[&["fork", trace, "--output", output], &change[..]].concat()).assert().success();
    };
    let forked = base.beside("forked");
    fork(base.path(), &forked);
    let map = base.beside("map");
    let causal = ["causal", &forked, "--from", other.path(), "--sites", site, "--blocks", "3", "--output", &map];
    latentrace(&causal).assert().success();
    let csv = std::fs::read_to_string(Path::new(&map).join("causal.csv")).unwrap();
    let found: Vec<f64> = csv.lines().nth(1).unwrap().split(',').skip(1).map(|cell| cell.parse().unwrap()).collect();
    let (from, to) = (latents(Path::new(&forked)), latents(&other.trace));
    for (block, found) in ["@step[0:2]", "@step[2:4]", "@step[4:6]"].into_iter().zip(found) {
        // The same by hand: the first run made with the edit, and then forked.
        let edit = format!("{site} {block} => replace({})", other.path());
        let edited = Made::with(&["--sampler", "lms", "--edit", &edit]);
        let by_hand = edited.beside("forked");
        fork(edited.path(), &by_hand);
        let expected = 1.0 - distance(&latents(Path::new(&by_hand)), &to) / distance(&from, &to);
        assert!((found - expected).abs() < 1e-6, "{block}: {found}, and by hand {expected}");
    }
}

#[test]
fn every_call_of_a_fork_of_a_fork_is_verified_with_the_settings_that_it_was_made_with() {
    for (sampler, edit) in
        [("pndm", "unet.mid_block.out => scale(0.5)"), ("ddpm", "sampler.sample @step[1] => noise(0.1)")]
    {
        let made = Made::with(&["--sampler", sampler, "--edit", edit]);
        let mut last = made.path().to_string();
        for (number, change) in [
            ["--at", "1", "--guidance", "8"],
            ["--at", "2", "--sampler", "lms"],
            ["--at", "1", "--prompt", "a dog"],
            ["--at", "3", "--seed", "99"],
            ["--at", "2", "--guidance", "1"],
        ]
        .iter()
        .enumerate()
        {
            let next = made.beside(&format!("fork-{number}"));
            latentrace(&[&["fork", &last, "--output", &next], &change[..]].concat()).assert().success();
            let calls = Trace::open(Path::new(&next)).unwrap().complete();
            let said = format!("of {calls} calls (of {calls}) computed again: worst relative difference 0.0e0");
            latentrace(&["verify", &next, "--tolerance", "0"]).assert().success().stdout(contains(said));
            last = next;
        }
    }
}

#[test]
fn records_of_before_are_read_and_what_they_lack_is_said() {
    let record = |name: &str| home().join("data/golden/records").join(name).display().to_string();
    let old = "note: the record is of before run.json had a checksum";
    latentrace(&["verify", &record("fork_of_fork.trace"), "--tolerance", "0"])
        .assert()
        .success()
        .stdout(contains("41 tensors of 5 calls (of 7) computed again: worst relative difference 0.0e0"))
        .stdout(contains("the calls before 2 are those of elsewhere").and(contains(old)));
    latentrace(&["verify", &record("line_removed.trace")])
        .assert()
        .code(1)
        .stdout(contains("holds sampler.denoised/004, whose line in index.jsonl is missing"));
    latentrace(&["verify", &record("cut_fork.trace")])
        .assert()
        .code(1)
        .stdout(contains("cut off before its own first call, 150: 0 of 200 calls are whole"))
        .stderr(contains("no call was recorded whole").and(contains("panicked").not()));
}

#[test]
fn a_fork_that_is_cut_off_before_its_own_first_call_says_how_far_it_is_whole() {
    let made = Made::with(&["--sampler", "lms"]);
    let fork = made.beside("fork");
    latentrace(&["fork", made.path(), "--at", "4", "--guidance", "1", "--output", &fork]).assert().success();
    let whole = latents(Path::new(&fork));
    let index = Path::new(&fork).join("trace/index.jsonl");
    let text = std::fs::read_to_string(&index).unwrap();
    let end = text.find("{\"complete\":1").map_or(text.len() / 3, |place| place);
    std::fs::write(&index, &text[..end]).unwrap();
    let complete = Trace::open(Path::new(&fork)).unwrap().complete();
    assert!(complete < 4, "{complete}");
    latentrace(&["verify", &fork]).assert().stdout(contains(format!("{complete} of 6 calls are whole")));
    latentrace(&["resume", &fork]).assert().success();
    assert_eq!(latents(Path::new(&fork)), whole);
    latentrace(&["verify", &fork, "--tolerance", "0"]).assert().success();
}

#[test]
fn a_line_that_is_removed_and_a_prompt_that_is_changed_are_named() {
    let made = Made::with(&["--capture", "unet.mid_block.out"]);
    let (index, run) = (made.trace.join("index.jsonl"), made.trace.join("run.json"));
    let lines = std::fs::read_to_string(&index).unwrap();
    let fewer: Vec<&str> = lines.lines().enumerate().filter(|(place, _)| *place != 20).map(|(_, line)| line).collect();
    std::fs::write(&index, fewer.join("\n") + "\n").unwrap();
    latentrace(&["verify", made.path()])
        .assert()
        .code(1)
        .stdout(contains("line 21: it is line 22 of the original, and line 21 is missing"));
    std::fs::write(&index, &lines).unwrap();
    let text = std::fs::read_to_string(&run).unwrap();
    std::fs::write(&run, text.replace("\"a cat\"", "\"a dog\"")).unwrap();
    let said = "run.json: has changed since the run was recorded";
    latentrace(&["verify", made.path()]).assert().code(1).stdout(contains(said));
    latentrace(&["trace", "--no-figures", made.path()]).assert().success().stdout(contains(said));
    latentrace(&["fork", made.path(), "--at", "3"]).assert().code(1).stderr(contains(said));
    latentrace(&["causal", made.path(), "--from", made.path()]).assert().code(1).stderr(contains(said));
    std::fs::write(&index, &lines[..lines.len() / 2]).unwrap();
    latentrace(&["resume", made.path()]).assert().code(1).stderr(contains(said));
}

#[test]
fn every_number_of_run_json_is_checked_where_it_is_read() {
    let made = Made::with(&[]);
    let run = made.trace.join("run.json");
    let good: serde_json::Value = serde_json::from_slice(&std::fs::read(&run).unwrap()).unwrap();
    for (place, value, says) in [
        ("/latents/0", "-4", "latents: expected 1 to"),
        ("/latents/1", "1000000000", "size: "),
        ("/latents/1", "0", "latents: "),
        ("/latents", "[4, 8]", "latents"),
        ("/size/0", "-64", "size: "),
        ("/size", "[128, 64]", "size: "),
        ("/calls", "8", "calls: run.json says 8, and its settings make 7"),
        ("/calls", "18446744073709551615", "calls: "),
        ("/cell/steps", "0", "cell.steps: expected 1 or more"),
        ("/cell/steps", "5000", "5000"),
        ("/cell/guidance", "\"x\"", "cell.guidance: expected a number"),
        ("/cell/seed", "-1", "cell.seed: "),
        ("/prompt/tokens", "[1]", "prompt.tokens[0]: "),
        ("/model/blake3", "\"x\"", "model.blake3: expected 64 hexadecimal digits"),
        ("/scheduler/beta_end", "-1", "scheduler"),
        ("/fork", "{\"trace\": \"x\", \"call\": 8}", "fork.call: expected at most 7, the calls of the run, found 8"),
        ("/fork", "{\"trace\": \"x\", \"call\": 2, \"level\": {\"t\": 1, \"sigma\": -1}}", "fork.level: "),
        ("/fork", "{\"trace\": \"x\", \"call\": 2, \"past\": [{\"until\": 9}]}", "fork.past.0.until: expected 1 to 7"),
        ("/capture", "[\"unet.** | half\"]", "capture[0]: "),
    ] {
        let mut bad = good.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        match bad.pointer_mut(parent).unwrap() {
            serde_json::Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
            fields => fields[name] = value,
        }
        std::fs::write(&run, bad.to_string()).unwrap();
        for command in ["verify", "resume"] {
            latentrace(&[command, made.path()])
                .assert()
                .code(1)
                .stderr(contains("run.json: ").and(contains(says)).and(contains("panicked").not()));
        }
    }
}

#[test]
fn the_same_scheduler_by_its_name_is_no_change() {
    let made = Made::with(&[]);
    let fork = made.beside("fork");
    latentrace(&["fork", made.path(), "--at", "3", "--sampler", "pndm", "--output", &fork]).assert().success();
    assert_eq!(latents(&made.trace), latents(Path::new(&fork)), "with its history");
    assert_eq!(apart(&made.trace, Path::new(&fork)), 0.0);
}

#[test]
fn edits_that_count_the_steps_of_another_sampler_are_left_out_of_a_fork() {
    let made = Made::with(&[
        "--edit",
        "unet.mid_block.out @step[0:2] => zero",
        "--edit",
        "unet.conv_in => scale(0.5)",
        "--capture",
        "unet.{mid_block.out,conv_in}",
    ]);
    let fork = made.beside("fork");
    latentrace(&["fork", made.path(), "--at", "3", "--sampler", "lms", "--output", &fork])
        .assert()
        .success()
        .stderr(contains("note: unet.mid_block.out @step[0:2] => zero counts the steps of the other sampler"));
    let (before, after) = (made.open(), Trace::open(Path::new(&fork)).unwrap());
    assert_eq!(after.run()["cell"]["edits"], serde_json::json!(["unet.conv_in => scale(0.5)"]));
    let rms = |trace: &Trace| trace.of_tap("unet.mid_block.out").next().unwrap().statistics.rms;
    assert!(rms(&before) == 0.0 && rms(&after) > 0.0, "{} and {}", rms(&before), rms(&after));
    // The same sampler goes on counting, and has those steps behind it.
    let same = made.beside("same");
    latentrace(&["fork", made.path(), "--at", "3", "--output", &same]).assert().success();
    assert_eq!(latents(&made.trace), latents(Path::new(&same)));
}

#[test]
fn a_resumed_run_goes_on_with_its_budget() {
    let rules = ["--capture", "unet.**.out", "--budget", "60kB"];
    let whole = Made::with(&rules);
    let keys = |trace: &Trace| {
        let mut keys: Vec<_> = trace.entries().iter().map(|entry| entry.key()).collect();
        keys.sort();
        (keys, trace.end().map(|end| end.beyond_budget))
    };
    let expected = keys(&whole.open());
    assert!(expected.1.is_some_and(|beyond| beyond > 0));
    let index = std::fs::read(whole.trace.join("index.jsonl")).unwrap();
    for part in [1, 4, 7] {
        let made = Made::with(&rules);
        std::fs::write(made.trace.join("index.jsonl"), &index[..index.len() * part / 8]).unwrap();
        latentrace(&["resume", made.path()]).assert().success();
        assert_eq!(keys(&made.open()), expected, "cut at {part} eighths");
    }
}

#[test]
fn a_record_without_its_picture_is_given_it() {
    let made = Made::with(&["--edit", "vae.decoder.conv_in => scale(0.5)"]);
    let picture = made.trace.with_file_name("image.png");
    let expected = std::fs::read(&picture).unwrap();
    std::fs::remove_file(&picture).unwrap();
    latentrace(&["resume", made.path()]).assert().success();
    assert_eq!(std::fs::read(&picture).unwrap(), expected);
    latentrace(&["resume", made.path()]).assert().success().stdout(contains("all 7 calls are there"));
    latentrace(&["verify", made.path(), "--tolerance", "0"]).assert().success();
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => _ = std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap(),
        }
    }
}

#[test]
fn a_record_travels_with_its_model_or_without() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    copy(Path::new(&tiny()), &at("project/models/tiny"));
    let generate = |prompt: &str, more: &[&str]| {
        let (model, out) = (at("project/models/tiny"), at("project/runs"));
        let all = ["generate", prompt, "--model", model.to_str().unwrap(), "--output", out.to_str().unwrap()];
        let all = [&all[..], &["--seed", "7", "--steps", "4", "--guidance", "3"], more].concat();
        latentrace(&all).assert().success();
    };
    generate("a fox", &["--capture", "unet.mid_block.out"]);
    let edit = format!("unet.mid_block.out @step[1] => replace({})", at("project/runs/a-fox-7/trace").display());
    generate("a cat", &["--edit", &edit, "--capture", "unet.mid_block.out"]);
    // All of it moves: what is beside the record is found from there.
    std::fs::rename(at("project"), at("moved")).unwrap();
    let (cat, fox) = (at("moved/runs/a-cat-7/trace"), at("moved/runs/a-fox-7/trace"));
    let (cat, fox) = (cat.to_str().unwrap(), fox.to_str().unwrap());
    let fork = |output: &str, more: &[&str]| {
        latentrace(&[&["fork", cat, "--at", "1", "--output", at(output).to_str().unwrap()], more].concat()).assert()
    };
    fork("one", &[]).success();
    assert_eq!(latents(Path::new(cat)), latents(&at("one")));
    let map = at("map");
    let causal = ["causal", cat, "--from", fox, "--sites", "unet.mid_block.out", "--blocks", "1", "--output"];
    latentrace(&[&causal[..], &[map.to_str().unwrap()]].concat()).assert().success();
    // A copy of the model elsewhere is the same model, and another is not, whatever stands in its place.
    std::fs::rename(at("moved/models/tiny"), at("elsewhere")).unwrap();
    fork("two", &[]).code(1).stderr(contains("not found: looked in ").and(contains("hint: ").and(contains("--model"))));
    fork("two", &["--model", at("elsewhere").to_str().unwrap()]).success();
    assert_eq!(latents(Path::new(cat)), latents(&at("two")));
    let other = home().join("data/golden/networks/sd2");
    copy(&other, &at("moved/models/tiny"));
    fork("three", &[]).code(1).stderr(contains("its files are not those that the run was made with"));
    fork("three", &["--model", other.to_str().unwrap()]).code(1).stderr(contains("its files are not those"));
    // The record that an edit reads is known by its content as well.
    std::fs::remove_dir_all(at("moved/models/tiny")).unwrap();
    std::fs::rename(at("elsewhere"), at("moved/models/tiny")).unwrap();
    std::fs::remove_dir_all(fox).unwrap();
    copy(&at("two/trace"), Path::new(fox));
    fork("three", &[]).code(1).stderr(contains("the record that it reads"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_stops_the_run_and_room_lets_it_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().display().to_string();
    let program = assert_cmd::cargo::cargo_bin("latentrace").display().to_string();
    let script = r#"
        mount -t tmpfs -o size=24m tmpfs "$DISK" || exit 77
        "$PROGRAM" generate "a cat" --model "$MODEL" --seed 7 --steps 400 --capture "unet.**.out" --output "$DISK/out" 2> "$DISK.said"
        echo "ended $?"
        mount -o remount,size=400m "$DISK" || exit 77
        "$PROGRAM" trace --json "$DISK/out/a-cat-7/trace" --no-figures
        "$PROGRAM" resume "$DISK/out/a-cat-7/trace" || exit 1
        "$PROGRAM" verify --tolerance 0 "$DISK/out/a-cat-7/trace"
        echo "verified $?"
    "#;
    let output = std::process::Command::new("unshare")
        .args(["-Urm", "sh", "-c", script])
        .env("DISK", &disk)
        .env("PROGRAM", program)
        .env("MODEL", tiny())
        .env("OMP_NUM_THREADS", "1")
        .output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        println!("skipped: cannot mount a small tmpfs here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = std::fs::read_to_string(format!("{disk}.said")).unwrap();
    std::fs::remove_file(format!("{disk}.said")).unwrap();
    assert!(said.contains("ended 1") && error.contains("No space left on device"), "{said}{error}");
    assert!(error.contains("of 401 calls are whole") && error.contains("hint: `latentrace resume "), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    let about = said.lines().find(|line| line.starts_with('{')).expect("what `trace` says");
    let about: serde_json::Value = serde_json::from_str(about).unwrap();
    let whole = about["complete"].as_u64().unwrap();
    assert!(whole > 0 && whole < 200, "{whole} calls were kept");
    assert!(said.contains("verified 0") && said.contains("of 401 calls (of 401) computed again"), "{said}");
}

#[test]
fn edits_of_every_value_of_the_sampler_are_verified() {
    for tap in [
        "sampler.output.conditional",
        "sampler.output.unconditional",
        "sampler.output.guided",
        "sampler.epsilon.conditional",
    ] {
        for edit in ["zero", "scale(0.5)"] {
            let made = Made::with(&["--edit", &format!("{tap} @step[1:3] => {edit}")]);
            latentrace(&["verify", made.path(), "--tolerance", "1e-6"]).assert().success();
        }
    }
}

#[test]
fn a_fork_says_where_it_can_begin_and_takes_no_folder_that_holds_other_files() {
    let made = Made::with(&[]);
    let fork = |at: &str, output: &str| {
        latentrace(&["fork", made.path(), "--at", at, "--guidance", "2", "--output", output]).assert()
    };
    fork("6", &made.beside("new")).code(1).stderr(contains(" can be forked at the steps 0 to 5"));
    let folder = made.folder.path().display().to_string();
    fork("2", &folder).code(1).stderr(contains("this folder holds other files").and(contains(&folder)));
    assert!(!made.folder.path().join("run.json").exists());
    let never = ["generate", "a cat", "--model", &tiny(), "--steps", "6", "--output", &made.beside("never")];
    let never = [&never[..], &["--edit", "text_encoder.** @step[2:3] => zero"]].concat();
    latentrace(&never).assert().code(1).stderr(contains("at step 0 only"));
}

#[test]
fn resume_writes_the_files_that_a_whole_run_lacks_and_names_them() {
    let made = Made::with(&[]);
    let run = made.trace.parent().unwrap();
    let files = ["trace/scalars.csv", "previews.png", "cell.json", "image.png"].map(|name| run.join(name));
    let before = files.each_ref().map(|file| std::fs::read(file).unwrap());
    let index = std::fs::read(made.trace.join("index.jsonl")).unwrap();
    let resume = || latentrace(&["resume", run.to_str().unwrap()]).assert();
    resume().success().stdout(contains("calls are there").and(contains("image.png").not()));
    std::fs::write(&files[0], "").unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    std::fs::write(&files[2], "{").unwrap();
    std::fs::write(&files[3], &before[3][..before[3].len() / 2]).unwrap();
    let said = String::from_utf8(resume().success().get_output().stdout.clone()).unwrap();
    for (file, before) in files.iter().zip(&before) {
        assert!(said.contains(&file.display().to_string()), "{said}");
        assert!(file.ends_with("cell.json") || std::fs::read(file).unwrap() == *before, "{}", file.display());
    }
    let settings: serde_json::Value = serde_json::from_slice(&std::fs::read(&files[2]).unwrap()).unwrap();
    assert_eq!(settings["cell"]["prompt"], "a cat");
    // Only what is missing is written, and a folder is not removed.
    std::fs::remove_file(&files[1]).unwrap();
    resume().success().stdout(contains("previews.png").and(contains("image.png").not()));
    std::fs::remove_file(&files[3]).unwrap();
    std::fs::create_dir(&files[3]).unwrap();
    resume().failure().stderr(contains("image.png: a folder, where a file of the run should be\nhint: "));
    assert_eq!(std::fs::read(made.trace.join("index.jsonl")).unwrap(), index, "the record is not written again");
}

#[test]
fn resume_says_what_rounds_otherwise_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (folder.path().display().to_string(), tiny());
    let arguments = ["generate", "a cat", "--model", &model, "--steps", "2", "--seed", "7", "--output", &out];
    latentrace(&arguments).env("OMP_NUM_THREADS", "2").assert().success();
    let run = folder.path().join("a-cat-7");
    std::fs::remove_file(run.join("image.png")).unwrap();
    latentrace(&["resume", run.to_str().unwrap()])
        .assert()
        .success()
        .stderr(contains("note: made with 2 threads of ").and(contains("goes on with 1 thread of ")));
}

#[test]
fn a_path_that_is_no_run_is_named_with_the_runs_that_are_meant() {
    let made = Made::with(&["--images", "2"]);
    let run = made.trace.parent().unwrap().display().to_string();
    let says = |path: &str, expected: &str| {
        latentrace(&["verify", path]).assert().failure().stderr(contains(expected.to_string()));
    };
    says(
        &made.trace.join("run.json").display().to_string(),
        &format!("a file of a run, whose folder is expected\nhint: {run}"),
    );
    says(
        &made.folder.path().display().to_string(),
        &format!("a folder of 2 runs, and one run is expected\nhint: name one: {run}, "),
    );
}

#[test]
fn a_run_that_was_killed_before_its_record_began_leaves_a_free_name() {
    let made = Made::with(&[]);
    let begun = made.beside("begun");
    let trace = Path::new(&begun).join("trace");
    std::fs::create_dir_all(&trace).unwrap();
    for name in ["lock", "index.jsonl", ".partial-x3"] {
        std::fs::write(trace.join(name), "").unwrap();
    }
    latentrace(&["resume", &begun]).assert().failure().stderr(contains("stopped before anything was recorded"));
    latentrace(&["fork", made.path(), "--at", "2", "--output", &begun]).assert().success();
    latentrace(&["verify", &begun]).assert().success();
    // Not if there is anything else in it.
    latentrace(&["fork", made.path(), "--at", "2", "--output", &begun]).assert().failure();
}

#[test]
fn a_record_without_its_index_is_not_said_to_be_of_an_earlier_version() {
    let made = Made::with(&[]);
    std::fs::write(made.trace.join("index.jsonl"), "").unwrap();
    latentrace(&["verify", made.path()]).assert().failure().stdout(contains("before run.json had a checksum").not());
}

#[cfg(target_os = "linux")]
#[test]
fn a_fork_names_a_folder_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let made = Made::with(&[]);
    let run = made.folder.path().join(std::ffi::OsStr::from_bytes(b"cat-\xff"));
    std::fs::rename(made.trace.parent().unwrap(), &run).unwrap();
    let mut fork = latentrace(&["fork", "--at", "2"]);
    fork.arg(&run).assert().failure().stderr(contains("cat-").and(contains("its name is not UTF-8")));
}

#[test]
fn a_report_warns_of_a_changed_record_and_writes_over_no_file_of_a_run() {
    let made = Made::with(&[]);
    let run = made.trace.parent().unwrap();
    let (folder, picture) = (run.to_str().unwrap(), run.join("image.png"));
    let (before, page) = (std::fs::read(&picture).unwrap(), made.beside("page.html"));
    let report = |runs: &str, page: &str| latentrace(&["report", runs, "--frames", "0", "--output", page]).assert();
    // A picture stands for its run, and a page may be written again.
    report(picture.to_str().unwrap(), &page).success().stderr(contains("warning").not());
    report(folder, &page).success();
    for file in ["image.png", "cell.json", "trace/run.json"] {
        let file = run.join(file).display().to_string();
        report(folder, &file)
            .failure()
            .stderr(contains(format!("--output {file}: a file that is no page is there already")));
    }
    assert_eq!(std::fs::read(&picture).unwrap(), before);
    let file = made.trace.join("run.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("a cat", "a dog")).unwrap();
    report(folder, &page)
        .success()
        .stderr(contains("warning: ").and(contains("run.json: has changed since the run was recorded")));
    // A run that was stopped has nothing to show.
    std::fs::write(&file, text).unwrap();
    std::fs::remove_file(&picture).unwrap();
    let index = std::fs::read_to_string(made.trace.join("index.jsonl")).unwrap();
    let kept: Vec<&str> = index.lines().take(12).collect();
    std::fs::write(made.trace.join("index.jsonl"), kept.join("\n") + "\n").unwrap();
    report(folder, &page)
        .failure()
        .stderr(contains(format!("{folder}: not finished: ")).and(contains("latentrace resume")));
}
