//! LoRAs against diffusers; `data/golden/lora/make.py` made the files and the numbers.

use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::nn::tch::{self, Kind, Tensor};
use latentrace_pipeline::schedulers::Reading;
use latentrace_pipeline::{Checkpoint, Choice, Device, Dtype, Lora, Model, Options, Scale, Start, TextOptions, Window};
use latentrace_unet::{Added, Condition};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const PROMPT: &str = "a large red circle on the left, white background";
const NEGATIVE: &str = "blue square, bad drawing";

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(path)
}

/// A LoRA of the fixtures, as the command line writes it.
fn lora(text: &str) -> Lora {
    let lora = Lora::from(text.to_string());
    Lora { file: golden("lora").join(&lora.file), ..lora }
}

fn load_as(loras: Vec<Lora>, dtype: Dtype) -> Result<Model, String> {
    tch::set_num_threads(1);
    let choice = Choice { loras, ..Choice::default() };
    let checkpoint = Checkpoint::open(&golden("networks/sd1"), &choice).map_err(|error| error.to_string())?;
    let options = Options { device: Device::Cpu, dtype, ..Options::default() };
    Model::load(checkpoint, options).map_err(|error| error.to_string())
}

fn load(loras: Vec<Lora>) -> Model {
    load_as(loras, Dtype::F32).unwrap()
}

fn expected() -> HashMap<String, Tensor> {
    Tensor::read_safetensors(golden("lora/expected.safetensors")).unwrap().into_iter().collect()
}

fn unet(model: &Model, known: &HashMap<String, Tensor>) -> Tensor {
    let time = Tensor::from_slice(&[500f32]);
    tch::no_grad(|| model.unet.forward(&mut Pass::silent(), &known["sample"], &time, &known["context"]))
}

/// The largest difference, relative to the largest number.
fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    ((ours - theirs).abs().max() / theirs.abs().max()).double_value(&[])
}

#[test]
fn every_kind_of_names_gives_what_diffusers_gives() {
    let known = expected();
    let text = std::fs::read_to_string(golden("lora/expected.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let loras: Vec<Lora> =
            case["loras"].as_array().unwrap().iter().map(|text| lora(text.as_str().unwrap())).collect();
        let model = load(loras);
        let text = model.encode_as(PROMPT, TextOptions::default(), &mut Pass::silent()).unwrap().1;
        let of_text = apart(&text, &known[&format!("{name}/text")]);
        let of_unet = apart(&unet(&model, &known), &known[&format!("{name}/unet")]);
        // diffusers in f32, with the LoRA merged or not, is as far as `rounding` from what is expected.
        let rounding = case["rounding"].as_f64().unwrap();
        assert!(of_text < 3e-6 && of_unet < 4.0 * rounding, "{name}: {of_text:.1e}, {of_unet:.1e} of {rounding:.1e}");
        // The LoRA does something: the tolerance is not met without it.
        let plain = apart(&known["plain/unet"], &known[&format!("{name}/unet")]);
        assert!(name == "plain" || plain > 0.1, "{name}: {plain:.1e}");
    }
}

/// The tiny model of SDXL with LoRAs of `data/golden/changes`.
fn sdxl(loras: Vec<Lora>) -> Model {
    tch::set_num_threads(1);
    let loras = loras.into_iter().map(|lora| Lora { file: golden("changes").join(&lora.file), ..lora }).collect();
    let checkpoint = Checkpoint::open(&golden("networks/sdxl"), &Choice { loras, ..Choice::default() }).unwrap();
    Model::load(checkpoint, Options { device: Device::Cpu, ..Options::default() }).unwrap()
}

/// `data/golden/changes/make.py` made the files and the numbers.
#[test]
fn a_lora_of_sdxl_changes_both_text_encoders_and_the_unet_as_in_diffusers() {
    let known = Tensor::read_safetensors(golden("changes/expected.safetensors")).unwrap();
    let known: HashMap<String, Tensor> = known.into_iter().collect();
    let text = std::fs::read_to_string(golden("changes/expected.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = cases["cases"].as_array().unwrap().iter().filter_map(|case| Some((case, case["loras"].as_array()?)));
    let cases: Vec<_> = cases.collect();
    assert_eq!(cases.len(), 4);
    for (case, loras) in cases {
        let name = case["name"].as_str().unwrap();
        let model = sdxl(loras.iter().map(|text| Lora::from(text.as_str().unwrap().to_string())).collect());
        let prepared = model.prepare(model.request(case["prompt"].as_str().unwrap(), 1), Start::Noise).unwrap();
        let text = model.features(&prepared, &mut Pass::silent()).unwrap().prompt;
        let added = Added { pooled: &known["text_embeds"], ids: &known["time_ids"] };
        let condition = Condition { text: &known["context"], added: Some(added) };
        let time = Tensor::from_slice(&[500f32]);
        let unet = tch::no_grad(|| model.unet.forward(&mut Pass::silent(), &known["sample"], &time, condition));
        let apart = |ours: &Tensor, what: &str| apart(ours, &known[&format!("{name}/{what}")]);
        let [of_text, of_pooled] = [apart(&text.features, "features"), apart(&text.pooled.unwrap(), "pooled")];
        let (of_unet, rounding) = (apart(&unet, "unet"), case["rounding"].as_f64().unwrap());
        assert!(of_text < 3e-6 && of_pooled < 3e-6, "{name}: {of_text:.1e}, {of_pooled:.1e}");
        assert!(of_unet < 4.0 * rounding, "{name}: {of_unet:.1e} of {rounding:.1e}");
        // The LoRA does something to each: the tolerances are not met without it.
        for what in ["features", "pooled", "unet"] {
            let plain = apart(&known[&format!("plain/{what}")], what);
            assert!(name == "plain" || plain > 0.05, "{name}, {what}: {plain:.1e}");
        }
    }
}

/// The final latents of a run as `make.py` makes it.
fn run(model: &Model) -> Tensor {
    let scheduler = model.scheduler_in_pipeline.with_class("DDIMScheduler").unwrap();
    let mut request = model.request(PROMPT, 193);
    request.negative = NEGATIVE.into();
    request.steps = 6;
    request.scheduler = scheduler;
    assert_eq!(request.reading, Reading::Diffusers);
    model.denoise(&request, &Start::Noise, &[], &mut Pass::silent()).unwrap()
}

fn window(weight: f64, sigma: [f64; 2]) -> Scale {
    Scale::Window(Window { weight, sigma, outside: 0.0 })
}

fn kohya(scale: Scale) -> Lora {
    Lora { scale, ..lora("kohya.safetensors") }
}

#[test]
fn a_scale_over_sigma_gives_what_diffusers_gives_with_another_scale_before_each_call() {
    let known = expected();
    // Both compute in f32, and the rounding of the UNet's output is 1e-5 (see `rounding`); six steps at guidance 7.5
    // multiply it by a few.
    for (name, scale) in [("run constant/final", Scale::Constant(0.7)), ("run window/final", window(0.9, [0.5, 5.0]))] {
        let found = apart(&run(&load(vec![kohya(scale)])), &known[name]);
        assert!(found < 5e-5, "{name}: {found:.1e}");
    }
    let between = apart(&known["run constant/final"], &known["run window/final"]);
    assert!(between > 1e-2, "{between:.1e}");
}

#[test]
fn merged_and_beside_are_the_same_up_to_rounding_and_off_is_nothing() {
    let plain = run(&load(Vec::new()));
    let merged = run(&load(vec![kohya(Scale::Constant(0.7))]));
    let beside = run(&load(vec![kohya(window(0.7, [0.0, 1e9]))]));
    let found = apart(&beside, &merged);
    assert!(found > 0.0 && found < 2e-5, "{found:.1e}");
    let off = Lora { text_encoder: Some(0.0), ..kohya(window(0.7, [1e8, 1e9])) };
    assert!(run(&load(vec![off])).equal(&plain), "outside its window a LoRA changes no bit");
    assert!(run(&load(vec![kohya(Scale::Constant(0.0))])).equal(&plain), "neither does one at the scale 0");
    let two = load(vec![kohya(Scale::Constant(0.3)), kohya(Scale::Constant(0.4))]);
    let found = apart(&run(&two), &merged);
    assert!(found < 2e-5, "the scales of a LoRA that is given twice add: {found:.1e}");
}

#[test]
fn half_formats_round_the_changed_weight_once() {
    // The change is rounded with the weight, so a changed network is as far from its f32 form as an unchanged one.
    let known = expected();
    let at = |name: &str| known[name].to_kind(Kind::BFloat16);
    let error = |loras: &[&str]| {
        let loras = || loras.iter().map(|text| lora(text)).collect();
        let (wide, half) = (load(loras()), load_as(loras(), Dtype::Bf16).unwrap());
        let time = Tensor::from_slice(&[500f32]);
        let half = tch::no_grad(|| half.unet.forward(&mut Pass::silent(), &at("sample"), &time, &at("context")));
        apart(&half.to_kind(Kind::Float), &unet(&wide, &known))
    };
    let (plain, changed) = (error(&[]), error(&["kohya.safetensors:0.7"]));
    assert!(changed < 2.0 * plain, "{plain:.1e}, {changed:.1e}");
}

#[test]
fn a_run_says_what_was_changed() {
    let notes =
        |lora: Lora| load(vec![lora]).checkpoint.notes.join("\n").replace(&golden("lora").display().to_string(), "F");
    assert_eq!(
        notes(lora("kohya.safetensors:0.7")),
        "F/kohya.safetensors: a LoRA of rank 2 changes 258 layers of the UNet and 12 of the text encoder, at the scale 0.7"
    );
    assert!(
        notes(kohya(window(0.9, [0.5, 5.0]))).ends_with(
            "at the scale 0.9 for sigma 0.5 to 5; those of the text encoder, which has no noise level, at 0.9"
        )
    );
    assert!(notes(lora("peft.safetensors")).contains("of ranks 2 to 3 changes 128 layers of the UNet, at"));
}
