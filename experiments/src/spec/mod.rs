//! An experiment: what is fixed, what varies.

use crate::cell::{Cell, FIELDS};
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use std::path::Path;
use toml::{Table, Value};

/// An experiment as its TOML file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The experiment's name, and that of its folder under `runs/`.
    pub name: String,
    /// One line for a reader, said when the experiment starts.
    #[serde(default)]
    pub about: String,
    /// Fields that every cell has.
    #[serde(default)]
    pub fixed: Table,
    /// Fields that vary, each with its list of values, the last varying fastest.
    #[serde(default)]
    pub vary: Table,
    /// What is kept of every run besides the sampler's values: `unet.**.attn2.probs | head_mean`.
    #[serde(default)]
    pub capture: Vec<String>,
    /// How many bytes of it at most, for each run.
    pub budget: Option<u64>,
    /// Columns of the grid, unless two fields vary: then, and without it, one for each value of the last of them.
    pub columns: Option<usize>,
}

/// More cells than anyone means.
const MOST: usize = 100_000;

impl Spec {
    /// Reads a spec, with `key=value` overrides of fixed fields.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Spec> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut spec: Spec = toml::from_str(&text).with_context(|| path.display().to_string())?;
        spec.check(path)?;
        for assignment in overrides {
            spec.set(assignment)?;
        }
        Ok(spec)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let file = path.display();
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        ensure!(
            !self.name.is_empty() && self.name.chars().all(plain),
            "{file}: name: letters, digits and - only, found {:?}",
            self.name
        );
        for (table, keys) in [("fixed", &self.fixed), ("vary", &self.vary)] {
            for key in keys.keys() {
                known(key).with_context(|| format!("{file}: {table}"))?;
            }
        }
        for (key, values) in &self.vary {
            let list =
                values.as_array().with_context(|| format!("{file}: vary.{key}: expected a list, found {values}"))?;
            ensure!(!list.is_empty(), "{file}: vary.{key}: an empty list leaves no cell");
            ensure!(!self.fixed.contains_key(key), "{file}: {key}: both fixed and varied");
        }
        ensure!(self.columns != Some(0), "{file}: columns: expected 1 or more, found 0");
        Ok(())
    }

    /// Takes one `key=value`: a fixed field, or with a list a varied one.
    fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, value)) = assignment.split_once('=') else {
            bail!("--set {assignment}: expected key=value");
        };
        let key = key.trim();
        known(key).context("--set")?;
        let value = parse(key, value.trim());
        self.fixed.remove(key);
        match value {
            Value::Array(_) => _ = self.vary.insert(key.into(), value),
            _ => {
                self.vary.remove(key);
                self.fixed.insert(key.into(), value);
            }
        }
        Ok(())
    }

    /// Every cell, in order.
    pub fn cells(&self) -> Result<Vec<Cell>> {
        let sizes = self.vary.values().map(|values| values.as_array().map_or(0, Vec::len));
        let count = sizes.fold(1usize, usize::saturating_mul);
        ensure!(count <= MOST, "{count} cells: more than {MOST} are surely a mistake");
        let mut tables = vec![self.fixed.clone()];
        for (key, values) in &self.vary {
            let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
            let with = |table: &Table, value: &Value| {
                let mut table = table.clone();
                table.insert(key.clone(), value.clone());
                table
            };
            tables = tables.iter().flat_map(|table| values.iter().map(|value| with(table, value))).collect();
        }
        tables
            .into_iter()
            .map(|table| Cell::deserialize(table).map_err(|error| anyhow!("{}", error.message())))
            .collect()
    }

    /// The fields that vary.
    pub fn axes(&self) -> Vec<&str> {
        self.vary
            .iter()
            .filter(|(_, values)| values.as_array().is_some_and(|list| list.len() > 1))
            .map(|(key, _)| key.as_str())
            .collect()
    }
}

/// Holds that a field is one of a cell's.
fn known(key: &str) -> Result<()> {
    if FIELDS.contains(&key) {
        return Ok(());
    }
    let near = FIELDS.iter().map(|field| (strsim::jaro_winkler(field, key), field)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match near {
        Some((likeness, field)) if likeness > 0.75 => format!("did you mean {field}?"),
        _ => format!("the fields are {}", FIELDS.join(", ")),
    };
    bail!("{key}: unknown field\nhint: {hint}")
}

/// A value of the command line: text fields as they stand, anything else as TOML.
fn parse(key: &str, text: &str) -> Value {
    let literal =
        || toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    let is_text = ["prompt", "negative", "sampler", "reading", "model", "dtype", "device"].contains(&key);
    match literal() {
        Some(value) if !is_text || value.is_array() || value.is_str() => value,
        _ => Value::String(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<Spec> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, text).unwrap();
        Spec::open(path.path(), &[])
    }

    #[test]
    fn expands_with_the_last_field_fastest_and_takes_overrides() {
        let mut spec = spec("name='x'\n[fixed]\nprompt='a'\n[vary]\nseed=[1,2]\nguidance=[0.5,4]").unwrap();
        let pairs =
            |spec: &Spec| spec.cells().unwrap().iter().map(|cell| (cell.seed, cell.guidance)).collect::<Vec<_>>();
        assert_eq!(pairs(&spec), [(1, 0.5), (1, 4.0), (2, 0.5), (2, 4.0)]);
        spec.set("seed=7").unwrap();
        spec.set("prompt=a red circle").unwrap();
        assert_eq!(pairs(&spec), [(7, 0.5), (7, 4.0)]);
        assert_eq!(spec.cells().unwrap()[0].prompt, "a red circle");
        assert_eq!(spec.axes(), ["guidance"]);
        spec.set("steps=[5, 10]").unwrap();
        assert_eq!(spec.cells().unwrap().len(), 4);
    }

    #[test]
    fn a_typo_is_an_error_with_the_near_name_and_the_file() {
        let error = format!("{:#}", spec("name='x'\n[fixed]\nstpes=3").unwrap_err());
        assert!(
            error.contains("fixed") && error.contains("stpes: unknown field") && error.contains("did you mean steps?"),
            "{error}"
        );
        for bad in [
            "name='../x'",
            "name='x'\n[vary]\nseed=[]",
            "name='x'\n[vary]\nseed=3",
            "name='x'\ncolour=3",
            "nam='x'",
            "",
        ] {
            assert!(spec(bad).is_err(), "{bad}");
        }
        assert!(spec("name='x'\n[fixed]\nsteps='many'").unwrap().cells().is_err());
    }
}
