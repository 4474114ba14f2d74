//! Schedulers, as the program's users set them.

use assert_cmd::Command;
use latentrace::files::{Field, Table};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn latentrace(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("latentrace").unwrap();
    command.args(arguments).env("OMP_NUM_THREADS", "1");
    command
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("data/golden/networks/sd1")
}

/// The tiny checkpoint with another scheduler, and the class that its index names.
fn checkpoint(folder: &Path, name: &str, file: &Value, class: &str) -> String {
    let to = folder.join(name);
    for part in ["text_encoder", "tokenizer", "unet", "vae"] {
        let (from, to) = (tiny().join(part), to.join(part));
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::os::unix::fs::symlink(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    std::fs::create_dir(to.join("scheduler")).unwrap();
    std::fs::write(to.join("scheduler/scheduler_config.json"), file.to_string()).unwrap();
    let index = std::fs::read_to_string(tiny().join("model_index.json")).unwrap();
    let mut index: Value = serde_json::from_str(&index).unwrap();
    index["scheduler"][1] = json!(class);
    std::fs::write(to.join("model_index.json"), index.to_string()).unwrap();
    to.display().to_string()
}

/// Stable Diffusion's schedule with options of a class.
fn file(class: &str, options: Value) -> Value {
    let mut file =
        json!({ "_class_name": class, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear" });
    file.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    file
}

/// The pixels of a picture of a checkpoint, and what was said on the way.
fn picture(folder: &Path, model: &str, more: &[&str]) -> (latentrace::plot::RgbImage, String) {
    let out = tempfile::tempdir_in(folder).unwrap();
    let path = out.path().display().to_string();
    let asked = ["generate", "a cat", "--model", model, "--steps", "4", "--seed", "3", "--output", &path];
    let made = latentrace(&[&asked[..], more].concat()).assert().success();
    let said = String::from_utf8_lossy(&made.get_output().stderr).into_owned();
    (latentrace::plot::open_image(&out.path().join("a-cat-3/image.png")).unwrap(), said)
}

#[test]
fn the_diffusers_reading_is_that_of_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // As it is shipped by many: clipped for pixels, times from 0; and the index names another class than the file.
    let shipped = file("DDPMScheduler", json!({ "clip_sample": true, "steps_offset": 0 }));
    let shipped = checkpoint(folder, "shipped", &shipped, "DDIMScheduler");
    let meant = file("DDIMScheduler", json!({ "clip_sample": false, "steps_offset": 1 }));
    let meant = checkpoint(folder, "meant", &meant, "DDIMScheduler");
    let ((pixels, said), (right, silent)) = (picture(folder, &shipped, &[]), picture(folder, &meant, &[]));
    assert!(pixels == right, "the pipeline's own settings are taken");
    for part in
        ["clip_sample is false in place of true", "steps_offset is 1 in place of 0", "hint: scheduler.clip_sample=true"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert!(!silent.contains("warning"), "{silent}");
    // What is set by hand stays; and the exact reading follows the file.
    let (kept, said) = picture(folder, &shipped, &["--set", "scheduler.clip_sample=true"]);
    assert!(kept != right && !said.contains("clip_sample is"), "{said}");
    let (exact, said) = picture(folder, &shipped, &["--exact"]);
    assert!(exact != right && !said.contains("warning"), "{said}");
    // TCD alone draws noise at each step; the pipeline passes 0.
    let (tcd, said) = picture(folder, &meant, &["--sampler", "tcd"]);
    assert!(said.contains("eta is 0.0 in place of 0.3"), "{said}");
    assert!(tcd == picture(folder, &meant, &["--sampler", "tcd", "--set", "scheduler.eta=0"]).0);
    assert!(tcd != picture(folder, &meant, &["--sampler", "tcd", "--set", "scheduler.eta=0.3"]).0);
}

#[test]
fn the_index_names_the_class_and_a_wrong_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let pndm = file("PNDMScheduler", json!({ "skip_prk_steps": true, "steps_offset": 1 }));
    let lost = checkpoint(folder.path(), "lost", &pndm, "FancyScheduler");
    let asked = ["generate", "a cat", "--model", &lost, "--steps", "4"];
    latentrace(&asked).assert().failure().stderr(contains("model_index.json").and(contains("FancyScheduler")));
    let euler = checkpoint(folder.path(), "euler", &pndm, "EulerDiscreteScheduler");
    let lines = |arguments: &[&str]| {
        let output = latentrace(arguments).assert().success().get_output().stdout.clone();
        String::from_utf8(output).unwrap()
    };
    let of = |arguments: &[&str]| lines(&[&["schedule", "--steps", "4", "--config", &euler], arguments].concat());
    assert!(of(&["--pipeline"]).contains("EulerDiscreteScheduler, 4 steps, diffusers reading in its pipeline"));
    assert!(of(&[]).contains("PNDMScheduler, 4 steps, diffusers reading:"), "the bare class is the file's");
}

#[test]
fn schedule_shows_the_bare_class_and_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ddim.json");
    std::fs::write(&path, file("DDIMScheduler", json!({ "steps_offset": 0 })).to_string()).unwrap();
    let path = path.display().to_string();
    let of = |arguments: &[&str]| {
        let output = latentrace(&[&["schedule"], arguments].concat()).assert().success().get_output().stdout.clone();
        String::from_utf8(output).unwrap()
    };
    let program = |arguments: &[&str]| of(&[&["--program", "--steps", "4"], arguments].concat());
    let bare = program(&[&path]);
    assert_eq!(bare, program(&["--config", &path]));
    assert!(bare.contains("network at 750 of") && bare.contains("within"), "{bare}");
    let piped = program(&[&path, "--pipeline"]);
    assert_eq!(piped, program(&["--config", &path, "--pipeline"]));
    assert!(piped.contains("network at 751 of") && !piped.contains("within"), "{piped}");
    let explained = of(&[&path, "--pipeline", "--explain"]);
    assert!(explained.contains("clip_sample                  false                pipeline"), "{explained}");
    assert!(explained.contains("warning: scheduler: steps_offset is 1 in place of 0"), "{explained}");
    // The third order with few steps is warned of.
    assert!(of(&["dpm++3m", "--exact"]).contains("note: the third order pays from about 40 steps on"));
    assert!(!of(&["dpm++3m", "--exact", "--steps", "50"]).contains("third order"));
    assert!(of(&["dpm++3m_sde"]).contains("wrong sign"));
}

#[test]
fn options_of_the_scheduler_stand_on_its_own_config() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let own = json!({ "steps_offset": 1, "timestep_spacing": "trailing", "clip_sample": false });
    let karras =
        json!({ "steps_offset": 1, "timestep_spacing": "trailing", "clip_sample": false, "use_karras_sigmas": true });
    let own = checkpoint(folder, "own", &file("EulerDiscreteScheduler", own), "EulerDiscreteScheduler");
    let karras = checkpoint(folder, "karras", &file("EulerDiscreteScheduler", karras), "EulerDiscreteScheduler");
    let set = ["--set", "scheduler.use_karras_sigmas=true"];
    assert!(picture(folder, &own, &set).0 == picture(folder, &karras, &[]).0);
    assert!(picture(folder, &own, &[]).0 != picture(folder, &karras, &[]).0);
    // For another sampler, as from_config makes it with the option.
    let with = |more: &[&str]| picture(folder, &own, &[&["--sampler", "dpm++2m"], more].concat()).0;
    assert!(with(&set) == picture(folder, &karras, &["--sampler", "dpm++2m"]).0);
    let asked = |set: &str| latentrace(&["generate", "a cat", "--model", &own, "--set", set]).assert().failure();
    asked("scheduler.use_karas_sigmas=true").stderr(contains("did you mean use_karras_sigmas?"));
    asked("seed=3").stderr(contains("hint: --set takes scheduler.OPTION=VALUE"));
    asked("scheduler.rho=5").stderr(contains("use_karras_sigmas and use_polyexponential_sigmas, and neither is on"));
}

#[test]
fn a_sweep_varies_an_option_of_the_scheduler() {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("spec.toml");
    let text = format!(
        "name = \"options\"\n[fixed]\nprompt = \"a cat\"\nsteps = 3\nseed = 5\nsampler = \"dpm++2m\"\nmodel = {:?}\n[vary]\nscheduler.use_karras_sigmas = [true, false]\nscheduler.solver_order = [1, 2]\n",
        tiny()
    );
    std::fs::write(&spec, text).unwrap();
    let out = folder.path().join("out");
    let (spec, out) = (spec.display().to_string(), out.display().to_string());
    let run = |set: &[&str]| latentrace(&[&["run", &spec, "--output", &out], set].concat()).assert().success();
    run(&[]).stdout(contains("4 pictures, 4 of them new"));
    run(&["--set", "scheduler.solver_order=2"]).stdout(contains("2 pictures, 0 of them new"));
    let csv = std::fs::read_to_string(Path::new(&out).join("results.csv")).unwrap();
    assert!(csv.lines().next().unwrap().contains("scheduler.use_karras_sigmas"), "{csv}");
}

#[test]
fn a_solver_that_is_unstable_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out").display().to_string();
    let made = |sampler: &str, guidance: &str| {
        let prompt = "a large red circle on the left, white background";
        let asked =
            ["generate", prompt, "--steps", "20", "--sampler", sampler, "--guidance", guidance, "--output", &output];
        latentrace(&asked).assert().success()
    };
    let unstable = "the clean estimates alternate from step to step: pndm is unstable here";
    made("pndm", "20").stderr(contains(unstable).and(contains("or --sampler dpm++2m")));
    made("dpm++2m", "3").stderr(contains("alternate").not());

    let spec = folder.path().join("spec.toml");
    let text = "name = \"stable\"\n[fixed]\nprompt = \"a large red circle on the left, white background\"\nseed = 193\nsteps = 20\n\
                [vary]\nguidance = [1, 20]\n";
    std::fs::write(&spec, text).unwrap();
    let sweep = folder.path().join("sweep");
    let asked = ["run", &spec.display().to_string(), "--output", &sweep.display().to_string()];
    latentrace(&asked).assert().success().stderr(contains("in 1 of 2 pictures the clean estimates alternate"));
    let results = Table::read(&sweep.join("results.csv")).unwrap();
    let from: Vec<&str> = results.column("alternates_from").unwrap().map(Field::text).collect();
    assert!(from[0].is_empty() && from[1].parse::<usize>().is_ok(), "{from:?}");
}
