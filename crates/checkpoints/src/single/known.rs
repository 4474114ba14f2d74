//! What a single file does not say: the configurations of the original models, and what is assumed.

use super::original::Original;
use crate::choice::Choice;
use crate::error::{Result, file, read};
use crate::family::Family;
use crate::index::{INDEX, Index, PROJECTS, SLOTS, Slot};
use crate::scheduler::Origin;
use latentrace_nn::Header;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The configurations of Stable Diffusion 1.x.
pub(crate) static SD1: LazyLock<Value> = LazyLock::new(|| known(include_str!("sd1.json")));
/// The configurations of Stable Diffusion 2.1 for 768 pixels.
pub(crate) static SD2: LazyLock<Value> = LazyLock::new(|| known(include_str!("sd2.json")));

/// The configurations of SDXL's base.
pub(crate) static SDXL: LazyLock<Value> = LazyLock::new(|| known(include_str!("sdxl.json")));
/// The configurations of SDXL's refiner.
pub(crate) static SDXL_REFINER: LazyLock<Value> = LazyLock::new(|| known(include_str!("sdxl-refiner.json")));

fn known(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default() // a test reads all of them
}

/// Changes the configurations of Stable Diffusion 2.1 to those of its base model, for 512 pixels.
pub(crate) fn as_base(known: &mut Value) {
    known["unet"]["sample_size"] = 64.into();
    known["unet"]["upcast_attention"] = false.into();
    known["vae"]["sample_size"] = 512.into();
    known["scheduler"]["prediction_type"] = "epsilon".into();
}

/// Changes the configurations of SDXL's base to those of its Turbo, for 512 pixels.
pub(crate) fn as_turbo(known: &mut Value) {
    known["unet"]["sample_size"] = 64.into();
    known["scheduler"]["_class_name"] = "EulerAncestralDiscreteScheduler".into();
    known["scheduler"]["timestep_spacing"] = "trailing".into();
}

impl Original {
    pub(super) fn known(self) -> Value {
        match self {
            Original::Sd1 => SD1.clone(),
            Original::Sd2 => SD2.clone(),
            Original::Sdxl => SDXL.clone(),
            Original::SdxlRefiner => SDXL_REFINER.clone(),
        }
    }
}

/// The configuration files of a folder, as those of an original model in this crate.
pub(super) fn configs_of(folder: &Path, original: Original) -> Result<Value> {
    let json = |part: &str| -> Result<Value> {
        let path = folder.join(part).join("config.json");
        serde_json::from_str(&read(&path)?).map_err(|error| file(&path, error))
    };
    let mut all = serde_json::Map::new();
    for Slot { encoder, .. } in original.texts() {
        let mut config = json(encoder)?;
        // Where the configuration does not name its class, the file does: the second text encoder projects.
        if *encoder == SLOTS[1].encoder && config["architectures"].is_null() {
            config["architectures"] = serde_json::json!([PROJECTS]);
        }
        all.insert((*encoder).to_owned(), config);
    }
    for part in ["unet", "vae"] {
        all.insert(part.to_owned(), json(part)?);
    }
    Ok(all.into())
}

/// Whether no negative prompt means zeros, and the file that says so.
pub(super) fn zeros(original: Original, choice: &Choice) -> Result<(bool, Option<PathBuf>)> {
    match choice.config.as_ref().filter(|folder| original.is_xl() && folder.join(INDEX).is_file()) {
        Some(folder) => {
            let index = Index::read(folder)?;
            Ok((index.zeros()?, Some(index.path().to_path_buf())))
        }
        None => Ok((original == Original::Sdxl, None)),
    }
}

pub(super) fn scheduler(path: &Path, choice: &Choice, known: &Value) -> Origin {
    match &choice.config {
        Some(folder) => Origin::File(folder.join("scheduler/scheduler_config.json")),
        None => Origin::Known { file: path.into(), json: known["scheduler"].to_string() },
    }
}

/// What a single file is, as far as it is known without configurations.
pub(super) struct Told<'a> {
    pub(super) path: &'a Path,
    pub(super) header: &'a Header,
    pub(super) original: Original,
    pub(super) family: Option<Family>,
}

/// Applies what a file says of itself, and returns notes of what it does not say.
pub(super) fn assumptions(told: &Told, known: &mut Value) -> Vec<String> {
    let Told { path, header, original, family } = told;
    let (file, mut notes) = (path.display(), Vec::new());
    let is_turbo = *family == Some(Family::SdxlTurbo);
    if is_turbo {
        as_turbo(known);
    }
    let says = header.about.get("modelspec.prediction_type").map(|kind| kind.to_lowercase());
    let stated = match says.as_deref() {
        Some("v") => Some(("v_prediction", "its metadata says so")),
        Some("epsilon") => Some(("epsilon", "its metadata says so")),
        _ if header.tensors.contains_key("v_pred") => Some(("v_prediction", "it has a tensor v_pred")),
        _ => None,
    };
    let usual = known["scheduler"]["prediction_type"].as_str().unwrap_or("epsilon").to_owned();
    let (prediction, why) = stated.unwrap_or((&usual, "assumed, because the file does not say"));
    known["scheduler"]["prediction_type"] = prediction.into();
    if header.tensors.contains_key("ztsnr") {
        let class = without_last_noise(&mut known["scheduler"]);
        notes.push(format!("{file}: zero terminal SNR, because it has a tensor ztsnr: {class} with trailing times"));
    }
    // Stable Diffusion 2.1 has a base model of 512 pixels that predicts noise, and one of 768 that predicts v.
    let is_base = *original == Original::Sd2 && prediction == "epsilon";
    if is_base {
        as_base(known);
    }
    let (name, side) = match original {
        Original::Sd2 if is_base => ("2.x base", 512),
        Original::Sdxl if is_turbo => ("XL Turbo", 512),
        Original::Sd1 => (original.name(), 512),
        Original::Sd2 => (original.name(), 768),
        Original::Sdxl | Original::SdxlRefiner => (original.name(), 1024),
    };
    notes.push(format!(
        "{file}: Stable Diffusion {name}, {side}x{side}, prediction_type {prediction} ({why})\nhint: --set scheduler.prediction_type=, --height and --width replace it; --config names a folder with other configuration files"
    ));
    if *original == Original::Sdxl && family.is_none() {
        notes.push(format!(
            "{file}: the base of Stable Diffusion XL is assumed, because the file does not say whether it is Turbo\nhint: --family sdxl-turbo"
        ));
    }
    notes
}

/// Changes a scheduler's configuration to one whose last level is noise alone. Returns the name of its class.
fn without_last_noise(scheduler: &mut Value) -> String {
    if scheduler["_class_name"] == "PNDMScheduler" {
        scheduler["_class_name"] = "DDIMScheduler".into(); // PNDM has no such option
    }
    scheduler["rescale_betas_zero_snr"] = true.into();
    scheduler["timestep_spacing"] = "trailing".into();
    scheduler["_class_name"].as_str().unwrap_or_default().trim_end_matches("Scheduler").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::{Config, Stored};

    const ALL: [Original; 4] = [Original::Sd1, Original::Sd2, Original::Sdxl, Original::SdxlRefiner];

    #[test]
    fn the_configurations_in_this_crate_are_supported() {
        for original in ALL {
            let known = original.known();
            let config = |part: &str| Config::parse(part, &known[part].to_string()).unwrap();
            let text = |slot: &Slot| latentrace_text::TextConfig::read(&config(slot.encoder)).unwrap();
            let texts: Vec<_> = original.texts().iter().map(text).collect();
            let unet = latentrace_unet::UnetConfig::read(&config("unet")).unwrap();
            assert_eq!(texts.iter().map(|text| text.hidden_size).sum::<i64>(), unet.cross_attention_dim);
            let pooled = texts.last().unwrap().projection.as_ref().map(|projection| projection.width);
            let numbers = unet.added.map(|added| added.numbers(pooled.unwrap()).unwrap());
            let expected = match original {
                Original::Sd1 | Original::Sd2 => None,
                Original::Sdxl => Some(6),
                Original::SdxlRefiner => Some(5),
            };
            assert_eq!(numbers, expected);
            let vae = latentrace_vae::VaeConfig::read(&config("vae")).unwrap();
            assert_eq!((vae.factor(), vae.scaling_factor == 0.13025), (8, original.is_xl()));
            latentrace_schedulers::Config::from_json(&known["scheduler"].to_string()).unwrap();
        }
    }

    /// The configurations and notes of a file with these tensors, all of one number.
    fn assumed(original: Original, family: Option<Family>, tensors: &[&str]) -> (Value, Vec<String>) {
        let one = |name: &&str| ((*name).to_owned(), Stored { dtype: "F16".into(), shape: vec![1], bytes: 2 });
        let header = Header { tensors: tensors.iter().map(one).collect(), about: Default::default() };
        let mut known = original.known();
        let notes = assumptions(&Told { path: Path::new("x"), header: &header, original, family }, &mut known);
        (known, notes)
    }

    #[test]
    fn turbo_is_what_a_file_is_said_to_be_and_base_is_assumed() {
        let (base, notes) = assumed(Original::Sdxl, None, &[]);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(
            notes[0].starts_with("x: Stable Diffusion XL, 1024x1024, prediction_type epsilon (assumed"),
            "{notes:?}"
        );
        assert!(notes[1].contains("does not say whether it is Turbo\nhint: --family sdxl-turbo"), "{notes:?}");
        let (same, notes) = assumed(Original::Sdxl, Some(Family::Sdxl), &[]);
        assert_eq!((same, notes.len()), (base.clone(), 1), "{notes:?}");
        let (turbo, notes) = assumed(Original::Sdxl, Some(Family::SdxlTurbo), &[]);
        assert!(notes.len() == 1 && notes[0].starts_with("x: Stable Diffusion XL Turbo, 512x512,"), "{notes:?}");
        assert_eq!((&turbo["unet"]["sample_size"], &base["unet"]["sample_size"]), (&64.into(), &128.into()));
        assert_eq!(turbo["scheduler"]["_class_name"], "EulerAncestralDiscreteScheduler");
        assert_eq!(turbo["scheduler"]["timestep_spacing"], "trailing");
        latentrace_schedulers::Config::from_json(&turbo["scheduler"].to_string()).unwrap();
        let (_, notes) = assumed(Original::SdxlRefiner, None, &[]);
        assert!(notes.len() == 1 && notes[0].starts_with("x: Stable Diffusion XL refiner, 1024x1024,"), "{notes:?}");
    }

    #[test]
    fn a_last_level_of_noise_alone_is_of_a_class_that_has_it() {
        for (original, family, class) in [
            (Original::Sd1, None, "DDIM"),
            (Original::Sd2, None, "DDIM"),
            (Original::Sdxl, None, "EulerDiscrete"),
            (Original::Sdxl, Some(Family::SdxlTurbo), "EulerAncestralDiscrete"),
        ] {
            let (known, notes) = assumed(original, family, &["ztsnr", "v_pred"]);
            let scheduler = &known["scheduler"];
            assert_eq!(scheduler["_class_name"], format!("{class}Scheduler"));
            assert_eq!(scheduler["rescale_betas_zero_snr"], true);
            latentrace_schedulers::Config::from_json(&scheduler.to_string()).unwrap();
            let expected = format!("x: zero terminal SNR, because it has a tensor ztsnr: {class} with trailing times");
            assert_eq!(notes[0], expected);
            assert!(notes[1].contains("prediction_type v_prediction (it has a tensor v_pred)"), "{notes:?}");
        }
    }
}
