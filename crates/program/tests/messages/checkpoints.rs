//! What `--model` says of everything that is no supported checkpoint, as one table.

use crate::session::Session;
use serde_json::{Value, json};

/// Pipelines of other families, by the class in their `model_index.json`.
const PIPELINES: [&str; 22] = [
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
    "KandinskyV22Pipeline",
    "StableDiffusionDepth2ImgPipeline",
    "StableDiffusionUpscalePipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionControlNetPipeline",
    "MarigoldDepthPipeline",
    "Zero1to3StableDiffusionPipeline",
    "StableUnCLIPPipeline",
    "StableCascadeCombinedPipeline",
    "PixArtAlphaPipeline",
    "StableVideoDiffusionPipeline",
    "AnimateDiffPipeline",
    "AudioLDMPipeline",
    "IFPipeline",
    "AltDiffusionPipeline",
    "LatentConsistencyModelPipeline",
    "PaintByExamplePipeline",
    "DDPMPipeline",
    "MyOwnPipeline",
];

/// Networks by themselves, by the class in their `config.json`.
const NETWORKS: [&str; 6] =
    ["ControlNetModel", "AutoencoderTiny", "UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel", "T2IAdapter"];

#[test]
fn checkpoints() {
    let mut session = Session::new();
    session.section("pipelines of other families");
    for class in PIPELINES {
        session.copy("tiny", "other");
        session.edit("other/model_index.json", "StableDiffusionPipeline", class);
        session.told(class, "other");
        session.remove("other");
    }
    session.section("a folder with one network");
    for class in NETWORKS {
        std::fs::create_dir(session.at("part")).unwrap();
        session.write("part/config.json", &json!({ "_class_name": class }).to_string());
        session.told(class, "part");
        session.remove("part");
    }
    folders(&mut session);
    files(&mut session);
    weights(&mut session);
    configurations(&mut session);
    session.section("a LoRA");
    loras(&mut session);
    session.compare("checkpoints");
}

fn folders(session: &mut Session) {
    session.section("other folders");
    for (what, files) in [
        ("an empty folder", &[][..]),
        ("a cache of the hub", &["models--CompVis--stable-diffusion-v1-4/refs/main"]),
        ("a LoRA of diffusers", &["pytorch_lora_weights.safetensors"]),
        ("a LoRA of PEFT", &["adapter_config.json"]),
        ("a textual inversion", &["learned_embeds.safetensors"]),
        ("a recorded run", &["trace/run.json"]),
        ("a checkpoint one level down", &["model/model_index.json"]),
        ("a lone safetensors file", &["dream.safetensors"]),
        ("a lone pickle", &["v1-5.ckpt"]),
        ("parts without an index", &["unet/config.json", "vae/config.json"]),
    ] {
        std::fs::create_dir(session.at("folder")).unwrap();
        for file in files {
            let path = session.at("folder").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        session.told(what, "folder");
        session.remove("folder");
    }
}

fn files(session: &mut Session) {
    session.section("files");
    for (name, text) in [
        ("v1-5.ckpt", "PK\u{3}\u{4}"),
        ("pytorch_model.bin", "x"),
        ("model.gguf", "x"),
        ("model.onnx", "x"),
        ("model.zip", "x"),
        ("notes.txt", "x"),
        ("cut.safetensors", "x"),
        ("lfs.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        ("page.safetensors", "<!DOCTYPE html><title>Sign in</title>"),
    ] {
        session.write(name, text);
        session.told(name, name);
    }
    session.section("names that are not there");
    for name in ["tinny", "~/models", "https://huggingface.co/CompVis/stable-diffusion-v1-4", "owner/name", "a/b/c"] {
        session.told(name, name);
    }
    session.section("models of the hub that have moved");
    for id in ["runwayml/stable-diffusion-v1-5", "stabilityai/stable-diffusion-2-1"] {
        session.told(id, id);
    }
}

fn weights(session: &mut Session) {
    session.section("what lies where a weight file is missing");
    let stem = "diffusion_pytorch_model";
    for name in
        ["bf16.safetensors", "non_ema.safetensors", "fp16.bin", "bin", "safetensors.incomplete", "msgpack", "onnx"]
    {
        session.copy("tiny", "other");
        session.remove(&format!("other/unet/{stem}.safetensors"));
        session.write(&format!("other/unet/{stem}.{name}"), "x");
        session.told(&format!("{stem}.{name}"), "other");
        session.remove("other");
    }
    session.copy("tiny", "other");
    session.remove(&format!("other/unet/{stem}.safetensors"));
    std::os::unix::fs::symlink("../../../blobs/0123", session.at(&format!("other/unet/{stem}.safetensors"))).unwrap();
    session.told("a dangling link of a cache", "other");
    session.remove("other");
}

fn configurations(session: &mut Session) {
    session.section("keys of a configuration");
    let with = |session: &mut Session, file: &str, key: &str, value: Value| {
        session.copy("tiny", "other");
        let path = format!("other/{file}");
        let text = std::fs::read_to_string(session.at(&path)).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json[key] = value.clone();
        session.write(&path, &json.to_string());
        session.told(&format!("{file}: {key} = {value}"), "other");
        session.remove("other");
    };
    let unet = "unet/config.json";
    for (file, key, value) in [
        (unet, "decay", json!(0.9999)),
        (unet, "sample_size", json!([8, 8])),
        (unet, "mid_block_type", Value::Null),
        (unet, "in_channels", json!(5)),
        (unet, "in_channels", json!(8)),
        (unet, "addition_embed_type", json!("text_time")),
        (unet, "my_key", json!(1)),
        ("text_encoder/config.json", "add_cross_attention", json!(false)),
        ("vae/config.json", "force_upcast", json!(true)),
        ("scheduler/scheduler_config.json", "_class_name", json!("FlowMatchEulerDiscreteScheduler")),
        ("scheduler/scheduler_config.json", "prediction_type", json!("flow")),
    ] {
        with(session, file, key, value);
    }
}

fn loras(session: &mut Session) {
    for (what, lora) in [
        ("a file that is not there", "style.safetensors:0.8"),
        ("a checkpoint", "tiny"),
        ("weights of a network", "tiny/vae/diffusion_pytorch_model.safetensors"),
        ("a pickle", "v1-5.ckpt"),
        ("a scale that is no table of a scale", "style.safetensors:{ wight = 1 }"),
    ] {
        session.told_by(what, &format!("generate 'a cat' --model tiny --steps 1 --output out --lora '{lora}'"));
    }
}
