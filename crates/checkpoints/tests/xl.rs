//! Folders of SDXL, of its Turbo and of its refiner: opened, compared, written again, and refused where their parts do not fit.

mod common;

use common::{copy, differing, error, golden, open};
use latentrace_checkpoints::{Checkpoint, Choice, Difference, Family, Form, Ids};
use latentrace_nn::tch::Kind;
use latentrace_text::HiddenState;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const FOLDERS: [&str; 3] = ["sdxl", "sdxl-turbo", "sdxl-refiner"];

/// A copy of a golden folder.
fn copied(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("model");
    copy(&golden(name), &to);
    (folder, to)
}

/// Changes a JSON file.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// The error of a golden folder with another value in one of its files.
fn refused(name: &str, file: &str, key: &str, value: Value) -> String {
    let (_folder, model) = copied(name);
    edit(&model.join(file), |json| json[key] = value);
    error(&model, &Choice::default())
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn each_folder_is_opened_with_its_text_encoders_and_what_its_unet_takes() {
    let (first, second) = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"));
    for (name, texts, ids, zeros, is_distilled) in [
        ("sdxl", vec![first, second], Ids::Target, true, false),
        ("sdxl-turbo", vec![first, second], Ids::Target, true, true),
        ("sdxl-refiner", vec![second], Ids::Score, false, false),
    ] {
        let checkpoint = open(&golden(name), &Choice::default());
        let found: Vec<(&str, PathBuf)> =
            checkpoint.texts.iter().map(|text| (text.encoder.name(), text.tokenizer.clone())).collect();
        let expected: Vec<_> = texts.into_iter().map(|(part, folder)| (part, golden(name).join(folder))).collect();
        assert_eq!(found, expected, "{name}");
        let width = json_of(&golden(name).join("text_encoder_2/config.json"))["projection_dim"].as_i64();
        assert_eq!(checkpoint.pooled(), width, "{name}");
        assert_eq!(checkpoint.state(), HiddenState::LastButOne, "{name}");
        assert_eq!((checkpoint.ids(), checkpoint.zeros, checkpoint.is_distilled()), (Some(ids), zeros, is_distilled));
        let parts = checkpoint.inspect().unwrap();
        assert!(parts.iter().all(|part| part.is_whole() && part.extra.is_empty()), "{name}: {parts:?}");
        let names: Vec<&str> = parts.iter().map(|part| part.part).collect();
        assert_eq!(names, found.iter().map(|(part, _)| *part).chain(["unet", "vae"]).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_checkpoint_of_stable_diffusion_takes_nothing_of_this() {
    for name in ["sd1", "sd2"] {
        let checkpoint = open(&golden(name), &Choice::default());
        assert_eq!((checkpoint.pooled(), checkpoint.ids(), checkpoint.zeros), (None, None, false));
        assert_eq!((checkpoint.state(), checkpoint.is_distilled()), (HiddenState::Last, false));
        let files = checkpoint.files().unwrap();
        assert!(!files.iter().any(|file| file.ends_with("model_index.json")), "{files:?}");
    }
}

#[test]
fn the_files_are_those_of_all_parts_and_each_is_there_once() {
    for name in FOLDERS {
        let checkpoint = open(&golden(name), &Choice::default());
        let files = checkpoint.files().unwrap();
        let mut once = files.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), files.len(), "{name}: {files:?}");
        assert!(files.contains(&golden(name).join("model_index.json")), "{name}");
        for text in &checkpoint.texts {
            let folder = golden(name).join(text.encoder.name());
            for file in
                [folder.join("config.json"), folder.join("model.safetensors"), text.tokenizer.join("vocab.json")]
            {
                assert!(files.contains(&file), "{name}: {}", file.display());
            }
        }
    }
    // One folder for both tokenizers, and a scheduler whose class model_index.json decides.
    let (_folder, model) = copied("sdxl");
    edit(&model.join("model_index.json"), |json| json["scheduler"][1] = "DDIMScheduler".into());
    let choice = Choice { tokenizer: Some(model.join("tokenizer_2")), ..Choice::default() };
    let files = Checkpoint::open(&model, &choice).unwrap().files().unwrap();
    let count = |name: &str| files.iter().filter(|file| file.ends_with(name)).count();
    assert_eq!((count("vocab.json"), count("model_index.json")), (1, 1), "{files:?}");
}

#[test]
fn zeros_are_what_the_index_says_and_true_where_it_does_not() {
    let key = "force_zeros_for_empty_prompt";
    let (_folder, model) = copied("sdxl");
    let index = model.join("model_index.json");
    for (value, zeros) in [(json!(false), false), (json!(true), true), (Value::Null, false)] {
        edit(&index, |json| json[key] = value);
        assert_eq!(open(&model, &Choice::default()).zeros, zeros);
    }
    edit(&index, |json| drop(json.as_object_mut().unwrap().remove(key)));
    assert!(open(&model, &Choice::default()).zeros);
    let error = refused("sdxl", "model_index.json", key, json!("yes"));
    assert!(error.contains("model_index.json: force_zeros_for_empty_prompt: expected true or false"), "{error}");
}

#[test]
fn turbo_is_known_by_all_that_it_has_and_by_no_less() {
    for (file, key, value) in [
        ("scheduler/scheduler_config.json", "timestep_spacing", json!("leading")),
        ("model_index.json", "scheduler", json!(["diffusers", "EulerDiscreteScheduler"])),
        ("unet/config.json", "sample_size", json!(128)),
    ] {
        let (_folder, model) = copied("sdxl-turbo");
        edit(&model.join(file), |json| json[key] = value);
        assert!(!open(&model, &Choice::default()).is_distilled(), "{key}");
    }
}

#[test]
fn a_folder_that_is_written_again_has_every_bit() {
    for name in FOLDERS {
        let (folder, own) = (tempfile::tempdir().unwrap(), open(&golden(name), &Choice::default()));
        let to = folder.path().join("back");
        own.convert(Form::Folder, &to, None).unwrap();
        let back = open(&to, &Choice::default());
        let (tensors, different) = differing(&own, &back);
        assert_eq!(different, [], "{name}");
        assert_eq!(tensors, own.inspect().unwrap().iter().map(|part| part.tensors).sum::<usize>(), "{name}");
        assert!(back.inspect().unwrap().iter().all(|part| part.is_whole() && part.extra.is_empty()), "{name}");
        assert_eq!((&back.unet.config, &back.vae.config), (&own.unet.config, &own.vae.config));
        let configs = |of: &Checkpoint| of.texts.iter().map(|text| text.encoder.config.clone()).collect::<Vec<_>>();
        assert_eq!(configs(&back), configs(&own), "{name}");
        assert_eq!((back.ids(), back.zeros, back.is_distilled()), (own.ids(), own.zeros, own.is_distilled()));
        for text in &own.texts {
            let tokenizer = text.tokenizer.strip_prefix(golden(name)).unwrap();
            for file in fs::read_dir(&text.tokenizer).unwrap().flatten() {
                let written = fs::read(to.join(tokenizer).join(file.file_name())).unwrap();
                assert_eq!(written, fs::read(file.path()).unwrap(), "{name}: {}", file.path().display());
            }
        }
        // Every entry of the index that diffusers reads is as it was.
        let (before, after) = (json_of(&golden(name).join("model_index.json")), json_of(&to.join("model_index.json")));
        for key in ["_class_name", "force_zeros_for_empty_prompt", "requires_aesthetics_score", "scheduler", "unet"] {
            assert_eq!(after[key], before[key], "{name}: {key}");
        }
        for key in ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"] {
            assert_eq!(after[key], before[key], "{name}: {key}");
            assert_eq!(to.join(key).is_dir(), golden(name).join(key).is_dir(), "{name}: {key}");
        }
    }
}

#[test]
fn a_text_encoder_that_one_of_two_has_is_a_difference() {
    let (base, refiner) =
        (open(&golden("sdxl"), &Choice::default()), open(&golden("sdxl-refiner"), &Choice::default()));
    let only = |name: &str, found: &[(String, Difference)], which: Difference| {
        let of_part: Vec<_> = found.iter().filter(|(tensor, _)| tensor.starts_with(name)).collect();
        assert!(!of_part.is_empty() && of_part.iter().all(|(_, difference)| *difference == which), "{of_part:?}");
    };
    only("text_encoder.", &differing(&base, &refiner).1, Difference::OnlyFirst);
    only("text_encoder.", &differing(&refiner, &base).1, Difference::OnlySecond);
}

#[test]
fn other_number_formats_are_written_for_both_text_encoders() {
    let (folder, own) = (tempfile::tempdir().unwrap(), open(&golden("sdxl"), &Choice::default()));
    let to = folder.path().join("half");
    own.convert(Form::Folder, &to, Some(Kind::Half)).unwrap();
    assert!(open(&to, &Choice::default()).inspect().unwrap().iter().all(|part| part.formats.keys().eq(["f16"])));
}

#[test]
fn a_second_text_encoder_without_its_tokenizer_is_an_error() {
    for name in FOLDERS {
        let (_folder, model) = copied(name);
        fs::remove_dir_all(model.join("tokenizer_2")).unwrap();
        let error = error(&model, &Choice::default());
        assert!(error.contains("no tokenizer_2, the tokenizer of the second text encoder\nhint: "), "{error}");
    }
    for value in [Value::Null, json!([null, null])] {
        let error = refused("sdxl", "model_index.json", "tokenizer_2", value);
        assert!(error.contains("model_index.json: tokenizer_2: expected [library, class], "), "{error}");
    }
    let missing = refused("sdxl", "model_index.json", "text_encoder_2", Value::Null);
    assert!(missing.contains("text_encoder_2: expected [library, class], there is none\nhint: "), "{missing}");
}

#[test]
fn text_encoders_of_another_width_are_an_error_that_names_the_widths() {
    let (_folder, model) = copied("sdxl");
    let of = |part: &str| json_of(&model.join(part))["hidden_size"].as_i64().unwrap();
    let (first, second) = (of("text_encoder/config.json"), of("text_encoder_2/config.json"));
    edit(&model.join("text_encoder_2/config.json"), |json| json["hidden_size"] = (second * 2).into());
    let found = error(&model, &Choice::default());
    let whole = format!("the UNet takes {} text features (cross_attention_dim)", first + second);
    assert!(found.contains(&whole), "{found}");
    assert!(found.contains(&format!("the text encoders return {first} + {} (hidden_size)", second * 2)), "{found}");
    assert!(found.contains("hint: 768 + 1280 are those of SDXL"), "{found}");
    // The base's UNet with the refiner's only text encoder, and the reverse.
    let unet = |name: &str| Choice { unet: Some(golden(name)), ..Choice::default() };
    let alone = error(&golden("sdxl-refiner"), &unet("sdxl"));
    assert!(alone.contains(&format!("but the text encoder returns {second} (hidden_size)")), "{alone}");
    let both = error(&golden("sdxl"), &unet("sdxl-refiner"));
    assert!(both.contains(&format!("return {first} + {second}")), "{both}");
}

#[test]
fn a_unet_that_takes_a_pooled_text_needs_a_projection() {
    let missing = refused("sdxl", "text_encoder_2/config.json", "architectures", json!(["CLIPTextModel"]));
    assert!(missing.contains("text_encoder_2 has no projection\nhint: the architectures"), "{missing}");
    // Where the configuration does not name its class, the index does.
    let (_folder, model) = copied("sdxl");
    edit(&model.join("text_encoder_2/config.json"), |json| json["architectures"] = Value::Null);
    assert_eq!(open(&model, &Choice::default()).pooled(), open(&golden("sdxl"), &Choice::default()).pooled());
}

#[test]
fn a_count_of_numbers_that_no_pipeline_gives_is_an_error() {
    let config = json_of(&golden("sdxl/unet/config.json"));
    let (input, waves) = (
        config["projection_class_embeddings_input_dim"].as_i64().unwrap(),
        config["addition_time_embed_dim"].as_i64().unwrap(),
    );
    for other in [input + waves, input - 2 * waves, input + 1] {
        let key = "projection_class_embeddings_input_dim";
        let error = refused("sdxl", "unet/config.json", key, other.into());
        assert!(error.contains(&format!("the UNet takes {other} features besides the text ({key})")), "{error}");
        assert!(error.contains(&format!(" = {input} are those of SDXL, and ")), "{error}");
    }
}

#[test]
fn a_unet_and_text_encoders_of_other_families_do_not_go_together() {
    let unet = |name: &str| Choice { unet: Some(golden(name)), ..Choice::default() };
    let two = error(&golden("sdxl"), &unet("sd1"));
    assert!(two.contains("there are two text encoders, but the UNet takes no pooled text"), "{two}");
    // The width of this text encoder is that of the refiner's.
    let (_folder, model) = copied("sdxl-refiner");
    for (from, to) in [("text_encoder_2", "text_encoder"), ("tokenizer_2", "tokenizer")] {
        fs::rename(model.join(from), model.join(to)).unwrap();
        edit(&model.join("model_index.json"), |json| {
            json[to] = json[from].clone();
            json[from] = Value::Null;
            json["_class_name"] = "MyOwnPipeline".into();
        });
    }
    let first = error(&model, &Choice::default());
    assert!(first.contains("which text_encoder_2 returns, but there is only text_encoder\nhint: "), "{first}");
    // Means and deviations of latents are for SDXL alone.
    let statistics = |json: &mut Value| {
        json["latents_mean"] = json!([0.0, 0.0, 0.0, 0.0]);
        json["latents_std"] = json!([1.0, 1.0, 1.0, 1.0]);
    };
    let (_folder, sd1) = copied("sd1");
    edit(&sd1.join("vae/config.json"), statistics);
    let error = error(&sd1, &Choice::default());
    assert!(error.contains("latents_mean and latents_std"), "{error}");
    let (_folder, xl) = copied("sdxl");
    edit(&xl.join("vae/config.json"), statistics);
    assert!(open(&xl, &Choice::default()).vae.config.statistics.is_some());
}

#[test]
fn a_text_encoder_or_tokenizer_that_is_not_there_cannot_be_replaced() {
    let other = || Some(golden("sd1"));
    let first = [
        ("text_encoder", Choice { text_encoder: other(), ..Choice::default() }),
        ("tokenizer", Choice { tokenizer: other(), ..Choice::default() }),
    ];
    let second = [
        ("text_encoder_2", Choice { text_encoder_2: other(), ..Choice::default() }),
        ("tokenizer_2", Choice { tokenizer_2: other(), ..Choice::default() }),
    ];
    for (model, options, own) in [
        ("sdxl-refiner", &first, ["text_encoder_2", "tokenizer_2"]),
        ("sd1", &second, ["text_encoder", "tokenizer"]),
        ("sd2", &second, ["text_encoder", "tokenizer"]),
    ] {
        for ((name, choice), own) in options.iter().zip(own) {
            let error = error(&golden(model), choice);
            let (alone, option) = (format!("this checkpoint has {own} alone"), own.replace('_', "-"));
            let expected =
                format!("there is no {name} that another could replace\nhint: {alone}, which --{option} replaces");
            assert!(error.ends_with(&expected), "{error}");
        }
    }
}

#[test]
fn the_second_text_encoder_and_its_tokenizer_are_replaced_by_folders_and_by_those_of_checkpoints() {
    let (_folder, model) = copied("sdxl");
    fs::remove_dir_all(model.join("tokenizer_2")).unwrap();
    fs::remove_dir_all(model.join("text_encoder_2")).unwrap();
    let refiner = golden("sdxl-refiner");
    let of = |text: &Path, tokenizer: &Path| Choice {
        text_encoder_2: Some(text.into()),
        tokenizer_2: Some(tokenizer.into()),
        ..Choice::default()
    };
    for choice in [
        of(&refiner, &refiner),
        of(&refiner.join("text_encoder_2"), &refiner.join("tokenizer_2")),
        of(&refiner, &golden("sd1/tokenizer")),
    ] {
        let checkpoint = open(&model, &choice);
        let [first, second] = checkpoint.texts.as_slice() else { panic!("two text encoders") };
        assert_eq!(first.tokenizer, model.join("tokenizer"));
        assert!(second.tokenizer.join("vocab.json").is_file(), "{}", second.tokenizer.display());
        assert_eq!(second.encoder.files().unwrap(), [refiner.join("text_encoder_2/model.safetensors")]);
        assert_eq!(second.encoder.config, open(&refiner, &Choice::default()).texts[0].encoder.config);
        assert!(checkpoint.files().unwrap().contains(&second.tokenizer.join("vocab.json")));
    }
    // The first one's tokenizer is no stand-in for that of the second.
    let without = error(&model, &Choice { text_encoder_2: Some(refiner.clone()), ..Choice::default() });
    assert!(
        without.ends_with("no tokenizer_2, the tokenizer of the second text encoder\nhint: --tokenizer-2 names one"),
        "{without}"
    );
    let narrow =
        error(&golden("sdxl"), &Choice { text_encoder_2: Some(golden("sd1/text_encoder")), ..Choice::default() });
    assert!(narrow.contains("the text encoders return "), "{narrow}");
}

#[test]
fn a_family_decides_whether_a_model_is_distilled() {
    let of = |family: Family| Choice { family: Some(family), ..Choice::default() };
    for (name, family, is_distilled) in [
        ("sdxl", Family::Sdxl, false),
        ("sdxl", Family::SdxlTurbo, true),
        ("sdxl-turbo", Family::Sdxl, false),
        ("sdxl-turbo", Family::SdxlTurbo, true),
        ("sdxl-refiner", Family::SdxlRefiner, false),
    ] {
        assert_eq!(open(&golden(name), &of(family)).is_distilled(), is_distilled, "{name} as {family}");
    }
}

#[test]
fn a_family_that_a_model_is_not_of_is_an_error_that_says_what_it_is() {
    let (sd, refiner, base) = (
        "takes no pooled text (addition_embed_type), as those of Stable Diffusion 1.x",
        "that of the refiner of SDXL",
        "SDXL and of its Turbo",
    );
    for (name, family, expected) in [
        ("sd1", Family::Sdxl, sd),
        ("sd2", Family::SdxlTurbo, sd),
        ("sd1", Family::SdxlRefiner, sd),
        ("sdxl-refiner", Family::Sdxl, refiner),
        ("sdxl-refiner", Family::SdxlTurbo, refiner),
        ("sdxl", Family::SdxlRefiner, base),
        ("sdxl-turbo", Family::SdxlRefiner, base),
    ] {
        let error = error(&golden(name), &Choice { family: Some(family), ..Choice::default() });
        let begins = format!("{}: not of the family {family}: the UNet ", golden(name).display());
        assert!(error.starts_with(&begins) && error.contains(expected) && error.contains("\nhint: "), "{error}");
    }
}

#[test]
fn a_choice_of_stable_diffusion_is_written_as_before_and_that_of_sdxl_is_read_back() {
    let sd = Choice { variant: Some("fp16".into()), tokenizer: Some("t".into()), ..Choice::default() };
    assert_eq!(serde_json::to_string(&sd).unwrap(), r#"{"variant":"fp16","tokenizer":"t"}"#);
    let xl = Choice {
        family: Some(Family::SdxlTurbo),
        text_encoder_2: Some("a".into()),
        tokenizer_2: Some("b".into()),
        ..Choice::default()
    };
    let json = serde_json::to_value(&xl).unwrap();
    assert_eq!(json, json!({ "family": "sdxl-turbo", "text_encoder_2": "a", "tokenizer_2": "b" }));
    assert_eq!(serde_json::from_value::<Choice>(json).unwrap(), xl);
    let moved = xl.map_paths(|path| Ok::<_, ()>(Path::new("/").join(path))).unwrap();
    assert_eq!((moved.text_encoder_2, moved.tokenizer_2), (Some("/a".into()), Some("/b".into())));
    for family in [Family::Sdxl, Family::SdxlTurbo, Family::SdxlRefiner] {
        assert_eq!(serde_json::to_value(family).unwrap(), family.to_string(), "the name in messages is that in files");
    }
}

#[test]
fn other_pipelines_of_sdxl_are_refused_by_name() {
    for (class, family) in [
        ("StableDiffusionXLControlNetPipeline", "a pipeline with a ControlNet"),
        ("StableDiffusionXLAdapterPipeline", "a pipeline with a T2I adapter"),
        ("StableDiffusionXLInstructPix2PixPipeline", "an instruct-pix2pix model"),
        ("StableDiffusionXLPAGPipeline", "another pipeline of Stable Diffusion XL"),
    ] {
        let error = refused("sdxl", "model_index.json", "_class_name", class.into());
        assert!(error.contains(&format!("{class}: {family}")) && error.contains("is not supported"), "{error}");
    }
    for class in ["StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"] {
        let (_folder, model) = copied("sdxl");
        edit(&model.join("model_index.json"), |json| json["_class_name"] = class.into());
        assert_eq!(open(&model, &Choice::default()).notes, Vec::<String>::new(), "{class}");
    }
}
