//! Which of our crates may depend on which, and who may know libtorch.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every crate, and those of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("files", &[]),
    ("schedulers", &[]),
    ("shapes", &[]),
    ("nn", &["files"]),
    ("plot", &["files"]),
    ("hub", &["files"]),
    ("text", &["nn"]),
    ("unet", &["nn"]),
    ("vae", &["nn"]),
    ("trace", &["files", "nn"]),
    ("measures", &["nn"]),
    ("checkpoints", &["files", "nn", "text", "unet", "vae", "schedulers"]),
    ("pipeline", &["files", "nn", "text", "unet", "vae", "schedulers", "checkpoints"]),
    ("train", &["nn", "text", "unet", "vae", "schedulers", "shapes"]),
    ("runs", &["files", "hub", "pipeline", "trace", "measures"]),
    ("experiments", &["files", "pipeline", "runs", "trace", "measures", "plot", "shapes", "schedulers"]),
    (
        "studies",
        &["experiments", "files", "pipeline", "runs", "measures", "plot", "shapes", "schedulers", "trace", "train"],
    ),
    ("program", &["latentrace", "studies", "train"]),
];

/// The dependencies of every crate of the workspace without those of its tests and benches; our own names are short.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let short = |value: &Value| value.as_str().unwrap().trim_start_matches("latentrace-").to_string();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"] != "dev").map(|dependency| short(&dependency["name"])).collect()
    };
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (short(&package["name"]), of(package))).collect()
}

#[test]
fn crates_depend_on_each_other_only_along_the_arrows() {
    let mut found = dependencies();
    let facade = found.remove("latentrace").expect("the facade");
    let above = ["program", "studies", "train"];
    assert!(above.iter().all(|name| !facade.contains(*name)), "the facade gathers the libraries that a user needs");
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let names: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, known, "every crate has its row in ARROWS");
    for (name, allowed) in ARROWS {
        let ours = |dependency: &&str| known.contains(dependency) || *dependency == "latentrace";
        let ours = found[*name].iter().map(String::as_str).filter(ours);
        let wrong: Vec<&str> = ours.filter(|dependency| !allowed.contains(dependency)).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {}", wrong.join(", "));
    }
}

#[test]
fn libtorch_lives_from_nn_up() {
    let found = dependencies();
    let direct: Vec<&str> =
        found.iter().filter(|(_, all)| all.contains("tch")).map(|(name, _)| name.as_str()).collect();
    assert_eq!(direct, ["nn"], "all others reach it through nn, and schedulers, shapes, files and plot not at all");
}

#[test]
fn only_the_program_prints_and_knows_a_terminal() {
    let found = dependencies();
    let knowing = |name: &str| -> Vec<&str> {
        found.iter().filter(|(_, all)| all.contains(name)).map(|(package, _)| package.as_str()).collect()
    };
    assert_eq!((knowing("clap"), knowing("indicatif")), (vec!["program"], vec!["program"]));
    let prints = ["println!", "print!", "dbg!", "io::stdout()", "io::stderr()"]; // `eprintln!` ends with the first
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut printing: Vec<String> = Vec::new();
    for folder in ["crates", "experiments", "src"] {
        for file in sources(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).expect("a source file");
            let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
            let is_print =
                |line: &str| !line.trim_start().starts_with("//") && prints.iter().any(|print| line.contains(print));
            if lines.filter(|line| is_print(line)).count() > 0 {
                printing.push(file.strip_prefix(root).unwrap_or(&file).display().to_string());
            }
        }
    }
    assert_eq!(printing, ["crates/program/src/printer.rs"]);
}

/// The source files of crates below a folder, without those of tests, benches and examples.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && !["tests", "benches", "examples", "target"].iter().any(|other| name == *other) {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found.sort();
    found
}
