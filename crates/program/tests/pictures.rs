//! What pictures say of themselves, how they are made again, and that none is made of what is no number.

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use latentrace::files::{Field, Table};
use latentrace::pipeline::nn::tch::Tensor;
use latentrace::plot::{RgbImage, open_image, read_png_text, save_png};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("data/golden/networks/sd1")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("latentrace").unwrap();
    command.args(arguments).env("OMP_NUM_THREADS", "1");
    command
}

/// A folder to work in, with what the program makes there.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Runs the program with its results in a folder of this place.
    fn run(&self, output: &str, arguments: &[&str]) -> Assert {
        command(&[arguments, &["--output", &self.text(output)]].concat()).assert().stderr(contains("panicked").not())
    }

    /// A few steps on the tiny checkpoint.
    fn generate(&self, output: &str, prompt: &str, more: &[&str]) -> Assert {
        let model = tiny().display().to_string();
        let given = |option: &str| more.contains(&option);
        let defaults = [["--steps", "3"], ["--seed", "7"]].into_iter().filter(|[option, _]| !given(option)).flatten();
        let defaults: Vec<&str> = defaults.collect();
        self.run(output, &[&["generate", prompt, "--model", &model], &defaults[..], more].concat())
    }

    /// Makes a picture again.
    fn like(&self, output: &str, picture: &Path, more: &[&str]) -> Assert {
        let picture = picture.display().to_string();
        self.run(output, &[&["generate", "--like", &picture], more].concat())
    }

    fn photo(&self, name: &str, shade: u8) -> String {
        let image = RgbImage::from_fn(90, 70, |x, y| [(2 * x) as u8, (3 * y) as u8, shade].into());
        save_png(&self.at(name), &image, &[]).unwrap();
        self.text(name)
    }

    /// A spec on the tiny checkpoint.
    fn spec(&self, head: &str, vary: &str) -> String {
        let model = tiny();
        let text = format!(
            "name = \"small\"\nfigures = []\n{head}\n[fixed]\nprompt = \"a cat\"\nsteps = 3\nseed = 7\nmodel = {model:?}\n[vary]\n{vary}\n"
        );
        std::fs::write(self.at("spec.toml"), text).unwrap();
        self.text("spec.toml")
    }

    /// The folders of a store's cells, by name.
    fn cells(&self, store: &str) -> Vec<PathBuf> {
        let cells = std::fs::read_dir(self.at(store).join("cells")).unwrap();
        let mut cells: Vec<PathBuf> = cells.map(|entry| entry.unwrap().path()).collect();
        cells.sort();
        cells
    }

    /// A copy of the tiny checkpoint with one tensor times a factor.
    fn scaled(&self, part: &str, tensor: &str, factor: f64) -> String {
        let folder = self.at("scaled");
        std::fs::remove_dir_all(&folder).ok();
        for part in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
            for entry in std::fs::read_dir(tiny().join(part)).unwrap().flatten() {
                if entry.path().is_file() {
                    std::fs::copy(entry.path(), folder.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
        let file = if part == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
        let path = folder.join(part).join(format!("{file}.safetensors"));
        let scale =
            |(name, value): (String, Tensor)| if name == tensor { (name, value * factor) } else { (name, value) };
        let tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(&path).unwrap().into_iter().map(scale).collect();
        assert!(tensors.iter().any(|(name, _)| name == tensor), "{tensor}");
        Tensor::write_safetensors(&tensors, &path).unwrap();
        folder.display().to_string()
    }
}

fn about(picture: &Path) -> Value {
    let texts = read_png_text(picture).unwrap();
    serde_json::from_str(&texts.iter().find(|(key, _)| key == "Latentrace").unwrap().1).unwrap()
}

fn show(picture: &Path) -> Assert {
    command(&["show", picture.to_str().unwrap()]).assert()
}

/// Every PNG in a folder and below it.
fn pngs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let below = |path: PathBuf| if path.is_dir() { pngs(&path) } else { vec![path] };
    entries.flat_map(below).filter(|path| path.extension().is_some_and(|ending| ending == "png")).collect()
}

#[test]
fn a_picture_says_how_it_was_made_and_is_made_again_to_the_bit() {
    let place = Place::new();
    let settings = [
        "--guidance",
        "-2.5",
        "--negative",
        "-blurry",
        "--sampler",
        "dpm++2m",
        "--width",
        "72",
        "--height",
        "64",
        "--exact",
    ];
    place.generate("out", "Ein grünes Schiff, 赤い円", &[&settings[..], &["--images", "2"]].concat()).success();
    let first = place.at("out/ein-grünes-schiff-赤い円-7/image.png");
    show(&first).success().stdout(
        contains("prompt      Ein grünes Schiff, 赤い円\n")
            .and(contains("negative    -blurry\n"))
            .and(contains("guidance    -2.5\n"))
            .and(contains("size        72 x 64 pixels"))
            .and(contains("sampler     DPMSolverMultistepScheduler, read as exact"))
            .and(contains("solver_order 2"))
            .and(contains(" by 1 thread of "))
            .and(contains("libtorch 2.11")),
    );
    let said = about(&first);
    assert_eq!(said["used"]["size"], serde_json::json!([64, 72]));
    assert_eq!(said["used"]["model"]["blake3"].as_str().map(str::len), Some(64));
    assert_eq!(said["key"].as_str().map(str::len), Some(16));
    for seed in [7, 8] {
        let picture = place.at(&format!("out/ein-grünes-schiff-赤い円-{seed}/image.png"));
        place.like("again", &picture, &[]).success().stdout(contains("the same pixels as "));
        let again = place.at(&format!("again/ein-grünes-schiff-赤い円-{seed}/image.png"));
        assert_eq!(open_image(&again).unwrap(), open_image(&picture).unwrap());
        assert_eq!(read_png_text(&again).unwrap(), read_png_text(&picture).unwrap());
    }
    // Changes are named, and change the pixels.
    place
        .like("changed", &first, &["a dog", "--guidance", "3", "--exact=false", "--seed", "18446744073709551615"])
        .success()
        .stdout(contains("but for prompt a dog, seed 18446744073709551615, guidance 3, reading diffusers"));
    let changed = about(&place.at("changed/a-dog-18446744073709551615/image.png"));
    assert_eq!(changed["cell"]["seed"].as_u64(), Some(u64::MAX));
    assert_eq!(changed["cell"]["negative"], "-blurry");
    assert_ne!(changed["key"], said["key"]);
    // Other threads may round otherwise: then it says that there are other threads.
    let mut threads = command(&["generate", "--like", first.to_str().unwrap(), "--output", &place.text("threads")]);
    let output = threads.env("OMP_NUM_THREADS", "2").output().unwrap();
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{words}");
    assert!(words.contains("the same pixels") || words.contains("note: threads: 1 then, 2 now"), "{words}");
}

#[test]
fn what_cannot_be_made_again_says_why() {
    let place = Place::new();
    place.generate("out", "a cat", &["--images", "2"]).success();
    let refused = |picture: &str, says: &str| {
        place.like("again", &place.at(picture), &[]).code(1).stderr(contains(says));
        assert!(!place.at("again").exists());
    };
    let trace = place.text("out/a-cat-7/trace");
    place.run("out/forked", &["fork", &trace, "--at", "1", "--guidance", "2"]).success();
    refused("out/forked/image.png", "a fork, from call 2 of");
    show(&place.at("out/forked/image.png"))
        .success()
        .stdout(contains("from call 2 of").and(contains("latentrace fork ")));
    refused("out/a-cat-7/previews.png", "previews of a run");
    refused("out/a-cat-7-to-8.png", "a grid of several pictures");
    show(&place.at("out/a-cat-7-to-8.png")).success().stdout(contains("\"shows\":\"grid\""));
    place.photo("photo.png", 9);
    refused("photo.png", "photo.png: it does not say how it was made");
    refused("nothing.png", "nothing.png");
    command(&["generate"]).assert().code(2).stderr(contains("<PROMPT>"));
    let picture = place.at("out/a-cat-7/image.png");
    place
        .like("again", &picture, &["--strength", "0.5"])
        .code(1)
        .stderr(contains(format!("--strength: {} starts from noise", picture.display())));
    // Other pixels than the picture's, with what explains them and without.
    let mut edited = about(&picture);
    edited["program"]["libtorch"] = "2.0.0".into();
    let mut image = open_image(&picture).unwrap();
    image.put_pixel(0, 0, [1, 2, 3].into());
    save_png(&place.at("edited.png"), &image, &[("Latentrace".into(), edited.to_string())]).unwrap();
    place
        .like("edited", &place.at("edited.png"), &[])
        .success()
        .stderr(contains("bytes differ from").and(contains("note: libtorch: 2.0.0 then, 2.11.0 now")));
    edited["program"]["libtorch"] = "2.11.0".into();
    save_png(&place.at("edited.png"), &image, &[("Latentrace".into(), edited.to_string())]).unwrap();
    place.like("edited", &place.at("edited.png"), &[]).code(1).stderr(contains("nothing does that is recorded"));
}

#[test]
fn files_are_known_by_their_content_wherever_they_lie() {
    let place = Place::new();
    let photo = place.photo("photo.png", 90);
    let model = place.scaled("unet", "conv_out.bias", 1.0);
    let vary = |output: &str| {
        let asked = ["vary", &photo, "a cat", "--model", &model, "--steps", "4", "--images", "1", "--strength", "0.5"];
        place.run(output, &asked).success();
        about(&place.at(output).join("photo-a-cat-193/image.png"))
    };
    let said = vary("out");
    assert_eq!(vary("out/deeper"), said, "wherever it lies");
    assert_eq!(said["used"]["strength"].as_f64(), Some(0.5));
    let picture = place.at("out/photo-a-cat-193/image.png");
    place.like("again", &picture, &[]).success().stdout(contains("the same pixels as "));
    // Another picture under the same path is another picture, and its text says so.
    place.photo("photo.png", 200);
    assert_ne!(vary("other")["used"]["image"], said["used"]["image"]);
    let error = "photo.png: its files are not those that the run was made with\nhint: --image";
    place.like("no", &picture, &[]).code(1).stderr(contains(error));
    place.photo("kept.png", 90);
    let kept = place.text("kept.png");
    place.like("again", &picture, &["--image", &kept]).success().stdout(contains("the same pixels as "));
    place
        .like("again", &picture, &["--image", &photo, "--strength", "1"])
        .success()
        .stdout(contains("but for strength 1, image "));
    std::fs::rename(&kept, place.at("out/photo.png")).unwrap(); // beside the picture, by its own name
    place.like("again", &picture, &[]).success().stdout(contains("the same pixels as "));
    // Another scheduler file under the same path.
    let scheduler = Path::new(&model).join("scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&scheduler).unwrap();
    let edited = text.replace("\"beta_end\": 0.012", "\"beta_end\": 0.011");
    assert_ne!(text, edited);
    std::fs::write(&scheduler, edited).unwrap();
    place.photo("photo.png", 90);
    let other = vary("scheduler");
    assert_ne!(other["used"]["scheduler"], said["used"]["scheduler"]);
    assert_ne!(other["used"]["model"], said["used"]["model"]);
    let error = "its files are not those that the run was made with\nhint: --model names";
    place.like("no", &picture, &[]).code(1).stderr(contains(error));
    place.like("again", &picture, &["--model", &model]).success().stdout(contains("but for model "));
    assert!(!place.at("no").exists());
}

#[test]
fn cells_of_a_sweep_are_made_again_with_what_they_kept() {
    let place = Place::new();
    let spec = place.spec("capture = [\"unet.**.attn2.probs | head_mean\"]", "guidance = [1, 4]");
    place.run("store", &["run", &spec]).success();
    for cell in place.cells("store") {
        let picture = cell.join("image.png");
        assert_eq!(about(&picture)["key"].as_str().unwrap(), cell.to_str().unwrap().rsplit('-').next().unwrap());
        place.like("again", &picture, &[]).success().stdout(contains("the same pixels as "));
    }
    let spec = place.spec("", "guidance = [1, 4]");
    place.run("fast", &["run", &spec, "--batched"]).success();
    let picture = place.cells("fast")[0].join("image.png");
    let output = command(&["generate", "--like", picture.to_str().unwrap(), "--output", &place.text("alone")]).output();
    let output = output.unwrap();
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{words}");
    assert!(words.contains("the same pixels") || words.contains("made: in a batch with others then"), "{words}");
}

#[test]
fn a_cell_is_done_when_what_is_asked_now_is_kept_and_its_inputs_are_the_same() {
    let place = Place::new();
    let run = |head: &str, vary: &str| place.run("store", &["run", &place.spec(head, vary)]).success();
    run("", "guidance = [1, 4]").stdout(contains("2 of them new"));
    run("capture = [\"unet.mid_block.out\"]", "guidance = [1, 4]").stdout(contains("2 of them new"));
    run("capture = [\"unet.mid_block.out\"]", "guidance = [1, 4]").stdout(contains("0 of them new"));
    run("", "guidance = [1, 4]").stdout(contains("0 of them new"));
    let kept = |cell: &PathBuf| {
        latentrace::trace::Trace::open(&cell.join("trace")).unwrap().of_tap("unet.mid_block.out").count()
    };
    let mut counts: Vec<usize> = place.cells("store").iter().map(kept).collect();
    counts.sort_unstable();
    assert_eq!((counts[0], counts[1], counts[2] > 0, counts.len()), (0, 0, true, 4));
    // The record behind an edit is known by its content.
    let record = |output: &str, seed: &str| {
        let capture = ["--capture", "unet.mid_block.out", "--seed", seed];
        let model = tiny().display().to_string();
        let asked = ["generate", "a dog", "--model", &model, "--steps", "3"];
        place.run(output, &[&asked[..], &capture].concat()).success();
        place.at(output).join(format!("a-dog-{seed}/trace"))
    };
    let (one, other) = (record("one", "1"), record("other", "2"));
    let source = place.at("source");
    let edits = format!("edits = [[], [\"unet.mid_block.out => replace({})\"]]", source.display());
    std::fs::rename(&one, &source).unwrap();
    run("", &edits).stdout(contains("2 of them new"));
    run("", &edits).stdout(contains("0 of them new"));
    std::fs::rename(&source, &one).unwrap();
    std::fs::rename(&other, &source).unwrap();
    run("", &edits).stdout(contains("1 of them new"));
    let moved = format!("edits = [[], [\"unet.mid_block.out => replace({})\"]]", one.display());
    run("", &moved).stdout(contains("0 of them new"));
}

#[test]
fn no_picture_is_made_of_what_is_no_number() {
    let place = Place::new();
    let photo = place.photo("photo.png", 90);
    let sites = [
        ("text_encoder", "text_model.final_layer_norm.weight", "text_encoder.text_model.out: "),
        ("unet", "mid_block.resnets.1.conv1.bias", "unet.mid_block.resnets.1.conv1: "),
        ("vae", "decoder.conv_norm_out.bias", "vae.decoder.conv_norm_out: "),
        ("vae", "encoder.mid_block.resnets.0.conv1.bias", "vae.encoder.mid_block.resnets.0.conv1: "),
    ];
    for (part, tensor, says) in sites {
        let model = place.scaled(part, tensor, f64::NAN);
        let says = || contains(says).and(contains("the first such tensor of the run\nhint: "));
        let common = ["--model", &model, "--steps", "2"];
        place.run("vary", &[&["vary", &photo, "a cat", "--images", "1"], &common[..]].concat()).code(1).stderr(says());
        assert!(pngs(&place.at("vary")).is_empty(), "{tensor}");
        if tensor.starts_with("encoder.mid") {
            continue; // nothing is encoded from noise
        }
        place.run("out", &[&["generate", "a cat"], &common[..]].concat()).code(1).stderr(says());
        assert!(pngs(&place.at("out")).is_empty(), "{tensor}");
        let spec = place.spec("", "guidance = [1, 4]");
        let model = format!("model={model}");
        for fast in [&[][..], &["--batched"]] {
            let sweep = place.run("store", &[&["run", &spec, "--set", &model], fast].concat());
            sweep.code(1).stderr(says().and(contains("2 of 2 cells failed")));
            assert!(pngs(&place.at("store")).is_empty(), "{tensor}");
            std::fs::remove_dir_all(place.at("store")).unwrap();
        }
    }
    let model = place.scaled("vae", "decoder.conv_in.weight", 1e6);
    let asked = ["generate", "a cat", "--model", &model, "--steps", "2"];
    place.run("f32", &asked).success();
    let overflow = contains("vae.decoder.").and(contains("f16 holds nothing above 65504"));
    place.run("f16", &[&asked[..], &["--dtype", "f16"]].concat()).code(1).stderr(overflow);
    assert!(pngs(&place.at("f16")).is_empty());
}

#[test]
fn text_that_does_not_fit_is_said_once_by_every_command_that_encodes_it() {
    let place = Place::new();
    let (dog, cat) = (format!("{}dog", "a ".repeat(75)), format!("{}cat", "a ".repeat(75)));
    let warning = |text: &str| format!("warning: prompt: 75 tokens fit; lost from here on: {text}\n");
    let once = |assert: Assert, line: &str| {
        let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert_eq!(said.matches("lost from here on").count(), 1, "{said}");
        assert!(said.contains(line), "{said}");
    };
    let capture = ["--capture", "unet.mid_block.out", "--images", "2"];
    once(place.generate("out", &dog, &capture).success(), &warning("dog"));
    let stem = std::fs::read_dir(place.at("out")).unwrap().flatten().map(|entry| entry.path());
    let traces: Vec<PathBuf> = stem.filter(|path| path.is_dir()).map(|path| path.join("trace")).collect();
    let [one, other] = [&traces[0], &traces[1]].map(|path| path.to_str().unwrap());
    assert_eq!(about(&traces[0].with_file_name("image.png"))["words_lost"]["prompt"], "dog");
    show(&traces[0].with_file_name("image.png")).success().stdout(contains("lost        dog\n"));
    once(place.run("fork", &["fork", one, "--at", "1", "--prompt", &cat]).success(), &warning("cat"));
    let negative = ["fork", one, "--at", "1", "--negative", "-blurry"];
    once(place.run("negative", &negative).success(), &warning("dog"));
    let causal = ["causal", one, "--from", other, "--sites", "unet.mid_block.out", "--blocks", "1"];
    once(place.run("causal", &causal).success(), &warning("dog"));
    // Resume: a record without its end.
    let index = traces[0].join("index.jsonl");
    let lines = std::fs::read_to_string(&index).unwrap();
    let whole: Vec<&str> = lines.lines().collect();
    let cut = whole.iter().position(|line| line.contains("\"complete\"")).unwrap() + 1;
    std::fs::write(&index, whole[..cut].join("\n") + "\n").unwrap();
    once(command(&["resume", one]).assert().success(), &warning("dog"));
    let photo = place.photo("photo.png", 90);
    let model = tiny().display().to_string();
    let vary = ["vary", &photo, &dog, "--model", &model, "--steps", "3", "--images", "2"];
    once(place.run("vary", &vary).success(), &warning("dog"));
    // A sweep says it once for all, and has it in its table.
    let spec = place.spec("", "guidance = [1, 4]");
    let prompts = format!("prompt=[\"{dog}\", \"{cat}\", \"a mouse\"]");
    for (store, more) in [("exact", &[][..]), ("fast", &["--batched"])] {
        let sweep =
            place.run(store, &[&["run", &spec, "--set", "guidance=4", "--set", &prompts], more].concat()).success();
        once(sweep, "2 of 3 pictures lose text that does not fit, the first by its prompt: 75 tokens fit");
        let table = Table::read(&place.at(store).join("results.csv")).unwrap();
        let column = |name| table.column(name).unwrap().map(Field::text).collect::<Vec<_>>();
        assert_eq!(column("prompt"), [dog.as_str(), cat.as_str(), "a mouse"]);
        assert_eq!((column("prompt_lost"), column("negative_lost")), (vec!["dog", "cat", ""], vec![""; 3]));
    }
}

#[test]
fn names_are_free_and_keep_what_differs_and_seeds_are_of_64_bits() {
    let place = Place::new();
    let names = || {
        let mut names: Vec<String> = std::fs::read_dir(place.at("out"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().trim_end_matches(".png").to_owned())
            .collect();
        names.sort();
        names
    };
    place.generate("out", "a cat", &["--images", "2"]).success();
    place.generate("out", "a cat", &["--images", "2", "--guidance", "-3"]).success();
    place.generate("out", "a cat", &["--images", "2", "--guidance", "-3"]).success();
    let mut expected = Vec::new();
    for stem in ["a-cat-7", "a-cat-7-to-8", "a-cat-8"] {
        expected.extend(["", "-guidance--3", "-guidance--3-2"].map(|end| format!("{stem}{end}")));
    }
    expected.sort();
    assert_eq!(names(), expected);
    let last = u64::MAX.to_string();
    place.generate("last", "a cat", &["--seed", &last]).success().stdout(contains(format!("a-cat-{last}/image.png")));
    let error = format!("seed: {last} and 1 more go beyond {last}");
    place.generate("no", "a cat", &["--seed", &last, "--images", "2"]).code(1).stderr(contains(error));
    for wrong in ["18446744073709551616", "-1", "1.5"] {
        place.generate("no", "a cat", &["--seed", wrong]).code(2);
    }
    assert!(!place.at("no").exists());
    place
        .generate("steps", "a cat", &["--steps", "1000"])
        .code(1)
        .stderr(contains("error: steps: 1000 cannot be sampled by this scheduler, and 99"));
}

#[test]
fn the_folder_of_a_run_stands_for_its_picture() {
    let place = Place::new();
    place.generate("out", "a cat", &[]).success();
    let run = place.text("out/a-cat-7");
    command(&["show", &run]).assert().success().stdout(contains("a-cat-7/image.png: ").and(contains("a cat")));
    place.like("again", &place.at("out/a-cat-7"), &[]).success().stdout(contains("the same pixels as "));
    let model = tiny().display().to_string();
    let vary = ["vary", &run, "a dog", "--model", &model, "--steps", "3", "--images", "1"];
    place.run("varied", &vary).success().stdout(contains("a-cat-7-a-dog-"));
    std::fs::remove_file(place.at("out/a-cat-7/image.png")).unwrap();
    command(&["show", &run]).assert().failure().stderr(contains("has no picture").and(contains("latentrace resume")));
    // A picture that it started from, and that has moved, is looked for under its own name: all are named image.png.
    let varied = std::fs::read_dir(place.at("varied")).unwrap().map(|entry| entry.unwrap().path());
    let varied = varied.filter(|path| path.is_dir()).min().unwrap();
    place.like("moved", &varied, &[]).failure().stderr(
        contains(format!("the picture that it starts from: not found: looked in {run}/image.png"))
            .and(contains("--image names a picture")),
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_picture_is_not_waited_for() {
    let place = Place::new();
    let pipe = place.text("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let wait = std::time::Duration::from_secs(60);
    for arguments in [&["show", &pipe][..], &["generate", "--like", &pipe], &["vary", &pipe, "a cat"]] {
        command(arguments).timeout(wait).assert().code(1).stderr(contains("pipe.png: not a plain file"));
    }
}
