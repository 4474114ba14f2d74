//! Single files of SDXL, of its Turbo and of its refiner: written, recognised, read to the last bit, and refused.

mod common;

use common::{copy, differing, error, golden, open};
use latentrace_checkpoints::{Checkpoint, Choice, Form, Ids};
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Header, Lazy, Tensors, create_safetensors, diffusers_names};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const FOLDERS: [&str; 3] = ["sdxl", "sdxl-turbo", "sdxl-refiner"];
const CLIP: &str = "conditioner.embedders.0.transformer.text_model.";
const OPEN_CLIP: &str = "conditioner.embedders.1.model.";
const REFINER: &str = "conditioner.embedders.0.model.";

/// A single file of a fixture, its folder, and the choice that opens it.
fn single(name: &str) -> (tempfile::TempDir, PathBuf, Choice) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whole.safetensors");
    open(&golden(name), &Choice::default()).convert(Form::Single, &file, None).unwrap();
    (folder, file, Choice { config: Some(golden(name)), ..Choice::default() })
}

/// A tensor of zeros.
fn zeros(name: &str, shape: &[i64]) -> (String, Lazy<'static>) {
    let (kind, wide) = (Kind::Half, shape.to_vec());
    let make = Box::new(move || Tensor::zeros(&wide, (kind, Device::Cpu)));
    (name.to_owned(), Lazy { kind, shape: shape.into(), make })
}

/// A file with a few tensors, as many as are needed to recognise it: `encoders` beside a UNet and a VAE.
fn made(at: &Path, encoders: &[&str], about: &[(&str, &str)]) -> PathBuf {
    let file = at.join("made.safetensors");
    fs::remove_file(&file).ok();
    let others = ["model.diffusion_model.label_emb.0.2.bias", "first_stage_model.quant_conv.bias"];
    let mut tensors: Vec<_> = encoders.iter().chain(&others).map(|name| zeros(name, &[8])).collect();
    tensors.push(zeros("model.diffusion_model.input_blocks.0.0.weight", &[8, 4, 3, 3]));
    let about = about.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    create_safetensors(&file, tensors, about).unwrap();
    file
}

fn with_tokenizer() -> Choice {
    Choice { tokenizer: Some(golden("sdxl").join("tokenizer")), ..Choice::default() }
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What two checkpoints must have in common besides their tensors.
fn assert_alike(own: &Checkpoint, other: &Checkpoint, name: &str) {
    let texts = |of: &Checkpoint| -> Vec<_> {
        of.texts.iter().map(|text| (text.encoder.name(), text.encoder.config.clone())).collect()
    };
    assert_eq!(texts(other), texts(own), "{name}");
    assert_eq!((&other.unet.config, &other.vae.config), (&own.unet.config, &own.vae.config), "{name}");
    assert_eq!((other.ids(), other.zeros, other.is_distilled()), (own.ids(), own.zeros, own.is_distilled()), "{name}");
    assert_eq!(other.scheduler.read().unwrap().resolved(), own.scheduler.read().unwrap().resolved(), "{name}");
}

#[test]
fn a_single_file_has_every_bit_of_the_folder_and_leads_back_to_it() {
    for name in FOLDERS {
        let (folder, file, choice) = single(name);
        let (whole, own) = (open(&file, &choice), open(&golden(name), &Choice::default()));
        let (tensors, different) = differing(&own, &whole);
        assert_eq!(different, [], "{name}");
        assert_eq!(tensors, own.inspect().unwrap().iter().map(|part| part.tensors).sum::<usize>(), "{name}");
        assert!(whole.inspect().unwrap().iter().all(|part| part.is_whole() && part.extra.is_empty()), "{name}");
        assert_alike(&own, &whole, name);
        let back = folder.path().join("back");
        whole.convert(Form::Folder, &back, None).unwrap();
        let again = open(&back, &Choice::default());
        assert_eq!(differing(&own, &again), (tensors, Vec::new()), "{name}");
        assert_alike(&own, &again, name);
        for text in &own.texts {
            let tokenizer = text.tokenizer.strip_prefix(golden(name)).unwrap();
            for file in fs::read_dir(&text.tokenizer).unwrap().flatten() {
                let written = fs::read(back.join(tokenizer).join(file.file_name())).unwrap();
                assert_eq!(written, fs::read(file.path()).unwrap(), "{name}: {}", file.path().display());
            }
        }
        let (before, after) =
            (json_of(&golden(name).join("model_index.json")), json_of(&back.join("model_index.json")));
        for key in ["_class_name", "force_zeros_for_empty_prompt", "requires_aesthetics_score", "text_encoder"] {
            assert_eq!(after[key], before[key], "{name}: {key}");
        }
    }
}

#[test]
fn the_names_and_the_order_of_numbers_in_a_single_file_are_the_original_ones() {
    for (name, encoder, names) in [
        ("sdxl", OPEN_CLIP, &["conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.bias"][..]),
        ("sdxl-refiner", REFINER, &[]),
    ] {
        let (_folder, file, _) = single(name);
        let header = Header::read(&file).unwrap();
        let of_encoder = ["positional_embedding", "ln_final.bias", "transformer.resblocks.2.attn.in_proj_bias"];
        let of_encoder = of_encoder.map(|below| format!("{encoder}{below}"));
        let of_unet = ["label_emb.0.0.weight", "label_emb.0.2.bias", "middle_block.1.transformer_blocks.1.norm1.bias"];
        let of_unet = of_unet.map(|below| format!("model.diffusion_model.{below}"));
        for expected in names.iter().map(|name| (*name).to_owned()).chain(of_encoder).chain(of_unet) {
            assert!(header.tensors.contains_key(&expected), "{name}: {expected}");
        }
        // The first level of SDXL attends to nothing.
        assert!(!header.tensors.keys().any(|tensor| tensor.contains("input_blocks.1.1.")), "{name}");
        let known = ["model.diffusion_model.", "first_stage_model.", encoder, CLIP];
        assert!(header.tensors.keys().all(|tensor| known.iter().any(|prefix| tensor.starts_with(prefix))), "{name}");
        let tensors = Tensors::open(&[&file], &diffusers_names).unwrap();
        let stored = tensors.get(&format!("{encoder}text_projection")).unwrap();
        let own = golden(name).join("text_encoder_2/model.safetensors");
        let own = Tensors::open(&[own], &diffusers_names).unwrap().get("text_projection.weight").unwrap();
        assert_eq!((own.size(), stored.size()), (vec![20, 40], vec![40, 20]), "{name}");
        assert!(stored.equal(&own.transpose(0, 1)), "{name}");
    }
}

#[test]
fn other_number_formats_are_those_of_every_part() {
    let folder = tempfile::tempdir().unwrap();
    let (file, own) = (folder.path().join("half.safetensors"), open(&golden("sdxl"), &Choice::default()));
    own.convert(Form::Single, &file, Some(Kind::Half)).unwrap();
    let parts = open(&file, &single("sdxl").2).inspect().unwrap();
    assert_eq!(parts.len(), 4);
    assert!(parts.iter().all(|part| part.is_whole() && part.formats.keys().eq(["f16"])), "{parts:?}");
}

#[test]
fn a_file_is_recognised_by_its_text_encoders_and_what_it_does_not_say_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let base = open(
        &made(folder.path(), &[&format!("{CLIP}x"), &format!("{OPEN_CLIP}ln_final.bias")], &[]),
        &with_tokenizer(),
    );
    let names: Vec<&str> = base.texts.iter().map(|text| text.encoder.name()).collect();
    assert_eq!(names, ["text_encoder", "text_encoder_2"]);
    assert_eq!((base.text_features(), base.pooled(), base.ids()), (2048, Some(1280), Some(Ids::Target)));
    assert_eq!((base.zeros, base.is_distilled(), base.unet.config.sample_size), (true, false, [128, 128]));
    assert_eq!(base.notes.len(), 2, "{:?}", base.notes);
    assert!(
        base.notes[0].contains("Stable Diffusion XL, 1024x1024, prediction_type epsilon (assumed"),
        "{:?}",
        base.notes
    );
    assert!(base.notes[1].contains("the base of Stable Diffusion XL is assumed"), "{:?}", base.notes);
    assert!(base.notes[1].ends_with("whether it is Turbo\nhint: --family sdxl-turbo"), "{:?}", base.notes);
    let files = base.files().unwrap();
    assert!(!files.iter().any(|file| file.ends_with("model_index.json")), "{files:?}");

    copy(&golden("sdxl-refiner/tokenizer_2"), &folder.path().join("tokenizer_2"));
    let about = [("modelspec.prediction_type", "v")];
    let refiner = open(&made(folder.path(), &[&format!("{REFINER}ln_final.bias")], &about), &Choice::default());
    let names: Vec<&str> = refiner.texts.iter().map(|text| text.encoder.name()).collect();
    assert_eq!(names, ["text_encoder_2"]);
    assert_eq!((refiner.text_features(), refiner.pooled(), refiner.ids()), (1280, Some(1280), Some(Ids::Score)));
    assert_eq!((refiner.zeros, refiner.is_distilled()), (false, false));
    let expected = "Stable Diffusion XL refiner, 1024x1024, prediction_type v_prediction (its metadata says so)";
    assert!(refiner.notes.len() == 1 && refiner.notes[0].contains(expected), "{:?}", refiner.notes);
}

#[test]
fn the_second_tokenizer_is_one_of_its_own_or_the_first_with_another_padding() {
    let (base, refiner) =
        ([format!("{CLIP}x"), format!("{OPEN_CLIP}ln_final.bias")], format!("{REFINER}ln_final.bias"));
    let base: Vec<&str> = base.iter().map(String::as_str).collect();
    let tokenizers = |file: &Path, choice: &Choice| -> Vec<(PathBuf, Option<String>)> {
        open(file, choice).texts.into_iter().map(|text| (text.tokenizer, text.padding)).collect()
    };
    let (padded, ended) = (|| Some("!".to_owned()), || Some("<|endoftext|>".to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let none = error(&made(folder.path(), &base, &[]), &Choice::default());
    assert!(none.contains("there is no folder tokenizer beside it\nhint: --tokenizer openai/"), "{none}");
    let none = error(&made(folder.path(), &[&refiner], &[]), &Choice::default());
    assert!(none.contains("no folder tokenizer_2 or tokenizer beside it\nhint: --tokenizer-2 openai/"), "{none}");
    // The first alone, named or beside the file.
    let named = golden("sdxl").join("tokenizer");
    let found = tokenizers(&made(folder.path(), &base, &[]), &with_tokenizer());
    assert_eq!(found, [(named.clone(), ended()), (named, padded())]);
    copy(&golden("sdxl/tokenizer"), &at("tokenizer"));
    let found = tokenizers(&made(folder.path(), &base, &[]), &Choice::default());
    assert_eq!(found, [(at("tokenizer"), ended()), (at("tokenizer"), padded())]);
    let found = tokenizers(&made(folder.path(), &[&refiner], &[]), &Choice::default());
    assert_eq!(found, [(at("tokenizer"), padded())]);
    // Both.
    copy(&golden("sdxl/tokenizer_2"), &at("tokenizer_2"));
    let found = tokenizers(&made(folder.path(), &base, &[]), &Choice::default());
    assert_eq!(found, [(at("tokenizer"), ended()), (at("tokenizer_2"), padded())]);
    let found = tokenizers(&made(folder.path(), &[&refiner], &[]), &Choice::default());
    assert_eq!(found, [(at("tokenizer_2"), padded())]);
    // A folder with configuration files comes first, and says itself how to pad.
    let (_other, file, choice) = single("sdxl");
    let found = tokenizers(&file, &choice);
    assert_eq!(found, [(golden("sdxl/tokenizer"), None), (golden("sdxl/tokenizer_2"), None)]);
}

#[test]
fn a_tokenizer_that_stands_for_the_second_is_written_with_its_padding() {
    let (folder, file, _) = single("sdxl");
    let config = folder.path().join("config");
    copy(&golden("sdxl"), &config);
    fs::remove_dir_all(config.join("tokenizer_2")).unwrap();
    let back = folder.path().join("back");
    open(&file, &Choice { config: Some(config), ..Choice::default() }).convert(Form::Folder, &back, None).unwrap();
    let padding = |of: &str| json_of(&back.join(of).join("special_tokens_map.json"))["pad_token"].clone();
    assert_eq!(padding("tokenizer_2"), "!");
    assert_ne!(padding("tokenizer"), "!");
}

#[test]
fn zeros_are_those_of_the_folder_with_configuration_files() {
    let (folder, file, _) = single("sdxl");
    let config = folder.path().join("config");
    copy(&golden("sdxl"), &config);
    let index = config.join("model_index.json");
    let text = fs::read_to_string(&index).unwrap();
    let key = "\"force_zeros_for_empty_prompt\": ";
    assert!(text.contains(&format!("{key}true")));
    let choice = Choice { config: Some(config), ..Choice::default() };
    for zeros in [true, false] {
        fs::write(&index, text.replace(&format!("{key}true"), &format!("{key}{zeros}"))).unwrap();
        let own = open(&file, &choice);
        assert_eq!(own.zeros, zeros);
        assert!(own.files().unwrap().contains(&index), "the output depends on it");
    }
    fs::write(&index, text.replace(&format!("{key}true"), &format!("{key}7"))).unwrap();
    assert!(error(&file, &choice).contains("force_zeros_for_empty_prompt: expected true or false"));
    fs::remove_file(&index).unwrap();
    assert!(open(&file, &choice).zeros);
}

#[test]
fn a_configuration_that_does_not_name_the_class_of_the_second_encoder_is_read_as_one_with_a_projection() {
    let (folder, file, _) = single("sdxl");
    let config = folder.path().join("config");
    copy(&golden("sdxl"), &config);
    let path = config.join("text_encoder_2/config.json");
    let mut json = json_of(&path);
    json.as_object_mut().unwrap().remove("architectures").unwrap();
    fs::write(&path, json.to_string()).unwrap();
    let own = open(&file, &Choice { config: Some(config), ..Choice::default() });
    assert_eq!(own.pooled(), Some(20));
    assert!(own.inspect().unwrap().iter().all(|part| part.is_whole() && part.extra.is_empty()));
}

#[test]
fn parts_of_a_single_file_stand_for_those_of_a_folder() {
    let (_folder, file, choice) = single("sdxl");
    let own = open(&golden("sdxl"), &Choice::default());
    for named in [
        Choice { unet: Some(file.clone()), ..Choice::default() },
        Choice { vae: Some(file.clone()), ..Choice::default() },
    ] {
        assert_eq!(differing(&own, &open(&golden("sdxl"), &named)).1, [], "{named:?}");
    }
    let named = Choice { text_encoder: Some(golden("sdxl")), unet: Some(golden("sdxl")), ..choice };
    assert_eq!(differing(&own, &open(&file, &named)).1, []);
}

#[test]
fn what_the_file_lacks_is_told_by_its_name() {
    let (folder, file, choice) = single("sdxl");
    let tensors = Tensors::open(&[&file], &diffusers_names).unwrap();
    let without = |part: &str| {
        let path = folder.path().join("part.safetensors");
        fs::remove_file(&path).ok();
        let kept = tensors.names().filter(|name| !name.contains(part));
        let kept = kept.map(|name| (name.to_owned(), tensors.lazy(name, None).unwrap())).collect();
        create_safetensors(&path, kept, HashMap::new()).unwrap();
        path
    };
    let second = &open(&without("text_projection"), &choice).inspect().unwrap()[1];
    assert_eq!(
        (second.part, second.missing.as_slice()),
        ("text_encoder_2", &["text_projection.weight".to_owned()][..])
    );
    let first = error(&without("conditioner.embedders.0."), &choice);
    assert!(
        first.ends_with("no first text encoder in this file\nhint: name a text encoder with --text-encoder"),
        "{first}"
    );
    let replaced = Choice { text_encoder: Some(golden("sdxl")), ..choice.clone() };
    let own = open(&golden("sdxl"), &Choice::default());
    assert_eq!(differing(&own, &open(&without("conditioner.embedders.0."), &replaced)).1, []);
    for (part, expected) in [
        (
            "diffusion_model.",
            "a part of a Stable Diffusion XL model: a whole one has a UNet and OpenCLIP's text encoder",
        ),
        (
            "conditioner.embedders.1.",
            "a part of a Stable Diffusion XL model: a whole one has a UNet and OpenCLIP's text",
        ),
        ("conditioner.", "a UNet alone, without the VAE and the text encoder: name it with --unet"),
        ("first_stage_model.", "no VAE in this file\nhint: name a VAE with --vae"),
    ] {
        let error = error(&without(part), &choice);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn models_that_only_look_like_sdxl_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let encoders = [format!("{CLIP}x"), format!("{OPEN_CLIP}ln_final.bias")];
    let refused = |other: &str| {
        let names: Vec<&str> = encoders.iter().map(String::as_str).chain([other]).collect();
        error(&made(folder.path(), &names, &[]), &with_tokenizer())
    };
    for name in ["edm_mean", "edm_vpred.sigma_max"] {
        let error = refused(name);
        assert!(
            error.contains("a model with the noise levels of EDM") && error.contains("is not supported"),
            "{error}"
        );
    }
    let other = refused("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight");
    assert!(
        other.contains("encoders as Stable Diffusion XL stores them, and with another UNet, is not supported"),
        "{other}"
    );
}

#[test]
fn the_refiner_has_no_first_text_encoder_to_replace() {
    let (_folder, file, choice) = single("sdxl-refiner");
    for (choice, own) in [
        (Choice { text_encoder: Some(golden("sd1")), ..choice.clone() }, "text_encoder_2"),
        (Choice { tokenizer: Some(golden("sd1")), ..choice.clone() }, "tokenizer_2"),
    ] {
        let error = error(&file, &choice);
        let expected = format!("that another could replace\nhint: this checkpoint has {own} alone");
        assert!(error.contains(&expected), "{error}");
    }
}
