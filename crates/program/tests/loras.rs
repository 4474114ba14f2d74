//! LoRAs from the command line: in keys and records, made again from a picture, and as an axis of a sweep.

mod common;

use common::{Run, command, golden};
use predicates::str::contains;
use std::path::Path;

const WINDOW: &str = "{ weight = 0.7, sigma = [0.5, 20] }";

#[test]
fn a_lora_changes_pixels_and_key_and_is_made_again_from_the_picture() {
    let plain = Run::of("a red circle", &[]);
    let (kohya, old) = (golden("lora/kohya.safetensors"), golden("lora/old.safetensors"));
    let (half, windowed) = (format!("{kohya}:0.5"), format!("{kohya}:{WINDOW}"));
    let mut keys = vec![plain.key()];
    for loras in [&[&kohya][..], &[&half], &[&windowed], &[&half, &old], &[&old, &half]] {
        let options: Vec<&str> = loras.iter().flat_map(|lora| ["--lora", lora]).collect();
        let run = Run::of("a red circle", &options);
        assert_ne!(run.pixels(), plain.pixels(), "{options:?}");
        assert!(!keys.contains(&run.key()), "{options:?}");
        keys.push(run.key());
        run.is_made_again();
    }
    assert!(plain.json("cell.json")["cell"].get("loras").is_none(), "the default is not written");
}

#[test]
fn a_lora_counts_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str, of: &str| {
        let path = folder.path().join(name);
        std::fs::copy(golden(of), &path).unwrap();
        path.display().to_string()
    };
    let key = |lora: &str| Run::of("a red circle", &["--lora", lora]).key();
    let one = key(&copy("one.safetensors", "lora/kohya.safetensors"));
    assert_eq!(key(&copy("two.safetensors", "lora/kohya.safetensors")), one);
    assert_ne!(key(&copy("one.safetensors", "lora/old.safetensors")), one);
}

#[test]
fn a_scale_is_an_axis_of_a_sweep_by_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let model = golden("networks/sd1");
    std::fs::copy(golden("lora/kohya.safetensors"), at("style.safetensors")).unwrap();
    let text = format!(
        "name = \"loras\"\n[fixed]\nprompt = \"a red circle\"\nsteps = 2\nmodel = {model:?}\n\
         loras = [\"style.safetensors:{{scale}}\"]\n[vary]\nscale = [0, 0.5, 1]\n"
    );
    std::fs::write(at("spec.toml"), text).unwrap();
    command(&["run", &at("spec.toml"), "--output", &at("store")]).success();
    let cells: Vec<_> = std::fs::read_dir(at("store/cells")).unwrap().flatten().map(|entry| entry.path()).collect();
    let pixels = |cell: &Path| latentrace::plot::open_image(&cell.join("image.png")).unwrap().into_raw();
    assert_eq!(cells.len(), 3);
    assert!(pixels(&cells[0]) != pixels(&cells[1]) && pixels(&cells[1]) != pixels(&cells[2]));
    assert!(std::fs::read_to_string(at("store/results.csv")).unwrap().contains("scale"));
    // Lists vary as a list of lists, and a scale that depends on the noise level is a table.
    let text = format!(
        "name = \"loras\"\nfigures = []\n[fixed]\nprompt = \"a red circle\"\nsteps = 2\nmodel = {model:?}\n[vary]\n\
         loras = [[], [\"style.safetensors\"], [{{ file = \"style.safetensors\", scale = {WINDOW} }}]]\n"
    );
    std::fs::write(at("spec.toml"), text).unwrap();
    command(&["run", &at("spec.toml"), "--output", &at("lists")]).success();
    assert_eq!(std::fs::read_dir(at("lists/cells")).unwrap().count(), 3);
}

#[test]
fn what_cannot_be_is_an_error_before_anything_runs() {
    let model = golden("networks/sd1");
    let kohya = golden("lora/kohya.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out").display().to_string();
    let fails = |lora: &str, expected: &str| {
        let more = ["--model", &model, "--steps", "2", "--output", &output, "--lora", lora];
        command(&[&["generate", "a red circle"][..], &more].concat()).failure().stderr(contains(expected));
        assert!(!Path::new(&output).exists(), "{lora}");
    };
    fails("no-such.safetensors:0.5", "no-such.safetensors: no such file");
    fails(&format!("{kohya}:nan"), "expected a finite number, found NaN");
    fails(&format!("{kohya}:{{ wight = 1 }}"), "expected FILE:0.8");
    fails(&format!("{kohya}:{{ weight = 1, sigma = [5, 1] }}"), "0 <= low <= high");
    fails(&format!("{kohya}:{{ weight = 1, sigma = [500, 900] }}"), "no noise level of this run lies in its window");
    fails(&golden("schedulers"), "a folder without a LoRA");
    fails(&golden("networks/sd1"), "a folder with 2 .safetensors files, none of a usual name");
}

#[test]
fn a_moved_lora_is_found_beside_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(at("here")).unwrap();
    std::fs::copy(golden("lora/kohya.safetensors"), at("here/style.safetensors")).unwrap();
    let (model, lora) = (golden("networks/sd1"), at("here/style.safetensors"));
    let more = ["--model", &model, "--steps", "2", "--seed", "7", "--lora", &lora];
    command(&[&["generate", "cat", "--output", &at("here/runs")][..], &more].concat()).success();
    std::fs::rename(at("here/runs"), at("there")).unwrap();
    std::fs::rename(&lora, at("there/style.safetensors")).unwrap();
    let (run, picture) = (at("there/cat-7"), at("there/cat-7/image.png"));
    command(&["verify", &run]).success();
    command(&["generate", "--like", &picture, "--output", &at("again")])
        .success()
        .stdout(contains("the same pixels as"));
    command(&["fork", &run, "--at", "1", "--guidance", "3", "--output", &at("fork")]).success();
    std::fs::copy(golden("lora/old.safetensors"), at("there/style.safetensors")).unwrap();
    command(&["generate", "--like", &picture, "--output", &at("again")])
        .failure()
        .stderr(contains("its files are not those"));
    std::fs::remove_file(at("there/style.safetensors")).unwrap();
    command(&["fork", &run, "--at", "1", "--guidance", "3", "--output", &at("other")])
        .failure()
        .stderr(contains("style.safetensors"));
}
