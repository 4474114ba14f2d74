//! Each network by itself, and some of what is inside.

use crate::fixture::{Fixture, Table, Watch, list, open, relative, root, threads, word};
use latentrace::nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace::nn::{Config, Pass, Weights};
use latentrace::pipeline::Model;
use latentrace::text::{Encoding, End, HiddenState, Projection, TextConfig, TextEncoder, Tokenizer};
use latentrace::unet::{Added, Condition, Unet, UnetConfig};
use latentrace::vae::{Vae, VaeConfig};
use serde_json::Value;
use std::path::Path;

/// Relative to a tensor's largest magnitude, in f32. Both sides run the same kernels, and part where sums are taken in
/// another order: a few units in the last place (6e-8) for each of the layers that a number went through.
const TOLERANCE: f64 = 1e-5;

/// The same for the UNet's way up, which starts at its lowest level; see below. Two kinds of processor, whose kernels take
/// sums in other orders, showed up to 3.2e-6 and 1.04e-5 there.
const UP_TOLERANCE: f64 = 3e-5;

/// The same for the UNet's last layers. At the lowest level of `sd1` a group norm has six numbers, and enlarges what was
/// rounded before: diffusers in f32 is itself up to 6e-5 away from diffusers in f64, and 3e-5 from its own next run.
const UNET_TOLERANCE: f64 = 1e-4;

/// The same in f64, where the last place is 2e-16 and nothing hides behind rounding: an epsilon of 1e-6 where a norm
/// has 1e-5 moves the outputs by more.
const DOUBLE_TOLERANCE: f64 = 1e-11;

#[test]
fn the_networks_of_sd1_compute_what_diffusers_computes() {
    tiny("sd1");
}

#[test]
fn the_networks_of_sd2_compute_what_diffusers_computes() {
    tiny("sd2");
}

fn tiny(name: &str) {
    threads(1);
    let folder = root("data/golden/networks").join(name);
    let model = open(&folder);
    assert_eq!(model.unread, Vec::<String>::new(), "every tensor of the files is read");
    let mut table = Table::new(format!("{name}: largest difference / largest magnitude"));
    compare(&model, &Fixture::read(&folder.join("expected")), &mut table);
    table.finish();
}

/// The checkpoints in the shape of SDXL, of its distilled form and of its refiner.
const XL: [&str; 3] = ["sdxl", "sdxl-turbo", "sdxl-refiner"];

#[test]
fn the_networks_of_sdxl_compute_what_diffusers_computes() {
    threads(1);
    for name in XL {
        let folder = root("data/golden/networks").join(name);
        let fixture = Fixture::read(&folder.join("expected"));
        let parts = Parts::open(&folder, Kind::Float);
        let mut table = Table::new(format!("{name}: largest difference / largest magnitude"));
        no_grad(|| parts.compare(&folder, &fixture, &mut table));
        table.finish();
    }
}

#[test]
fn the_networks_are_those_of_diffusers_in_double_precision() {
    threads(1);
    let mut table = Table::new("f64: largest difference / largest magnitude");
    for name in ["sd1", "sd2"].into_iter().chain(XL) {
        no_grad(|| double(name, &mut table));
    }
    table.finish();
}

/// The networks of a folder.
struct Parts {
    /// The text encoders by name, each with its configuration.
    texts: Vec<(&'static str, TextConfig, TextEncoder)>,
    unet: Unet,
    vae: Vae,
}

impl Parts {
    fn open(folder: &Path, kind: Kind) -> Parts {
        let read = |part: &str, stem: &str| {
            let path = folder.join(part).join("config.json");
            let config = Config::parse(part, &std::fs::read_to_string(&path).unwrap()).unwrap();
            let file = folder.join(part).join(format!("{stem}.safetensors"));
            let weights = Weights::open(part, &[file], kind, Device::Cpu).unwrap();
            // The network does not depend on them: a pipeline applies them to what it gets.
            (config.with("latents_mean", Value::Null).with("latents_std", Value::Null), weights)
        };
        let text = |name: &'static str| {
            let (config, weights) = read(name, "model");
            let config = TextConfig::read(&config).unwrap();
            let encoder = TextEncoder::load(&weights, &config).unwrap();
            (name, config, encoder)
        };
        let names = ["text_encoder", "text_encoder_2"].into_iter().filter(|name| folder.join(name).exists());
        let texts = names.map(text).collect();
        let (config, weights) = read("unet", "diffusion_pytorch_model");
        let unet = Unet::load(&weights, &UnetConfig::read(&config).unwrap()).unwrap();
        let (config, weights) = read("vae", "diffusion_pytorch_model");
        Parts { texts, unet, vae: Vae::load(&weights, &VaeConfig::read(&config).unwrap()).unwrap() }
    }

    /// Compares every case, of checkpoints whose texts are hidden states without the final norm.
    fn compare(&self, folder: &Path, fixture: &Fixture, table: &mut Table) {
        for (name, config, encoder) in &self.texts {
            let tokenizer = folder.join(name.replace("text_encoder", "tokenizer"));
            let tokenizer = Tokenizer::open(&tokenizer, 77).unwrap();
            for case in list(&fixture.cases, name) {
                same_ids(&tokenizer, fixture, case);
                hidden_states((name, config, encoder), fixture, case, table);
            }
        }
        list(&fixture.cases, "unet").iter().for_each(|case| unet(&self.unet, fixture, case, table));
        list(&fixture.cases, "vae").iter().for_each(|case| vae(&self.vae, fixture, case, table));
    }
}

/// What a pipeline of SDXL takes of a text encoder: the last hidden state but one, with the end of the text as transformers finds it.
fn inner(config: &TextConfig) -> Encoding {
    let end = config.projection.as_ref().map_or(End::Largest, Projection::end);
    Encoding { state: HiddenState::LastButOne, skipped: 0, end }
}

/// Compares features and pooled text of an encoder, and what its taps see.
fn hidden_states(
    (name, config, encoder): (&str, &TextConfig, &TextEncoder),
    fixture: &Fixture,
    case: &Value,
    table: &mut Table,
) {
    let ids = fixture.of(case, "ids");
    watched(name, name, fixture, case, table, |pass| {
        let encoded = encoder.encode(pass, ids, inner(config));
        let away = |ours: &Tensor, key: &str| case.get(key).map_or(0.0, |_| relative(ours, fixture.of(case, key)));
        let pooled = encoded.pooled.as_ref().map_or(0.0, |pooled| away(pooled, "text_embeds"));
        ("features and text_embeds".into(), away(&encoded.features, "features").max(pooled))
    });
    if case.get("last_hidden_state").is_some() {
        let last = encoder.forward(&mut Pass::silent(), ids);
        table.add(name, "last_hidden_state", relative(&last, fixture.of(case, "last_hidden_state")), TOLERANCE);
    }
}

/// Compares the outputs of every case in f64.
fn double(name: &str, table: &mut Table) {
    let folder = root("data/golden/networks").join(name);
    let fixture = Fixture::read(&folder.join("expected"));
    let expected = Fixture::tensors(&folder.join("double.safetensors"));
    let parts = Parts::open(&folder, Kind::Double);
    let wide = |case: &Value, key: &str| fixture.of(case, key).to_kind(Kind::Double);
    let pass = &mut Pass::silent();
    let mut check = |case: &Value, key: &str, ours: &Tensor| {
        let Some(tensor) = case[key].as_str() else { return };
        assert_eq!(ours.kind(), Kind::Double, "{tensor}");
        table.add(name, tensor, relative(ours, &expected[tensor]), DOUBLE_TOLERANCE);
    };
    for (part, config, encoder) in &parts.texts {
        for case in list(&fixture.cases, part) {
            let ids = fixture.of(case, "ids");
            if name.starts_with("sd1") || name.starts_with("sd2") {
                check(case, "last_hidden_state", &encoder.forward(pass, ids));
            }
            let encoded = encoder.encode(pass, ids, inner(config));
            check(case, "features", &encoded.features);
            encoded.pooled.iter().for_each(|pooled| check(case, "text_embeds", pooled));
        }
    }
    for case in list(&fixture.cases, "unet") {
        let (sample, text) = (wide(case, "sample"), wide(case, "encoder_hidden_states"));
        let pooled = case.get("text_embeds").map(|_| wide(case, "text_embeds"));
        let added = pooled.as_ref().map(|pooled| Added { pooled, ids: fixture.of(case, "time_ids") });
        check(case, "output", &parts.unet.forward(pass, &sample, &times(case), Condition { text: &text, added }));
    }
    for case in list(&fixture.cases, "vae") {
        if case.get("latent").is_some() {
            check(case, "image", &parts.vae.decode(pass, &wide(case, "latent")));
        } else {
            let posterior = parts.vae.encode(pass, &wide(case, "image"));
            check(case, "mean", &posterior.mean);
            check(case, "logvar", &posterior.log_variance);
        }
    }
}

fn times(case: &Value) -> Tensor {
    Tensor::from_slice(&[case["timestep"].as_f64().unwrap() as f32])
}

/// Compares every case of the three networks.
pub fn compare(model: &Model, fixture: &Fixture, table: &mut Table) {
    no_grad(|| {
        list(&fixture.cases, "text_encoder").iter().for_each(|case| text_encoder(model, fixture, case, table));
        list(&fixture.cases, "unet").iter().for_each(|case| unet(&model.unet, fixture, case, table));
        list(&fixture.cases, "vae").iter().for_each(|case| vae(&model.vae, fixture, case, table));
    });
}

/// Checks that a tokenizer makes the ids of a case from its prompts.
fn same_ids(tokenizer: &Tokenizer, fixture: &Fixture, case: &Value) {
    let ids = fixture.of(case, "ids");
    for (row, prompt) in (0..).zip(list(case, "prompts")) {
        let tokens = tokenizer.encode(prompt.as_str().unwrap()).unwrap();
        assert_eq!(tokens.ids, Vec::<i64>::try_from(ids.get(row)).unwrap(), "{prompt}");
    }
}

fn text_encoder(model: &Model, fixture: &Fixture, case: &Value, table: &mut Table) {
    same_ids(model.tokenizer(), fixture, case);
    let ids = fixture.of(case, "ids");
    let expected = fixture.of(case, "last_hidden_state");
    let silent = model.text().encoder.forward(&mut Pass::silent(), ids);
    table.add("text encoder", "last_hidden_state", relative(&silent, expected), TOLERANCE);
    watched("text encoder", "text_encoder", fixture, case, table, |pass| {
        let output = model.text().encoder.forward(pass, ids);
        ("last_hidden_state, watched".into(), relative(&output, expected))
    });
}

fn unet(unet: &Unet, fixture: &Fixture, case: &Value, table: &mut Table) {
    let (sample, text) = (fixture.of(case, "sample"), fixture.of(case, "encoder_hidden_states"));
    let of_added = |key: &str| case.get(key).map(|_| fixture.of(case, key));
    let added = of_added("text_embeds").zip(of_added("time_ids")).map(|(pooled, ids)| Added { pooled, ids });
    let condition = Condition { text, added };
    let (name, expected) = (word(case, "name"), fixture.of(case, "output"));
    let times = times(case);
    let output = unet.forward(&mut Pass::silent(), sample, &times, condition);
    table.add("unet", name, relative(&output, expected), UNET_TOLERANCE);
    // Watched attention forms its probabilities and goes on from them: another kernel, and the same numbers.
    watched("unet", "unet", fixture, case, table, |pass| {
        let output = unet.forward(pass, sample, &times, condition);
        (format!("{name}, watched"), relative(&output, expected))
    });
}

fn vae(vae: &Vae, fixture: &Fixture, case: &Value, table: &mut Table) {
    let name = word(case, "name");
    let group = if name.starts_with("encode") { "vae encoder" } else { "vae decoder" };
    watched(group, "vae", fixture, case, table, |pass| match case.get("latent") {
        Some(_) => {
            let image = vae.decode(pass, fixture.of(case, "latent"));
            (format!("{name} image"), relative(&image, fixture.of(case, "image")))
        }
        None => {
            let posterior = vae.encode(pass, fixture.of(case, "image"));
            let mean = relative(&posterior.mean, fixture.of(case, "mean"));
            let variance = relative(&posterior.log_variance, fixture.of(case, "logvar"));
            (format!("{name} mean and logvar"), mean.max(variance))
        }
    });
}

/// Runs a network once with every tap of the case watched, and notes its output's error and theirs.
fn watched(
    group: &str,
    part: &str,
    fixture: &Fixture,
    case: &Value,
    table: &mut Table,
    run: impl FnOnce(&mut Pass) -> (String, f64),
) {
    let prefix = format!("{part}/taps/");
    let theirs = list(case, "taps").iter().map(|tap| tap.as_str().unwrap());
    // The features are compared as an output: here they pass the tap of the layer that returns them.
    let theirs: Vec<&str> = theirs.filter(|tap| case["features"].as_str() != Some(tap)).collect();
    let ours = |tap: &str| format!("{part}.{}", our_name(tap.strip_prefix(&prefix).unwrap()));
    let mut watch = Watch::new(theirs.iter().map(|tap| ours(tap)));
    let (what, error) = run(&mut Pass::watched(&mut watch));
    // Rows of their own, so that what is allowed more does not hide behind what is allowed less.
    let row = |module: &str| match part {
        "unet" if module == "conv_norm_out" || module.is_empty() => ("unet, last layers", UNET_TOLERANCE),
        "unet" if module.starts_with("up_blocks.") => ("unet, up", UP_TOLERANCE),
        _ => (group, TOLERANCE),
    };
    let (last, tolerance) = row("");
    table.add(last, &what, error, tolerance);
    for tap in theirs {
        let (expected, module) = (fixture.tensor(tap), tap.strip_prefix(&prefix).unwrap());
        let seen = watch.only(&ours(tap));
        // One time serves the whole batch; diffusers repeats it first.
        let seen = if module.starts_with("time_embedding") || module.starts_with("time_proj") {
            seen.expand_as(expected)
        } else {
            seen.shallow_clone()
        };
        let (group, tolerance) = row(module);
        table.add(group, module, relative(&seen, expected), tolerance);
        if module.ends_with(".probs") {
            let sums = seen.sum_dim_intlist(-1, false, Kind::Double);
            // 77 or so numbers of f32, each off by half a unit in the last place.
            assert!(f64::try_from((sums - 1.0).abs().max()).unwrap() < 1e-5, "{tap}: probabilities add up to one");
        }
    }
}

/// What the output of one of diffusers' modules is called here.
fn our_name(module: &str) -> String {
    match module {
        "time_proj" => "time_embedding.waves".into(), // it has no weights, so no path of its own
        "time_ids" | "add_embedding.text" | "add_embedding.waves" => module.into(), // what enters a module
        "conv_in" | "conv_norm_out" => module.into(), // a layer's output, named like those in a residual block
        // There the attention layer is the residual connection around it too.
        "encoder.mid_block.attentions.0" | "decoder.mid_block.attentions.0" => format!("{module}.sum"),
        _ if module.ends_with(".probs") => module.into(),
        _ => format!("{module}.out"),
    }
}
