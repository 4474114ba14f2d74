//! The environment of OpenMP that the program runs with, as libgomp itself says.

mod common;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use common::golden;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::path::Path;

/// The outcome of a command whose environment says of OpenMP what is given and nothing else.
fn with(environment: &[(&str, &str)], arguments: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("latentrace").unwrap();
    for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"] {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().copied()).assert()
}

fn generate(environment: &[(&str, &str)], output: &Path) -> Assert {
    let (model, output) = (golden("networks/sd1"), output.display().to_string());
    let arguments = ["generate", "a cat", "--model", &model, "--steps", "2", "--seed", "7", "--output", &output];
    with(environment, &arguments).success()
}

#[test]
fn waiting_threads_do_not_spin_long_unless_the_user_says_so() {
    let model = golden("networks/sd1");
    let spins = |environment: &[(&str, &str)], expected: &str| {
        let shown = [environment, &[("OMP_DISPLAY_ENV", "verbose")]].concat();
        with(&shown, &["doctor", "--model", &model])
            .success()
            .stderr(contains(format!("GOMP_SPINCOUNT = '{expected}'")))
    };
    spins(&[], "1000").stdout(contains("waiting     a thread looks 1000 times for work, then sleeps"));
    spins(&[("OMP_NUM_THREADS", "2")], "1000");
    spins(&[("GOMP_SPINCOUNT", "7")], "7").stdout(contains("looks 7 times"));
    spins(&[("OMP_WAIT_POLICY", "passive")], "0").stdout(contains("as OMP_WAIT_POLICY=passive says"));
    spins(&[("OMP_WAIT_POLICY", "active")], "30000000000");
    spins(&[("OMP_NUM_THREADS", "1")], "300000").stdout(contains("one thread: it waits for no other"));
}

#[test]
fn a_number_of_threads_that_is_none_is_told_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for value in ["abc", "0", "-3", "999999", "1,x"] {
        let told =
            format!("warning: OMP_NUM_THREADS={value}: not a number of threads from 1 to 1024, so it is left out");
        generate(&[("OMP_NUM_THREADS", value)], &folder.path().join(value))
            .stderr(contains(told).and(contains("libgomp").not()));
    }
    generate(&[("OMP_NUM_THREADS", "")], &folder.path().join("empty")).stderr("");
}

#[test]
fn a_small_network_runs_on_one_thread_and_its_picture_is_made_again_on_as_many() {
    let folder = tempfile::tempdir().unwrap();
    let threads = |run: &Path| -> u64 {
        let about = std::fs::read(run.join("a-cat-7/trace/run.json")).unwrap();
        serde_json::from_slice::<Value>(&about).unwrap()["program"]["threads"].as_u64().unwrap()
    };
    let [own, two, again] = ["own", "two", "again"].map(|name| folder.path().join(name));
    generate(&[], &own);
    assert_eq!(threads(&own), 1);
    generate(&[("OMP_NUM_THREADS", "2")], &two); // on a machine with one core that is one
    let [picture, output] = [two.join("a-cat-7/image.png"), again.clone()].map(|path| path.display().to_string());
    with(&[], &["generate", "--like", &picture, "--output", &output]).success().stdout(contains("the same pixels as"));
    assert_eq!(threads(&again), threads(&two));
    let run = two.join("a-cat-7").display().to_string();
    with(&[], &["verify", &run]).success();
    with(&[], &["fork", &run, "--at", "1", "--guidance", "2"]).success().stderr(contains("threads").not());
}
