//! One checkpoint in several forms: a folder, a single file, and back.

mod common;

use common::{differing, error, golden, open};
use latentrace_checkpoints::{Architecture, Choice, Form, Synthetic, UnetInput};
use latentrace_nn::tch::Kind;
use latentrace_nn::{Header, Lazy, Tensors, create_safetensors, diffusers_names};
use std::collections::HashMap;
use std::path::PathBuf;

/// A single file of a fixture, its folder, and the choice that opens it.
fn single(name: &str) -> (tempfile::TempDir, PathBuf, Choice) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whole.safetensors");
    open(&golden(name), &Choice::default()).convert(Form::Single, &file, None).unwrap();
    (folder, file, Choice { config: Some(golden(name)), ..Choice::default() })
}

#[test]
fn a_single_file_has_every_bit_of_the_folder_and_leads_back_to_it() {
    // sd1 has CLIP's names, convolutions as projections and a VAE with the names of 2022; sd2 has OpenCLIP's fused
    // projections and linear layers.
    for name in ["sd1", "sd2"] {
        let (folder, file, choice) = single(name);
        let (whole, own) = (open(&file, &choice), open(&golden(name), &Choice::default()));
        let (tensors, different) = differing(&own, &whole);
        assert_eq!(different, [], "{name}");
        assert!(tensors > 150, "{name}: {tensors}");
        assert!(whole.inspect().unwrap().iter().all(|part| part.is_whole() && part.extra.is_empty()), "{name}");
        let back = folder.path().join("back");
        whole.convert(Form::Folder, &back, None).unwrap();
        let back = open(&back, &Choice::default());
        assert_eq!(differing(&own, &back).1, [], "{name}");
        assert_eq!(back.unet.config, own.unet.config);
        assert_eq!(back.scheduler.read().unwrap().resolved(), own.scheduler.read().unwrap().resolved());
    }
}

#[test]
fn the_names_in_a_single_file_are_the_original_ones() {
    let has = |fixture: &str, names: &[&str]| {
        let (_folder, file, _) = single(fixture);
        let header = Header::read(&file).unwrap();
        for name in names {
            assert!(header.tensors.contains_key(*name), "{fixture}: {name}");
        }
        header
    };
    let header = has(
        "sd1",
        &[
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
            "first_stage_model.decoder.mid.attn_1.q.weight",
            "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight",
        ],
    );
    assert_eq!(header.tensors["first_stage_model.decoder.mid.attn_1.q.weight"].shape[2..], [1, 1]);
    let header = has("sd2", &["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"]);
    let [rows, columns] =
        header.tensors["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"].shape[..]
    else {
        panic!("two axes")
    };
    assert_eq!(rows, 3 * columns);
}

#[test]
fn the_moving_average_is_used_only_where_it_is_asked_for() {
    let (folder, file, choice) = single("sd1");
    let tensors = Tensors::open(&[&file], &diffusers_names).unwrap();
    let mut all: Vec<(String, Lazy)> = Vec::new();
    for name in tensors.names() {
        all.push((name.into(), tensors.lazy(name, None).unwrap()));
        if let Some(below) = name.strip_prefix("model.") {
            let Lazy { kind, shape, make } = tensors.lazy(name, None).unwrap();
            let doubled = Box::new(move || make() * 2.0);
            all.push((format!("model_ema.{}", below.replace('.', "")), Lazy { kind, shape, make: doubled }));
        }
    }
    let both = folder.path().join("both.safetensors");
    create_safetensors(&both, all, HashMap::new()).unwrap();
    let own = open(&both, &choice);
    assert!(own.notes.iter().any(|note| note.contains("--ema uses the moving average")), "{:?}", own.notes);
    assert_eq!(differing(&open(&file, &choice), &own).1, []);
    let averaged = open(&both, &Choice { ema: true, ..choice.clone() });
    let different = differing(&own, &averaged).1;
    let unet = own.inspect().unwrap()[1].tensors;
    assert_eq!(different.len(), unet, "all tensors of the UNet, and no other");
    assert!(different.iter().all(|(name, _)| name.starts_with("unet.")));
    let without = error(&file, &Choice { ema: true, ..choice });
    assert!(without.contains("no moving average (EMA)"), "{without}");
}

#[test]
fn parts_are_replaced_by_those_of_other_checkpoints_and_files() {
    let (folder, file, choice) = single("sd1");
    let other = folder.path().join("other");
    let kind = Kind::Half;
    Synthetic { architecture: Architecture::Sd1, input: UnetInput::Sample, width: 0.05, kind, seed: 3 }
        .write(&other)
        .unwrap();
    let own = open(&golden("sd1"), &Choice::default());
    // The VAE of the single file, as a file by itself with and without its prefix.
    let tensors = Tensors::open(&[&file], &diffusers_names).unwrap();
    for (name, prefix) in [("with.safetensors", "first_stage_model."), ("without.safetensors", "")] {
        let vae = tensors.names().filter_map(|name| Some((name, name.strip_prefix("first_stage_model.")?)));
        let vae = vae.map(|(name, below)| (format!("{prefix}{below}"), tensors.lazy(name, None).unwrap())).collect();
        create_safetensors(&folder.path().join(name), vae, HashMap::new()).unwrap();
        let named = Choice { vae: Some(folder.path().join(name)), ..choice.clone() };
        for place in [&file, &golden("sd1")] {
            assert_eq!(differing(&own, &open(place, &named)).1, [], "{name}");
        }
    }
    // Another whole folder stands for its part.
    let mixed = open(&golden("sd1"), &Choice { vae: Some(other.clone()), ..Choice::default() });
    assert_eq!(mixed.vae.config, open(&other, &Choice::default()).vae.config);
    let not = error(
        &golden("sd1"),
        &Choice {
            vae: Some(file.clone()),
            unet: Some(golden("sd1").join("vae/diffusion_pytorch_model.safetensors")),
            ..Choice::default()
        },
    );
    assert!(not.contains("not a UNet, but a VAE alone"), "{not}");
    let text = error(&golden("sd1"), &Choice { text_encoder: Some(other), ..Choice::default() });
    assert!(text.contains("cross_attention_dim"), "{text}");
}

#[test]
fn what_a_single_file_does_not_say_is_noted_and_what_it_says_is_used() {
    let folder = tempfile::tempdir().unwrap();
    // One tensor is enough to recognise a family; the rest would be missed when it is loaded.
    let made = |columns: i64, about: &[(&str, &str)]| {
        let file = folder.path().join("one.safetensors");
        std::fs::remove_file(&file).ok();
        let name = |name: &str, shape: &[i64]| {
            let wide = shape.to_vec();
            let make = Box::new(move || {
                latentrace_nn::tch::Tensor::zeros(&wide, (Kind::Half, latentrace_nn::tch::Device::Cpu))
            });
            (name.to_owned(), Lazy { kind: Kind::Half, shape: shape.into(), make })
        };
        let text =
            if columns == 1024 { "cond_stage_model.model.ln_final.bias" } else { "cond_stage_model.transformer.x" };
        let tensors = vec![
            name("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", &[320, columns]),
            name("first_stage_model.quant_conv.bias", &[8]),
            name(text, &[1]),
        ];
        let about = about.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        create_safetensors(&file, tensors, about).unwrap();
        open(&file, &Choice { tokenizer: Some(golden("sd1").join("tokenizer")), ..Choice::default() })
    };
    let sd1 = made(768, &[]);
    assert!(
        sd1.notes[0].contains("Stable Diffusion 1.x, 512x512, prediction_type epsilon (assumed"),
        "{:?}",
        sd1.notes
    );
    assert_eq!(sd1.text().padding, None);
    let sd2 = made(1024, &[]);
    assert!(
        sd2.notes[0].contains("Stable Diffusion 2.x, 768x768, prediction_type v_prediction (assumed"),
        "{:?}",
        sd2.notes
    );
    assert_eq!((sd2.text().padding.as_deref(), sd2.unet.config.upcast_attention), (Some("!"), true));
    let base = made(1024, &[("modelspec.prediction_type", "epsilon")]);
    assert!(
        base.notes[0].contains("2.x base, 512x512, prediction_type epsilon (its metadata says so)"),
        "{:?}",
        base.notes
    );
    assert_eq!((base.unet.config.sample_size, base.unet.config.upcast_attention), ([64, 64], false));
}

#[test]
fn a_synthetic_checkpoint_has_the_published_tensors() {
    // A narrow checkpoint has the tensors of the wide one, with other shapes.
    let folder = tempfile::tempdir().unwrap();
    for (architecture, tensors) in [(Architecture::Sd1, [196, 686, 248]), (Architecture::Sd2Base, [372, 686, 248])] {
        let to = folder.path().join(format!("{architecture:?}"));
        Synthetic { architecture, input: UnetInput::Sample, width: 0.05, kind: Kind::BFloat16, seed: 1 }
            .write(&to)
            .unwrap();
        let parts = open(&to, &Choice::default()).inspect().unwrap();
        assert_eq!(parts.iter().map(|part| part.tensors).collect::<Vec<_>>(), tensors);
        assert!(parts.iter().all(|part| part.is_whole() && part.extra.is_empty()));
        assert!(parts.iter().all(|part| part.formats.keys().eq(["bf16"])));
    }
    let again = error(&folder.path().join("Sd3"), &Choice::default());
    assert!(again.contains("did you mean"), "{again}");
    let there =
        Synthetic { architecture: Architecture::Sd1, input: UnetInput::Sample, width: 0.05, kind: Kind::Half, seed: 1 };
    assert!(
        there.write(&folder.path().join("Sd1")).unwrap_err().to_string().contains("there is something here already")
    );
}

#[test]
fn an_inpainting_model_is_recognised_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let synthetic = Synthetic {
        architecture: Architecture::Sd1,
        input: UnetInput::Inpainting,
        width: 1.0 / 20.0,
        kind: Kind::Half,
        seed: 1,
    };
    synthetic.write(&at("own")).unwrap();
    let own = open(&at("own"), &Choice::default());
    assert_eq!((own.input(), own.unet.config.in_channels), (UnetInput::Inpainting, 9));
    let index = std::fs::read_to_string(at("own/model_index.json")).unwrap();
    assert!(index.contains("StableDiffusionInpaintPipeline"), "{index}");

    own.convert(Form::Single, &at("whole.safetensors"), None).unwrap();
    let choice = Choice { config: Some(at("own")), ..Choice::default() };
    let whole = open(&at("whole.safetensors"), &choice);
    assert_eq!((whole.input(), differing(&own, &whole).1), (UnetInput::Inpainting, Vec::new()));
    assert!(whole.notes.iter().any(|note| note.contains("an inpainting model, because its UNet takes 9 channels")));
    whole.convert(Form::Folder, &at("back"), None).unwrap();
    assert_eq!(std::fs::read_to_string(at("back/model_index.json")).unwrap(), index);

    // A UNet that is named by itself has its own number of channels, and the checkpoint's configuration otherwise.
    Synthetic { input: UnetInput::Sample, ..synthetic }.write(&at("plain")).unwrap();
    for unet in ["own/unet/diffusion_pytorch_model.safetensors", "whole.safetensors", "own"] {
        let mixed = open(&at("plain"), &Choice { unet: Some(at(unet)), ..Choice::default() });
        assert_eq!(mixed.input(), UnetInput::Inpainting, "{unet}");
        assert!(mixed.inspect().unwrap()[1].is_whole(), "{unet}");
    }
}

#[test]
fn a_unet_that_takes_something_else_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic =
        Synthetic { architecture: Architecture::Sd1, input: UnetInput::Sample, width: 0.05, kind: Kind::Half, seed: 1 };
    let to = folder.path().join("own");
    synthetic.write(&to).unwrap();
    let path = to.join("unet/config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (channels, expected) in [(8, "an instruct-pix2pix model"), (5, "a depth model"), (7, "is not supported")] {
        std::fs::write(&path, text.replace("\"in_channels\": 4", &format!("\"in_channels\": {channels}"))).unwrap();
        let error = error(&to, &Choice::default());
        assert!(error.contains(&format!("takes {channels} channels")) && error.contains(expected), "{error}");
    }
}
