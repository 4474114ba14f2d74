//! How a prompt is read and encoded, from the command line to the record and back.

mod common;

use common::{Run, command, golden};
use predicates::str::contains;
use serde_json::Value;

#[test]
fn every_option_changes_pixels_and_key_and_is_made_again_from_the_picture() {
    let long = format!("{}red (blob:1.5)", "a ".repeat(80));
    let cat = golden("text/cat.safetensors");
    let named = format!("{cat}=blob");
    let plain = Run::of(&long, &[]);
    for options in [
        &["--clip-skip", "1"][..],
        &["--long-prompts", "chunks"],
        &["--weights"],
        &["--embedding", &named, "--long-prompts", "chunks"],
        &["--clip-skip", "2", "--long-prompts", "chunks", "--weights", "--embedding", &cat],
    ] {
        let run = Run::of(&long, options);
        assert_ne!((run.key(), run.pixels() == plain.pixels()), (plain.key(), true), "{options:?}");
        run.is_made_again();
    }
    // What is the default is not written, so keys are those of earlier versions.
    let cell = plain.json("cell.json");
    let fields = cell["cell"].as_object().unwrap();
    assert!(["clip_skip", "long_prompts", "weights", "embeddings"].iter().all(|field| !fields.contains_key(*field)));
    assert_eq!(Run::of(&long, &["--clip-skip", "0", "--long-prompts", "cut", "--weights=false"]).key(), plain.key());
}

#[test]
fn an_embedding_counts_by_content_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str, of: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(golden(of), &path).unwrap();
        path.display().to_string()
    };
    let key = |embedding: &str| Run::of("a <cat>", &["--embedding", embedding]).key();
    let one = key(&copy("one/cat.safetensors", "text/cat.safetensors"));
    assert_eq!(key(&copy("two/cat.safetensors", "text/cat.safetensors")), one);
    assert_ne!(key(&copy("three/cat.safetensors", "text/style.safetensors")), one);
    assert_ne!(key(&format!("{}=<cat>", copy("one/cat.safetensors", "text/style.safetensors"))), one);
}

#[test]
fn words_behind_the_seam_and_inside_brackets_have_their_places() {
    let long = format!("{}(red:1.5) circle <style>", "a ".repeat(80));
    let style = format!("{}=<style>", golden("text/style.safetensors"));
    let options = ["--long-prompts", "chunks", "--weights", "--embedding", &style];
    let capture = ["--capture", "unet.mid_block.**.attn2.probs @branch{cond} | tokens(circle, <style>)"];
    let run = Run::of(&long, &[&options[..], &capture].concat());
    let described = run.json("trace/run.json");
    let pieces = described["prompt"]["tokens"].as_array().unwrap();
    let of = |index: usize| pieces[index].as_str().unwrap();
    // 80 times a, of which 75 are in the first chunk; then the seam, 5 more, re, d, circle and three vectors.
    assert_eq!([of(74), of(75), of(76), of(77)], ["a", "<|endoftext|>", "<|startoftext|>", "a"]);
    assert_eq!((pieces.len(), of(84), of(85)), (88, "circle", "<style>"));
    let index = std::fs::read_to_string(run.folder().join("trace/index.jsonl")).unwrap();
    let kept = index.lines().find(|line| line.contains("attn2.probs")).unwrap();
    let kept: Value = serde_json::from_str(kept).unwrap();
    assert_eq!(kept["shape"].as_array().unwrap().last().unwrap(), 4, "circle and three vectors: {kept}");
    // A mask of places that only the longer text has.
    let masked =
        Run::of(&long, &[&options[..], &["--edit", "unet.**.attn2.scores @branch{cond} => mask(circle)"]].concat());
    assert_ne!(masked.pixels(), run.pixels());
}

#[test]
fn the_options_are_axes_of_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("spec.toml");
    let model = golden("networks/sd1");
    std::fs::copy(golden("text/cat.safetensors"), folder.path().join("cat.safetensors")).unwrap();
    let text = format!(
        "name = \"text\"\nfigures = []\n[fixed]\nprompt = \"{}a (red:2) <cat>\"\nsteps = 1\nmodel = {model:?}\n\
         embeddings = [\"cat.safetensors\"]\n[vary]\nclip_skip = [0, 1]\nlong_prompts = [\"cut\", \"chunks\"]\nweights = [false, true]\n",
        "a ".repeat(74)
    );
    std::fs::write(&spec, text).unwrap();
    for mode in [&[][..], &["--fast"]] {
        let store = folder.path().join(format!("store{}", mode.len()));
        let (spec, output) = (spec.display().to_string(), store.display().to_string());
        command(&[&["run", &spec, "--output", &output][..], mode].concat()).success();
        assert_eq!(std::fs::read_dir(store.join("cells")).unwrap().count(), 8);
    }
}

#[test]
fn features_go_out_and_in_and_have_no_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.safetensors");
    let file = path.display().to_string();
    let own = Run::of("a red circle", &["--clip-skip", "1", "--save-features", &file]);
    let given = Run::of("something else", &["--features", &file]);
    assert_eq!(given.pixels(), own.pixels());
    assert_ne!(given.key(), own.key());
    let picture = given.folder().join("image.png").display().to_string();
    let again = tempfile::tempdir().unwrap();
    let output = again.path().display().to_string();
    command(&["generate", "--like", &picture, "--output", &output]).success().stdout(contains("the same pixels as"));
    command(&["verify", &given.folder().display().to_string()]).success();
    let model = golden("networks/sd1");
    let more = ["--model", &model, "--features", &file, "--output", &output];
    let masked = ["generate", "red", "--edit", "unet.**.attn2.scores => mask(red)"];
    command(&[&masked[..], &more].concat())
        .failure()
        .stderr(contains("this run has no words: both texts are empty, or text features were given"));
    let text = ["generate", "red", "--capture", "text_encoder.**"];
    command(&[&text[..], &more].concat()).failure();
    std::fs::remove_file(&path).unwrap();
    command(&["generate", "--like", &picture, "--output", &output]).failure().stderr(contains("the text features"));
}
