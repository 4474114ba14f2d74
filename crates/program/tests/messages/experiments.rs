//! The commands of experiments: experiments, run and report.

use crate::session::Session;

const SPEC: &str = r#"
name = "small"
about = "A small experiment"
figures = ["grid"]
measure = ["saturation"]
[fixed]
prompt = "a cat"
steps = 3
model = "tiny"
[vary]
guidance = [1, 4]
"#;

#[test]
fn experiments() {
    let mut session = Session::new();
    session.section("help and output");
    session.help("experiments");
    session.run_all(&["experiments"]);
    session.section("errors");
    session.run("experiments lst");
    session.compare("experiments");
}

#[test]
fn run() {
    let mut session = Session::new();
    session.write("small.toml", SPEC);
    session.write("file", "x");
    session.section("help and output");
    session.help("run");
    session.run_each("run small.toml", &["--dry-run", "", "", "--batched --output batched", "--json --output json"]);
    notes(&mut session);
    session.section("a cell that fails");
    let fails = SPEC.replace("guidance = [1, 4]", "edits = [[], [\"sampler.sample => scale(1e39)\"]]");
    session.write("fails.toml", &fails);
    session.run_each("run fails.toml --output failed", &["", "--retry", "--json"]);
    session.section("errors of the command line");
    session.run_all(&["run", "run sweep-guidanc", "run small.toml --batch 4", "run small.toml --output file/out"]);
    fields(&mut session);
    specs(&mut session);
    session.compare("run");
}

fn notes(session: &mut Session) {
    session.section("rules that fire in some cells, and text that does not fit");
    let rules = r#"name = "small"
figures = []
capture = ["unet.mid_block.out @step[4:] | stats"]
[fixed]
prompt = "a cat"
model = "tiny"
[vary]
steps = [2, 5]
"#;
    session.write("rules.toml", rules);
    session.run_all(&["run rules.toml --output rules", "run rules.toml --output rules --json"]);
    session.write("rules.toml", &rules.replace("[4:]", "[5:]"));
    session.run("run rules.toml --output rules-nowhere");
    session.run(&format!("run small.toml --output long --set 'prompt=\"{}dog\"'", "a ".repeat(75)));
}

fn fields(session: &mut Session) {
    session.section("fields that are replaced by --set");
    session.run_each(
        "run small.toml --output out --set",
        &[
            "seed",
            "sede=3",
            "image=nothing.png",
            "steps=99999",
            "steps=many",
            "model=nowhere",
            "sampler=plsm",
            "scheduler.use_karas_sigmas=true",
            "guidance=[]",
            "'seed={ range = [1, 1000000] }'",
            "'seed={ rang = [1, 9] }'",
            "reading=diffuser",
            "capture=unet.mid_blok.out",
            "'prompt=\"a {colour} cat\"'",
        ],
    );
}

fn specs(session: &mut Session) {
    session.section("specs that cannot be read or fulfilled");
    let specs = [
        ("empty", String::new()),
        ("unknown-key", SPEC.replace("figures", "figurs")),
        ("unknown-field", SPEC.replace("steps = 3", "stesp = 3")),
        ("unknown-figure", SPEC.replace("\"grid\"", "\"gird\"")),
        ("unknown-measure", SPEC.replace("saturation", "saturatoin")),
        ("name", SPEC.replace("\"small\"", "\"a/b\"")),
        ("twice", SPEC.replace("steps = 3", "guidance = 3")),
        ("capture", SPEC.replace("figures", "capture = [\"unet.** | half\"]\nfigures")),
        ("edit", SPEC.replace("steps = 3", "edits = [\"unet.mid_block.out => halve\"]")),
        ("zip", SPEC.to_string() + "[[zip]]\nseed = [1, 2]\nsteps = [3]\n"),
        ("exclude", SPEC.to_string() + "[[exclude]]\nguidance = 9\n"),
        ("range", SPEC.replace("[1, 4]", "{ range = [9, 1] }")),
        ("large-seed", SPEC.replace("steps = 3", "seed = 18446744073709551615")),
    ];
    for (name, text) in specs {
        session.write(&format!("{name}.toml"), &text);
        session.run(&format!("run {name}.toml --output out"));
    }
}

#[test]
fn report() {
    let mut session = Session::new();
    session.write("small.toml", SPEC);
    session.prepare("run small.toml");
    session.record("cat", &[], &[]);
    session.section("help and output");
    session.help("report");
    session.run_all(&["report runs/small", "report runs/cat --output cat.html", "report runs/small runs/cat"]);
    session.section("errors");
    session.run_all(&[
        "report",
        "report nowhere",
        "report tiny",
        "report runs/small --frames many",
        "report runs/small --output nowhere/page.html",
    ]);
    session.compare("report");
}
