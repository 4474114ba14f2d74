//! Damaged and hostile checkpoints: an error or a model, never a panic, and nothing read outside the folder.

use latentrace_checkpoints::{Checkpoint, Choice, describe};
use latentrace_nn::tch::{Device, Kind};
use latentrace_text::TextEncoder;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks/sd1")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Opens a checkpoint and loads its text encoder, and inspects everything: what reads every header and one part's
/// numbers.
fn load(place: &Path) -> Result<(), String> {
    let checkpoint = Checkpoint::open(place, &Choice::default()).map_err(|error| error.to_string())?;
    let part = &checkpoint.text().encoder;
    let weights = part.weights(Kind::Float, Device::Cpu).map_err(|error| error.to_string())?;
    TextEncoder::load(&weights, &part.config).map_err(|error| error.to_string())?;
    checkpoint.inspect().map(drop).map_err(|error| error.to_string())
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same cases on every machine.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A safetensors file with another header.
fn with_header(whole: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    change(&mut header);
    let text = header.to_string().into_bytes();
    [&(text.len() as u64).to_le_bytes(), text.as_slice(), &whole[8 + length..]].concat()
}

/// One way to damage a weight file.
fn damaged(whole: &[u8], draws: &mut Draws) -> Vec<u8> {
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut bytes = whole.to_vec();
    let names = |header: &Value| -> Vec<String> {
        header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").cloned().collect()
    };
    match draws.below(10) {
        0 => bytes.truncate(draws.below(whole.len())),
        1 => bytes[draws.below(8)] ^= 1 << draws.below(8),
        2 => bytes[8 + draws.below(length)] = draws.next() as u8,
        3 => bytes.extend(std::iter::repeat_n(0, 1 + draws.below(100))),
        4 => {
            return with_header(whole, |header| {
                let names = names(header);
                let name = &names[draws.below(names.len())];
                header[name]["shape"] = json!([u64::MAX >> draws.below(64), draws.next() >> draws.below(64)]);
            });
        }
        5 => {
            return with_header(whole, |header| {
                let names = names(header);
                let name = &names[draws.below(names.len())];
                header[name]["data_offsets"] =
                    json!([draws.next() >> draws.below(64), draws.next() >> draws.below(64)]);
            });
        }
        6 => {
            return with_header(whole, |header| {
                let names = names(header);
                let dtype = ["F64", "I64", "BOOL", "F8_E4M3", "U8", "", "F32"][draws.below(7)];
                header[&names[draws.below(names.len())]]["dtype"] = dtype.into();
            });
        }
        7 => {
            // Two tensors with the bytes of one.
            return with_header(whole, |header| {
                let names = names(header);
                let one = header[&names[draws.below(names.len())]].clone();
                header[&names[draws.below(names.len())]] = one;
            });
        }
        8 => {
            // A key that is there twice.
            let text = String::from_utf8(whole[8..8 + length].to_vec()).unwrap();
            let text = text.trim_end().to_owned();
            let first = text[1..].split_once("},").unwrap().0;
            let twice = format!("{{{first}}},{}", &text[1..]);
            return [&(twice.len() as u64).to_le_bytes(), twice.as_bytes(), &whole[8 + length..]].concat();
        }
        _ => {
            let place = 8 + draws.below(length - 4);
            bytes[place..place + 4].copy_from_slice(&[0xff, 0xfe, 0x00, 0xc0]);
        }
    }
    bytes
}

#[test]
fn two_thousand_damaged_weight_files_are_errors_or_models_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy(&golden(), &model);
    let path = model.join("text_encoder/model.safetensors");
    let whole = fs::read(&path).unwrap();
    let mut draws = Draws(14);
    let (mut refused, mut loaded) = (0, 0);
    for case in 0..2000 {
        fs::remove_file(&path).unwrap(); // files that are mapped must not change
        fs::write(&path, damaged(&whole, &mut draws)).unwrap();
        match load(&model) {
            Ok(()) => loaded += 1,
            Err(error) => {
                refused += 1;
                let told = error.contains("text_encoder");
                assert!(told && error.len() < 2000, "case {case}: {error}");
            }
        }
    }
    // A byte of a name that is only metadata, or one that is drawn as it was, changes nothing.
    assert!(refused > 1800, "{refused} refused, {loaded} loaded");
}

#[test]
fn damaged_configurations_are_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copy(&golden(), &model);
    let mut draws = Draws(3);
    let names = ["model_index.json", "text_encoder/config.json", "unet/config.json", "vae/config.json"];
    let mut refused = 0;
    for case in 0..400 {
        let path = model.join(names[case % names.len()]);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        match draws.below(3) {
            0 => bytes.truncate(draws.below(whole.len())),
            1 => bytes[draws.below(whole.len())] = draws.next() as u8,
            _ => {
                let mut json: Value = serde_json::from_slice(&whole).unwrap();
                let keys: Vec<String> = json.as_object().unwrap().keys().cloned().collect();
                let odd =
                    [json!(-1), json!(1e300), json!([]), json!({}), json!("x"), json!(u64::MAX), json!(0), json!(null)];
                json[&keys[draws.below(keys.len())]] = odd[draws.below(odd.len())].clone();
                bytes = json.to_string().into_bytes();
            }
        }
        fs::write(&path, &bytes).unwrap();
        if let Err(error) = load(&model) {
            refused += 1;
            assert!(
                error.contains(&model.display().to_string())
                    || error.contains("text_model")
                    || error.contains("such tensor")
                    || error.contains("expected shape"),
                "case {case}: {error}"
            );
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(refused > 200, "{refused}");
}

#[cfg(unix)]
#[test]
fn links_that_loop_or_lead_nowhere_are_errors() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    assert!(load(&at("a")).unwrap_err().contains("a link that leads nowhere"));
    let model = at("model");
    copy(&golden(), &model);
    for name in ["text_encoder/model.safetensors", "unet/config.json"] {
        let path = model.join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(path.file_name().unwrap(), &path).unwrap();
        let error = load(&model).unwrap_err();
        assert!(error.contains(name), "{error}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    // A cache whose main refers to something outside of its snapshots.
    let cache = at("models--a--b");
    fs::create_dir_all(cache.join("snapshots")).unwrap();
    fs::create_dir_all(cache.join("refs")).unwrap();
    for name in ["../../model", "..", "/etc", ""] {
        fs::write(cache.join("refs/main"), name).unwrap();
        let error = load(&cache).unwrap_err();
        assert!(error.contains("models--a--b"), "{name}: {error}");
    }
    assert!(!describe(&at("a")).what.is_empty());
}
