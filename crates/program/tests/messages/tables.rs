//! The commands that print what there is: the program itself, taps, schedule and doctor.

use crate::session::{Session, snapshot};

#[test]
fn latentrace() {
    let mut session = Session::new();
    session.section("help and version");
    session.run_all(&["--help", "--help-all", "--version"]);
    session.section("errors");
    session.run_all(&["", "generat", "--jsno"]);
    session.compare("latentrace");
}

#[test]
fn every_command_has_a_snapshot() {
    let help = Session::new().output("--help").stdout;
    let help = String::from_utf8(help).unwrap();
    // The commands are in groups, each in a line with two spaces before it.
    let grouped = help.lines().skip_while(|line| !line.starts_with("Usage:")).take_while(|line| *line != "Options:");
    let commands = grouped.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"generate") && commands.contains(&"man"), "{help}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        assert!(snapshot(command).is_file(), "{command}: no snapshot; write a test for it");
    }
}

#[test]
fn taps() {
    let mut session = Session::new();
    session.section("help and output");
    session.help("taps");
    session.run_all(&[
        "taps --model tiny --select 'unet.mid_block.**'",
        "taps --model tiny --select 'sampler.*' --height 96 --width 64",
        "taps --model tiny --select unet.mid_block.out --json",
    ]);
    session.section("errors");
    session.run_all(&[
        "taps --model tiny --select unet.mid_blok.out",
        "taps --model tiny --select 'unet.{a,b'",
        "taps --model tiny --select 'unet.mid_block.out @step[1]'",
        "taps --model tiny --select ''",
        "taps --model tiny --height 70",
        "taps --model tiny --width 64",
        "taps --model nowhere",
    ]);
    session.remove("tiny/vae/config.json");
    session.run("taps --model tiny");
    session.compare("taps");
}

#[test]
fn tokens() {
    let mut session = Session::new();
    session.section("help and output");
    session.write("tiny/tokenizer/added_tokens.json", r#"{"<cat>": 664}"#);
    session.help("tokens");
    session.run_all(&[
        "tokens 'a large red circle'",
        "tokens 'A large  red circle, über' --model tiny",
        "tokens '(red:1.5) [circle] \\(left\\)' --model tiny --weights",
        "tokens '' --model tiny",
        "tokens 'red circle' --model tiny --json",
    ]);
    let long = "a ".repeat(74) + "red circle";
    session.run(&format!("tokens '{long}' --model tiny"));
    session.run(&format!("tokens '{long}' --model tiny --long-prompts chunks"));
    session.section("errors");
    session.run_all(&[
        "tokens 'a <cat>' --model tiny",
        "tokens 'a (red' --model tiny --weights",
        "tokens 'a' --model tiny --embedding nothing.safetensors",
        "tokens 'a' --model tiny --embedding tiny/vae/diffusion_pytorch_model.safetensors",
        "tokens 'a' --model nowhere",
        "tokens",
    ]);
    session.write("tiny/tokenizer/added_tokens.json", r#"{"<cat>": 700}"#);
    session.run("tokens 'a' --model tiny");
    session.compare("tokens");
}

#[test]
fn model() {
    let mut session = Session::new();
    session.section("help and output");
    session.help("model");
    session.run_all(&[
        "model list --help",
        "model list --help-all",
        "model list",
        "model inspect --help",
        "model inspect --help-all",
        "model inspect tiny",
        "model convert --help",
        "model convert --help-all",
        "model convert tiny tiny.safetensors",
        "model inspect tiny.safetensors --config tiny",
        "model convert tiny.safetensors --config tiny back --to-dtype f16",
        "model diff --help",
        "model diff --help-all",
        "model diff tiny tiny",
        "model diff tiny back --rows 2",
        "model synth --help",
        "model synth --help-all",
        "model synth tiny other --dtype bf16",
        "model inspect other",
        "model diff tiny other --rows 1",
        "model verify --help",
        "model verify --help-all",
        "model verify tiny --write-lock lock",
        "model verify tiny --lock lock",
    ]);
    session.section("errors");
    session.run_all(&[
        "model verify tiny",
        "model convert tiny back",
        "model synth sd3 there",
        "model inspect CompVis/stable-diffusion-v1-4",
        "model inspect tinny",
        "model synth tiny there --width 2",
        "model inspect tiny.safetensors",
        "model inspect tiny --vae tiny/unet/diffusion_pytorch_model.safetensors",
    ]);
    session.write("lock", "no checksum");
    session.run("model verify tiny --lock lock");
    session.write("back/vae/config.json", "{}");
    session.run("model inspect back");
    session.compare("model");
}

#[test]
fn schedule() {
    let mut session = Session::new();
    session.write("wrong.json", r#"{"_class_name": "DDIMScheduler", "beta_scedule": "linear"}"#);
    session.write("none.json", r#"{"beta_end": 0.01}"#);
    session.write("text.json", "no JSON");
    session.section("help and output");
    session.help("schedule");
    session.run_all(&[
        "schedule --list",
        "schedule --steps 4",
        "schedule pndm --steps 4 --pipeline --config tiny",
        "schedule euler --steps 4 --exact --strength 0.5",
        "schedule ddim --steps 3 --explain",
        "schedule ddim --steps 3 --program",
        "schedule heun --steps 2 --json",
        "schedule euler --steps 3 --compare heun --set timestep_spacing=trailing",
        "schedule euler --steps 3 --plot plot",
    ]);
    session.section("errors");
    session.run_all(&[
        "schedule dpm++2n",
        "schedule dpm++2m --set solver_ordr=2",
        "schedule dpm++2m --set solver_order=7",
        "schedule euler --set timestep_spacing=trailin",
        "schedule euler --set 'timesteps=[1, 2]' --steps 2",
        "schedule euler --steps 0",
        "schedule euler --strength 2",
        "schedule edm_sde",
        "schedule nowhere.json",
        "schedule wrong.json",
        "schedule none.json",
        "schedule text.json",
        "schedule --config nowhere",
        "schedule --config tiny/unet",
        "schedule --exact --pipeline",
        "schedule euler --steps 2 --plot text.json/plot",
    ]);
    session.compare("schedule");
}

#[test]
fn completions() {
    let mut session = Session::new();
    session.section("help");
    session.help("completions");
    session.section("errors");
    session.run_each("completions", &["", "powershel", "bash zsh"]);
    session.compare("completions");
}

#[test]
fn man() {
    let mut session = Session::new();
    session.write("file", "x");
    session.section("help and output");
    session.help("man");
    session.run("man --output pages");
    session.section("errors");
    session.run_each("man", &["run", "--output file", "--output file/pages"]);
    session.compare("man");
}

#[test]
fn doctor() {
    let mut session = Session::new();
    session.section("help and output");
    session.help("doctor");
    session.run_all(&["doctor --model tiny"]);
    session.section("errors");
    session.run("doctor --model nowhere");
    session.compare("doctor");
}
