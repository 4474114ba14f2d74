//! The commands by which several processes make a sweep: submit, status and store.

use crate::session::Session;

const SPEC: &str = r#"
name = "small"
figures = ["grid"]
[fixed]
prompt = "a cat"
steps = 2
model = "tiny"
[vary]
seed = [1, 2, 3]
"#;

#[test]
fn submit() {
    let mut session = Session::new();
    session.write("small.toml", SPEC);
    session.section("help and output");
    session.help("submit");
    session.run("submit small.toml --hq --time 1:00 --gres gpu:1 --memory 8G");
    session.section("errors");
    session.run_each(
        "submit small.toml",
        &[
            "",
            "--slurm --workers 2",
            "--workers 0",
            "--hq --partition gpu",
            "--hq --gres gpu:a100:1",
            "--workers 2 --time 1:00",
            "--workers 2 --per-task 0",
            "--workers 2 --per-task 3",
            "--hq --set sede=3",
        ],
    );
    session.run("submit nowhere --hq");
    session.compare("submit");
}

#[test]
fn status() {
    let mut session = Session::new();
    session.write("small.toml", SPEC);
    session.section("help and output");
    session.help("status");
    session.run_all(&["run small.toml --output out --shard 1/3", "status out", "status out --json"]);
    session.run_all(&["store merge out --into merged", "status merged", "status merged --json"]); // it has no list
    session.section("errors");
    session.run_all(&["status", "status nowhere"]);
    session.write("out/cells.json", "{");
    session.run("status out");
    session.write("out/store.json", r#"{ "format": 2 }"#);
    session.run("status out");
    session.compare("status");
}

#[test]
fn store() {
    let mut session = Session::new();
    session.write("small.toml", SPEC);
    session.write("fewer.toml", &SPEC.replace("[1, 2, 3]", "[1, 2]"));
    session.section("help and output");
    session.help("store");
    for action in ["merge", "verify", "prune"] {
        session.help(&format!("store {action}"));
    }
    session.run_all(&[
        "run small.toml --output a --shard 1/2",
        "run small.toml --output b --shard 2/2",
        "store merge a b --into all",
        "store verify all",
        "store prune all --keep fewer.toml --dry-run",
        "store prune all --keep fewer.toml",
    ]);
    session.section("errors");
    session.run_all(&[
        "store",
        "store merge --into all",
        "store merge nowhere --into all",
        "store verify nowhere",
        "store prune nowhere",
        "store prune all --keep nowhere",
        "store prune all --set steps=3",
        "store prune all --keep small.toml --set steps=3",
    ]);
    session.compare("store");
}
