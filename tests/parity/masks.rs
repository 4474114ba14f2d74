//! Whole inpainting runs: a picture and a mask, with an ordinary UNet and with one that takes both.

use crate::fixture::{Fixture, Table, Watch, absolute, identical, list, open, picture, root, threads, word};
use crate::runs::{Image, TOLERANCE, compare_samples, levels, request};
use latentrace::nn::Pass;
use latentrace::nn::tch::Tensor;
use latentrace::pipeline::{Draws, Mask, Model, Start, UnetInput};
use latentrace::schedulers::Class;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// The largest difference of the start: the encoded picture (see `pictures.rs`), or a draw of up to 4 times a sigma of up to
/// 15, rounded to f32 once or twice.
const START: f64 = 2e-5;

/// The largest difference of the encoded masked picture. Its grey part has hardly any variance, by which the norms of the
/// encoder divide: in f32 mean and deviation in diffusers are 1.7e-4 and 2.5e-4 from those in f64, and twenty times
/// nearer for the whole picture. The deviation is multiplied by a draw of up to 4, and both by the scaling factor of 0.18.
const MASKED: f64 = 2e-4;

/// The largest difference of latents with DPM2. Its times in the middle of a step come from a logarithm in f32, and are off
/// by up to 3e-4; the run in f64 that `rounding` is from has the same times.
const BETWEEN_TIMES: f64 = 4e-3;

#[test]
fn runs_with_a_mask_end_where_those_of_diffusers_end() {
    threads(1);
    let fixture = Fixture::read(&root("data/golden/masks/sd1"));
    let ordinary = open(&root("data/golden/networks/sd1"));
    let folder = tempfile::tempdir().unwrap();
    let inpainting = inpainting(&folder.path().join("model"), &fixture);
    assert_eq!(
        [&ordinary, &inpainting].map(|model| model.checkpoint.input()),
        [UnetInput::Sample, UnetInput::Inpainting]
    );
    let from = Arc::new(picture(&root("data/golden/pictures/sd1.png")));
    let mask = Arc::new(Mask::of(&picture(&root("data/golden/masks/mask.png"))));
    assert!(identical(&mask.to_latents(8), fixture.tensor("mask")), "the mask at the size of the latents");
    let mut table = Table::new("sd1 with a mask: largest difference of latents, and of bytes");
    for case in list(&fixture.cases, "cases") {
        let strength = case["strength"].as_f64().unwrap();
        let start = Start::Masked { strength, picture: from.clone(), mask: mask.clone() };
        let model = if case["channels"] == 4 { &ordinary } else { &inpainting };
        compare(model, &fixture, case, &start, &mut table);
    }
    table.finish();
}

/// The checkpoint `sd1` with the first convolution of the fixture, which takes nine channels.
fn inpainting(to: &Path, fixture: &Fixture) -> Model {
    let from = root("data/golden/networks/sd1");
    for part in ["scheduler", "text_encoder", "tokenizer", "unet", "vae"] {
        std::fs::create_dir_all(to.join(part)).unwrap();
        for file in std::fs::read_dir(from.join(part)).unwrap().flatten() {
            std::fs::copy(file.path(), to.join(part).join(file.file_name())).unwrap();
        }
    }
    std::fs::copy(from.join("model_index.json"), to.join("model_index.json")).unwrap();
    let config = to.join("unet/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"in_channels\": 4", "\"in_channels\": 9")).unwrap();
    let weights = to.join("unet/diffusion_pytorch_model.safetensors");
    let mut tensors = Fixture::tensors(&weights);
    tensors.insert("conv_in.weight".into(), fixture.tensor("conv_in.weight").shallow_clone());
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
    Tensor::write_safetensors(&tensors, &weights).unwrap();
    open(to)
}

/// Compares a run: the times, the start's draw, what the UNet takes, the latents at every step, the last latents, the pixels.
fn compare(model: &Model, fixture: &Fixture, case: &Value, start: &Start, table: &mut Table) {
    let (name, seed) = (word(case, "name"), list(case, "seeds")[0].as_u64().unwrap());
    let request = request(model, case, seed);
    let taps = &model.sampler;
    let mut watch = Watch::new([&taps.sample, &taps.start, &taps.masked].map(|tap| tap.name().into()));
    let outcome = model
        .go_on(&request, start, &[], &mut Pass::watched(&mut watch))
        .unwrap_or_else(|error| panic!("{name}: {error}"));

    let times: Vec<f64> = outcome.plan.steps().iter().map(|step| step.level.t).collect();
    let theirs: Vec<f64> = list(case, "timesteps").iter().map(|time| time.as_f64().unwrap()).collect();
    let apart = times.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f64::max);
    assert!(times.len() == theirs.len() && apart < 3e-4, "{name}: times {times:?}, and {theirs:?} in diffusers");

    // An inpainting UNet does not need the picture where the run starts from noise, and then nothing is drawn for it.
    let is_first = case["channels"] == 9 && case["strength"] == 1.0;
    let shape = outcome.latents.size().try_into().unwrap();
    let drawn = Draws::new(seed, 2, shape, latentrace::nn::tch::Device::Cpu).nth(if is_first { 0 } else { 1 });
    assert!(identical(watch.only(taps.start.name()), &drawn.unwrap()), "{name}: other noise");
    if let Some(masked) = fixture.find(&format!("{name}/masked")) {
        table.add("masked pictures", name, absolute(watch.only(taps.masked.name()), masked), MASKED);
    }

    // `rounding` is how far theirs is from the same run in f64; ours may be as far to the other side. It matters with nine
    // channels at strength 1, where a random network at guidance 7.5 turns 1e-5 of rounding into 8e-3.
    let is_between = request.scheduler.class() == Class::Dpm2;
    let least = if is_between { BETWEEN_TIMES } else { TOLERANCE };
    let rest = least.max(3.0 * case["rounding"].as_f64().unwrap());
    let image = Image { fixture, case, index: 0, name, start: START, rest };
    compare_samples(&request, &watch.seen[taps.sample.name()], &image, table);
    table.add(name, "final", absolute(&outcome.latents, fixture.of(case, "final")), rest);
    if let Some(pixels) = case["image"].as_str() {
        table.add("bytes of the images", name, levels(&outcome.picture.pixels, fixture.tensor(pixels)), 1.0);
    }
}
