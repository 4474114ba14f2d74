//! A spec as it is written: the fields of its file, and what `--set` replaces.

use super::lines::Lines;
use super::words::plain;
use super::{paths, values};
use anyhow::{Error, Result, anyhow, bail};
use latentrace_runs::{FIELDS, PAIRS, PREFIX};
use serde::Deserialize;
use std::path::Path;
use toml::{Table, Value};

/// An experiment as its TOML file says it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: String,
    #[serde(default)]
    pub(super) about: String,
    /// Fields that every cell has, and words for its texts.
    #[serde(default)]
    pub(super) fixed: Table,
    /// Fields and words that vary, each with its values; the last varies fastest.
    #[serde(default)]
    pub(super) vary: Table,
    /// Fields that vary together.
    #[serde(default)]
    pub(super) zip: Vec<Table>,
    /// Cells to leave out: those that have all these values.
    #[serde(default)]
    pub(super) exclude: Vec<Table>,
    /// What a fine solution has that the cells are compared with, other than they: `steps = 1000`.
    #[serde(default)]
    pub(super) reference: Table,
    #[serde(default)]
    pub(super) measure: Vec<String>,
    pub(super) figures: Option<Vec<String>>,
    #[serde(default)]
    pub(super) capture: Vec<String>,
    pub(super) budget: Option<u64>,
    pub(super) columns: Option<usize>,
}

impl Written {
    /// Reads the text of a file; `path` is what errors name. Paths in it are meant from the file's folder.
    ///
    /// # Errors
    /// The text is not TOML, or not a spec.
    pub(super) fn read(text: &str, path: &Path) -> Result<Written> {
        let mut written: Written = toml::from_str(text).map_err(|error| read_error(path, text, &error))?;
        written.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(written)
    }

    /// Takes paths from a folder, and options of the scheduler as fields by themselves.
    pub(super) fn resolve(&mut self, beside: &Path) {
        let tables = [&mut self.fixed, &mut self.vary, &mut self.reference];
        tables.into_iter().chain(&mut self.zip).chain(&mut self.exclude).for_each(|table| {
            paths::resolve(table, beside);
            flatten(table);
        });
    }

    /// Takes one `key=value`: a fixed field, or a varied one with a list of two or more values or `{ range = .. }`. A
    /// list of one value is that value.
    ///
    /// # Errors
    /// There is no `=`.
    pub(super) fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, value)) = assignment.split_once('=') else {
            bail!("--set {assignment}: expected key=value");
        };
        let key = key.trim();
        let value = parse(key, value.trim());
        for zip in &mut self.zip {
            zip.remove(key);
        }
        self.zip.retain(|zip| !zip.is_empty());
        let several = values::values(&value).ok().filter(|_| !is_list(key, &value));
        let (varies, value) = match several.as_deref() {
            Some([single]) => (false, single.clone()),
            Some(_) => (true, value),
            // Why a range makes no values is told with its place, when all is read.
            None => (values::makes(&value), value),
        };
        let (to, from) = if varies { (&mut self.vary, &mut self.fixed) } else { (&mut self.fixed, &mut self.vary) };
        from.remove(key);
        to.insert(key.into(), value);
        Ok(())
    }
}

/// The fields of a spec that are not of its cells.
pub(super) const TOP: [&str; 12] = [
    "name",
    "about",
    "fixed",
    "vary",
    "zip",
    "exclude",
    "reference",
    "measure",
    "figures",
    "capture",
    "budget",
    "columns",
];

/// An error of a spec's text: of a text that is not TOML with the line itself, otherwise with the field and its line.
fn read_error(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let (file, message) = (path.display(), error.message());
    if toml::from_str::<Table>(text).is_err() {
        let hint = match message.contains("too large") || message.contains("as i128") {
            true => format!("hint: a seed above {} is written in quotes, because TOML's numbers end there", i64::MAX),
            false => String::new(),
        };
        return anyhow!("{file}: {error}{hint}");
    }
    if message == "missing field `name`" {
        return anyhow!(
            "{file}: name: is missing\nhint: name = \"scales\" names the experiment and its folder under runs/"
        );
    }
    let lines = Lines::of(text);
    let place = |path: &str| match lines.line(path) {
        Some(line) => format!("{file}:{line}: {path}"),
        None => format!("{file}: {path}"),
    };
    match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((field, _)) if FIELDS.contains(&field) => {
            let hint = "hint: it stands under [fixed], or, with its values, under [vary]";
            anyhow!("{}: a field of the cells\n{hint}", place(field))
        }
        Some((field, _)) => anyhow!("{}: unknown field\n{}", place(field), latentrace_files::hint(field, TOP)),
        None => {
            let path = error.span().and_then(|span| lines.path(text, span.start)).unwrap_or_default();
            anyhow!("{}: {}", place(path), plain(message))
        }
    }
}

/// The options of a scheduler as fields by themselves, in their place: TOML reads `scheduler.rho = 5` as a table in a
/// table.
fn flatten(table: &mut Table) {
    let apart = |(key, value): (String, Value)| match value {
        Value::Table(options) if key == "scheduler" => {
            options.into_iter().map(|(option, value)| (format!("{PREFIX}{option}"), value)).collect()
        }
        value => vec![(key, value)],
    };
    *table = std::mem::take(table).into_iter().flat_map(apart).collect();
}

/// The fields whose value is a list of any length. Those of [`PAIRS`] are lists too.
const LISTS: [&str; 4] = ["edits", "embeddings", "loras", "ignore"];

/// The options of schedulers whose value may be a list.
const LIST_OPTIONS: [&str; 4] = ["timesteps", "sigmas", "trained_betas", "disable_corrector"];

/// Whether a list is one value. A field whose value is a list varies as a list of lists.
fn is_list(key: &str, value: &Value) -> bool {
    let is_flat = |value: &Value| value.as_array().is_some_and(|list| !list.iter().any(Value::is_array));
    let is_option = key.strip_prefix(PREFIX).is_some_and(|option| LIST_OPTIONS.contains(&option));
    (is_option || LISTS.contains(&key) || PAIRS.contains(&key)) && is_flat(value)
}

/// The fields whose values are text.
pub(super) const TEXTS: [&str; 28] = [
    "prompt",
    "negative",
    "prompt_2",
    "negative_2",
    "empty_negative",
    "long_prompts",
    "sampler",
    "spacing",
    "reading",
    "model",
    "revision",
    "variant",
    "family",
    "text_encoder",
    "text_encoder_2",
    "unet",
    "vae",
    "tokenizer",
    "tokenizer_2",
    "config",
    "image",
    "mask",
    "features",
    "fit",
    "dtype",
    "vae_dtype",
    "device",
    "kernels",
];

/// Whether the values of a field, or of a word, are texts.
pub(super) fn is_text(key: &str) -> bool {
    TEXTS.contains(&key) || !(FIELDS.contains(&key) || key.starts_with(PREFIX))
}

/// A value of the command line: text fields as they stand, anything else as TOML.
fn parse(key: &str, text: &str) -> Value {
    let literal =
        || toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    let is_text = TEXTS.contains(&key);
    match literal() {
        Some(value) if !is_text || value.is_array() || value.is_str() => value,
        _ => Value::String(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SMALL, spec_with};
    use super::*;

    fn set(assignments: &[&str]) -> Written {
        let text = "name='x'\n[fixed]\nsteps=4\n[vary]\nseed=[1,2]\n[[zip]]\nguidance=[1,4]\nnegative=['','red']";
        let mut written = Written::read(text, Path::new("x.toml")).unwrap();
        assignments.iter().for_each(|assignment| written.set(assignment).unwrap());
        written
    }

    #[test]
    fn the_fields_of_the_experiment_are_those_that_serde_knows() {
        let error = toml::from_str::<Written>("other = 1").unwrap_err();
        let (_, known) = error.message().split_once("expected one of ").unwrap();
        assert_eq!(known.replace('`', ""), TOP.join(", "));
    }

    #[test]
    fn a_list_of_one_value_is_that_value() {
        for assignment in ["seed=[7]", "seed=7", "seed={ range = [7, 7] }"] {
            let written = set(&[assignment]);
            assert_eq!(written.fixed["seed"], Value::Integer(7), "{assignment}");
            assert!(written.vary.is_empty(), "{assignment}");
        }
        let written = set(&["steps=[2, 3]", "guidance=[9]"]);
        assert!(written.fixed.get("steps").is_none() && written.vary["steps"].is_array());
        assert_eq!((written.fixed["guidance"].as_integer(), written.zip[0].len()), (Some(9), 1));
        let prompt = set(&["prompt=[\"a cat\"]"]);
        assert_eq!(prompt.fixed["prompt"].as_str(), Some("a cat"));
    }

    #[test]
    fn a_range_that_makes_no_values_says_why() {
        let error = |set: &str| format!("{:#}", spec_with(SMALL, &[set]).err().unwrap());
        let never = error("seed={ range = [9, 1] }");
        assert_eq!(never, "--set seed={ range = [9, 1] }: range: steps of 1 from 9 never reach 1");
        let rounded = error("guidance={ linspace = [1, 1.000001, 3] }");
        assert!(rounded.contains("linspace: 1 and 1.0000005 are both written 1, with six digits"), "{rounded}");
    }

    #[test]
    fn two_numbers_of_a_picture_are_one_value() {
        for field in PAIRS {
            assert_eq!(set(&[&format!("{field}=[8, 16]")]).fixed[field].as_array().map(Vec::len), Some(2), "{field}");
            assert!(set(&[&format!("{field}=[[8, 16], [0, 1]]")]).vary[field].is_array(), "{field}");
        }
    }

    #[test]
    fn a_field_that_is_a_list_varies_as_a_list_of_lists() {
        for field in LISTS {
            let one = set(&[&format!("{field}=[\"a\", \"b\"]")]);
            assert_eq!(one.fixed[field].as_array().map(Vec::len), Some(2), "{field}");
            assert!(set(&[&format!("{field}=[]")]).fixed[field].is_array(), "{field}");
            let one = set(&[&format!("{field}=[[\"a\"]]")]);
            assert_eq!(one.fixed[field][0].as_str(), Some("a"), "{field}: a list of one list is that list");
            assert!(set(&[&format!("{field}=[[], [\"a\"]]")]).vary[field].is_array(), "{field}");
        }
    }
}
