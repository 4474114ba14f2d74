//! `latentrace article` against the same experiments by Python's diffusers; `data/golden/article/make.py` made the numbers.

mod common;

use common::{command, golden};
use latentrace::nn::SamplerValue;
use latentrace::nn::tch::{Kind, Tensor};
use latentrace::trace::Trace;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The final latents of a sweep's cells, by what its table calls them.
fn latents(sweep: &Path) -> Vec<(String, Tensor)> {
    let experiment: Value =
        serde_json::from_str(&std::fs::read_to_string(sweep.join("experiment.json")).unwrap()).unwrap();
    let of = |cell: &Value| {
        let trace = Trace::open(&sweep.join(cell["folder"].as_str().unwrap()).join("trace")).unwrap();
        let entry = trace.values(SamplerValue::Latents).next_back().unwrap().clone();
        (cell["label"].as_str().unwrap().to_string(), trace.tensor(&entry).unwrap().to_kind(Kind::Float))
    };
    experiment["cells"].as_array().unwrap().iter().map(of).collect()
}

/// The largest difference of a picture's latents, relative to the largest of their numbers.
fn relative(ours: &Tensor, theirs: &Tensor, index: i64) -> f64 {
    let (ours, theirs) = (ours.get(index), theirs.get(index));
    ((ours - &theirs).abs().max() / theirs.abs().max()).double_value(&[])
}

#[test]
fn every_part_gives_what_diffusers_gives() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("article");
    let at = output.display().to_string();
    let (model, image) = (golden("networks/sd1"), golden("article/image.png"));
    let arguments = ["article", "--model", &model, "--image", &image, "--output", &at];
    command(&arguments).success().stdout(contains("article.html"));
    let expected: HashMap<String, Tensor> =
        Tensor::read_safetensors(golden("article/expected.safetensors")).unwrap().into_iter().collect();
    for (name, sweep, first) in [
        ("loop/as written", "loop-as-written", 0),
        ("loop/own", "loop-own-scheduler", 0),
        ("guidance", "guidance", 2), // below 1, diffusers does without guidance
        ("negative", "negative", 0),
        ("variations", "variations", 0),
    ] {
        let ours: Vec<Tensor> = latents(&output.join(sweep)).into_iter().skip(first).map(|(_, found)| found).collect();
        let (ours, theirs) = (Tensor::cat(&ours, 0), expected[name].shallow_clone());
        assert_eq!(ours.size(), theirs.size(), "{name}");
        let mut apart: Vec<f64> = (0..ours.size()[0]).map(|index| relative(&ours, &theirs, index)).collect();
        apart.sort_by(f64::total_cmp);
        let (middle, most) = (apart[apart.len() / 2], apart[apart.len() - 1]);
        // Fifty steps of a random network multiply rounding by very different factors. diffusers with another order of
        // sums in attention differs from itself by `rounding`, for most pictures by 1e-6 of their size; one seed in
        // thirty by a thousand times as much.
        assert!(middle < 2e-5 && most < 2e-3, "{name}: {middle:.1e}, at most {most:.1e}");
    }
    let page = std::fs::read_to_string(output.join("article.html")).unwrap();
    assert!(page.contains("blake3 ") && !page.contains("Loaded with"));
    let pictures: Vec<PathBuf> =
        page.split("src=\"").skip(1).map(|rest| output.join(rest.split('"').next().unwrap())).collect();
    assert_eq!(pictures.len(), 5, "the latents of the loop, noise levels, and three grids");
    assert!(pictures.iter().all(|path| path.is_file()), "{pictures:?}");
    let linked = page.split("href=\"").skip(1).map(|rest| output.join(rest.split('"').next().unwrap()));
    assert!(linked.into_iter().all(|path| path.is_file()), "{page}");
    assert!(page.contains("<td>73</td><td>65</td>"), "the calls of both loops");
    // Again, and by the specs that the page names.
    command(&arguments).success().stdout(contains("9 of 9 pictures are there already").count(3));
    let (spec, there) = (format!("{at}/guidance.toml"), format!("{at}/guidance"));
    command(&["run", &spec, "--output", &there]).success().stdout(contains("9 pictures, 0 of them new"));
}

#[test]
fn what_the_checkpoint_is_loaded_with_is_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("article").display().to_string();
    let (model, lora) = (golden("networks/sd1"), golden("lora/kohya.safetensors") + ":0.5");
    let text = ["article", "--model", &model, "--only", "text", "--output", &at, "--prompt", "a <b> & {x} ü"];
    command(&[&text[..], &["--lora", &lora, "--dtype", "bf16"]].concat()).success();
    let page = std::fs::read_to_string(format!("{at}/article-text.html")).unwrap();
    for expected in ["Loaded with ", "dtype = &quot;bf16&quot;", "kohya.safetensors:0.5", "<td>&lt;</td>", "<td>ü</td>"]
    {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    // Braces stand for themselves in a prompt of the article.
    let two = ["--only", "guidance", "--dry-run"];
    command(&[&text[..], &two].concat()).success().stdout(contains("9 pictures into"));
    let inpainting = folder.path().join("inpainting").display().to_string();
    command(&["model", "synth", "tiny-inpaint", &inpainting]).success();
    command(&["article", "--model", &inpainting, "--output", &at])
        .failure()
        .stderr(contains("an inpainting model, which runs with a picture and a mask only"));
}

#[test]
fn without_the_checkpoint_the_bundled_model_is_used_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("article").display().to_string();
    let cache = folder.path().join("cache").display().to_string();
    let run = |more: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("latentrace").unwrap();
        command.args([&["article", "--offline", "--only", "text", "--output", &at], more].concat());
        command.env("OMP_NUM_THREADS", "1").env("HF_HUB_CACHE", &cache).assert()
    };
    run(&[]).success().stderr(contains("The article's checkpoint is not used here: CompVis/stable-diffusion-v1-4"));
    let page = std::fs::read_to_string(format!("{at}/article-text.html")).unwrap();
    assert!(page.contains("on the bundled model of shapes") && page.contains("is not used here"));
    run(&["--model", "no-such-model"]).failure().stderr(contains("no-such-model"));
    run(&["--image", "no-such.png"]).failure().stderr(contains("no-such.png"));
    // The default PNDM needs four steps at least, and so does the probe of the estimate.
    run(&["--only", "loop,guidance", "--dry-run"])
        .success()
        .stdout(contains("11 pictures into").and(contains("evaluations of the network")));
}
