//! What a path is that is not a checkpoint.

use crate::index::INDEX;
use crate::kind::family;
use crate::weights::{Beginning, PICKLES, beginning};
use latentrace_files::near;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// What a path is, and what would work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The path.
    pub path: PathBuf,
    /// What it is.
    pub what: String,
    /// What would work instead.
    pub hint: String,
}

/// Says what a path is that cannot be opened as a checkpoint, and what would work in its place.
pub fn describe(path: &Path) -> Described {
    let (what, hint) = if path.is_dir() {
        of_folder(path)
    } else if path.exists() {
        of_file(path)
    } else {
        of_nothing(path)
    };
    Described { path: path.into(), what, hint }
}

/// What a checkpoint is, for hints.
const CHECKPOINT: &str = "a checkpoint is a folder in the diffusers layout, with model_index.json, unet, vae, text_encoder, tokenizer and scheduler; or a single .safetensors file; or the id of a model on the Hugging Face hub, as owner/name";

type Said = (String, String);

fn said(what: impl Into<String>, hint: impl Into<String>) -> Said {
    (what.into(), hint.into())
}

/// A path where there is nothing.
fn of_nothing(path: &Path) -> Said {
    let text = path.to_string_lossy();
    if let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        let mut parts = rest.split('/').skip(1).filter(|part| !part.is_empty());
        return match (parts.next(), parts.next()) {
            (Some(owner), Some(name)) => {
                said("a web address", format!("a model of the hub is named by its id: {owner}/{name}"))
            }
            _ => said("a web address", CHECKPOINT),
        };
    }
    if text.starts_with('~') {
        return said("no such folder", "the shell does not replace ~ inside quotes; write the path from /");
    }
    if path.symlink_metadata().is_ok() {
        return said("a link that leads nowhere", CHECKPOINT);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = names(parent);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match near(&name, names.iter().map(String::as_str)) {
        Some(near) => said("no such file or folder", format!("did you mean {}?", parent.join(near).display())),
        None => said("no such file or folder", CHECKPOINT),
    }
}

fn of_file(path: &Path) -> Said {
    match beginning(path) {
        Some(Beginning::LfsPointer) => {
            return said("a pointer of Git LFS, not the file itself", "run `git lfs pull` in this repository");
        }
        Some(Beginning::Html) => {
            return said("a web page", "the download gave an error or a login page; download the file again");
        }
        Some(Beginning::Pickle) => return pickled(),
        None => {}
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match ending.as_str() {
        ending if PICKLES.contains(&ending) => pickled(),
        "gguf" => said("a GGUF file, of quantised weights", "name the safetensors file that it was made from"),
        "onnx" => said("an ONNX model", CHECKPOINT),
        "msgpack" => said("weights for Flax", CHECKPOINT),
        "h5" => said("weights for TensorFlow", CHECKPOINT),
        "json" if name == INDEX => said("a file of a checkpoint", "name the folder that it lies in"),
        "zip" | "tar" | "gz" | "7z" => said("an archive", "unpack it, and name the folder"),
        _ => said("a file, and not a safetensors file", CHECKPOINT),
    }
}

fn pickled() -> Said {
    said(
        "a pickled file, which is never read",
        "a pickle runs code when it is read; convert it in Python, with `safetensors.torch.save_file(torch.load(path, weights_only=True), ..)`",
    )
}

/// A folder without `model_index.json`.
fn of_folder(path: &Path) -> Said {
    let names = names(path);
    let has = |name: &str| names.iter().any(|there| there == name);
    let models: Vec<&String> = names.iter().filter(|name| name.starts_with("models--")).collect();
    if let Some(first) = models.first() {
        let id = first.trim_start_matches("models--").replacen("--", "/", 1);
        return said(
            format!("the cache of the hub, with {} models", models.len()),
            format!("name one of them, by its folder or its id, such as {id}"),
        );
    }
    if names.is_empty() {
        return said("an empty folder", CHECKPOINT);
    }
    if has("adapter_config.json") || has("pytorch_lora_weights.safetensors") {
        return said("a LoRA, which changes a checkpoint", "name the checkpoint with --model, and this with --lora");
    }
    if has("learned_embeds.safetensors") {
        return said(
            "a textual inversion, which adds a token",
            "name the checkpoint with --model, and this with --embedding",
        );
    }
    if has("run.json") && has("index.jsonl") || path.join("trace/run.json").is_file() {
        return said("a recorded run", CHECKPOINT);
    }
    if let Some(class) = class_of(path) {
        let what = family(&class).map_or(class.clone(), |family| format!("{} ({class})", family.trim_end_matches(',')));
        let above = path.parent().filter(|parent| parent.join(INDEX).is_file());
        return match above {
            Some(above) => {
                said(format!("{what}, a part of a checkpoint"), format!("name the folder above, {}", above.display()))
            }
            None => said(format!("{what}, not a whole checkpoint"), CHECKPOINT),
        };
    }
    let below: Vec<PathBuf> =
        names.iter().map(|name| path.join(name)).filter(|below| below.join(INDEX).is_file()).collect();
    if let Some(first) = below.first() {
        let count = match below.len() {
            1 => "a folder with a checkpoint in it".to_string(),
            more => format!("a folder with {more} checkpoints in it"),
        };
        return said(count, format!("name the checkpoint itself: {}", first.display()));
    }
    let of_ending = |ending: &str| names.iter().find(|name| name.to_lowercase().ends_with(ending));
    if let Some(single) = of_ending(".safetensors") {
        return said(
            "a folder without model_index.json",
            format!("it has a single file, which can be named itself: {}", path.join(single).display()),
        );
    }
    if let Some(name) = PICKLES.iter().find_map(|ending| of_ending(&format!(".{ending}"))) {
        return said(
            format!("a folder without model_index.json, but with {name}, a pickled file, which is never read"),
            "convert it to safetensors in Python, or download the safetensors file",
        );
    }
    if has("unet") || has("vae") {
        return said(
            "a folder with parts of a checkpoint, but without model_index.json",
            "the download may not be complete: model_index.json names the class of each part",
        );
    }
    said("a folder without model_index.json", CHECKPOINT)
}

/// The class that a folder's `config.json` names.
fn class_of(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("config.json")).ok()?;
    let json: Value = serde_json::from_str(&text).ok()?;
    let class = json["_class_name"].as_str().or(json["architectures"][0].as_str())?;
    Some(class.to_owned())
}

/// The names in a folder, sorted, without hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn told(path: &Path) -> String {
        let Described { what, hint, .. } = describe(path);
        format!("{what} | {hint}")
    }

    #[test]
    fn every_folder_is_told_as_what_it_is() {
        for (files, expected) in [
            (&[][..], "an empty folder"),
            (
                &[("models--a--b--c/refs/main", "")],
                "the cache of the hub, with 1 models | name one of them, by its folder or its id, such as a/b--c",
            ),
            (&[("adapter_config.json", "{}")], "a LoRA"),
            (&[("pytorch_lora_weights.safetensors", "")], "a LoRA"),
            (&[("learned_embeds.safetensors", "")], "a textual inversion"),
            (&[("trace/run.json", "{}")], "a recorded run"),
            (
                &[("config.json", r#"{"_class_name": "ControlNetModel"}"#)],
                "a ControlNet (ControlNetModel), not a whole",
            ),
            (&[("config.json", r#"{"architectures": ["CLIPModel"]}"#)], "a whole CLIP model"),
            (
                &[("x/model_index.json", "{}"), ("y/model_index.json", "{}")],
                "a folder with 2 checkpoints in it | name the checkpoint itself",
            ),
            (&[("dream.safetensors", "")], "it has a single file"),
            (&[("v1-5.ckpt", "")], "with v1-5.ckpt, a pickled file"),
            (&[("unet/config.json", "{}")], "without model_index.json | the download may not be complete"),
            (&[("notes.txt", "")], "a folder without model_index.json | a checkpoint is"),
        ] {
            let folder = folder(files);
            let told = told(folder.path());
            assert!(told.contains(expected), "{files:?}: {told}");
        }
        let whole =
            folder(&[("model_index.json", "{}"), ("unet/config.json", r#"{"_class_name": "UNet2DConditionModel"}"#)]);
        let told = told(&whole.path().join("unet"));
        assert!(
            told.starts_with(
                "a conditional UNet (UNet2DConditionModel), a part of a checkpoint | name the folder above"
            ),
            "{told}"
        );
    }

    #[test]
    fn files_and_what_is_not_there_are_told_as_what_they_are() {
        let folder = folder(&[
            ("a.gguf", ""),
            ("b.ckpt", "PK\x03\x04"),
            ("model_index.json", "{}"),
            ("c.zip", ""),
            ("text", ""),
        ]);
        let at = |name: &str| told(&folder.path().join(name));
        assert!(at("a.gguf").contains("quantised"));
        assert!(at("b.ckpt").contains("never read"));
        assert!(at("model_index.json").contains("name the folder that it lies in"));
        assert!(at("c.zip").contains("archive"));
        assert!(at("text").starts_with("a file, and not a safetensors file"));
        assert!(at("b.ckptt").contains("did you mean") && at("b.ckptt").contains("b.ckpt?"));
        let web = told(Path::new("https://huggingface.co/CompVis/stable-diffusion-v1-4/tree/main"));
        assert!(web.ends_with("by its id: CompVis/stable-diffusion-v1-4"), "{web}");
        assert!(told(Path::new("~/models")).contains("the shell does not replace ~"));
    }
}
