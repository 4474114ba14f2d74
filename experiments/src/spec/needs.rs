//! Fields that have no effect without another one, or beside it.

use super::axis::written;
use super::check::Entry;
use anyhow::{Error, anyhow};
use latentrace_runs::{Cell, is_id};
use serde::Deserialize;
use std::path::Path;
use toml::{Table, Value};

/// A field that has no effect unless another one is given.
struct Need {
    field: &'static str,
    /// The fields of which one is needed.
    of: &'static [&'static str],
    /// Which values of that field will do.
    with: fn(&Value) -> bool,
    /// What is said of the field's value where none is given.
    says: &'static str,
    hint: &'static str,
}

/// The fields that need another one.
const NEEDS: [Need; 7] = [
    Need {
        field: "mask",
        of: &["image"],
        with: any,
        says: "is a mask without a picture",
        hint: "image names the picture that it is for",
    },
    Need {
        field: "strength",
        of: &["image"],
        with: any,
        says: "has no effect, because a run without a picture takes all steps",
        hint: "image names the picture to start from",
    },
    Need {
        field: "fit",
        of: &["image"],
        with: any,
        says: "has no effect, because there is no picture to scale",
        hint: "image names the picture to start from",
    },
    Need {
        field: "revision",
        of: &["model"],
        with: is_of_hub,
        says: "has no effect, because only a model of the hub has revisions",
        hint: "model = \"OWNER/NAME\" names one",
    },
    Need {
        field: "variant",
        of: &["model", "text_encoder", "text_encoder_2", "unet", "vae"],
        with: is_no_single_file,
        says: "has no effect, because the bundled model and single files have no variants",
        hint: "model names a folder or a model of the hub",
    },
    Need {
        field: "config",
        of: &["model"],
        with: is_single_file,
        says: "has no effect, because only a single file is read with other configuration files",
        hint: "model names a .safetensors file",
    },
    Need {
        field: "ema",
        of: &["model"],
        with: is_single_file,
        says: "has no effect, because only a single file may have a moving average of its weights",
        hint: "model names a .safetensors file",
    },
];

/// The fields that have no effect beside `features`, which replace the texts as the network gets them. The prompt stays
/// of use: the measures and the labels say what it asks for.
const REPLACED_BY_FEATURES: [&str; 7] =
    ["clip_skip", "long_prompts", "weights", "embeddings", "prompt_2", "negative_2", "empty_negative"];

fn any(_: &Value) -> bool {
    true
}

fn is_of_hub(model: &Value) -> bool {
    model.as_str().is_some_and(|text| is_id(Path::new(text)))
}

fn is_single_file(model: &Value) -> bool {
    model
        .as_str()
        .is_some_and(|text| Path::new(text).extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors")))
}

fn is_no_single_file(model: &Value) -> bool {
    !is_single_file(model)
}

/// The place of the first value that has no effect, with the error. A value that is the default asks for nothing, so
/// it is none.
pub(super) fn without_effect(entries: &[Entry]) -> Option<(String, Error)> {
    entries.iter().filter(|entry| !entry.excludes()).find_map(|entry| {
        let (says, hint) = fault(entry, entries)?;
        let (index, value) = entry.values.iter().enumerate().find(|(_, value)| asks(entry.key, value))?;
        let (value, key) = (written(value), entry.key);
        Some((entry.path_of(index), anyhow!("{value} {says}\nhint: {hint}; otherwise leave {key} out")))
    })
}

/// Why a field has no effect, and what would give it one.
fn fault(entry: &Entry, entries: &[Entry]) -> Option<(&'static str, &'static str)> {
    // What a reference has, it has besides what all cells have.
    let beside = |other: &&Entry| other.is_of_cells() || (!entry.is_of_cells() && !other.excludes());
    let values = |field: &str| -> Vec<&Value> {
        entries
            .iter()
            .filter(beside)
            .filter(|other| other.key == field)
            .flat_map(|other| other.values.clone())
            .collect()
    };
    if REPLACED_BY_FEATURES.contains(&entry.key) && !values("features").is_empty() {
        return Some(("has no effect, because features replace the encoded texts", "without features it has one"));
    }
    let need = NEEDS.iter().find(|need| need.field == entry.key)?;
    let is_met = need.of.iter().any(|field| values(field).into_iter().any(need.with));
    (!is_met).then_some((need.says, need.hint))
}

/// Whether a value of a field is not its default.
fn asks(field: &str, value: &Value) -> bool {
    let table = Table::from_iter([(field.to_string(), value.clone())]);
    Cell::deserialize(table).map_or(true, |cell| cell != Cell::default())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{spec, spec_with};
    use super::*;
    use latentrace_runs::FIELDS;

    fn error(text: &str) -> String {
        format!("{:#}", spec(text).err().expect(text))
    }

    /// A picture for a spec.
    fn photo() -> String {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pictures/init.png").display().to_string()
    }

    /// A value of a field that is not its default.
    fn example(field: &str) -> String {
        match field {
            "mask" => format!("{:?}", photo()),
            "strength" => "0.5".into(),
            "fit" => "'stretch'".into(),
            "ema" | "weights" => "true".into(),
            "clip_skip" => "1".into(),
            "long_prompts" => "'chunks'".into(),
            "embeddings" => "['cat.safetensors']".into(),
            "empty_negative" => "'text'".into(),
            _ => "'fp16'".into(),
        }
    }

    #[test]
    fn each_field_of_the_table_is_refused_alone_and_taken_with_what_it_needs() {
        for need in &NEEDS {
            assert!(FIELDS.contains(&need.field) && need.of.iter().all(|field| FIELDS.contains(field)));
            let field = format!("{} = {}", need.field, example(need.field));
            let alone = error(&format!("name='x'\n[fixed]\nseed=1\n{field}"));
            let place = format!(":4: fixed.{}: ", need.field);
            assert!(alone.contains(&place) && alone.contains(need.says) && alone.contains(need.hint), "{alone}");
            // What an exclude has is compared with cells, and is no request.
            assert!(spec(&format!("name='x'\n[[exclude]]\n{field}")).is_ok(), "{}", need.field);
        }
        let file = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
        let (file, image) = (format!("model = {:?}", file.path()), format!("image = {:?}", photo()));
        for (field, with) in [
            ("mask", image.as_str()),
            ("strength", &image),
            ("fit", &image),
            ("revision", "model = 'owner/model'"),
            ("variant", "model = 'owner/model'"),
            ("variant", "unet = 'owner/model'"),
            ("config", &file),
            ("ema", &file),
        ] {
            let text = format!("name='x'\n[fixed]\n{field} = {}\n{with}", example(field));
            assert!(spec(&text).is_ok(), "{text}");
        }
        let other = error(&format!("name='x'\n[fixed]\n{file}\nvariant='fp16'"));
        assert!(other.contains(":4: fixed.variant: fp16 has no effect"), "{other}");
        let folder = error("name='x'\n[fixed]\nmodel='owner/model'\nema=true");
        assert!(folder.contains(":4: fixed.ema: true has no effect"), "{folder}");
    }

    #[test]
    fn fields_of_texts_have_no_effect_beside_features() {
        for field in REPLACED_BY_FEATURES {
            let text = format!("name='x'\n[fixed]\nfeatures='f.safetensors'\n{field} = {}", example(field));
            let error = error(&text);
            assert!(error.contains(&format!(":4: fixed.{field}: ")) && error.contains("because features"), "{error}");
            assert!(spec(&text.replace("features='f.safetensors'", "seed=1")).is_ok(), "{field}");
        }
    }

    #[test]
    fn a_value_is_named_where_it_stands_and_a_default_asks_for_nothing() {
        let varied = error("name='x'\n[vary]\nfit=['crop',\n'stretch']");
        assert!(varied.contains(":4: vary.fit.1: stretch has no effect"), "{varied}");
        assert!(spec("name='x'\n[fixed]\nfit='crop'\nema=false").is_ok());
        let zipped = error("name='x'\n[[zip]]\nseed=[1,2]\nstrength=[0.5,1]");
        assert!(zipped.contains(":4: zip.0.strength.0: 0.5 has no effect"), "{zipped}");
        let of_reference = "name='x'\nfigures=['schedulers']\n[reference]\nstrength=1";
        let error = error(of_reference);
        assert!(error.contains(":4: reference.strength: 1 has no effect"), "{error}");
        let set = spec_with("name='x'\n[fixed]\nprompt='a'", &["strength=0.5"]).err().unwrap();
        assert!(format!("{set:#}").starts_with("--set strength=0.5: 0.5 has no effect"), "{set:#}");
        assert!(spec_with("name='x'\n[vary]\nstrength=[0.5,1]", &[&format!("image={}", photo())]).is_ok());
    }
}
