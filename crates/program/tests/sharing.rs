//! Sweeps that several processes and machines make together: parts, claims, kills, and stores that are merged.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod common;

use common::sweep::{asserted, quietly, run, same, spec};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn latentrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("latentrace"));
    command.args(arguments).env("OMP_NUM_THREADS", "1");
    command
}

/// What a command prints that succeeds.
fn printed(command: Command) -> String {
    String::from_utf8(asserted(command).success().get_output().stdout.clone()).unwrap()
}

/// The keys that `--list` prints.
fn keys(spec: &Path, out: &Path) -> Vec<String> {
    printed(run(spec, out, &["--list"])).lines().map(|line| line.split(' ').next().unwrap().to_string()).collect()
}

/// The keys in the names of a store's cells.
fn cells(out: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(out.join("cells")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).map(|name| name.rsplit('-').next().unwrap().into()).collect()
}

/// Makes a store whose claims are renewed every 50 ms and last 300 ms, so that another machine's are soon over.
fn hasty(out: &Path) {
    std::fs::create_dir_all(out).unwrap();
    let claims = json!({ "renewed_s": 0.05, "term_s": 0.3 });
    std::fs::write(out.join("store.json"), json!({ "format": 1, "claims": claims }).to_string()).unwrap();
}

fn status(out: &Path) -> Value {
    serde_json::from_str(&printed(latentrace(&["status", &out.display().to_string(), "--json"]))).unwrap()
}

#[test]
fn parts_of_a_sweep_are_made_apart_and_gathered() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "guidance = [1, 4]\nseed = [1, 2, 3]");
    let (alone, out) = (folder.path().join("alone"), folder.path().join("out"));
    asserted(run(&spec, &alone, &[])).success();
    let keys = keys(&spec, &out);
    assert!(!out.exists(), "a list makes nothing");
    assert_eq!(keys.iter().cloned().collect::<BTreeSet<_>>(), cells(&alone));
    let listed = printed(run(&spec, &out, &["--list", "--json"]));
    let first: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((first["key"].as_str(), first["label"].as_str()), (Some(keys[0].as_str()), Some("guidance 1, seed 1")));

    asserted(run(&spec, &out, &["--only", &keys[4], &keys[1]])).success().stdout(contains("2 pictures, 2 of them new"));
    assert_eq!(cells(&out), BTreeSet::from([keys[1].clone(), keys[4].clone()]));
    assert!(!out.join("results.csv").exists(), "a part draws nothing");
    asserted(run(&spec, &out, &["--gather"]))
        .success()
        .stderr(contains("note: 4 of 6 cells are not made yet; figures and tables are of the others"));
    assert_eq!((status(&out)["done"].as_u64(), status(&out)["left"].as_array().unwrap().len()), (Some(2), 4));
    for shard in ["1/2", "2/2"] {
        asserted(run(&spec, &out, &["--shard", shard])).success().stdout(contains("3 pictures, "));
    }
    asserted(run(&spec, &out, &["--gather"])).success().stdout(contains("6 pictures, 0 of them new"));
    same(&alone, &out);
    assert_eq!(status(&out)["done"].as_u64(), Some(6));

    let refused = |more: &[&str], says: &str| {
        asserted(run(&spec, &out, more)).failure().stderr(contains(says).and(contains("panicked").not()));
    };
    refused(
        &["--only", "0123456789abcdef"],
        "0123456789abcdef: none of the 6 cells of this experiment has this key here",
    );
    refused(&["--shard", "3/2"], "share 3 of 2: shares are counted from 1 to 2");
    refused(&["--shard", "1/2", "--gather"], "cannot be used with");
    // A part of another experiment in this folder would have other keys.
    refused(&["--shard", "1/2", "--set", "steps=2"], "a list of other cells than those of this experiment");
}

#[test]
fn a_gathering_of_nothing_and_empty_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let out = folder.path().join("out");
    asserted(run(&spec, &out, &["--gather"]))
        .failure()
        .stderr(contains("out: no store, because it has no folder cells\nhint: "));
    assert!(!out.exists(), "a gathering makes no folder");
    std::fs::create_dir_all(out.join("cells")).unwrap();
    asserted(run(&spec, &out, &["--gather"]))
        .failure()
        .stderr(contains("none of the 2 cells is made yet\nhint: ").and(contains("panicked").not()));
    asserted(run(&spec, &out, &["--only", ""])).failure().stderr(contains("--only: an empty key\nhint: "));
}

#[test]
fn what_is_in_the_place_of_a_claim_is_named_and_the_other_cells_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let out = folder.path().join("out");
    let keys = keys(&spec, &out);
    std::fs::create_dir_all(out.join(format!("claims/{}.1", keys[0]))).unwrap();
    let said = format!("{}.1: cannot be the claim of a cell: a folder, not a file\nhint: ", keys[0]);
    asserted(run(&spec, &out, &["--shard", "1/1"])).failure().stderr(contains(said));
    assert_eq!(cells(&out), BTreeSet::from([keys[1].clone()]));
    assert_eq!(status(&out)["done"].as_u64(), Some(1));
}

#[test]
fn cells_that_have_other_keys_for_another_reason_are_not_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let out = folder.path().join("out");
    asserted(run(&spec, &out, &["--shard", "1/1"])).success();
    let (store, spec) = (out.display().to_string(), spec.display().to_string());
    let prune = |more: &[&str]| latentrace(&[&["store", "prune", &store, "--keep", &spec], more].concat());
    // No cell would be left, as where kernels or a device give other keys.
    let refused = contains("none of the 2 cells is in the specs, and all would be removed\nhint: ");
    asserted(prune(&["--set", "steps=2"])).failure().stderr(refused);
    asserted(prune(&["--set", "steps=2", "--dry-run"]))
        .success()
        .stdout(contains("2 cells and 0 failure notes would be"));
    asserted(prune(&["--set", "seed=[2, 3]"])).success().stdout(contains("1 cell and 0 failure notes removed"));
    assert_eq!(cells(&out).len(), 1);
    // Another model, of which the store has a note.
    let file = out.join("cells.json");
    let before = std::fs::read_to_string(&file).unwrap();
    let mut list: Value = serde_json::from_str(&before).unwrap();
    let model = list["models"].as_object_mut().unwrap().values_mut().next().unwrap();
    *model = json!("f".repeat(64));
    std::fs::write(&file, list.to_string()).unwrap();
    asserted(prune(&["--set", "steps=2", "--yes"])).failure().stderr(contains(format!("with {}", "f".repeat(16))));
    assert_eq!(cells(&out).len(), 1);
    std::fs::write(&file, before).unwrap();
    asserted(prune(&["--set", "steps=2", "--yes"])).success().stdout(contains("1 cell and 0 failure notes removed"));
    assert!(cells(&out).is_empty());
}

#[test]
fn a_damaged_cell_is_submitted_again_and_a_foreign_file_is_no_cell() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let out = folder.path().join("out");
    asserted(run(&spec, &out, &["--shard", "1/1"])).success();
    let cell = out.join("cells").join(cell_name(&out));
    std::fs::write(out.join("cells/.DS_Store"), "").unwrap();
    std::fs::create_dir(out.join("cells/notes")).unwrap();
    let store = out.display().to_string();
    asserted(latentrace(&["store", "verify", &store])).success().stdout(contains("2 cells as written"));
    std::fs::remove_file(cell.join("image.png")).unwrap();
    asserted(latentrace(&["status", &store]))
        .success()
        .stdout(contains("2 done"))
        .stderr(contains(format!("`latentrace store verify {store}` checks them")));
    let mut submit = latentrace(&["submit", "--workers", "1", "--output", &store]);
    submit.arg(&spec);
    asserted(submit).success().stdout(contains("small: 2 cells: 1 done, 0 running, 0 failed, 1 left"));
    asserted(latentrace(&["store", "verify", &store])).success().stdout(contains("2 cells as written"));
    assert!(out.join("cells/.DS_Store").is_file());
}

#[test]
fn a_file_that_was_changed_is_found_by_its_hash_and_its_cell_is_made_again_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let (calm, out) = (folder.path().join("calm"), folder.path().join("out"));
    asserted(run(&spec, &calm, &[])).success();
    asserted(run(&spec, &out, &[])).success();
    let change = || std::fs::write(out.join("cells").join(cell_name(&out)).join("previews.png"), "").unwrap();
    let store = out.display().to_string();
    let verify = || asserted(latentrace(&["store", "verify", &store]));
    change();
    asserted(run(&spec, &out, &[])).success().stdout(contains("0 of them new"));
    verify().failure().stderr(contains("not as it was written: previews.png"));
    asserted(run(&spec, &out, &["--retry"])).success().stdout(contains("2 pictures, 1 of them new"));
    verify().success();
    same(&calm, &out);
    asserted(run(&spec, &out, &["--retry"])).success().stdout(contains("0 of them new"));
    // Of several workers each would read the whole store; a share reads its own cells.
    change();
    asserted(run(&spec, &out, &["--retry", "--worker", "1/2"])).success().stdout(contains("0 of them new"));
    asserted(run(&spec, &out, &["--retry", "--shard", "1/1"])).success().stdout(contains("1 of them new"));
    same(&calm, &out);
}

#[test]
fn what_an_engine_does_not_have_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let out = folder.path().join("out");
    for (engine, option, said) in [
        ("--hq", "--partition=gpu", "--partition gpu: not an option of HyperQueue\nhint: "),
        ("--hq", "--gres=gpu:a100:1", "--gres gpu:a100:1: HyperQueue has nothing like it\nhint: "),
        ("--hq", "--time=soon", "--time soon: HyperQueue has nothing like it\nhint: minutes"),
        ("--workers=2", "--memory=8G", "--memory 8G: not an option of --workers\nhint: "),
    ] {
        let mut submit = latentrace(&["submit", engine, option, "--output", &out.display().to_string()]);
        submit.arg(&spec);
        asserted(submit).failure().stderr(contains(said));
        assert!(!out.exists(), "{option}");
    }
}

#[test]
fn workers_of_another_libtorch_or_model_are_refused_with_both() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let out = folder.path().join("out");
    asserted(run(&spec, &out, &["--shard", "1/2"])).success();
    let file = out.join("cells.json");
    let mut list: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let other_keys = |list: &mut Value| {
        list["cells"].as_array_mut().unwrap().iter_mut().for_each(|cell| cell["key"] = json!("0000000000000000"));
    };
    let before = list.clone();
    other_keys(&mut list);
    let model = list["models"].as_object_mut().unwrap();
    let place = model.keys().next().unwrap().clone();
    model[&place] = json!("f".repeat(64));
    std::fs::write(&file, list.to_string()).unwrap();
    let refused = |says: &str| {
        asserted(run(&spec, &out, &["--shard", "2/2"])).failure().stderr(contains(says));
    };
    refused(&format!("was made with {}", "f".repeat(16)));
    let mut list = before;
    other_keys(&mut list);
    list["libtorch"] = json!("2.7.0");
    std::fs::write(&file, list.to_string()).unwrap();
    refused("the list was made with libtorch 2.7.0, and here is 2.11.0");
    assert_eq!(cells(&out).len(), 1);
}

/// How many processes are killed; the kill test of a release is run with 200.
fn kills() -> usize {
    std::env::var("LATENTRACE_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(12)
}

#[test]
fn workers_that_are_killed_lose_no_cell_and_make_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = 12.max(kills() / 4);
    let spec = spec(&folder, &format!("guidance = [1, 4]\nseed = {{ range = [1, {seeds}] }}"));
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    let began = Instant::now();
    asserted(run(&spec, &alone, &[])).success();
    let whole = began.elapsed();
    let mut made: Vec<String> = Vec::new();
    let start = |index: usize| {
        let shard = format!("{}/2", index % 2 + 1);
        run(&spec, &shared, &["--worker", &shard, "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut others = [start(0), start(1)];
    let mut cut = 0;
    for moment in 0..kills() {
        // Spread over a start and the first cells, and all together about as long as a whole sweep by two processes takes.
        let share = (moment as f64 * 0.618_034).fract() * 3.0 / kills() as f64;
        std::thread::sleep(whole.mul_f64(share).max(Duration::from_millis(5)));
        let mut killed = std::mem::replace(&mut others[moment % 2], start(moment));
        killed.kill().unwrap();
        let output = killed.wait_with_output().unwrap();
        cut += usize::from(!output.status.success());
        made.extend(new_keys(&output.stdout));
    }
    for child in others {
        made.extend(new_keys(&child.wait_with_output().unwrap().stdout));
    }
    asserted(run(&spec, &shared, &[])).success();
    same(&alone, &shared);
    let distinct: BTreeSet<&String> = made.iter().collect();
    assert_eq!(distinct.len(), made.len(), "a cell was made and kept twice");
    println!(
        "{cut} of {} kills hit a process at work; {} cells were made by processes that said so",
        kills(),
        made.len()
    );
    assert!(cut * 3 >= kills(), "{cut} of {} were still at work", kills());
}

/// The keys of the cells that a process has said to have made.
fn new_keys(stdout: &[u8]) -> Vec<String> {
    let lines = String::from_utf8_lossy(stdout).into_owned();
    let said = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let made = said.filter(|said| said["event"] == "cell" && said["status"] == "made");
    made.filter_map(|said| said["key"].as_str().map(str::to_string)).collect()
}

/// A command in a host of its own: other process ids, another name, another boot id.
fn on_host(name: &str, boot: &Path, command: &Command) -> Command {
    let script = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && hostname \"$2\" && shift 2 && exec \"$@\"";
    let mut host = Command::new("unshare");
    host.args(["--uts", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"]);
    host.arg(boot).arg(name).arg(command.get_program()).args(command.get_args()).env("OMP_NUM_THREADS", "1");
    host
}

/// Two boot ids, if this machine lets a test make hosts.
fn hosts(folder: &TempDir) -> Option<[PathBuf; 2]> {
    let boots = ["one", "other"].map(|name| folder.path().join(format!("boot-{name}")));
    for (index, boot) in boots.iter().enumerate() {
        std::fs::write(boot, format!("0000000{index}-0000-4000-8000-000000000000\n")).unwrap();
    }
    let seen = on_host("one", &boots[0], &{
        let mut command = Command::new("cat");
        command.arg("/proc/sys/kernel/random/boot_id");
        command
    });
    let is_made = { seen }.output().is_ok_and(|output| output.stdout.starts_with(b"00000000-"));
    if !is_made {
        println!("skipped: no namespaces here, which need root and util-linux");
    }
    is_made.then_some(boots)
}

#[cfg(target_os = "linux")]
#[test]
fn two_hosts_share_a_folder_and_one_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let Some([one, other]) = hosts(&folder) else { return };
    let spec = spec(&folder, "guidance = [1, 4]\nseed = { range = [1, 12] }");
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    hasty(&alone);
    hasty(&shared);
    asserted(run(&spec, &alone, &[])).success();
    let worker = |share: &str| run(&spec, &shared, &["--worker", share]);
    let start = |name: &str, boot: &Path, share: &str| quietly(on_host(name, boot, &worker(share)));
    let mut lost = start("one", &one, "1/2");
    let kept = start("other", &other, "2/2");
    until("the first cell", || shared.join("cells").is_dir() && !cells(&shared).is_empty());
    lost.kill().unwrap();
    lost.wait().unwrap();
    // What the lost host had in hand is left, and nobody robs a host before its term is over.
    asserted_ended(kept);
    asserted(on_host("other", &other, &run(&spec, &shared, &[]))).success().stdout(contains("24 pictures, "));
    same(&alone, &shared);
    let said = printed(latentrace(&["status", &shared.display().to_string()]));
    assert!(said.starts_with("small: 24 cells: 24 done, 0 running, 0 failed, 0 left"), "{said}");
}

fn asserted_ended(mut child: Child) {
    assert!(child.wait().unwrap().success());
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(120), "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_that_was_taken_for_lost_publishes_nothing_after() {
    let folder = tempfile::tempdir().unwrap();
    let Some([one, _]) = hosts(&folder) else { return };
    let spec = spec(&folder, "");
    let text = std::fs::read_to_string(&spec).unwrap().replace("steps = 3\n", "seed = 1\nsteps = 60\n");
    std::fs::write(&spec, text).unwrap();
    let shared = folder.path().join("shared");
    hasty(&shared);
    let mut stopped = quietly(on_host("one", &one, &run(&spec, &shared, &["--shard", "1/1"])));
    until("claim", || {
        std::fs::read_dir(shared.join("claims"))
            .is_ok_and(|mut claims| claims.any(|claim| claim.unwrap().file_name().to_string_lossy().ends_with(".1")))
            && unfinished(&shared) > 0
    });
    let inside = child_of(stopped.id());
    signal("STOP", inside);
    // Its cell is made here, after its term.
    asserted(run(&spec, &shared, &["--shard", "1/1"])).success().stdout(contains("1 of them new"));
    let made = std::fs::metadata(shared.join("cells").join(cell_name(&shared))).unwrap().modified().unwrap();
    signal("CONT", inside);
    assert!(stopped.wait().unwrap().success(), "it finds the cell made");
    assert_eq!(std::fs::metadata(shared.join("cells").join(cell_name(&shared))).unwrap().modified().unwrap(), made);
    assert_eq!((cells(&shared).len(), unfinished(&shared)), (1, 0));
}

/// The process that a process has started, and those that this one has, to the last.
fn child_of(pid: u32) -> u32 {
    let children = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut last = pid;
    while let Some(child) = children(last).split_whitespace().next() {
        last = child.parse().unwrap();
    }
    last
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap().success());
}

fn unfinished(out: &Path) -> usize {
    let entries = std::fs::read_dir(out.join("cells")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".unfinished")).count()
}

fn cell_name(out: &Path) -> String {
    let entries = std::fs::read_dir(out.join("cells")).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| !name.starts_with('.')).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_that_refuses_locks_and_links_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("refuse.c"), folder.path().join("refuse.so"));
    let text = "#include <errno.h>\nint flock(int f, int o) { errno = ENOLCK; return -1; }\n\
                int link(const char *a, const char *b) { errno = EPERM; return -1; }\n\
                int linkat(int a, const char *b, int c, const char *d, int e) { errno = EPERM; return -1; }\n";
    std::fs::write(&source, text).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.unwrap().success());
    let spec = spec(&folder, "guidance = [1, 4]\nseed = [1, 2, 3]");
    let (alone, out) = (folder.path().join("alone"), folder.path().join("out"));
    asserted(run(&spec, &alone, &[])).success();
    let refusing = |share: &str| {
        let mut command = run(&spec, &out, &["--worker", share]);
        command.env("LD_PRELOAD", &library);
        command
    };
    let other = quietly(refusing("2/2"));
    asserted(refusing("1/2")).success();
    asserted_ended(other);
    asserted(run(&spec, &out, &[])).success().stdout(contains("0 of them new"));
    same(&alone, &out);
}

#[test]
fn a_cell_that_fails_is_tried_once_by_all_workers_and_the_others_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "guidance = [1, 1e38]\nseed = [1, 2]");
    let out = folder.path().join("out");
    let command = ["submit", &spec.display().to_string(), "--output", &out.display().to_string(), "--workers", "3"]
        .map(String::from);
    let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    asserted(latentrace(&arguments)).failure().stderr(contains("2 of 4 cells failed"));
    assert!(out.join("results.csv").is_file() && out.join("grid.png").is_file(), "what was made is drawn");
    let logs = std::fs::read_dir(out.join("jobs/1")).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
    let said: String = logs.map(|log| std::fs::read_to_string(log).unwrap()).collect();
    assert_eq!(said.matches(": failed\n").count(), 2, "each failed once: {said}");
}

#[test]
fn workers_end_when_their_submit_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = { range = [1, 400] }");
    let out = folder.path().join("out");
    let command = ["submit", &spec.display().to_string(), "--output", &out.display().to_string(), "--workers", "2"];
    let mut submit = latentrace(&command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("two cells are in the making", || {
        out.join("cells.json").is_file() && status(&out)["running"].as_array().unwrap().len() == 2
    });
    submit.kill().unwrap();
    submit.wait().unwrap();
    until("both workers have ended", || status(&out)["running"].as_array().unwrap().is_empty());
    let left = status(&out)["left"].as_array().unwrap().len();
    assert!(left > 0, "they ended only because all was made");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(status(&out)["left"].as_array().unwrap().len(), left, "somebody goes on");
}

#[test]
fn a_store_that_is_merged_into_itself_keeps_its_cells_and_damage_is_replaced_by_what_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2]");
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    asserted(run(&spec, &a, &[])).success();
    asserted(run(&spec, &b, &[])).success();
    let damaged = |store: &Path| std::fs::write(cell_of(store).join("cell.json"), "{").unwrap();
    let merge = || {
        let [a, b] = [&a, &b].map(|store| store.display().to_string());
        latentrace(&["store", "merge", &a, &b, "--into", &a])
    };
    // A damaged copy does not take the place of anything.
    damaged(&a);
    damaged(&b);
    asserted(merge());
    assert_eq!(cells(&a).len(), 2, "nothing is lost");
    asserted(run(&spec, &b, &["--retry"])).success();
    asserted(merge()).success().stdout(contains("1 cell copied"));
    same(&a, &b);
}

/// The folder of a store's first cell, by name.
fn cell_of(store: &Path) -> PathBuf {
    std::fs::read_dir(store.join("cells")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap()
}

#[test]
fn stores_are_merged_checked_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "seed = [1, 2, 3, 4]");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (alone, [a, b, all]) = (folder.path().join("alone"), ["a", "b", "all"].map(|name| folder.path().join(name)));
    asserted(run(&spec, &alone, &[])).success();
    asserted(run(&spec, &a, &["--shard", "1/2"])).success();
    asserted(run(&spec, &b, &["--shard", "2/2"])).success();
    let merge = || latentrace(&["store", "merge", &at("a"), &at("b"), "--into", &at("all")]);
    asserted(merge()).success().stdout(contains("4 cells copied, 0 there already"));
    asserted(merge()).success().stdout(contains("0 cells copied, 4 there already"));
    asserted(run(&spec, &all, &["--gather"])).success().stdout(contains("4 pictures, 0 of them new"));
    same(&alone, &all);
    asserted(latentrace(&["store", "verify", &at("all")])).success().stdout(contains("4 cells as written"));

    // A damaged cell is named, and is not copied.
    let cell = a.join("cells").join(cell_name(&a));
    let shard = std::fs::read_dir(cell.join("trace/shards")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&shard).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let name = shard.file_name().unwrap().to_string_lossy().into_owned();
    asserted(latentrace(&["store", "verify", &at("a")]))
        .failure()
        .stdout(contains("1 cell as written"))
        .stderr(contains(format!("not as it was written: trace/shards/{name}")).and(contains("1 cell damaged")));
    asserted(latentrace(&["store", "merge", &at("a"), "--into", &at("fresh")]))
        .failure()
        .stdout(contains("1 cell copied"))
        .stderr(contains("was not copied"));
    assert_eq!((cells(&folder.path().join("fresh")).len(), unfinished(&folder.path().join("fresh"))), (1, 0));

    // Cells that were computed otherwise have other keys.
    let other = std::fs::read_to_string(b.join("computing.json")).unwrap().replace("\"small\": 1", "\"small\": 3");
    std::fs::write(b.join("computing.json"), other).unwrap();
    asserted(latentrace(&["store", "merge", &at("a"), &at("b"), "--into", &at("mixed")]))
        .failure()
        .stderr(contains("a/computing.json and ").and(contains("b/computing.json differ")));
    assert!(!folder.path().join("mixed").exists());
    asserted(latentrace(&["store", "merge", &at("nothing"), "--into", &at("mixed")]))
        .failure()
        .stderr(contains("no store"));

    // What no experiment has is removed.
    let text = std::fs::read_to_string(&spec).unwrap().replace("[1, 2, 3, 4]", "[1, 2]");
    let fewer = folder.path().join("fewer.toml");
    std::fs::write(&fewer, text).unwrap();
    std::fs::write(all.join("failed/0123456789abcdef.json"), "{}").unwrap();
    let fewer = fewer.display().to_string();
    let prune = |more: &[&str]| latentrace(&[&["store", "prune", &at("all"), "--keep", &fewer], more].concat());
    asserted(prune(&["--dry-run"])).success().stdout(contains("2 cells and 1 failure note would be removed"));
    assert_eq!(cells(&all).len(), 4);
    asserted(prune(&[])).success().stdout(contains("2 cells and 1 failure note removed"));
    assert_eq!(cells(&all).len(), 2);
    asserted(latentrace(&["store", "prune", &at("all")])).success().stdout(contains("0 cells and 0 failure notes"));
}

#[test]
fn workers_on_this_machine_make_a_sweep_and_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "guidance = [1, 4]\nseed = [1, 2, 3]");
    let (alone, out) = (folder.path().join("alone"), folder.path().join("out"));
    asserted(run(&spec, &alone, &[])).success();
    let submit = |more: &[&str]| {
        let mut command = latentrace(&["submit"]);
        command.arg(&spec).arg("--output").arg(&out).args(more);
        command
    };
    let dry = printed(submit(&["--workers", "2", "--dry-run"]));
    assert!(dry.contains("6 cells by 2 workers") && !out.exists(), "{dry}");
    asserted(submit(&["--workers", "2"]))
        .success()
        .stdout(contains("small: 6 cells: 6 done, 0 running, 0 failed, 0 left"));
    assert!(out.join("jobs/1/2.log").is_file());
    std::fs::remove_dir_all(out.join("jobs")).unwrap();
    same(&alone, &out);
    let gather = format!("--output {} --gather` draws figures and tables", out.display());
    asserted(submit(&["--workers", "2"])).success().stdout(contains("nothing to submit; ").and(contains(gather)));
    asserted(submit(&["--workers", "2", "--per-task", "2"])).failure().stderr(contains("cannot be used with"));
    asserted(submit(&["--slurm", "--dry-run", "--partition", "a\nb"]))
        .failure()
        .stderr(contains("another control character"));
    asserted(submit(&[])).failure().stderr(contains("--slurm").and(contains("--workers")));
    // Without Slurm its scripts can be seen.
    let dry = printed(submit(&["--slurm", "--dry-run", "--set", "seed=[7, 8]", "--time", "01:00:00"]));
    assert!(dry.contains("#SBATCH --array=0-3\n") && dry.contains("#SBATCH --time=01:00:00\n"), "{dry}");
    assert!(dry.contains("--set 'seed=[7, 8]'") && dry.contains(" --gather"), "{dry}");
    if Command::new("sbatch").arg("--version").output().is_err() {
        asserted(submit(&["--slurm", "--array-size", "2", "--set", "seed=[7, 8]"]))
            .failure()
            .stderr(contains("sbatch: not found on PATH").and(contains("--workers N")));
    }
    if Command::new("hq").arg("--version").output().is_err() {
        let said = printed(submit(&["--hq", "--per-task", "3", "--gres", "gpu:2", "--set", "seed=[7, 8]"]));
        let command = "hq submit --name latentrace-small --cpus 1 --resource gpus/nvidia=2 --stdout ";
        assert!(said.contains(command) && said.contains("--each-line"), "{said}");
    }
}
