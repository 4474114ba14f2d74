//! Models of the hub, from a server on this machine: downloaded once, found again, and told if they cannot be.

#[path = "../../hub/tests/common/mod.rs"]
mod hub;

use assert_cmd::Command;
use hub::{Fault, MODEL, Remote, Server};
use predicates::str::contains;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks/sd1")
}

/// Every file of a folder, as a model on the hub.
fn published(folder: &Path, below: &str) -> Vec<Remote> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder.join(below)).unwrap().flatten() {
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files.extend(published(folder, &format!("{name}/")));
        } else {
            let is_large = name.ends_with(".safetensors");
            files.push(Remote { bytes: std::fs::read(entry.path()).unwrap(), name, is_large });
        }
    }
    files
}

struct Machine {
    server: Server,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        Machine { server: Server::with(published(&golden(), "")), folder: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A command of the program that knows no hub but the server, and has a cache of its own.
    fn run(&self, arguments: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = Command::cargo_bin("latentrace").unwrap();
        for name in ["HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy"] {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", &self.server.url).env("HF_HUB_CACHE", self.at("cache")).env("OMP_NUM_THREADS", "1");
        command.current_dir(self.folder.path()).args(arguments).assert()
    }

    fn generate(&self, model: &[&str], output: &str) -> assert_cmd::assert::Assert {
        self.run(&[&["generate", "red circle", "--steps", "2", "--output", output], model].concat())
    }

    /// The pixels of the one picture of a folder.
    fn pixels(&self, output: &str) -> Vec<u8> {
        let run = std::fs::read_dir(self.at(output)).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap();
        latentrace::files::png::open_image(&run.path().join("image.png")).unwrap().into_raw()
    }
}

#[test]
fn a_model_is_downloaded_once_and_found_again_without_the_network() {
    let machine = Machine::new();
    machine
        .generate(&["--model", MODEL], "first")
        .success()
        .stderr(contains("owner/model: downloading what is needed"));
    let asked: Vec<String> = machine.server.sent().into_iter().map(|(path, ..)| path).collect();
    assert!(asked.iter().any(|path| path.contains("unet")), "{asked:?}");
    assert!(
        !asked.iter().any(|path| path.contains("expected") || path.contains("double")),
        "only what is needed: {asked:?}"
    );
    let connections = machine.server.state().connections;
    machine.generate(&["--model", MODEL, "--offline"], "again").success();
    machine.generate(&["--model", MODEL], "third").success();
    assert_eq!(machine.server.state().connections, connections, "all is in the cache");
    let folder = golden().display().to_string();
    machine.generate(&["--model", &folder], "folder").success();
    for output in ["first", "again", "third"] {
        assert_eq!(machine.pixels(output), machine.pixels("folder"), "{output}");
    }
}

#[test]
fn a_part_of_a_checkpoint_can_be_a_model_of_the_hub() {
    let machine = Machine::new();
    let folder = golden().display().to_string();
    machine.generate(&["--model", &folder, "--text-encoder", MODEL, "--vae", MODEL], "parts").success();
    let asked: Vec<String> = machine.server.sent().into_iter().map(|(path, ..)| path).collect();
    assert!(!asked.iter().any(|path| path.contains("unet") || path.contains("tokenizer")), "{asked:?}");
    machine.generate(&["--model", &folder], "folder").success();
    assert_eq!(machine.pixels("parts"), machine.pixels("folder"));
}

#[test]
fn both_text_encoders_of_a_model_are_downloaded_and_one_that_the_cache_lacks_is_brought() {
    let server = Server::with(published(&golden().with_file_name("sdxl"), ""));
    let machine = Machine { server, folder: tempfile::tempdir().unwrap() };
    let inspect = |more: &[&str]| machine.run(&[&["model", "inspect", MODEL], more].concat());
    inspect(&[]).success().stdout(contains("text_encoder_2"));
    let cache = PathBuf::from(machine.at("cache/models--owner--model/snapshots"));
    let snapshot = std::fs::read_dir(&cache).unwrap().flatten().next().unwrap().path();
    let second = ["text_encoder_2", "tokenizer_2"].map(|part| snapshot.join(part));
    assert!(second.iter().all(|part| part.is_dir()), "{}", snapshot.display());
    inspect(&["--offline"]).success();
    // As a version leaves it that knows one text encoder alone.
    second.iter().for_each(|part| std::fs::remove_dir_all(part).unwrap());
    inspect(&["--offline"]).code(1).stderr(contains("not all that is needed is in the cache"));
    inspect(&[]).success();
    assert!(second.iter().all(|part| part.is_dir()), "{}", snapshot.display());
}

#[test]
fn a_lora_of_the_hub_is_found_by_its_only_file_online_and_offline() {
    let lora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/lora/kohya.safetensors");
    let file = Remote { name: "style.safetensors".into(), bytes: std::fs::read(&lora).unwrap(), is_large: true };
    let machine = Machine { server: Server::with(vec![file]), folder: tempfile::tempdir().unwrap() };
    let folder = golden().display().to_string();
    let id = format!("{MODEL}:0.5");
    for (more, output) in [(&[][..], "first"), (&[], "second"), (&["--offline"], "third")] {
        machine.generate(&[&["--model", &folder, "--lora", &id][..], more].concat(), output).success();
    }
    machine.generate(&["--model", &folder, "--lora", &format!("{}:0.5", lora.display())], "file").success();
    machine.generate(&["--model", &folder], "plain").success();
    for output in ["first", "second", "third"] {
        assert_eq!(machine.pixels(output), machine.pixels("file"), "{output}");
    }
    assert_ne!(machine.pixels("file"), machine.pixels("plain"));
}

#[test]
fn a_sweep_runs_on_a_model_of_the_cache_and_a_record_finds_it_again() {
    let machine = Machine::new();
    let spec = machine.at("spec.toml");
    std::fs::write(
        &spec,
        "name = 'x'\n[fixed]\nmodel = 'owner/model'\nprompt = 'a'\nsteps = 2\n[vary]\nguidance = [1, 3]",
    )
    .unwrap();
    machine.run(&["run", &spec, "--output", "sweep"]).success();
    let cells: Vec<PathBuf> =
        std::fs::read_dir(machine.at("sweep/cells")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(cells.len(), 2);
    let cell = cells[0].display().to_string();
    machine.run(&["verify", &cell]).success();
    machine.run(&["fork", &cell, "--at", "1", "--guidance", "5", "--output", "fork", "--offline"]).success();
    machine
        .run(&["run", &spec, "--output", "sweep", "--offline"])
        .success()
        .stdout(contains("2 of 2 pictures are there"));
}

#[test]
fn what_cannot_be_had_is_told_with_both_readings_of_the_name() {
    let machine = Machine::new();
    let fails = |arguments: &[&str], said: &[&str]| {
        let mut failed = machine.generate(arguments, "none").code(1);
        for part in said {
            failed = failed.stderr(contains(*part));
        }
        assert!(!Path::new(&machine.at("none")).exists(), "{arguments:?}: nothing was written");
    };
    fails(
        &["--model", "owner/modle"],
        &["owner/modle: no such file or folder here; as a model of the hub: ", "no such model"],
    );
    fails(&["--model", "runwayml/stable-diffusion-v1-5"], &["stable-diffusion-v1-5/stable-diffusion-v1-5"]);
    fails(&["--model", MODEL, "--revision", "other"], &["no revision other"]);
    fails(
        &["--model", MODEL, "--variant", "bf16"],
        &["model.bf16.safetensors: this model has no such file", "variants (none)"],
    );
    fails(&["--model", MODEL, "--offline"], &["not in the cache", "downloads are off"]);
    machine.server.fault("resolve", Fault::Corrupt);
    fails(&["--model", MODEL], &["expected"]);
    machine.server.state().is_gated = true;
    fails(&["--model", MODEL], &["HF_TOKEN"]);
}
