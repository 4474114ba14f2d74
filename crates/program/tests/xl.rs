//! SDXL from the command line: recorded, verified, forked, continued, made again, and what cannot be run.

mod common;

use common::{command, golden};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A run of a tiny model of SDXL's kind, in a folder of its own.
struct Run {
    _folder: TempDir,
    run: PathBuf,
    said: String,
}

impl Run {
    fn of(model: &str, more: &[&str]) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let (model, output) = (golden(&format!("networks/{model}")), folder.path().display().to_string());
        let own = ["generate", "a red circle", "--model", &model, "--seed", "7", "--output", &output];
        let size = ["--height", "32", "--width", "48"];
        let said = command(&[&own[..], &size, more].concat()).success();
        let said = String::from_utf8(said.get_output().stderr.clone()).unwrap();
        Run { run: folder.path().join("a-red-circle-7"), _folder: folder, said }
    }

    fn path(&self) -> &str {
        self.run.to_str().unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.run.join(name)).unwrap()).unwrap()
    }
}

fn description(run: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("trace/run.json")).unwrap()).unwrap()
}

#[test]
fn a_run_is_recorded_verified_and_made_again() {
    let rule = "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.probs | tokens(red, square)";
    let conditions = ["--prompt-2", "a blue square", "--negative", "blurry", "--crop", "0,8", "--guidance", "4"];
    let more = ["--steps", "3", "--original-size", "64,96", "--capture", rule, "--capture", "unet.time_ids"];
    let run = Run::of("sdxl", &[&conditions[..], &more].concat());
    let about = run.json("trace/run.json");
    assert_eq!(about["time_ids"]["prompt"], json!([64.0, 96.0, 0.0, 8.0, 32.0, 48.0]));
    assert!(about["prompt_2"]["tokens"].as_array().unwrap().len() > 2);
    assert_eq!(about["cell"]["crop"], json!([0, 8]));
    assert_eq!(about.get("negative_is"), None);
    command(&["verify", run.path()]).success();
    let folder = tempfile::tempdir().unwrap();
    let (picture, output) = (run.run.join("image.png"), folder.path().display().to_string());
    command(&["generate", "--like", picture.to_str().unwrap(), "--output", &output])
        .success()
        .stdout(contains("the same pixels as"));
    // A new prompt is that of the first encoder, where the second has one of its own.
    command(&["generate", "a red dog", "--like", picture.to_str().unwrap(), "--output", &output])
        .success()
        .stderr(contains("the second text encoder keeps its own prompt, “a blue square”"));
    command(&["show", run.path()])
        .success()
        .stdout(contains("a blue square").and(contains("original_size [64, 96], crop [0, 8]")));
}

#[test]
fn a_run_with_a_lora_and_a_textual_inversion_is_recorded_verified_and_made_again() {
    let (lora, embedding) = (golden("changes/kohya.safetensors:0.5"), golden("text/both.safetensors"));
    let more = ["--lora", &lora, "--embedding", &embedding, "--negative", "both", "--guidance", "4", "--steps", "2"];
    let run = Run::of("sdxl", &more);
    assert!(run.said.contains("206 layers of the UNet, 12 of text_encoder and 19 of text_encoder_2"), "{}", run.said);
    command(&["verify", run.path()]).success();
    let folder = tempfile::tempdir().unwrap();
    let (picture, output) = (run.run.join("image.png"), folder.path().display().to_string());
    command(&["generate", "--like", picture.to_str().unwrap(), "--output", &output])
        .success()
        .stdout(contains("the same pixels as"));
}

#[test]
fn the_tokens_of_each_tokenizer_are_shown() {
    let (sdxl, wide) = (golden("networks/sdxl"), golden("text/wide.safetensors"));
    let tokens = |model: &str, more: &[&str]| {
        let said = command(&[&["tokens", "a wide circle!", "--model", model], more].concat()).success();
        String::from_utf8(said.get_output().stdout.clone()).unwrap()
    };
    let text = tokens(&sdxl, &["--embedding", &wide]);
    let (first, second) = text.split_once("\n\ntokenizer_2, of text_encoder_2\nplace").unwrap();
    assert!(first.starts_with("tokenizer, of text_encoder\nplace"), "{text}");
    assert!(first.contains("of padding: <|endoftext|>, the id 663") && second.contains("of padding: !, the id 0"));
    let json = |model: &str| serde_json::from_str::<Value>(&tokens(model, &["--embedding", &wide, "--json"])).unwrap();
    let both = json(&sdxl);
    let ids = |tokenizer: &str| -> Vec<(String, i64)> {
        let rows = both[tokenizer]["tokens"].as_array().unwrap().iter();
        rows.map(|row| (row["token"].as_str().unwrap().to_owned(), row["id"].as_i64().unwrap())).collect()
    };
    let has = |tokenizer: &str, token: &str, id: i64| ids(tokenizer).contains(&(token.to_owned(), id));
    assert!(has("tokenizer_2", "wide", 664) && !ids("tokenizer").iter().any(|(token, _)| token == "wide"), "{both}");
    assert!(has("tokenizer", "!</w>", 256) && has("tokenizer_2", "!", 0), "{both}");
    assert_eq!((both.as_object().unwrap().len(), &both["tokenizer_2"]["padding_id"]), (2, &json!(0)));
    let refiner = json(&golden("networks/sdxl-refiner"));
    assert_eq!(refiner["padding_id"], 0, "a single one is not named");
}

#[test]
fn a_run_without_guidance_is_recorded_verified_and_continued() {
    let run = Run::of("sdxl-turbo", &["--steps", "2", "--capture", "unet.mid_block.out", "--capture", "unet.time_ids"]);
    let about = run.json("trace/run.json");
    assert_eq!((&about["cell"]["guidance"], &about["negative_is"]), (&json!(1.0), &json!("absent")));
    let trace = latentrace::trace::Trace::open(&run.run.join("trace")).unwrap();
    let of = |tap: &str| trace.of_tap(tap).map(|entry| (entry.call, entry.shape.clone())).collect::<Vec<_>>();
    assert_eq!(of("unet.time_ids"), [(0, vec![1, 6]), (1, vec![1, 6])]);
    assert!(of("sampler.output.unconditional").is_empty() && of("sampler.output.conditional").len() == 2);
    command(&["verify", run.path()]).success();
    // A fork makes the second step again, and is the run itself.
    let output = run.run.with_file_name("forked").display().to_string();
    command(&["fork", run.path(), "--at", "1", "--output", &output]).success();
    let latents = |folder: &Path| {
        let trace = latentrace::trace::Trace::open(&folder.join("trace")).unwrap();
        let entry = trace.of_tap("sampler.latents").next().unwrap();
        Vec::<f32>::try_from(trace.tensor(entry).unwrap().flatten(0, -1)).unwrap()
    };
    assert_eq!(latents(&run.run), latents(Path::new(&output)));
    command(&["verify", &output]).success();
    // With guidance from there on, both rows are computed.
    let guided = run.run.with_file_name("guided").display().to_string();
    let change = ["--guidance", "3", "--negative", "blurry", "--crop", "8,0"];
    command(&[&["fork", run.path(), "--at", "1", "--output", &guided][..], &change].concat()).success();
    assert_ne!(latents(&run.run), latents(Path::new(&guided)));
    let trace = latentrace::trace::Trace::open(&Path::new(&guided).join("trace")).unwrap();
    let calls: Vec<usize> = trace.of_tap("sampler.output.unconditional").map(|entry| entry.call).collect();
    assert_eq!(calls, [1]);
    assert_eq!(description(Path::new(&guided))["time_ids"]["prompt"], json!([32.0, 48.0, 8.0, 0.0, 32.0, 48.0]));
    command(&["verify", &guided]).success();
}

#[test]
fn tensors_of_one_run_lead_another_where_a_tensor_passes() {
    let sites = "text_encoder*.**.layers.*.out";
    let patched = |model: &str, more: &[&str], sites: &str| {
        let [base, source] = ["a blue square", "a green star"].map(|second| {
            let own = ["--prompt-2", second, "--steps", "2", "--capture", sites];
            Run::of(model, &[&own[..], more].concat())
        });
        let map = base.run.with_file_name("map").display().to_string();
        let own = ["causal", base.path(), "--from", source.path(), "--blocks", "1", "--output", &map];
        let said = command(&[&own[..], &["--sites", sites]].concat()).success().get_output().stdout.clone();
        (String::from_utf8(said).unwrap(), std::fs::read_to_string(Path::new(&map).join("causal.csv")).unwrap())
    };
    // The last layer of the first encoder is not computed.
    let (said, csv) = patched("sdxl", &["--guidance", "4"], sites);
    assert!(said.starts_with("4 sites, 1 block of steps: 8 network calls of two passes each"), "{said}");
    assert!(
        csv.contains("text_encoder.text_model.encoder.layers.0.out")
            && !csv.contains("text_encoder.text_model.encoder.layers.1.out")
    );
    let (said, csv) = patched("sdxl-turbo", &[], "unet.add_embedding.text");
    assert!(said.starts_with("1 site, 1 block of steps: 2 network calls of one pass each"), "{said}");
    let effect: f64 = csv.lines().nth(1).unwrap().rsplit(',').next().unwrap().parse().unwrap();
    assert!(effect != 0.0, "{csv}");
}

#[test]
fn a_picture_is_varied_by_the_base_and_by_the_refiner() {
    let folder = tempfile::tempdir().unwrap();
    for (model, more) in [("sdxl", ["--negative-crop", "8,8"]), ("sdxl-refiner", ["--aesthetic-score", "7"])] {
        let (photo, model) = (golden("../pictures/init.png"), golden(&format!("networks/{model}")));
        let output = folder.path().join(more[0]).display().to_string();
        let own = ["vary", &photo, "a cat", "--model", &model, "--images", "1", "--steps", "4", "--output", &output];
        let size = ["--height", "32", "--width", "32", "--guidance", "3"];
        command(&[&own[..], &size, &more].concat()).success();
        let run = std::fs::read_dir(&output).unwrap().flatten().map(|entry| entry.path()).find(|path| path.is_dir());
        command(&["verify", run.unwrap().to_str().unwrap()]).success();
    }
}

#[test]
fn what_may_not_be_meant_is_said() {
    let run = Run::of("sdxl-turbo", &["--steps", "1"]);
    assert!(!run.said.contains("guidance") && run.said.contains("trained for pictures of 256 by 256"), "{}", run.said);
    for (guidance, says) in [("0", "the guidance_scale=0.0 of diffusers"), ("4", "runs without guidance")] {
        let run = Run::of("sdxl-turbo", &["--steps", "1", "--guidance", guidance]);
        assert!(run.said.contains(says), "{}", run.said);
    }
    let steps = Run::of("sdxl-turbo", &["--steps", "5"]).said;
    assert!(steps.contains("was trained for 1 to 4 steps, and makes 5"), "{steps}");
    let second = Run::of("sdxl", &["--steps", "1", "--negative-2", "blurry"]).said;
    assert!(second.contains("negative_2 alone changes nothing"), "{second}");
    let exact = Run::of("sdxl", &["--steps", "1", "--negative-2", "blurry", "--exact"]).said;
    assert!(!exact.contains("negative_2"), "{exact}");
    let crop = Run::of("sdxl", &["--steps", "1", "--negative-crop", "8,8"]).said;
    assert!(crop.contains("the UNet is told 32, 48, 0, 0, 32, 48, as by diffusers, and not 32, 48, 8, 8"), "{crop}");
}

#[test]
fn an_empty_negative_prompt_that_is_named_is_a_text() {
    let pixels = |more: &[&str]| {
        let run = Run::of("sdxl", &[&["--steps", "2", "--guidance", "4"], more].concat());
        let about = run.json("trace/run.json");
        let pixels = latentrace::plot::open_image(&run.run.join("image.png")).unwrap().into_raw();
        (pixels, about.get("negative_is").cloned(), about["cell"].get("empty_negative").cloned())
    };
    let (none, named) = (pixels(&[]), pixels(&["--negative", ""]));
    assert_eq!((&none.1, &none.2), (&Some(json!("zeros")), &None));
    assert_eq!((&named.1, &named.2), (&None, &Some(json!("text"))));
    assert_ne!(none.0, named.0);
    assert_eq!(named, pixels(&["--empty-negative", "text"]));
    assert_eq!(none.0, pixels(&["--negative", "", "--empty-negative", "model"]).0);
    // Where no negative prompt is the empty text anyhow, nothing is written down.
    let sd1 = common::Run::of("a cat", &["--negative", ""]);
    assert_eq!(sd1.json("trace/run.json")["cell"].get("empty_negative"), None);
    sd1.is_made_again();
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(&folder, "sdxl", "[vary]\nnegative = [\"\", \"blurry\"]\n");
    let out = folder.path().join("out");
    command(&["run", spec.to_str().unwrap(), "--output", out.to_str().unwrap()]).success();
    let cells = std::fs::read_dir(out.join("cells")).unwrap().flatten().map(|cell| description(&cell.path()));
    let texts: Vec<Value> = cells.filter_map(|about| about["cell"].get("empty_negative").cloned()).collect();
    assert_eq!(texts, [json!("text")], "the one of them that is empty");
}

#[test]
fn what_a_model_does_not_take_is_an_error_before_anything_runs() {
    let error = |model: &str, more: &[&str]| {
        let model = golden(&format!("networks/{model}"));
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out").display().to_string();
        let own = ["generate", "a cat", "--model", &model, "--steps", "2", "--output", &output];
        let said = command(&[&own[..], more].concat()).failure().get_output().stderr.clone();
        assert!(!Path::new(&output).exists(), "nothing is written");
        String::from_utf8(said).unwrap()
    };
    let second = error("sd1", &["--prompt-2", "a dog"]);
    assert!(second.contains("prompt_2: expected none: ") && second.contains("has one text encoder"), "{second}");
    assert!(error("sd1", &["--crop", "0,0"]).contains("crop: expected nothing: the UNet takes no sizes"));
    assert!(error("sdxl", &["--aesthetic-score", "7"]).contains("the refiner takes a score"));
    assert!(error("sdxl-refiner", &["--target-size", "8,8"]).contains("an aesthetic_score in its place"));
    let zeros = ["--guidance", "4", "--negative-2", "dog"];
    let mask = error("sdxl", &[&zeros[..], &["--edit", "unet.**.attn2.scores @branch{uncond} => mask(dog)"]].concat());
    assert!(mask.contains("dog"), "{mask}");
    let alone = error("sdxl-turbo", &["--guidance", "1", "--edit", "unet.mid_block.out @branch{uncond} => zero"]);
    assert!(alone.contains("this run has @branch{cond} alone: it is without guidance"), "{alone}");
    let capture = error("sdxl-turbo", &["--capture", "sampler.output.unconditional", "--guidance", "1"]);
    assert!(capture.contains("sampler.output.unconditional"), "{capture}");
}

/// A spec on a tiny model of SDXL's kind.
fn spec(folder: &TempDir, model: &str, text: &str) -> PathBuf {
    let path = folder.path().join("spec.toml");
    let model = golden(&format!("networks/{model}"));
    let fixed = format!("prompt = \"a red circle\"\nsteps = 2\nheight = 32\nwidth = 32\nmodel = {model:?}");
    std::fs::write(&path, format!("name = \"xl\"\nfigures = [\"grid\"]\n[fixed]\n{fixed}\n{text}")).unwrap();
    path
}

#[test]
fn conditions_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let vary = "prompt_2 = \"a {size} square\"\n[vary]\nsize = [\"small\", \"large\"]\ncrop = [[0, 0], [8, 0]]\nempty_negative = [\"zeros\", \"text\"]\n";
    let (spec, out) = (spec(&folder, "sdxl", vary), folder.path().join("out"));
    command(&["run", spec.to_str().unwrap(), "--output", out.to_str().unwrap()]).success();
    let results = std::fs::read_to_string(out.join("results.csv")).unwrap();
    let header = results.lines().next().unwrap();
    assert!(
        ["crop", "empty_negative", "prompt_2", "size"].iter().all(|column| header.split(',').any(|at| at == *column))
    );
    assert_eq!(results.lines().count(), 9);
    assert!(results.contains("\"[8, 0]\"") && results.contains("a large square"), "{results}");
    let cells = std::fs::read_dir(out.join("cells")).unwrap().flatten();
    let pictures: std::collections::BTreeSet<Vec<u8>> =
        cells.map(|cell| latentrace::plot::open_image(&cell.path().join("image.png")).unwrap().into_raw()).collect();
    assert_eq!(pictures.len(), 8, "every condition changes the picture");
}

#[test]
fn a_sweep_of_a_distilled_model_runs_without_guidance_unless_the_spec_says_one() {
    let guidance = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (spec, out) = (spec(&folder, "sdxl-turbo", text), folder.path().join("out"));
        command(&["run", spec.to_str().unwrap(), "--output", out.to_str().unwrap()]).success();
        let results = std::fs::read_to_string(out.join("results.csv")).unwrap();
        let mut lines = results.lines().map(|line| line.split(',').map(str::to_string).collect::<Vec<_>>());
        let at = lines.next().unwrap().iter().position(|column| column == "guidance").unwrap();
        lines.map(|line| line[at].clone()).collect::<Vec<_>>()
    };
    assert_eq!(guidance("[vary]\nseed = [1, 2]\n"), ["1", "1"]);
    assert_eq!(guidance("guidance = 2\n[vary]\nseed = [1, 2]\n"), ["2", "2"]);
}
