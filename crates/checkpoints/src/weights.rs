//! The weight files of a part: one file or shards, of one variant, or what lies there instead.

use crate::error::{Error, Result, file, read};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The weight files of a part in its folder. Without a variant the f32 files are used, and those of `fp16` if there are
/// no others.
///
/// # Errors
/// There is no such file; the error says what lies there instead.
pub(crate) fn find(folder: &Path, stem: &str, variant: Option<&str>) -> Result<Vec<PathBuf>> {
    let wanted: &[&str] = match variant {
        Some(_) => &[],
        None => &["", FALLBACK],
    };
    let own = variant.map(|variant| format!(".{variant}"));
    for variant in own.as_deref().into_iter().chain(wanted.iter().copied()) {
        let whole = folder.join(format!("{stem}{variant}.safetensors"));
        if whole.symlink_metadata().is_ok() {
            return Ok(vec![checked(whole)?]);
        }
        let index = folder.join(format!("{stem}.safetensors.index{variant}.json"));
        if index.is_file() {
            return shards(&index);
        }
    }
    let name = format!("{stem}{}.safetensors", own.unwrap_or_default());
    Err(file(&folder.join(name), format!("no such file{}", instead(folder, stem))))
}

/// The variant that is used where no variant is named and there are no f32 files.
const FALLBACK: &str = ".fp16";

/// Whether files are of a variant that nobody named.
pub(crate) fn are_fallback(files: &[PathBuf]) -> bool {
    let of_fallback = |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().contains(FALLBACK));
    files.iter().any(of_fallback)
}

/// Checks that a file can be what its name says: it is there, and begins as a safetensors file does.
///
/// # Errors
/// It is a link to nothing, a pointer of Git LFS, a web page, or anything else.
pub(crate) fn checked(path: PathBuf) -> Result<PathBuf> {
    if let (Ok(target), false) = (fs::read_link(&path), path.exists()) {
        let hint = "hint: the download was not completed, or the file was removed from the cache; download it again";
        return Err(file(&path, format!("a link to {}, which is not there\n{hint}", target.display())));
    }
    match beginning(&path) {
        Some(Beginning::LfsPointer) => {
            let hint = "hint: run `git lfs pull` in this repository, or download the file";
            Err(file(&path, format!("a pointer of Git LFS, not the file itself\n{hint}")))
        }
        Some(Beginning::Html) => {
            let hint = "hint: the download gave an error or a login page; download the file again";
            Err(file(&path, format!("a web page, not a safetensors file\n{hint}")))
        }
        Some(Beginning::Pickle) => Err(pickle(&path)),
        None => Ok(path),
    }
}

/// The error for a pickled file.
pub(crate) fn pickle(path: &Path) -> Error {
    let hint = "hint: a pickle runs code when it is read, so Latentrace reads none; convert it in Python, with `safetensors.torch.save_file(torch.load(path, weights_only=True), ..)`";
    file(path, format!("a pickled file, which is never read\n{hint}"))
}

/// What a file begins with, if it is a known mistake.
pub(crate) enum Beginning {
    LfsPointer,
    Html,
    Pickle,
}

pub(crate) fn beginning(path: &Path) -> Option<Beginning> {
    let mut bytes = [0; 64];
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut bytes)).ok()?;
    let bytes = &bytes[..read];
    let text = String::from_utf8_lossy(bytes).trim_start().to_lowercase();
    // A zip archive as torch.save writes, or a pickle of protocol 2 or later; a safetensors file begins with its header's
    // length and a brace.
    let is_pickle =
        bytes.starts_with(b"PK\x03\x04") || (matches!(bytes, [0x80, 2..=5, ..]) && bytes.get(8) != Some(&b'{'));
    match () {
        () if text.starts_with("version https://git-lfs") => Some(Beginning::LfsPointer),
        () if text.starts_with("<!doctype") || text.starts_with("<html") => Some(Beginning::Html),
        () if is_pickle => Some(Beginning::Pickle),
        () => None,
    }
}

/// The endings of pickled weight files.
pub(crate) const PICKLES: &[&str] = &["bin", "ckpt", "pt", "pth", "pkl"];

/// What lies in a folder where a weight file is missing, as a line of its own; empty if there is nothing like it.
fn instead(folder: &Path, stem: &str) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return "\nhint: there is no such folder either".into() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let of_variant = |name: &String| {
        let rest = name.strip_prefix(stem)?.strip_suffix(".safetensors")?.strip_prefix('.')?.to_owned();
        let shard = rest.split_once("-000").map_or(rest.clone(), |(variant, _)| variant.to_owned());
        Some(shard).filter(|variant| !variant.is_empty())
    };
    let variants: BTreeSet<String> = names.iter().filter_map(of_variant).collect();
    if !variants.is_empty() {
        let all: Vec<String> = variants.into_iter().collect();
        return format!("\nhint: there is the variant {}: --variant {}", all.join(", "), all[0]);
    }
    let is_shard = |name: &&String| name.starts_with(&format!("{stem}-0")) && name.ends_with(".safetensors");
    if let Some(shard) = names.iter().find(is_shard) {
        return format!("\nhint: there is the shard {shard}, but no {stem}.safetensors.index.json");
    }
    let ends = |name: &str, endings: &[&str]| endings.iter().any(|ending| name.ends_with(&format!(".{ending}")));
    if let Some(name) = names.iter().find(|name| ends(name, PICKLES)) {
        return format!("\nhint: there is {name}, a pickled file, which is never read; convert it to safetensors");
    }
    for (ending, what) in [("msgpack", "weights for Flax"), ("onnx", "an ONNX model"), ("h5", "weights for TensorFlow")]
    {
        if let Some(name) = names.iter().find(|name| ends(name, &[ending])) {
            return format!("\nhint: there is {name}, {what}, which is not read; download the safetensors file");
        }
    }
    if let Some(name) = names.iter().find(|name| name.ends_with(".safetensors")) {
        return format!("\nhint: there is {name}; diffusers calls this file {stem}.safetensors");
    }
    let incomplete = names.iter().find(|name| ends(name, &["incomplete", "part", "crdownload", "aria2"]));
    incomplete.map_or(String::new(), |name| format!("\nhint: there is {name}, a download that was not completed"))
}

/// The files that an index of shards lists. Each must lie in the folder of the index.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let json: Value = serde_json::from_str(&read(index)?).map_err(|error| file(index, error))?;
    let map = json["weight_map"].as_object().filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| file(index, "no weight_map, or an empty one"))?;
    let mut names = BTreeSet::new();
    for (tensor, name) in map {
        let Some(name) = name.as_str() else {
            return Err(file(index, format!("{tensor}: expected the name of a file, found {name}")));
        };
        if name.contains(['/', '\\', '\0']) || name == ".." || name == "." || name.is_empty() {
            return Err(file(index, format!("{name}: a shard must be in the folder of its index")));
        }
        names.insert(name);
    }
    let folder = index.parent().unwrap_or(Path::new("."));
    let shard = |name: &str| {
        let path = folder.join(name);
        if path.symlink_metadata().is_err() {
            let hint = format!("hint: {} names {} files, and this one is missing", index.display(), names.len());
            return Err(file(&path, format!("no such file\n{hint}")));
        }
        checked(path)
    };
    names.iter().map(|name| shard(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of looking for `model.safetensors` in a folder with these files.
    fn error(files: &[(&str, &str)], variant: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let error = find(folder.path(), "model", variant).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "F")
    }

    #[test]
    fn a_missing_file_is_told_with_what_lies_there_instead() {
        for (files, expected) in [
            (&["model.bf16.safetensors", "model.non_ema.safetensors"][..], "variant bf16, non_ema: --variant bf16"),
            (&["model.fp16-00001-of-00002.safetensors"], "variant fp16"),
            (&["model-00001-of-00002.safetensors"], "no model.safetensors.index.json"),
            (&["pytorch_model.bin"], "pytorch_model.bin, a pickled file"),
            (&["model.fp16.bin"], "model.fp16.bin, a pickled file"),
            (&["flax_model.msgpack"], "weights for Flax"),
            (&["model.onnx"], "ONNX"),
            (&["other.safetensors"], "other.safetensors; diffusers calls this file model.safetensors"),
            (&["model.safetensors.incomplete"], "not completed"),
        ] {
            let files: Vec<(&str, &str)> = files.iter().map(|name| (*name, "")).collect();
            let error = error(&files, None);
            assert!(error.starts_with("F/model.safetensors: no such file\nhint: there is"), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(error(&[], None), "F/model.safetensors: no such file");
        let other = error(&[("model.safetensors", "{}")], Some("fp16"));
        assert!(other.starts_with("F/model.fp16.safetensors: no such file"), "{other}");
    }

    #[test]
    fn a_file_that_is_something_else_is_told_as_what_it_is() {
        for (text, expected) in [
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
            ("<!DOCTYPE html><html>", "a web page"),
            ("PK\x03\x04archive/data.pkl", "a pickled file, which is never read"),
        ] {
            let error = error(&[("model.safetensors", text)], None);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn shards_must_be_there_and_beside_their_index() {
        let index = |map: &str| error(&[("model.safetensors.index.json", map)], None);
        let outside = index(r#"{"weight_map": {"a": "../../x.safetensors"}}"#);
        assert!(outside.contains("must be in the folder of its index"), "{outside}");
        let missing = index(r#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#);
        assert!(missing.contains("names 1 files, and this one is missing"), "{missing}");
        assert!(index(r#"{"weight_map": {"a": 3}}"#).contains("a: expected the name of a file, found 3"));
        assert!(index("{}").contains("no weight_map"));
    }

    #[cfg(unix)]
    #[test]
    fn a_dangling_link_of_a_cache_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("../../blobs/abc", folder.path().join("model.safetensors")).unwrap();
        let error = find(folder.path(), "model", None).unwrap_err().to_string();
        assert!(error.contains("a link to ../../blobs/abc, which is not there"), "{error}");
    }
}
