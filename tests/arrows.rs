//! Which of our crates may depend on which, and who may know libtorch.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Every crate, and those of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("schedulers", &[]),
    ("shapes", &[]),
    ("files", &[]),
    ("nn", &["files"]),
    ("plot", &["files"]),
    ("text", &["nn"]),
    ("unet", &["nn"]),
    ("vae", &["nn"]),
    ("trace", &["nn"]),
    ("measures", &["nn"]),
    ("pipeline", &["nn", "text", "unet", "vae", "schedulers"]),
    ("train", &["nn", "text", "unet", "vae", "schedulers", "shapes"]),
    ("experiments", &["files", "pipeline", "trace", "measures", "plot", "schedulers", "shapes", "train"]),
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
    assert!(!facade.contains("experiments"), "the facade gathers libraries");
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
