//! What stores and records of earlier versions are found by, with the values that they have: the hash of a checkpoint, and the key
//! of a cell. If one of them changes, no record finds its checkpoint, and the cells of every store are made again.

use latentrace_pipeline::nn::Kernels;
use latentrace_runs::{Cell, Computed, Inputs, Kept, Mode, checkpoint, hash, key};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(path)
}

/// The cell of some fields, as a spec writes them.
fn cell(fields: Value) -> Cell {
    serde_json::from_value(fields).unwrap()
}

/// A LoRA that changes the text encoder and the UNet, and an embedding.
fn adapted() -> Cell {
    let [lora, embedding] = ["lora/kohya.safetensors:0.5", "text/cat.safetensors"].map(golden);
    cell(json!({ "model": golden("networks/sd1"), "loras": [lora], "embeddings": [embedding] }))
}

/// A text encoder that is named by itself, and the tokenizer of another checkpoint.
fn with_other_text() -> Cell {
    let [text, tokenizer] = ["networks/sd1", "networks/sd2/tokenizer"].map(golden);
    cell(json!({ "model": golden("networks/sd1"), "text_encoder": text, "tokenizer": tokenizer }))
}

#[test]
fn checkpoints_have_the_hashes_of_earlier_versions() {
    let of = |name: &str| cell(json!({ "model": golden("networks").join(name) }));
    let cells = [of("sd1"), of("sd2"), adapted(), with_other_text()];
    let hashes = cells.map(|cell| hash(&cell.place().unwrap(), &cell.choice()).unwrap());
    let expected = [
        "30645cb53b552eed0c02ae7bda19e5ed30022f9ad04e4dd4dcb187615043ec97",
        "e6d6d47e02dbcd7f9aaeaf289d5231956e1f87ff8b69ca40420253976bfc42b7",
        "ddba9f2056db611e59a5047f94843696ff4c69cc801f936f52209227417e343d",
        "7d043ccdabd1c525867000118c459fe6084ec218f3d00f9f78cf4924afd96c6d",
    ];
    assert_eq!(hashes, expected);
}

#[test]
fn a_hash_is_of_files_in_the_order_of_earlier_versions() {
    let cell = adapted();
    let files = checkpoint(&cell.place().unwrap(), &cell.choice()).unwrap().files().unwrap();
    let name = |path: PathBuf| path.strip_prefix(golden("")).unwrap().display().to_string();
    let expected = [
        "networks/sd1/text_encoder/config.json",
        "networks/sd1/unet/config.json",
        "networks/sd1/vae/config.json",
        "networks/sd1/scheduler/scheduler_config.json",
        "networks/sd1/tokenizer/vocab.json",
        "networks/sd1/tokenizer/merges.txt",
        "networks/sd1/tokenizer/special_tokens_map.json",
        "networks/sd1/tokenizer/tokenizer_config.json",
        "text/cat.safetensors",
        "lora/kohya.safetensors",
        "networks/sd1/text_encoder/model.safetensors",
        "networks/sd1/unet/diffusion_pytorch_model.safetensors",
        "networks/sd1/vae/diffusion_pytorch_model.safetensors",
    ];
    assert_eq!(files.into_iter().map(name).collect::<Vec<_>>(), expected);
}

#[test]
fn cells_have_the_keys_of_earlier_versions() {
    let text = json!({
        "model": golden("networks/sd2"), "prompt": "a red circle", "negative": "blue", "seed": 7, "steps": 3,
        "guidance": 5.0, "clip_skip": 1, "weights": true, "long_prompts": "chunks", "sampler": "euler"
    });
    let alone = Computed { kernels: Kernels::PLAIN, threads: Some(1) };
    let kept = Kept { capture: vec!["text_encoder.**".parse().unwrap()], budget: None };
    let cells = [
        (cell(json!({ "model": golden("networks/sd1") })), Kept::default(), Mode::Alone, alone),
        (cell(text.clone()), Kept::default(), Mode::Alone, Computed { threads: Some(2), ..alone }),
        (cell(text), kept, Mode::Batched, alone),
        (adapted(), Kept::default(), Mode::Alone, alone),
        (with_other_text(), Kept::default(), Mode::Alone, alone),
    ];
    let keys = cells
        .map(|(cell, kept, mode, computed)| key(&cell, &Inputs::of(&cell).unwrap(), &kept, mode, computed).unwrap());
    // They contain the version of libtorch, so another version changes them all.
    let expected = ["5f907723a779c538", "8dbfb17febc390c2", "298bce909a9fa4f7", "7a9175ed4cb57b87", "1500ca022638cd58"];
    assert_eq!(keys, expected);
}

#[test]
fn the_key_of_a_cell_of_sdxl_depends_on_its_parts_by_content_and_on_its_family() {
    let xl = golden("networks/sdxl");
    let of = |fields: &[(&str, Value)]| {
        let mut all = json!({ "model": xl });
        fields.iter().for_each(|(name, value)| all[*name] = value.clone());
        let (cell, computed) = (cell(all), Computed { kernels: Kernels::PLAIN, threads: Some(1) });
        let inputs = Inputs::of(&cell).unwrap();
        (inputs.model.blake3.clone(), key(&cell, &inputs, &Kept::default(), Mode::Alone, computed).unwrap())
    };
    let own = of(&[]);
    let [text, tokenizer] = ["text_encoder_2", "tokenizer_2"].map(|part| json!(xl.join(part)));
    assert_eq!(of(&[("text_encoder_2", text), ("tokenizer_2", tokenizer)]), own, "the same files by other names");
    let other = of(&[("text_encoder_2", json!(golden("networks/sdxl-turbo")))]);
    assert!(other.0 != own.0 && other.1 != own.1);
    let turbo = of(&[("family", json!("sdxl-turbo"))]);
    assert!(turbo.0 == own.0 && turbo.1 != own.1, "a family is no file, and has a key of its own");
}
