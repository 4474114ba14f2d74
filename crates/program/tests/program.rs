//! The whole program, as its users call it.

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// The program, on the tiny random checkpoint from diffusers unless a test says otherwise.
fn latentrace(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("latentrace").unwrap();
    command.args(arguments).env("OMP_NUM_THREADS", "1");
    command
}

fn tiny() -> String {
    home().join("data/golden/networks/sd1").display().to_string()
}

fn output(folder: &tempfile::TempDir) -> String {
    folder.path().join("out").display().to_string()
}

fn spec(folder: &tempfile::TempDir, guidance: &str) -> String {
    let path = folder.path().join("spec.toml");
    let text = format!(
        "name = \"small\"\ncolumns = 2\n[fixed]\nprompt = \"a cat\"\nsteps = 3\nseed = 5\nmodel = {:?}\n[vary]\nguidance = {guidance}\n",
        tiny()
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn generates_pictures_with_their_settings_inside() {
    let folder = tempfile::tempdir().unwrap();
    let out = output(&folder);
    let asked = [
        "generate",
        "A Cat, <b>",
        "--model",
        &tiny(),
        "--steps",
        "3",
        "--images",
        "2",
        "--seed",
        "7",
        "--output",
        &out,
    ];
    latentrace(&asked).assert().success().stdout(contains("a-cat-b-7/image.png"));
    let text = latentrace::plot::read_png_text(&Path::new(&out).join("a-cat-b-8/image.png")).unwrap();
    let settings: Value = serde_json::from_str(&text[1].1).unwrap();
    assert_eq!(text[0], ("Description".to_string(), "A Cat, <b>".to_string()));
    assert_eq!((settings["cell"]["seed"].as_u64(), settings["calls"].as_u64()), (Some(8), Some(4)));
    // One picture has one seed: alone it is the same, byte for byte.
    let alone = folder.path().join("alone").display().to_string();
    latentrace(&["generate", "A Cat, <b>", "--model", &tiny(), "--steps", "3", "--seed", "8", "--output", &alone])
        .assert()
        .success();
    let pixels = |folder: &str| latentrace::plot::open_image(&Path::new(folder).join("a-cat-b-8/image.png")).unwrap();
    assert_eq!(pixels(&alone), pixels(&out));
    let previews = latentrace::plot::open_image(&Path::new(&out).join("a-cat-b-7/previews.png")).unwrap();
    assert!(previews.width() > 3 * 128, "one preview for each of the four calls");
}

#[test]
fn a_sweep_keeps_everything_and_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let out = output(&folder);
    let half = spec(&folder, "[0, 1]");
    latentrace(&["run", &half, "--output", &out]).assert().success().stdout(contains("2 pictures, 2 of them new"));
    let cells = || {
        let mut cells: Vec<(PathBuf, SystemTime)> = std::fs::read_dir(Path::new(&out).join("cells"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::metadata(path.join("image.png")).unwrap().modified().unwrap()))
            .collect();
        cells.sort();
        cells
    };
    let before = cells();
    // What a killed run leaves is cleared away and done again.
    let left = Path::new(&out).join("cells/.unfinished-00000000ffffffff-x");
    std::fs::create_dir(&left).unwrap();
    let whole = spec(&folder, "[0, 1, -2.5]");
    latentrace(&["run", &whole, "--output", &out]).assert().success().stdout(contains("3 pictures, 1 of them new"));
    assert!(!left.exists());
    let after = cells();
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|cell| after.contains(cell)), "finished pictures are not made again");
    let cell = &after[0].0;
    let csv = std::fs::read_to_string(cell.join("trace/scalars.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 4, "three steps of PNDM are four calls");
    let trace = latentrace::trace::Trace::open(&cell.join("trace")).unwrap();
    assert!(trace.problems().is_empty() && trace.end().is_some());
    assert_eq!(trace.complete(), 4);
    for (tap, calls) in
        [("sampler.sample", 4), ("sampler.epsilon.unconditional", 4), ("sampler.start", 1), ("sampler.latents", 1)]
    {
        assert_eq!(trace.of_tap(tap).count(), calls, "{tap}");
    }
    for name in ["grid.png", "curves.svg", "curves.png", "curves.csv"] {
        assert!(Path::new(&out).join(name).is_file(), "{name}");
    }
}

#[test]
fn another_model_or_setting_is_another_picture() {
    let folder = tempfile::tempdir().unwrap();
    let (out, spec) = (output(&folder), spec(&folder, "[1, 2]"));
    let run = |set: &str| {
        latentrace(&["run", &spec, "--output", &out, "--set", "guidance=[2]", "--set", set]).assert().success()
    };
    run("seed=1").stdout(contains("1 of them new"));
    run("seed=1").stdout(contains("0 of them new"));
    run("seed=2").stdout(contains("1 of them new"));
    run("sampler=lms").stdout(contains("1 of them new"));
    run("reading=exact").stdout(contains("1 of them new"));
}

#[test]
fn a_dry_run_says_what_would_be_run_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (out, spec) = (output(&folder), spec(&folder, "[0, 1, 2]"));
    latentrace(&["run", &spec, "--output", &out, "--dry-run"])
        .assert()
        .success()
        .stdout(contains("3 pictures").and(contains("20 evaluations of the network")));
    assert!(!Path::new(&out).exists());
}

#[test]
fn every_experiment_is_listed_has_a_recipe_and_can_be_run() {
    let listed = latentrace(&["experiments"]).assert().success();
    let listed = String::from_utf8_lossy(&listed.get_output().stdout).into_owned();
    let recipes = std::fs::read_to_string(home().join("justfile")).unwrap();
    let specs = std::fs::read_dir(home().join("experiments/specs")).unwrap();
    let names: Vec<String> =
        specs.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.len() >= 9);
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: not listed");
        assert!(recipes.contains(&format!("\n{name} *args:\n")), "{name}: no recipe");
        latentrace(&["run", &name, "--output", &output(&folder), "--dry-run"])
            .assert()
            .success()
            .stdout(starts_with(format!("{name}: ")).and(contains("evaluations of the network")));
    }
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_picture_is_varied_and_stands_beside_its_variations() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (output(&folder), tiny());
    let photo = folder.path().join("My photo.png");
    let image = latentrace::plot::RgbImage::from_fn(90, 70, |x, y| [(2 * x) as u8, (3 * y) as u8, 90].into());
    latentrace::plot::save_png(&photo, &image, &[]).unwrap();
    let photo = photo.display().to_string();
    let vary = |photo: &str, more: &[&str]| {
        let asked = ["vary", photo, "a cat", "--model", &model, "--steps", "4", "--images", "2", "--output", &out];
        latentrace(&[&asked[..], more].concat()).assert()
    };
    let refused = |photo: &str, more: &[&str], says: &str| {
        vary(photo, more).failure().stderr(contains(says).and(contains("panicked").not()));
        assert!(!Path::new(&out).exists(), "{says}");
    };
    refused(&photo, &["--strength", "0"], "strength: expected a number above 0 and at most 1, found 0");
    refused(&photo, &["--strength", "0.1"], "strength: expected a number that leaves 1 to 4 steps of 4, found 0.1");
    refused("nothing.png", &[], "nothing.png");
    refused(
        &home().join("README.md").display().to_string(),
        &[],
        "not a picture that can be read\nhint: PNG, JPEG, WebP, GIF, BMP and TIFF can",
    );
    vary(&photo, &["--strength", "0.5"]).success().stdout(contains("my-photo-a-cat-193-to-194.png"));
    let at = |name: &str| Path::new(&out).join(name);
    for name in ["my-photo-a-cat-193/image.png", "my-photo-a-cat-194/previews.png", "my-photo-a-cat-194/trace/run.json"]
    {
        assert!(at(name).is_file(), "{name}");
    }
    latentrace(&["verify", at("my-photo-a-cat-193/trace").to_str().unwrap()]).assert().success();
    let first = std::fs::read(at("my-photo-a-cat-193/image.png")).unwrap();
    vary(&photo, &["--strength", "0.5"]).success();
    let again = std::fs::read(at("my-photo-a-cat-193-2/image.png")).unwrap();
    assert!(first == again, "one seed, one picture");
}

#[test]
fn a_schedule_is_printed_compared_and_drawn() {
    let list = latentrace(&["schedule", "--list"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        latentrace(&["schedule", name, "--steps", "7", "--exact"]).assert().success().stdout(contains("7 steps"));
    }
    assert!(list.lines().count() > 25, "{list}");
    // PNDM of Stable Diffusion: a call more than steps, at a time twice, from below the largest sigma.
    let mut pndm = vec!["schedule", "pndm", "--steps", "5"];
    for setting in ["prediction_type=v_prediction", "beta_end=0.012", "timestep_spacing=leading", "steps_offset=1"] {
        pndm.extend(["--set", setting]);
    }
    latentrace(&pndm).assert().success().stdout(
        contains("6 network calls").and(contains("note: starts at sigma 5.134")).and(contains("601 twice running")),
    );
    let rows = latentrace(&["schedule", "heun", "--steps", "4", "--json"]).output().unwrap().stdout;
    let rows: Vec<Value> =
        rows.split(|byte| *byte == b'\n').filter_map(|row| serde_json::from_slice(row).ok()).collect();
    assert_eq!(rows.len(), 7);
    assert!(rows.windows(2).all(|pair| pair[0]["sigma"].as_f64() >= pair[1]["sigma"].as_f64()), "{rows:?}");

    let folder = tempfile::tempdir().unwrap();
    let drawn = folder.path().join("drawn").display().to_string();
    let all = ["schedule", "dpm++2m", "--steps", "6", "--explain", "--compare", "euler", "--plot", &drawn];
    latentrace(&all).assert().success().stdout(
        contains("solver_order").and(contains("result v")).and(contains("Euler")).and(contains("note: euler: ")),
    );
    for name in ["schedule.png", "schedule.svg", "schedule.csv", "coefficients.png", "coefficients-2.csv"] {
        assert!(folder.path().join("drawn").join(name).is_file(), "{name}");
    }
    let wrong = ["schedule", "dpm++2m", "--set", "solver_ordr=2"];
    latentrace(&wrong).assert().code(1).stderr(contains("nearest: solver_order"));
    latentrace(&["schedule", "dpm++2n"]).assert().code(1).stderr(contains("(nearest: dpm++2m)\nhint: --list"));
    // A hub's config of another sampler, for the network of the model.
    let hub = folder.path().join("unipc.json");
    std::fs::write(
        &hub,
        r#"{"_class_name": "UniPCMultistepScheduler", "solver_order": 3, "timestep_spacing": "trailing"}"#,
    )
    .unwrap();
    let (hub, model, out) = (hub.display().to_string(), tiny(), output(&folder));
    let generate = ["generate", "a cat", "--model", &model, "--steps", "4", "--output", &out, "--sampler", &hub];
    latentrace(&generate).assert().success();
    std::fs::remove_file(&hub).unwrap();
    let trace = PathBuf::from(&out).join("a-cat-193/trace").display().to_string();
    latentrace(&["verify", &trace, "--tolerance", "0"]).assert().success(); // the record holds the config
    latentrace(&generate).assert().code(2).stderr(contains("unipc.json: no such file"));
    // A key that nothing reads is told with the file, and the program is the whole program.
    let file = folder.path().join("scheduler_config.json");
    std::fs::write(&file, r#"{"_class_name": "DDIMScheduler", "beta_scedule": "linear"}"#).unwrap();
    let config = ["schedule", "--config", &file.display().to_string()].map(str::to_owned);
    let config: Vec<&str> = config.iter().map(String::as_str).collect();
    latentrace(&config)
        .assert()
        .code(1)
        .stderr(contains("scheduler_config.json: beta_scedule: no scheduler has such an option"));
    let program = ["schedule", "unipc", "--steps", "3", "--program"];
    latentrace(&program).assert().success().stdout(starts_with("v0   noise\n").and(contains("step 2 call 0 at ")));
}

#[test]
fn bad_input_is_one_clear_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (output(&folder), tiny());
    let generate = |more: &[&str]| {
        let mut arguments = vec!["generate", "a cat", "--output", &out];
        arguments.extend_from_slice(more);
        latentrace(&arguments).assert().stderr(contains("panicked").not())
    };
    let on_tiny = |more: &[&str]| generate(&[&["--model", &model], more].concat());
    on_tiny(&["--steps", "0"]).code(1).stderr(contains("steps: expected 1 to 1000").and(contains("found 0")));
    on_tiny(&["--steps", "1001"]).code(1).stderr(contains("found 1001"));
    on_tiny(&["--steps", "-3"]).code(2);
    on_tiny(&["--height", "70"]).code(1).stderr(contains("64 and 72"));
    on_tiny(&["--width", "-8"]).code(1).stderr(contains("width: -8"));
    on_tiny(&["--guidance", "nan"]).code(1).stderr(contains("guidance: expected a finite number"));
    on_tiny(&["--seed", "-1"]).code(2);
    on_tiny(&["--seed", "18446744073709551616"]).code(2);
    on_tiny(&["--seed", "18446744073709551615", "--images", "2"]).code(1).stderr(contains("seed"));
    on_tiny(&["--sampler", "plsm"]).code(1).stderr(contains("plsm").and(contains("schedule --list")));
    generate(&["--model", "/no/such/folder"])
        .code(1)
        .stderr(starts_with("error: /no/such/folder: no such file or folder"));
    let empty = folder.path().display().to_string();
    generate(&["--model", &empty]).code(1).stderr(contains("an empty folder"));
    assert!(!Path::new(&out).exists(), "nothing was written");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let below = file.join("out").display().to_string();
    latentrace(&["generate", "a", "--model", &model, "--steps", "1", "--output", &below])
        .assert()
        .code(1)
        .stderr(contains("cannot create"));
}

#[test]
fn a_damaged_checkpoint_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let copy = || {
        for part in ["unet", "vae", "text_encoder", "tokenizer", "scheduler", ""] {
            std::fs::create_dir_all(model.join(part)).unwrap();
            for entry in std::fs::read_dir(Path::new(&tiny()).join(part)).unwrap().flatten() {
                if entry.path().is_file() {
                    std::fs::copy(entry.path(), model.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
    };
    let expect = |text: &str| {
        let model = model.display().to_string();
        let run = latentrace(&["doctor", "--model", &model]).assert().code(1);
        run.stderr(contains(text).and(contains("panicked").not()));
    };
    let weights = model.join("unet/diffusion_pytorch_model.safetensors");
    copy();
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    expect("not a whole safetensors file");
    std::fs::remove_file(&weights).unwrap();
    expect("diffusion_pytorch_model.safetensors: no such file");
    copy();
    for (part, from, to, message) in [
        ("unet", "\"in_channels\": 4", "\"in_channels\": 8", "this is an instruct-pix2pix model"),
        ("unet", "\"act_fn\": \"silu\"", "\"act_fn\": \"mish\"", "act_fn: unsupported value \"mish\""),
        ("vae", "\"layers_per_block\": 1", "\"layers_per_block\": 2", "no such tensor"),
        (
            "text_encoder",
            "\"intermediate_size\": 48",
            "\"intermediate_size\": 64",
            "expected shape [64, 24], found [48, 24]",
        ),
    ] {
        let path = model.join(part).join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{part}: {from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        expect(message);
        std::fs::write(&path, text).unwrap();
    }
    // As in a pipeline of diffusers, the index says of which class the scheduler is.
    let index = model.join("model_index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    assert!(text.contains("PNDMScheduler"));
    std::fs::write(&index, text.replace("PNDMScheduler", "PNDNScheduler")).unwrap();
    expect("nearest: PNDMScheduler");
    std::fs::write(&index, text).unwrap();
    let scheduler = model.join("scheduler/scheduler_config.json");
    std::fs::write(&scheduler, "{").unwrap();
    expect("scheduler_config.json");
}

#[test]
fn empty_and_endless_prompts_are_run_and_the_loss_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (out, model) = (output(&folder), tiny());
    let run = |prompt: &str| {
        latentrace(&["generate", prompt, "--model", &model, "--steps", "1", "--output", &out]).assert().success()
    };
    run("").stderr(contains("warning").not());
    let endless = "many words ".repeat(910);
    run(&endless).stderr(contains("warning: prompt: 75 tokens fit; lost from here on:"));
}

#[test]
fn doctor_and_help_read_well() {
    latentrace(&["doctor", "--model", &tiny()]).assert().success().stdout(contains("libtorch").and(contains("taps")));
    latentrace(&["--help"]).assert().success().stdout(contains("research bench for latent diffusion"));
    for command in [
        "generate",
        "vary",
        "show",
        "run",
        "taps",
        "schedule",
        "trace",
        "verify",
        "resume",
        "fork",
        "compare",
        "causal",
        "adherence",
        "train",
        "latent-vs-pixel",
        "doctor",
    ] {
        latentrace(&[command, "--help"]).assert().success().stdout(contains("Usage: latentrace"));
    }
    latentrace(&["generat"]).assert().code(2);
}

#[test]
fn the_bundled_model_shows_what_is_asked_and_the_more_the_more_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("adherence.csv");
    let path = csv.display().to_string();
    let few = ["--captions", "16", "--unseen", "0", "--open", "0", "--guidance", "0,4", "--steps", "20"];
    latentrace(&["adherence", "--csv", &path]).args(few).assert().success();
    let text = std::fs::read_to_string(&csv).unwrap();
    let rate = |guidance: &str, attribute: &str| -> f64 {
        let begin = format!("held out,20,{guidance},{attribute},");
        let line = text.lines().find_map(|line| line.strip_prefix(&begin)).unwrap();
        line.split(',').nth(2).unwrap().parse().unwrap()
    };
    // Sixteen captions tell little of the model, whose card has the figures of five hundred; they do tell whether it runs
    // as it was trained. Chance is 12 % of backgrounds and 24 % of positions.
    for attribute in ["background", "position", "size"] {
        assert!(rate("4", attribute) >= 0.75, "{attribute}: {text}");
    }
    assert!(rate("4", "whole") > rate("0", "whole"), "{text}");
}

#[test]
fn latents_and_pixels_are_trained_in_turns_and_go_on_where_they_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let out = output(&folder);
    let run = |seconds: &str, more: &[&str]| {
        let small = ["--captions", "1", "--steps", "2", "--pictures", "3", "--batch", "1", "--pairs", "1"];
        let budget = ["latent-vs-pixel", "--seconds-of-training", seconds, "--output", &out];
        latentrace(&[&budget[..], &small, more].concat()).assert()
    };
    let figures = || -> Value {
        serde_json::from_slice(&std::fs::read(Path::new(&out).join("latent-vs-pixel.json")).unwrap()).unwrap()
    };
    let steps = |figures: &Value, space: &str| figures["trained"][space]["steps"].as_u64().unwrap();
    // On a busy machine a step can take more than a second, and training ends after the step that exceeds its time.
    run("1", &[]).success().stdout(contains("the article says 2.7").and(contains("grid.png")));
    for name in ["grid.png", "loss.svg", "loss.png", "loss.csv", "latent-vs-pixel.csv"] {
        assert!(Path::new(&out).join(name).is_file(), "{name}");
    }
    let first = figures();
    assert!(first["trained"]["pixels"]["seconds"].as_f64().unwrap() >= 1.0);
    // A log that is ahead of the states is what a kill between the two leaves.
    let log = Path::new(&out).join("state/progress.json");
    let mut ahead: Value = serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap();
    let lost = serde_json::json!({ "steps": 1_000_000, "seconds": 1.5, "loss": 1.0 });
    ahead["pixels"].as_array_mut().unwrap().push(lost);
    std::fs::write(&log, ahead.to_string()).unwrap();
    run("5", &[]).success().stdout(contains("timing").not());
    let second = figures();
    assert!(steps(&first, "latents") < steps(&second, "latents"));
    assert!(steps(&second, "pixels") < 1_000_000);
    // All is there: nothing is computed, and the same is drawn.
    std::fs::remove_file(Path::new(&out).join("grid.png")).unwrap();
    run("5", &[]).success().stdout(contains("trained for 5 s each"));
    assert!(Path::new(&out).join("grid.png").is_file());
    assert_eq!(figures(), second);
    run("1", &[]).code(1).stderr(contains("were trained for more than 1 s"));
    run("5", &["--learning-rate", "0.5"]).code(1).stderr(contains("settings.json: a training with other settings"));
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("latentrace"))
        .args(["doctor", "--model", &tiny()])
        .env("OMP_NUM_THREADS", "1")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    child.wait().unwrap();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn the_atlas_says_what_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let readings = folder.path().join("readings.md").display().to_string();
    latentrace(&["scheduler-atlas", "--output", &output(&folder), "--readings", &readings]).assert().success();
    let page = folder.path().join("out/README.md").display().to_string();
    for (kept, made) in [("docs/schedulers/README.md", page), ("crates/schedulers/docs/readings.md", readings)] {
        let [kept_text, made] = [home().join(kept), made.into()].map(|path| std::fs::read_to_string(path).unwrap());
        // Another processor's logarithm may differ in the last place, and so a rounded figure by one of its own.
        let same = |(one, other): (&str, &str)| {
            one == other
                || last_place(one).is_some_and(|place| {
                    let [one, other] = [one, other].map(|word| word.parse::<f64>().unwrap_or(f64::INFINITY));
                    (one - other).abs() < 1.5 * place
                })
        };
        let words = [&kept_text, &made].map(|text| text.split_whitespace().count());
        let is_same = kept_text.split_whitespace().zip(made.split_whitespace()).all(same);
        assert!(words[0] == words[1] && is_same, "{kept} is out of date: ./just scheduler-atlas");
    }
}

/// What one of the last place of a rounded figure is worth; nothing where it is a whole number, or none.
fn last_place(word: &str) -> Option<f64> {
    let (digits, power) = word.split_once('e').unwrap_or((word, "0"));
    let places = digits.split_once('.')?.1.len() as i32;
    Some(10f64.powi(power.parse::<i32>().ok()? - places))
}

#[cfg(unix)]
#[test]
fn what_stdout_cannot_take_is_told_at_the_end_and_stops_no_work() {
    let folder = tempfile::tempdir().unwrap();
    // As on a full disk, nothing can be written here: the socket is not connected.
    let full = || std::os::fd::OwnedFd::from(std::os::unix::net::UnixDatagram::unbound().unwrap());
    let out = output(&folder);
    let command = || {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("latentrace"));
        command.args(["generate", "a cat", "--model", &tiny(), "--steps", "2", "--seed", "7", "--output", &out]);
        command.env("OMP_NUM_THREADS", "1").stdout(full());
        command
    };
    let ended = command().output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("error: stdout: could not be written: ") && !said.contains("panicked"), "{said}");
    assert!(Path::new(&out).join("a-cat-7/image.png").is_file(), "the work went on");
    // Where stderr is full as well, there is only the exit code.
    assert_eq!(command().stderr(full()).status().unwrap().code(), Some(1));
    // Nobody reads on: the program ends quietly.
    let mut child =
        command().stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(!said.contains("panicked") && !said.contains("error"), "{said}");
}

#[test]
fn a_value_that_is_given_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    latentrace(&["run", &spec(&folder, "[1, 4, 1.0]"), "--output", &output(&folder)])
        .assert()
        .failure()
        .stderr(contains("spec.toml:9: vary.guidance: 1.0 is given twice\nhint: "));
    assert!(!Path::new(&output(&folder)).exists());
}

#[test]
fn a_spec_of_gigabytes_and_a_file_for_a_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("huge.toml").display().to_string();
    std::fs::File::create(&file).unwrap().set_len(6 << 30).unwrap();
    latentrace(&["run", &file]).assert().failure().stderr(contains("huge.toml: 6442450944 bytes, and at most"));
    latentrace(&["generate", "a cat", "--model", &tiny(), "--steps", "2", "--output", &file])
        .assert()
        .failure()
        .stderr(contains("huge.toml: a file, not a folder\nhint: name a folder"));
}

/// A training by a small recipe in a folder, in a process of its own.
fn training(recipe: &Path, output: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("latentrace"));
    command.args(["train", "shapes", "--save-every", "0", "--recipe"]).arg(recipe).arg("--output").arg(output);
    command.stdout(std::process::Stdio::null());
    command
}

#[test]
fn a_training_that_is_killed_three_times_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(home().join("crates/train/tests/tiny.toml")).unwrap();
    let recipe = folder.path().join("recipe.toml");
    // More steps, so that there is time to kill it.
    std::fs::write(&recipe, text.replace("steps = 9", "steps = 60").replace("steps = 12", "steps = 60")).unwrap();
    let (straight, killed) = (folder.path().join("straight"), folder.path().join("killed"));
    assert!(training(&recipe, &straight).status().unwrap().success());
    for file in ["autoencoder.safetensors", "latents.safetensors", "denoiser.safetensors"] {
        let mut child = training(&recipe, &killed).spawn().unwrap();
        while !killed.join("state").join(file).exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap(); // SIGKILL: it cannot save anything
        child.wait().unwrap();
    }
    assert!(training(&recipe, &killed).status().unwrap().success());
    let hash =
        |output: &Path| -> Value { serde_json::from_slice(&std::fs::read(output.join("made.json")).unwrap()).unwrap() };
    assert_eq!(hash(&straight)["hash"], hash(&killed)["hash"]);
    for part in ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"] {
        let read = |output: &Path| std::fs::read(output.join(format!("{part}.safetensors"))).unwrap();
        assert!(read(&straight) == read(&killed), "{part}");
    }
    assert!(killed.join("progress.html").is_file());
}
