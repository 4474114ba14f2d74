//! The commands that measure or train for minutes, of which only help and errors are cheap; and adherence.

use crate::session::Session;

#[test]
fn adherence() {
    let mut session = Session::new();
    session.section("help and output, on the bundled model");
    session.help("adherence");
    session.run("adherence --captions 1 --unseen 1 --open 1 --steps 2 --guidance 1,4 --csv adherence.csv");
    session.section("errors");
    session.run_each(
        "adherence",
        &[
            "--guidance 1,high",
            "--captions 1 --steps 1 --guidance nan",
            "--captions 1 --steps 0",
            "--captions 0 --steps 1 --guidance 1",
            "--model nowhere",
            "--seed 18446744073709551615 --captions 2 --steps 1 --guidance 1",
            "--csv nowhere/adherence.csv --captions 1 --steps 1 --guidance 1",
        ],
    );
    session.compare("adherence");
}

#[test]
fn stability() {
    let mut session = Session::new();
    session.section("help");
    session.help("stability");
    session.section("errors");
    session.run_each("stability", &["--steps many", "--model nowhere"]);
    session.compare("stability");
}

#[test]
fn latent_vs_pixel() {
    let mut session = Session::new();
    session.write("file", "x");
    session.section("help");
    session.help("latent-vs-pixel");
    session.section("errors");
    session.run_each(
        "latent-vs-pixel --output out",
        &["--seconds-of-training 0", "--steps 0", "--guidance nan", "--learning-rate 0", "--seed 18446744073709551615"],
    );
    session.run("latent-vs-pixel --output file/out");
    session.compare("latent-vs-pixel");
}

#[test]
fn train() {
    let mut session = Session::new();
    session.write("file", "x");
    session.write("wrong.toml", "sede = 1\n");
    session.section("help");
    session.help("train");
    session.section("errors");
    session.run_all(&[
        "train",
        "train faces",
        "train shapes --recipe nowhere.toml",
        "train shapes --recipe wrong.toml",
        "train shapes --output file/out",
        "train shapes --output out --start nowhere",
        "train shapes --output out --check-every 0",
    ]);
    session.compare("train");
}

#[test]
fn scheduler_atlas() {
    let mut session = Session::new();
    session.section("help");
    session.help("scheduler-atlas");
    session.section("errors");
    session.run_all(&["scheduler-atlas docs", "scheduler-atlas --readins here"]);
    session.compare("scheduler-atlas");
}

#[test]
fn article() {
    let mut session = Session::new();
    session.section("help and output");
    session.help("article");
    session.run("article --model tiny --only text --output out");
    session.run("article --only text --output out");
    session.section("errors");
    session.run_each(
        "article --output out",
        &["--only txt", "--model nowhere", "--model tiny --image nowhere.png", "--image tiny/model_index.json"],
    );
    session.compare("article");
}
