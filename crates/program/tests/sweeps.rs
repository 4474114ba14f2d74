//! Sweeps as their users run them: stopped, side by side, in batches, and where things go wrong.

mod common;

use common::sweep::{asserted, quietly, run, same, spec, tiny};
use latentrace::files::Table;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_sweep_that_is_killed_twenty_times_ends_as_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "guidance = [1, 4]\nseed = { range = [1, 12] }");
    let (calm, killed) = (folder.path().join("calm"), folder.path().join("killed"));
    let began = Instant::now();
    asserted(run(&spec, &calm, &[])).success();
    let whole = began.elapsed();
    let mut cut = 0;
    for moment in 0..20 {
        let mut child = quietly(run(&spec, &killed, &[]));
        // Spread over the first third of a whole run by the golden ratio, so that loading, computing and writing are hit.
        let share = (f64::from(moment) * 0.618_034).fract() / 3.0;
        std::thread::sleep(whole.mul_f64(share).max(Duration::from_millis(5)));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        cut += usize::from(!ended.success());
    }
    assert!(cut >= 5, "{cut} of 20 were still at work");
    asserted(run(&spec, &killed, &[])).success();
    same(&calm, &killed);
}

#[test]
fn two_processes_on_one_store_make_each_cell_once() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "guidance = [1, 4]\nseed = { range = [1, 10] }");
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    asserted(run(&spec, &alone, &[])).success();
    let start = || run(&spec, &shared, &["--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let new = |child: Child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stdout).unwrap();
        let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((last["event"].as_str(), last["pictures"].as_u64()), (Some("end"), Some(20)));
        last["new"].as_u64().unwrap()
    };
    let (one, other) = (start(), start());
    assert_eq!(new(one) + new(other), 20);
    same(&alone, &shared);
}

#[test]
fn a_batch_computes_once_what_its_cells_share() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "guidance = [0, 1, 2, 7]\nseed = [1, 2]");
    let (exact, fast) = (folder.path().join("exact"), folder.path().join("fast"));
    // Eight cells of four calls with two texts each; those of a seed have the first call in common.
    asserted(run(&spec, &exact, &["--dry-run"]))
        .success()
        .stdout(contains("52 evaluations of the network;").and(contains("52 of 64 evaluations have to be computed")));
    asserted(run(&spec, &exact, &[]))
        .success()
        .stdout(contains("8 of them new, by 52 evaluations"))
        .stderr(contains("note: 52 of 64 evaluations have to be computed: the other 12 are the same in another cell"));
    // Of each seed: the first call is the same for all four, with two texts; then weight 0 needs the negative text alone
    // and weight 1 the prompt alone, so three calls of 1 + 1 + 2 + 2.
    let shared = 2 * (2 + 3 * 6);
    asserted(run(&spec, &fast, &["--batched", "--dry-run"]))
        .success()
        .stdout(contains(format!("{shared} evaluations")));
    asserted(run(&spec, &fast, &["--batched"]))
        .success()
        .stdout(contains(format!("8 of them new, by {shared} evaluations")));
    asserted(run(&spec, &fast, &["--batched"])).success().stdout(contains("0 of them new, by 0 evaluations"));
    // What was made exactly is good enough for who would be content with less.
    asserted(run(&spec, &exact, &["--batched"])).success().stdout(contains("0 of them new"));
    asserted(run(&spec, &fast, &[])).success().stdout(contains("8 of them new"));
    let picture = |store: &Path, cell: &str| {
        let cells = std::fs::read_dir(store.join("cells")).unwrap().map(|entry| entry.unwrap().path());
        let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(cell);
        latentrace::plot::open_image(&cells.filter(named).min().unwrap().join("image.png")).unwrap()
    };
    for cell in ["guidance-0-seed-1", "guidance-1-seed-2", "guidance-7-seed-2"] {
        let (one, other) = (picture(&exact, cell), picture(&fast, cell));
        let apart = one.as_raw().iter().zip(other.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(apart <= 1, "{cell}: {apart} levels"); // another batch size rounds differently
    }
}

#[test]
fn a_cell_that_fails_is_recorded_and_tried_again_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]\nedits = [[], [\"sampler.sample => scale(1e38)\"]]");
    let out = folder.path().join("out");
    asserted(run(&spec, &out, &[]))
        .failure()
        .stdout(contains("2 of them new"))
        .stderr(contains("2 of 4 cells failed").and(contains("hint: --retry")));
    let failed = || std::fs::read_dir(out.join("failed")).unwrap().count();
    assert_eq!(failed(), 2);
    let results = std::fs::read_to_string(out.join("results.csv")).unwrap();
    assert_eq!(results.lines().filter(|line| line.contains("image.png")).count(), 2);
    assert_eq!(results.lines().filter(|line| line.contains("infinite")).count(), 2, "{results}");
    assert!(out.join("grid.png").is_file(), "what is there is drawn");
    asserted(run(&spec, &out, &[])).failure().stdout(contains("0 of them new, by 0 evaluations"));
    asserted(run(&spec, &out, &["--retry"])).failure().stderr(contains("failed"));
    assert_eq!(failed(), 2);
    // Without the cells that fail there is nothing to complain of.
    asserted(run(&spec, &out, &["--set", "edits=[]"])).success().stdout(contains("0 of them new"));
}

#[test]
fn a_disk_that_is_full_ends_the_sweep_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2, 3]");
    let out = folder.path().join("out");
    let whole = run(&spec, &out, &[]);
    // A file may grow to eight blocks of 512 bytes; the signal is ignored, so writing more is an error, as on a full disk.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]).arg(whole.get_program());
    limited.args(whole.get_args()).env("OMP_NUM_THREADS", "1");
    asserted(limited).failure().stderr(
        contains("error: seed 1: ").and(contains("out")).and(contains("panicked").or(contains(".partial-")).not()),
    );
    let cells = || std::fs::read_dir(out.join("cells")).unwrap().count();
    assert_eq!(cells(), 0, "nothing half-written is left");
    asserted(whole).success().stdout(contains("3 of them new"));
    assert_eq!(cells(), 3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_does_not_fit_is_made_in_smaller_ones_and_a_line_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = { range = [1, 8] }");
    let settings = ["--set", "steps=1", "--set", "height=512", "--set", "width=512", "--batched", "--batch", "8"];
    // How many addresses the program takes differs from machine to machine: a limit is looked for at which it starts, and the batch
    // does not fit.
    let (mut starts_not, mut fits) = (300_000, 1_600_000); // KiB
    for attempt in 0..8 {
        let kib = (starts_not + fits) / 2;
        let out = folder.path().join(attempt.to_string());
        let whole = run(&spec, &out, &settings);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -v {kib}; exec \"$0\" \"$@\"")]).arg(whole.get_program());
        let output = limited.args(whole.get_args()).env("OMP_NUM_THREADS", "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.contains("do not fit") {
            *(if output.status.success() { &mut fits } else { &mut starts_not }) = kib;
            continue;
        }
        let line = "note: 8 pictures in one batch do not fit, 4 are made at once: out of memory: ";
        assert!(said.contains(line) && said.contains("this process may have"), "{said}");
        assert_eq!(said.matches(line).count(), 1, "{said}");
        // Where fewer pictures do not fit either, their cells have failed, and the sweep has gone on.
        let all = String::from_utf8_lossy(&output.stdout).contains("8 of them new");
        let some_failed = said.contains("cells failed") && said.contains("out of memory: ");
        assert!(if output.status.success() { all } else { output.status.code() == Some(1) && some_failed }, "{said}");
        assert!(!said.contains("panicked"), "{said}");
        return;
    }
    panic!("no limit from {starts_not} to {fits} KiB at which the batch does not fit");
}

#[test]
fn what_cannot_be_run_is_said_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let out = folder.path().join("out");
    let refused = |more: &[&str], says: &str| {
        asserted(run(&spec, &out, more)).failure().stderr(contains(says).and(contains("panicked").not()));
        assert!(!out.exists(), "{more:?}");
    };
    refused(&["--set", "seed={ range = [1, 1000000] }"], "1000000 cells, more than 2000\nhint: --yes runs them all");
    refused(&["--set", "sede=3"], "did you mean seed?");
    refused(&["--set", "strength=0"], "strength");
    refused(&["--set", "image=nothing.png"], "nothing.png");
    refused(&["--set", "steps=99999"], "steps");
    let empty = folder.path().join("empty.toml");
    std::fs::write(&empty, "").unwrap();
    asserted(run(&empty, &out, &[])).failure().stderr(contains("empty.toml").and(contains("name: is missing")));
    asserted(run(&folder.path().join("no-such"), &out, &[])).failure().stderr(contains("no such spec"));
    let inside_a_file = spec.join("out");
    asserted(run(&spec, &inside_a_file, &[])).failure().stderr(contains("spec.toml").and(contains("cannot create")));
}

#[test]
fn a_rule_fires_in_one_cell_at_least_and_the_others_say_that_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let spec = |capture: &str, edit: &str, guidance: &str| {
        let path = folder.path().join("rules.toml");
        let text = format!(
            "name = \"rules\"\ncapture = [{capture:?}]\n[fixed]\nguidance = {guidance}\nedits = [{edit:?}]\nmodel = {:?}\n\
             [vary]\nprompt = [\"a cat\", \"a tired dog\"]\nsteps = [2, 5]\n",
            tiny()
        );
        std::fs::write(&path, text).unwrap();
        path
    };
    let (out, mask) = (folder.path().join("out"), "unet.**.attn2.scores => mask(dog)");
    let late = "unet.mid_block.out @step[4:] | stats";
    let refused = |spec: &Path, says: &str| {
        asserted(run(spec, &out, &[])).failure().stderr(contains(says).and(contains("panicked").not()));
        assert!(!out.exists(), "{says}");
    };
    let nowhere = "in no cell of this experiment: ";
    refused(&spec("unet.mid_block.out @step[5:]", mask, "2.0"), nowhere);
    refused(&spec(late, "unet.**.attn2.scores => mask(red)", "2.0"), "red: no such word in the prompt");
    refused(&spec(late, "unet.**.attn2.scores => mask(dog, red)", "2.0"), "red: no such word in the prompt");
    refused(&spec(late, mask, "{ weight = 8, sigma = [20, 30] }"), "no noise level of this run lies in its window");
    let spec = spec(late, mask, "{ weight = 8, sigma = [0.0, 0.1] }");
    asserted(run(&spec, &out, &[]))
        .success()
        .stderr(contains(format!("note: {late}: keeps 4 tensors, in 2 of 4 cells")));
    let mut found = Vec::new();
    for cell in std::fs::read_dir(out.join("cells")).unwrap() {
        let run = std::fs::read(cell.unwrap().path().join("trace/run.json")).unwrap();
        let run: Value = serde_json::from_slice(&run).unwrap();
        let count = |kind: &str| run["fires"][kind][0].as_u64().unwrap();
        found.push((
            run["cell"]["prompt"].to_string(),
            run["cell"]["steps"].as_u64(),
            count("capture"),
            count("edits") > 0,
        ));
    }
    found.sort();
    let expected = |prompt: &str, steps, kept, masked| (format!("{prompt:?}"), Some(steps), kept, masked);
    let dog = "a tired dog";
    let expected = [
        expected("a cat", 2, 0, false),
        expected("a cat", 5, 2, false),
        expected(dog, 2, 0, true),
        expected(dog, 5, 2, true),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_picture_to_start_from_is_made_anew_by_its_strength() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("photo.png");
    let image = latentrace::plot::RgbImage::from_fn(90, 70, |x, y| [(2 * x) as u8, (3 * y) as u8, 90].into());
    latentrace::plot::save_png(&picture, &image, &[]).unwrap();
    let spec = spec(&folder, "strength = [0.5, 1.0]");
    let out = folder.path().join("out");
    let set = format!("image={}", picture.display());
    asserted(run(&spec, &out, &["--set", &set, "--set", "steps=4"])).success().stdout(contains("2 of them new"));
    // Another picture under the same name is another cell.
    latentrace::plot::save_png(&picture, &latentrace::plot::RgbImage::new(90, 70), &[]).unwrap();
    asserted(run(&spec, &out, &["--set", &set, "--set", "steps=4"])).success().stdout(contains("2 of them new"));
}

/// The folders of a store's cells, by name.
fn cells(out: &Path) -> Vec<PathBuf> {
    let mut cells: Vec<PathBuf> =
        std::fs::read_dir(out.join("cells")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cells.sort();
    cells
}

#[test]
fn a_cell_with_missing_or_other_files_is_named_and_made_again_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2, 3, 4, 5]");
    let (calm, out) = (folder.path().join("calm"), folder.path().join("out"));
    asserted(run(&spec, &calm, &[])).success();
    asserted(run(&spec, &out, &[])).success();
    let there = cells(&out);
    // Two folders change names, a picture is empty, settings are missing, and a record is of another cell.
    let other = out.join("cells/other");
    std::fs::rename(&there[0], &other).unwrap();
    std::fs::rename(&there[1], &there[0]).unwrap();
    std::fs::rename(&other, &there[1]).unwrap();
    std::fs::write(there[2].join("image.png"), "").unwrap();
    std::fs::remove_file(there[3].join("cell.json")).unwrap();
    std::fs::copy(there[2].join("trace/run.json"), there[4].join("trace/run.json")).unwrap();
    let report = || {
        let mut report = Command::new(assert_cmd::cargo::cargo_bin!("latentrace"));
        report.arg("report").arg(&out).args(["--frames", "0"]).env("OMP_NUM_THREADS", "1");
        asserted(report)
    };
    report().failure().stderr(contains("its cell.json is of the cell ").and(contains("--retry makes the cell again")));
    let swapped = format!("failed: seed 1: {}: its cell.json is of the cell ", there[0].display());
    asserted(run(&spec, &out, &[]))
        .failure()
        .stdout(contains("0 of them new"))
        .stderr(contains(swapped).and(contains(format!("whose folder is {}", there[1].display()))))
        .stderr(contains(format!("failed: seed 3: {}/image.png: ", there[2].display())))
        .stderr(contains(format!("failed: seed 4: {}/cell.json: could not be read: no such file", there[3].display())))
        .stderr(contains("failed: seed 5: ").and(contains("its trace/run.json is of another cell")))
        .stderr(contains("5 of 5 cells failed\nhint: --retry"));
    let column = |name: &str| -> Vec<String> {
        let table = Table::read(&out.join("results.csv")).unwrap();
        table.column(name).unwrap().map(|field| field.text().to_string()).collect()
    };
    assert_eq!(column("seed"), ["1", "2", "3", "4", "5"]);
    assert!(column("failure").iter().all(|failure| !failure.is_empty()));
    assert!(column("picture").iter().chain(&column("seconds")).all(String::is_empty));
    asserted(run(&spec, &out, &["--retry"])).success().stdout(contains("5 of them new"));
    same(&calm, &out);
    assert!(column("failure").iter().all(String::is_empty));
    assert!(column("cell").iter().all(|cell| column("picture").contains(&format!("cells/{cell}/image.png"))));
    report().success();
}

#[test]
fn alone_and_batched_on_one_store_make_each_cell_of_theirs_once() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "guidance = [1, 4]\nseed = { range = [1, 10] }");
    let out = folder.path().join("out");
    let start = |more: &[&str]| {
        run(&spec, &out, &[&["--json"], more].concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let new = |child: Child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        last["new"].as_u64().unwrap() as usize
    };
    let (alone, batched) = (start(&[]), start(&["--batched", "--batch", "2"]));
    let (alone, batched) = (new(alone), new(batched));
    assert_eq!(alone, 20, "what is made in a batch is not good enough for who makes each alone");
    assert_eq!(alone + batched, cells(&out).len(), "nothing was made to be thrown away");
    asserted(run(&spec, &out, &["--batched"])).success().stdout(contains("0 of them new"));
    asserted(run(&spec, &out, &[])).success().stdout(contains("0 of them new"));
}

#[test]
fn a_cell_of_a_batch_stays_one_when_its_picture_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let spec = spec(&folder, "seed = [1, 2]");
    asserted(run(&spec, &out, &["--batched"])).success();
    let cell = &cells(&out)[0];
    let about = || latentrace::plot::read_png_text(&cell.join("image.png")).unwrap();
    let before = about();
    assert!(before[1].1.contains("\"together\":true"), "{before:?}");
    std::fs::remove_file(cell.join("image.png")).unwrap();
    let mut resume = Command::new(assert_cmd::cargo::cargo_bin!("latentrace"));
    resume.arg("resume").arg(cell).env("OMP_NUM_THREADS", "1");
    asserted(resume).success().stderr(contains("made in a batch with others").and(contains("may differ by rounding")));
    assert_eq!(about(), before, "the same key");
    asserted(run(&spec, &out, &["--batched"])).success().stdout(contains("0 of them new"));
}

#[test]
fn a_folder_is_computed_as_it_was_begun_and_other_threads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let out = folder.path().join("out");
    let chosen = out.join("computing.json");
    asserted(run(&spec, &out, &["--set", "seed=1"])).success();
    let text = std::fs::read_to_string(&chosen).unwrap();
    let threads: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(threads, serde_json::json!({ "threads": { "small": 1, "large": 1 } }));
    // The folder of another machine, or of other settings of the same one.
    std::fs::write(&chosen, text.replace("\"small\": 1", "\"small\": 3")).unwrap();
    let refused = asserted(run(&spec, &out, &[])).code(1);
    refused.stderr(contains("its cells are computed on 3 threads, and OMP_NUM_THREADS=1 gives 1\nhint: unset"));
    // A folder from before there was such a file goes on as its first record says, and has its cells still.
    std::fs::remove_file(&chosen).unwrap();
    asserted(run(&spec, &out, &[])).success().stdout(contains("1 of 2 pictures are there already"));
    assert!(std::fs::read_to_string(&chosen).unwrap().contains("\"before\": [\n"));
    asserted(run(&spec, &out, &[])).success().stdout(contains("2 of 2 pictures are there already"));
    // The keys of cells on several threads have their number, and the cells are found where the file was lost.
    let other = folder.path().join("other");
    let on_two = || {
        let mut command = run(&spec, &other, &[]);
        command.env("OMP_NUM_THREADS", "2");
        asserted(command).success()
    };
    on_two().stdout(contains("2 of them new"));
    std::fs::remove_file(other.join("computing.json")).unwrap();
    on_two().stdout(contains("2 of 2 pictures are there already"));
    std::fs::write(&chosen, "{}").unwrap();
    asserted(run(&spec, &out, &[])).code(1).stderr(contains("computing.json: missing field `threads`"));
}

#[test]
fn kernels_that_a_spec_names_are_a_setting_and_those_that_the_machine_lacks_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "kernels = [\"plain\", \"channels-last\"]");
    let out = folder.path().join("out");
    asserted(run(&spec, &out, &[])).success().stdout(contains("2 of them new"));
    // `plain` is what a small network is computed by in any case, and the same cell.
    asserted(run(&spec, &out, &["--set", "kernels=plain"])).success().stdout(contains("1 of 1 pictures are there"));
    for (kernels, expected) in [
        ("quick", "kernels: expected plain, or some of channels-last, "),
        ("channels-last+fused", "found channels-last+fused"),
        ("attention-amx", "found attention-amx"), // which computes no f32
    ] {
        let set = format!("kernels={kernels}");
        asserted(run(&spec, &out, &["--set", &set])).code(1).stderr(contains(expected));
    }
}
