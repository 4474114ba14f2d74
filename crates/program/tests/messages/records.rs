//! The commands that read recorded runs: trace, verify, resume, fork, compare and causal.

use crate::session::Session;
use std::fs::File;
use std::io::Write;

/// Removes the last line of the index, which says that the run has ended.
fn cut(session: &Session, run: &str) {
    let index = format!("{run}/trace/index.jsonl");
    let lines = std::fs::read_to_string(session.at(&index)).unwrap().lines().count();
    remove_line(session, run, lines);
}

/// Keeps the index up to the first letters of a line, which is counted from 1. The length of the
/// lines before it differs between machines, because they contain statistics of tensors.
fn cut_in_line(session: &Session, run: &str, line: usize) {
    let index = format!("{run}/trace/index.jsonl");
    let text = std::fs::read_to_string(session.at(&index)).unwrap();
    let bytes: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    session.truncate(&index, |_| bytes + 10);
}

/// Changes one bit of the last shard.
fn flip(session: &Session, run: &str) {
    let shards = std::fs::read_dir(session.at(&format!("{run}/trace/shards"))).unwrap();
    let shard = shards.map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = std::fs::read(&shard).unwrap();
    let place = bytes.len() - 2;
    bytes[place] ^= 1;
    std::fs::write(shard, bytes).unwrap();
}

/// Removes a line of the index.
fn remove_line(session: &Session, run: &str, line: usize) {
    let index = format!("{run}/trace/index.jsonl");
    let text = std::fs::read_to_string(session.at(&index)).unwrap();
    let kept: Vec<&str> =
        text.lines().enumerate().filter(|(place, _)| place + 1 != line).map(|(_, line)| line).collect();
    session.write(&index, &(kept.join("\n") + "\n"));
}

/// Locks a record as a process does that is writing it, for as long as the file is held.
fn lock(session: &Session, run: &str) -> File {
    let mut file = File::create(session.at(&format!("{run}/trace/lock"))).unwrap();
    file.write_all(br#"{"pid":4711,"host":"elsewhere"}"#).unwrap();
    file.lock().unwrap();
    file
}

/// What is wrong with a record, and how it comes to be wrong with the one of `runs/bad`.
type Damage = (&'static str, fn(&Session));

const RUN_JSON: &str = "runs/bad/trace/run.json";
const INDEX: &str = "runs/bad/trace/index.jsonl";

/// Every damage, for the commands that report what is wrong with a record.
const DAMAGES: &[Damage] = &[
    ("run.json is of a later format", |session| session.edit(RUN_JSON, "\"format\": 1", "\"format\": 2")),
    ("run.json is not of this program", |session| session.write(RUN_JSON, "{\"format\": 1}")),
    ("run.json is cut off", |session| session.truncate(RUN_JSON, |_| 60)),
    CHANGED,
    ("a number of run.json is impossible", |session| session.edit(RUN_JSON, "\"calls\": 4", "\"calls\": 8")),
    ("the index is missing", |session| session.remove(INDEX)),
    ("a line of the index is missing", |session| remove_line(session, "runs/bad", 9)),
    CUT_OFF,
    ("a bit of a shard was changed", |session| flip(session, "runs/bad")),
    ("the shards are missing", |session| session.remove("runs/bad/trace/shards")),
    ENDLESS,
];

/// The damages that most commands meet: a file that was edited, and what a kill leaves.
const FEW: &[Damage] = &[CHANGED, CUT_OFF, ENDLESS];

const CHANGED: Damage = ("run.json was changed", |session| session.edit(RUN_JSON, "\"a cat\"", "\"a dog\""));
const CUT_OFF: Damage = ("the index is cut off in a line", |session| cut_in_line(session, "runs/bad", 22));
const ENDLESS: Damage = ("the index has no end", |session| cut(session, "runs/bad"));

/// Runs a command on records that cannot be used: missing, damaged, and live. `command` has `RUN` in place of the record.
fn on_bad_records(session: &mut Session, command: &str, damages: &[Damage]) {
    let on = |run: &str| command.replace("RUN", run);
    session.section("no record");
    ["nowhere", "tiny"].iter().for_each(|run| session.run(&on(run)));
    for (what, damage) in damages {
        session.section(what);
        session.copy("runs/cat", "runs/bad");
        damage(session);
        session.run(&on("runs/bad"));
        session.remove("runs/bad");
    }
    session.section("a live run");
    session.copy("runs/cat", "runs/live");
    cut(session, "runs/live");
    let locked = lock(session, "runs/live");
    session.run(&on("runs/live"));
    drop(locked);
}

/// Runs a command where the checkpoint has moved, and where another is in its place.
fn on_other_models(session: &mut Session, command: &str) {
    session.section("the checkpoint is elsewhere, or another one");
    session.copy("tiny", "moved");
    session.remove("tiny");
    session.run(command);
    session.other_model("tiny");
    session.run(command);
    session.run(&format!("{command} --model tiny"));
    session.run(&format!("{command} --model moved"));
}

/// A session with a recorded run of "a cat", as `runs/cat`.
fn with_a_run() -> Session {
    let session = Session::new();
    session.record("cat", &["unet.mid_block.out"], &[]);
    session
}

#[test]
fn trace() {
    let mut session = with_a_run();
    session.record(
        "dog",
        &["unet.**.attn2.probs @branch{cond} | head_mean", "unet.** | stats"],
        &["unet.mid_block.out @step[1] => scale(0.5)"],
    );
    session.section("help and output");
    session.help("trace");
    session.run_all(&["trace runs/cat", "trace runs/dog runs/cat", "trace runs/cat --no-figures --json"]);
    session.section("errors");
    session.run_all(&["trace", "trace runs/cat nowhere", "trace runs/cat --output tiny/model_index.json/figures"]);
    on_bad_records(&mut session, "trace RUN --no-figures", DAMAGES);
    session.compare("trace");
}

#[test]
fn verify() {
    let mut session = with_a_run();
    session.prepare("fork runs/cat --at 1 --guidance 2 --output runs/fork");
    session.section("help and output");
    session.help("verify");
    session.run_all(&["verify runs/cat", "verify runs/cat/trace --json", "verify runs/fork --tolerance 0"]);
    session.section("errors");
    session.run_all(&["verify", "verify runs/cat --tolerance low", "verify runs/cat --tolerance nan"]);
    on_bad_records(&mut session, "verify RUN", DAMAGES);
    session.section("a fork without the run that it was forked from");
    session.remove("runs/cat");
    session.run("verify runs/fork");
    session.compare("verify");
}

#[test]
fn resume() {
    let mut session = with_a_run();
    session.section("help and output");
    session.help("resume");
    session.run_all(&["resume runs/cat"]);
    session.copy("runs/cat", "runs/cut");
    cut(&session, "runs/cut");
    session.run("resume runs/cut");
    session.section("the picture alone is missing");
    session.remove("runs/cut/image.png");
    session.run("resume runs/cut");
    session.section("errors");
    session.run("resume");
    on_bad_records(&mut session, "resume RUN", FEW);
    cut(&session, "runs/cat");
    on_other_models(&mut session, "resume runs/cat");
    session.compare("resume");
}

#[test]
fn fork() {
    let mut session = with_a_run();
    session.record("dog", &[], &["unet.mid_block.out @step[0:2] => zero"]);
    session.section("help and output");
    session.help("fork");
    session.run_each(
        "fork runs/cat --at 1",
        &[
            "--prompt 'a dog' --guidance 2",
            "--sampler lms --steps 5 --output runs/fork",
            "--edit 'unet.mid_block.out => zero' --dry-run",
        ],
    );
    session.section("an edit that counts the steps of the other sampler");
    session.run("fork runs/dog --at 1 --sampler lms");
    session.section("errors");
    session.run_each(
        "fork runs/cat",
        &[
            "",
            "--at 3",
            "--at 1 --output runs/fork",
            "--at 1 --output tiny",
            "--at 1 --output tiny/model_index.json",
            "--at 1 --output tiny/model_index.json/fork",
            "--at 1 --edit 'unet.mid_block.out @step[0] => zero'",
        ],
    );
    on_bad_records(&mut session, "fork RUN --at 1 --guidance 2", FEW);
    on_other_models(&mut session, "fork runs/cat --at 1 --seed 9");
    session.compare("fork");
}

#[test]
fn compare() {
    let mut session = with_a_run();
    session.record("dog", &[], &[]);
    session.section("help and output");
    session.help("compare");
    session.run_all(&[
        "compare runs/cat runs/cat --check",
        "compare runs/cat runs/dog",
        "compare runs/cat runs/dog --json",
        "compare runs/cat runs/dog --tolerance 10 --output compared",
    ]);
    session.section("errors");
    session.run_all(&[
        "compare runs/cat",
        "compare runs/cat nowhere",
        "compare runs/cat runs/dog --check",
        "compare runs/cat runs/dog --check --tolerance 10",
        "compare runs/cat runs/dog --common",
        "compare runs/cat runs/dog --tolerance nan --check --common",
        "compare runs/cat runs/dog --output tiny/model_index.json/compared",
    ]);
    on_bad_records(&mut session, "compare runs/cat RUN", &[CHANGED]);
    session.compare("compare");
}

#[test]
fn causal() {
    let mut session = with_a_run();
    session.record("dog", &["unet.mid_block.out"], &[]);
    session.record("fox", &[], &[]);
    session.section("help and output");
    session.help("causal");
    let causal = "causal runs/cat --from runs/dog --sites unet.mid_block.out --blocks 2";
    session.run(causal);
    session.section("errors");
    session.run_all(&[
        "causal runs/cat",
        "causal runs/cat --from nowhere",
        "causal runs/cat --from runs/dog",
        "causal runs/cat --from runs/dog --sites unet.mid_blok.out",
        "causal runs/cat --from runs/fox --sites unet.mid_block.out",
        "causal runs/cat --from runs/cat --sites unet.mid_block.out",
        "causal runs/cat --from runs/dog --sites unet.mid_block.out --blocks 0",
        "causal runs/cat --from runs/dog --sites unet.mid_block.out --blocks 9",
        "causal runs/cat --from runs/dog --sites unet.mid_block.out --output tiny/model_index.json/causal",
    ]);
    on_bad_records(&mut session, "causal RUN --from runs/dog --sites unet.mid_block.out", &[CHANGED, CUT_OFF]);
    on_other_models(&mut session, causal);
    session.compare("causal");
}
