//! Narrow checkpoints of SDXL with random weights: they are opened as what they are.

mod common;

use common::open;
use latentrace_checkpoints::{Architecture, Checkpoint, Choice, Ids, Synthetic, UnetInput};
use latentrace_nn::tch::Kind;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A narrow checkpoint in a folder that is there until it is dropped.
fn narrow(architecture: Architecture, input: UnetInput) -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("narrow");
    Synthetic { architecture, input, width: 0.05, kind: Kind::Half, seed: 1 }.write(&to).unwrap();
    let checkpoint = open(&to, &Choice::default());
    (folder, checkpoint)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn narrow_models_of_sdxl_are_opened_as_what_they_are() {
    let both = ["text_encoder", "text_encoder_2"];
    for (architecture, texts, ids, zeros, is_distilled, sample) in [
        (Architecture::Sdxl, &both[..], Ids::Target, true, false, 128),
        (Architecture::SdxlTurbo, &both, Ids::Target, true, true, 64),
        (Architecture::SdxlRefiner, &both[1..], Ids::Score, false, false, 128),
    ] {
        let (_folder, checkpoint) = narrow(architecture, UnetInput::Sample);
        let found: Vec<&str> = checkpoint.texts.iter().map(|text| text.encoder.name()).collect();
        assert_eq!(found, texts, "{architecture:?}");
        assert_eq!((checkpoint.ids(), checkpoint.zeros), (Some(ids), zeros), "{architecture:?}");
        assert_eq!(checkpoint.is_distilled(), is_distilled, "{architecture:?}");
        assert_eq!(checkpoint.unet.config.sample_size, [sample; 2], "{architecture:?}");
        assert_eq!(checkpoint.vae.json["scaling_factor"], 0.13025, "{architecture:?}");
        assert_eq!(checkpoint.vae.json["force_upcast"], true, "{architecture:?}");
        assert_eq!(checkpoint.notes, Vec::<String>::new(), "{architecture:?}");
        let parts = checkpoint.inspect().unwrap();
        assert!(parts.iter().all(|part| part.is_whole() && part.extra.is_empty()), "{parts:?}");
        assert!(parts.iter().all(|part| part.formats.keys().eq(["f16"])), "{parts:?}");
    }
}

#[test]
fn the_index_and_the_tokenizers_are_those_of_the_published_models() {
    let pipeline = |class: &str| json!(["transformers", class]);
    let none = json!([null, null]);
    for (architecture, class, text, scheduler) in [
        (Architecture::Sdxl, "StableDiffusionXLPipeline", true, "EulerDiscreteScheduler"),
        (Architecture::SdxlTurbo, "StableDiffusionXLPipeline", true, "EulerAncestralDiscreteScheduler"),
        (Architecture::SdxlRefiner, "StableDiffusionXLImg2ImgPipeline", false, "EulerDiscreteScheduler"),
    ] {
        let (_folder, checkpoint) = narrow(architecture, UnetInput::Sample);
        let index = json_of(&checkpoint.place().join("model_index.json"));
        assert_eq!((&index["_class_name"], &index["scheduler"][1]), (&json!(class), &json!(scheduler)));
        assert_eq!(index["force_zeros_for_empty_prompt"], text, "{architecture:?}");
        assert_eq!(index["text_encoder"], if text { pipeline("CLIPTextModel") } else { none.clone() });
        assert_eq!(index["text_encoder_2"], pipeline("CLIPTextModelWithProjection"));
        assert_eq!(index.get("requires_aesthetics_score"), (!text).then_some(&json!(true)));
        for (name, padding) in [("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")] {
            let folder = checkpoint.place().join(name);
            let is_there = text || name == "tokenizer_2";
            assert_eq!((folder.is_dir(), index[name] == none), (is_there, !is_there), "{architecture:?}: {name}");
            let map = folder.join("special_tokens_map.json");
            assert!(!is_there || json_of(&map)["pad_token"] == padding, "{architecture:?}: {name}");
        }
    }
}

#[test]
fn a_narrow_sdxl_for_inpainting_takes_the_mask_and_the_picture() {
    let (_folder, checkpoint) = narrow(Architecture::Sdxl, UnetInput::Inpainting);
    assert_eq!((checkpoint.input(), checkpoint.unet.config.in_channels), (UnetInput::Inpainting, 9));
    assert_eq!(
        json_of(&checkpoint.place().join("model_index.json"))["_class_name"],
        "StableDiffusionXLInpaintPipeline"
    );
}
