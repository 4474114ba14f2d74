//! Variations of a part of a picture: made, kept, verified, continued, forked, patched and made again.

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use latentrace::plot::{RgbImage, read_png_text, save_png};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn tiny() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    root.join("data/golden/networks/sd1").display().to_string()
}

fn latentrace(arguments: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("latentrace").unwrap();
    command.args(arguments).env("OMP_NUM_THREADS", "1").assert().stderr(contains("panicked").not())
}

/// A folder with a picture and masks.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        let photo = RgbImage::from_fn(90, 70, |x, y| [(2 * x) as u8, (3 * y) as u8, 90].into());
        save_png(&place.at("photo.png"), &photo, &[]).unwrap();
        place.mask("mask.png", 40);
        place.mask("wide.png", 70);
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// A mask that is white in its first columns.
    fn mask(&self, name: &str, columns: u32) {
        let image = RgbImage::from_fn(90, 70, |x, _| [if x < columns { 255 } else { 0 }; 3].into());
        save_png(&self.at(name), &image, &[]).unwrap();
    }

    /// Varies the picture in four steps within a mask, and returns the run's folder.
    fn vary(&self, output: &str, model: &str, more: &[&str]) -> PathBuf {
        let given = |option: &str| more.contains(&option);
        let [photo, mask, output] = ["photo.png", "mask.png", output].map(|name| self.text(name));
        let defaults = [["--mask", &mask], ["--steps", "4"], ["--images", "1"]].into_iter();
        let defaults: Vec<&str> = defaults.filter(|[option, _]| !given(option)).flatten().collect();
        let size = ["--height", "64", "--width", "64", "--output", &output];
        latentrace(&[&["vary", &photo, "a cat", "--model", model], &size[..], &defaults, more].concat()).success();
        Path::new(&output).join("photo-a-cat-193")
    }
}

fn about(run: &Path) -> Value {
    let texts = read_png_text(&run.join("image.png")).unwrap();
    serde_json::from_str(&texts.iter().find(|(key, _)| key == "Latentrace").unwrap().1).unwrap()
}

fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The record leads to every value in it, without the model.
fn verify(run: &Path) {
    latentrace(&["verify", word(run)]).success().stdout(contains("worst relative difference 0"));
}

/// An ordinary model, and an inpainting one with random weights.
fn models(place: &Place) -> [String; 2] {
    let narrow = place.text("narrow");
    latentrace(&["model", "synth", "tiny-inpaint", &narrow]).success();
    [tiny(), narrow]
}

#[test]
fn a_run_with_a_mask_is_kept_verified_resumed_forked_and_made_again() {
    let place = Place::new();
    for (index, model) in models(&place).iter().enumerate() {
        for (sampler, strength) in [("heun", "0.8"), ("euler_a", "1")] {
            let output = format!("out-{index}-{sampler}");
            let asked = ["--sampler", sampler, "--strength", strength];
            let run = place.vary(&output, model, &asked);
            let said = about(&run);
            assert!(said["used"]["mask"]["path"].as_str().unwrap().ends_with("mask.png"), "{said}");
            assert_eq!(said["key"].as_str().unwrap().len(), 16);
            verify(&run);

            let again = place.text("again");
            let like = |more: &[&str]| {
                let picture = run.join("image.png");
                latentrace(&[&["generate", "--like", word(&picture), "--output", &again], more].concat())
            };
            like(&[]).success().stdout(contains("the same pixels as "));
            let wide = place.text("wide.png");
            like(&["--mask", &wide]).success().stdout(contains(format!("but for mask {wide}")));
            place.mask("mask.png", 41);
            like(&[])
                .code(1)
                .stderr(contains("mask.png: its files are not those").and(contains("--mask names a mask")));
            place.mask("mask.png", 40);

            // From the record alone: the files of the picture and of the mask are away.
            let away = place.at("away");
            std::fs::create_dir(&away).unwrap();
            let names = ["photo.png", "mask.png"];
            names.iter().for_each(|name| std::fs::rename(place.at(name), away.join(name)).unwrap());
            let whole = std::fs::read(run.join("image.png")).unwrap();
            let text = std::fs::read(run.join("trace/index.jsonl")).unwrap();
            std::fs::write(run.join("trace/index.jsonl"), &text[..text.len() / 2]).unwrap();
            std::fs::remove_file(run.join("image.png")).unwrap();
            latentrace(&["resume", word(&run)]).success();
            assert!(std::fs::read(run.join("image.png")).unwrap() == whole, "{model} {sampler}: resumed");
            for (name, more) in [
                ("guided", &["--guidance", "2"][..]),
                ("seeded", &["--seed", "9"]),
                ("other", &["--sampler", "ddim", "--steps", "30"]),
            ] {
                let fork = place.at(&format!("{output}-{name}"));
                latentrace(&[&["fork", word(&run), "--at", "1", "--output", word(&fork)], more].concat()).success();
                verify(&fork);
                let second = place.at(&format!("{output}-{name}-again"));
                let at = ["--at", "1", "--sampler", "dpm++2m", "--output", word(&second)];
                latentrace(&[&["fork", word(&fork)], &at[..]].concat()).success();
                verify(&second);
            }
            names.iter().for_each(|name| std::fs::rename(away.join(name), place.at(name)).unwrap());
            std::fs::remove_dir(&away).unwrap();
        }
    }
}

#[test]
fn a_run_with_a_mask_is_patched_with_another() {
    let place = Place::new();
    let capture = ["--capture", "unet.mid_block.out"];
    let run = place.vary("one", &tiny(), &capture);
    let other = place.vary("other", &tiny(), &[&capture[..], &["--mask", &place.text("wide.png")]].concat());
    let asked = ["causal", word(&run), "--from", word(&other), "--sites", "unet.mid_block.out", "--blocks", "2"];
    latentrace(&asked).success();
    // Without a change, the run that is made again is the run.
    let own = ["causal", word(&run), "--from", word(&run), "--sites", "unet.mid_block.out", "--blocks", "1"];
    latentrace(&own).code(1).stderr(contains("the same final latents"));
}

#[test]
fn masks_vary_in_a_sweep_alone_and_in_batches() {
    let place = Place::new();
    let spec = format!(
        "name = \"masks\"\nfigures = []\n[fixed]\nprompt = \"a cat\"\nmodel = {:?}\nimage = \"photo.png\"\nsteps = 3\n\
         guidance = 2\nheight = 64\nwidth = 64\n[vary]\nmask = [\"mask.png\", \"wide.png\"]\nseed = [1, 2]\n",
        tiny()
    );
    std::fs::write(place.at("spec.toml"), &spec).unwrap();
    for (store, how) in [("alone", &[][..]), ("batched", &["--batched"])] {
        let asked = ["run", &place.text("spec.toml"), "--output", &place.text(store)];
        latentrace(&[&asked[..], how].concat()).success();
        let cells: Vec<PathBuf> =
            std::fs::read_dir(place.at(store).join("cells")).unwrap().map(|cell| cell.unwrap().path()).collect();
        assert_eq!(cells.len(), 4);
        cells.iter().for_each(|cell| verify(cell));
    }
    latentrace(&["run", &place.text("spec.toml"), "--dry-run", "--output", &place.text("dry")]).success();
    std::fs::write(place.at("spec.toml"), spec.replace("image = \"photo.png\"\n", "")).unwrap();
    let alone = ["run", &place.text("spec.toml"), "--output", &place.text("none")];
    latentrace(&alone).code(1).stderr(contains("mask.png is a mask without a picture"));
}
