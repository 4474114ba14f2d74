//! Several processes at one record or one name: none loses what another has made, none mixes two runs.
//!
//! `LATENTRACE_ROUNDS=200 cargo test --release -p latentrace-experiments --test owners` makes so many rounds of each kind.

#![allow(clippy::print_stdout)] // a test says what it counted
#![cfg(unix)]
use latentrace::trace::{Trace, compare};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn tiny() -> String {
    home().join("data/golden/networks/sd1").display().to_string()
}

/// How many rounds of each kind; few, where nobody asks for more.
fn rounds() -> u32 {
    std::env::var("LATENTRACE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

fn latentrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("latentrace"));
    command.args(arguments).env("OMP_NUM_THREADS", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A run into a folder.
fn generate(folder: &Path, guidance: &str, steps: &str) -> Child {
    let (out, model) = (folder.display().to_string(), tiny());
    let arguments = [
        "generate",
        "a cat",
        "--model",
        &model,
        "--seed",
        "7",
        "--steps",
        steps,
        "--guidance",
        guidance,
        "--output",
        &out,
    ];
    latentrace(&arguments).spawn().unwrap()
}

/// Enough steps to be stopped in the middle of them.
const MANY: &str = "60";
/// Enough that several runs are at it at once.
const FEW: &str = "12";

fn resume(trace: &Path) -> Child {
    latentrace(&["resume", trace.to_str().unwrap()]).spawn().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Waits until a run has begun, and then some share of the time that it takes.
fn into_the_run(trace: &Path, round: u32, lasts: Duration) {
    let began = Instant::now();
    while !trace.join("run.json").exists() {
        assert!(began.elapsed() < Duration::from_secs(600), "{}: the run has not begun", trace.display());
        std::thread::sleep(Duration::from_millis(1));
    }
    let share = (f64::from(round) * 0.618_034).fract(); // golden-ratio steps: never in step with the writer
    std::thread::sleep(lasts.mul_f64(share));
}

/// An unbroken run, its record, and how long its network calls take.
struct Reference {
    _folder: tempfile::TempDir,
    trace: PathBuf,
    lasts: Duration,
}

fn reference(guidance: &str, steps: &str) -> Reference {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("a-cat-7/trace");
    let child = generate(folder.path(), guidance, steps);
    into_the_run(&trace, 0, Duration::ZERO);
    let began = Instant::now();
    let output = child.wait_with_output().unwrap();
    let lasts = began.elapsed().mul_f64(0.9);
    assert!(output.status.success(), "{}", said(&output));
    let verified = latentrace(&["verify", trace.to_str().unwrap(), "--tolerance", "0"]).output().unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
    Reference { _folder: folder, trace, lasts }
}

/// Checks that a record is whole, and to the bit that of the reference, whose every step can be verified.
fn assert_whole(trace: &Path, reference: &Reference, what: &str) {
    let found = Trace::open(trace).unwrap();
    assert_eq!(found.problems(), [""; 0], "{what}");
    assert!(found.end().is_some_and(|end| end.error.is_none()), "{what}: without an end");
    let expected = Trace::open(&reference.trace).unwrap();
    assert_eq!((found.complete(), found.entries().len()), (expected.complete(), expected.entries().len()), "{what}");
    let apart = compare(&found, &expected).unwrap().worst().map(|difference| difference.relative);
    assert_eq!(apart, Some(0.0), "{what}");
    let picture = |trace: &Path| std::fs::read(trace.with_file_name("image.png")).unwrap();
    assert_eq!(pixels(&picture(trace)), pixels(&picture(&reference.trace)), "{what}");
}

/// The chunks of a PNG that hold its pixels.
fn pixels(png: &[u8]) -> Vec<u8> {
    let (mut at, mut data) = (8, Vec::new());
    while at + 12 <= png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        if &png[at + 4..at + 8] == b"IDAT" {
            data.extend_from_slice(&png[at + 8..at + 8 + length]);
        }
        at += 12 + length;
    }
    data
}

#[test]
fn a_stopped_run_keeps_its_record_whoever_asks_to_go_on_with_it() {
    let reference = reference("3", MANY);
    let mut refused = 0;
    for round in 0..rounds() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("a-cat-7/trace");
        let first = generate(folder.path(), "3", MANY);
        into_the_run(&trace, round, reference.lasts);
        signal(&first, "-STOP");
        let second = resume(&trace).wait_with_output().unwrap();
        match second.status.success() {
            // It had ended just before.
            true => assert!(said(&second).contains("calls are there"), "round {round}: {}", said(&second)),
            false => {
                refused += 1;
                let owner = format!("a live run: process {} on ", first.id());
                assert!(said(&second).contains(&owner), "round {round}: {}", said(&second));
                let looked = latentrace(&["trace", "--no-figures", trace.to_str().unwrap()]).output().unwrap();
                assert!(said(&looked).contains(&owner) && !said(&looked).contains("cut off"), "{}", said(&looked));
                let verified = latentrace(&["verify", trace.to_str().unwrap()]).output().unwrap();
                assert!(
                    said(&verified).contains(&owner) && !said(&verified).contains("cut off"),
                    "{}",
                    said(&verified)
                );
            }
        }
        signal(&first, "-CONT");
        let first = first.wait_with_output().unwrap();
        assert!(first.status.success(), "round {round}: {}", said(&first));
        assert_whole(&trace, &reference, &format!("round {round}"));
    }
    println!("{} rounds, the second refused in {refused}: none lost", rounds());
    assert!(refused * 2 > rounds(), "{refused} of {} were stopped in the middle", rounds());
}

/// A file system without locks: here the lock's file is removed by hand while its owner is stopped.
#[test]
fn without_locks_a_stopped_run_finds_out_that_another_has_made_the_rest() {
    let reference = reference("3", MANY);
    let mut found_out = 0;
    for round in 0..rounds() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("a-cat-7/trace");
        let first = generate(folder.path(), "3", MANY);
        into_the_run(&trace, round, reference.lasts);
        signal(&first, "-STOP");
        std::fs::remove_file(trace.join("lock")).ok(); // it may have ended just now
        let second = resume(&trace).wait_with_output().unwrap();
        assert!(second.status.success(), "round {round}: {}", said(&second));
        assert_whole_but_picture(&trace, &reference, &format!("round {round}, before the first goes on"));
        signal(&first, "-CONT");
        let first = first.wait_with_output().unwrap();
        if !first.status.success() {
            found_out += 1;
            assert!(said(&first).contains("another process has changed it"), "round {round}: {}", said(&first));
        }
        assert_whole(&trace, &reference, &format!("round {round}"));
    }
    println!("{} rounds without locks, the first found out in {found_out}: none lost", rounds());
    assert!(found_out * 2 > rounds(), "{found_out} of {} were stopped in the middle", rounds());
}

fn assert_whole_but_picture(trace: &Path, reference: &Reference, what: &str) {
    let found = Trace::open(trace).unwrap();
    let expected = Trace::open(&reference.trace).unwrap();
    let apart = compare(&found, &expected).unwrap().worst().map(|difference| difference.relative);
    assert_eq!((found.complete(), apart), (expected.complete(), Some(0.0)), "{what}");
}

#[test]
fn of_two_that_go_on_with_a_killed_run_none_cuts_the_other_off() {
    let reference = reference("3", MANY);
    let mut both = 0;
    for round in 0..rounds() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("a-cat-7/trace");
        let mut killed = generate(folder.path(), "3", MANY);
        into_the_run(&trace, round, reference.lasts.mul_f64(0.7));
        killed.kill().ok();
        killed.wait().unwrap();
        let two = [resume(&trace), resume(&trace)];
        let ended = two.map(|child| child.wait_with_output().unwrap());
        assert!(ended.iter().any(|output| output.status.success()), "{}{}", said(&ended[0]), said(&ended[1]));
        for output in ended.iter().filter(|output| !output.status.success()) {
            let text = said(output);
            let known = text.contains("a live run: ") || text.contains("another process has changed it");
            assert!(known && !text.contains("panicked"), "round {round}: {text}");
        }
        both += u32::from(ended.iter().all(|output| output.status.success()));
        assert_whole(&trace, &reference, &format!("round {round}"));
    }
    println!("{} rounds of two, both were served in {both}: none lost", rounds());
}

#[test]
fn eight_runs_of_one_name_leave_eight_pictures_each_with_its_own_record() {
    let weights: Vec<String> = (0..8).map(|number| format!("{}", 1.0 + 0.5 * f64::from(number))).collect();
    let references: Vec<Reference> = weights.iter().map(|weight| reference(weight, FEW)).collect();
    for round in 0..rounds() {
        let folder = tempfile::tempdir().unwrap();
        let children: Vec<Child> = weights.iter().map(|weight| generate(folder.path(), weight, FEW)).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {}", said(&output));
        }
        let mut seen = Vec::new();
        for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let trace = entry.path().join("trace");
            let weight = Trace::open(&trace).unwrap().run()["cell"]["guidance"].to_string();
            let place = weights.iter().position(|known| known.parse::<f64>().ok() == weight.parse().ok()).unwrap();
            // The picture beside it is the one of its guidance, and so is what the picture says of itself.
            assert_whole(&trace, &references[place], &format!("round {round}, {}", trace.display()));
            let text = latentrace_text_of(&trace.with_file_name("image.png"));
            assert!(text.contains(&format!("\"guidance\":{weight}")), "{text}");
            seen.push(place);
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7], "round {round}: one record of each");
    }
    println!("{} rounds of eight: none lost, none mixed", rounds());
}

/// The text that a PNG file says of itself.
fn latentrace_text_of(picture: &Path) -> String {
    let bytes = std::fs::read(picture).unwrap();
    let place = bytes.windows(11).position(|window| window == b"Latentrace\0").expect("a text of ours");
    String::from_utf8_lossy(&bytes[place..bytes.len().min(place + 4096)]).into_owned()
}

#[test]
fn of_four_forks_into_one_folder_one_is_made() {
    let reference = reference("3", MANY);
    for round in 0..rounds() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("fork").display().to_string();
        let fork = |weight: &str| {
            let arguments =
                ["fork", reference.trace.to_str().unwrap(), "--at", "40", "--guidance", weight, "--output", &output];
            latentrace(&arguments).spawn().unwrap()
        };
        let children: Vec<Child> = ["1", "2", "4", "5"].iter().map(|weight| fork(weight)).collect();
        let ended: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let made = ended.iter().filter(|output| output.status.success()).count();
        assert_eq!(made, 1, "round {round}: {:?}", ended.iter().map(said).collect::<Vec<_>>());
        let others = ended.iter().filter(|output| !output.status.success());
        others.for_each(|output| {
            let text = said(output);
            assert!(text.contains("here already") || text.contains("a live run: "), "round {round}: {text}");
        });
        let verified = latentrace(&["verify", &output, "--tolerance", "0"]).output().unwrap();
        assert!(verified.status.success(), "round {round}: {}", said(&verified));
    }
}
