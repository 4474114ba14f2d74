//! The list of a sweep's cells in its store: what a status is of, and what the machines that share the work must agree on.

use anyhow::{Result, anyhow, bail};
use latentrace_files::{read_text, replace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The cells of a sweep, with what decides their keys besides the spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// The name of the experiment.
    pub name: String,
    /// The version of libtorch.
    pub libtorch: String,
    /// The hash of each model by its place.
    pub models: BTreeMap<String, String>,
    /// The cells, in the order of the spec.
    pub cells: Vec<Listed>,
}

/// A cell in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The key under which it is made.
    pub key: String,
    /// Other keys under which it may be in the store: made alone, or by a version whose keys had less.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// What the legend calls it.
    pub label: String,
    /// How many rows the network computes for it by itself; `None` in the list of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluations: Option<usize>,
}

impl Listed {
    /// All keys under which it may be in the store.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.also.iter().chain([&self.key]).map(String::as_str)
    }
}

/// Its file in a store.
const FILE: &str = "cells.json";

impl List {
    /// The list in a store. `None` if there is none: no sweep has been begun in it, or by an earlier version.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(root: &Path) -> Result<Option<List>> {
        let file = root.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let hint = "hint: remove it; `latentrace run` writes it again";
        let text = read_text(&file)?;
        serde_json::from_str(&text).map(Some).map_err(|error| anyhow!("{}: {error}\n{hint}", file.display()))
    }

    /// Whether a store has this list.
    pub(crate) fn is_in(&self, root: &Path) -> bool {
        List::read(root).is_ok_and(|there| there.as_ref() == Some(self))
    }

    /// Writes the list into a store, in place of an earlier one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        if self.is_in(root) {
            return Ok(());
        }
        Ok(replace(&root.join(FILE), format!("{}\n", serde_json::to_string_pretty(self)?).as_bytes())?)
    }

    /// Checks that the list in a store, if there is one, has the cells of this one.
    ///
    /// # Errors
    /// It has others: the error says what differs.
    pub(crate) fn check(&self, root: &Path) -> Result<()> {
        let Some(there) = List::read(root)? else { return Ok(()) };
        let keys =
            |list: &List| list.cells.iter().map(|cell| cell.key.clone()).collect::<std::collections::HashSet<_>>();
        if keys(&there) == keys(self) {
            return Ok(());
        }
        self.check_machine(root, &there)?;
        bail!(
            "{}: a list of other cells than those of this experiment: {} there, {} here\nhint: the spec, a file that it \
             names, or --batched has changed since; `latentrace run` or `submit` without a part writes the list again. Or this \
             machine computes otherwise: by other kernels, on a GPU or not, or on other threads; see docs/cluster.md",
            root.join(FILE).display(),
            there.cells.len(),
            self.cells.len()
        );
    }

    /// Checks that the list in a store, if there is one, was made with the libtorch and the models of this one, whatever its
    /// cells are.
    ///
    /// # Errors
    /// Another libtorch or another model made it: the error says which.
    pub fn check_origin(&self, root: &Path) -> Result<()> {
        List::read(root)?.map_or(Ok(()), |there| self.check_machine(root, &there))
    }

    /// Checks that a list in a store was made with the libtorch and the models of this one.
    fn check_machine(&self, root: &Path, there: &List) -> Result<()> {
        let place = root.join(FILE);
        let place = place.display();
        if there.libtorch != self.libtorch {
            bail!(
                "{place}: the list was made with libtorch {}, and here is {}\nhint: keys have the version, so cells would be made \
                 twice: use one version on all machines",
                there.libtorch,
                self.libtorch
            );
        }
        for (model, hash) in &self.models {
            if let Some(other) = there.models.get(model).filter(|other| *other != hash) {
                bail!(
                    "{model}: its files have the hash {}, and {place} was made with {}\nhint: use the same model on all machines",
                    short(hash),
                    short(other)
                );
            }
        }
        Ok(())
    }
}

/// The beginning of a hash.
fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(libtorch: &str, hash: &str, keys: &[&str]) -> List {
        let cell = |key: &&str| Listed {
            key: key.to_string(),
            also: Vec::new(),
            label: format!("seed {key}"),
            evaluations: None,
        };
        List {
            name: "x".into(),
            libtorch: libtorch.into(),
            models: BTreeMap::from([("models/a".into(), hash.into())]),
            cells: keys.iter().map(cell).collect(),
        }
    }

    #[test]
    fn machines_that_would_give_other_keys_are_told_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let here = list("2.11.0", "aaaa", &["1", "2"]);
        here.check(folder.path()).unwrap();
        here.write(folder.path()).unwrap();
        assert_eq!(List::read(folder.path()).unwrap().unwrap(), here);
        list("2.11.0", "aaaa", &["2", "1"]).check(folder.path()).unwrap();
        for (other, said) in [
            (list("2.12.0", "aaaa", &["3", "4"]), "the list was made with libtorch 2.11.0, and here is 2.12.0"),
            (list("2.11.0", "bbbb", &["3", "4"]), "models/a: its files have the hash bbbb, and "),
            (list("2.11.0", "aaaa", &["1"]), "a list of other cells than those of this experiment: 2 there, 1 here"),
        ] {
            let error = format!("{:#}", other.check(folder.path()).unwrap_err());
            assert!(error.contains(said) && error.contains("hint: "), "{error}");
        }
        list("2.11.0", "aaaa", &["7"]).check_origin(folder.path()).unwrap();
        let origin = |other: &List| format!("{:#}", other.check_origin(folder.path()).unwrap_err());
        assert!(origin(&list("2.12.0", "aaaa", &["1"])).contains("and here is 2.12.0"));
        assert!(origin(&list("2.11.0", "bbbb", &["1"])).contains("its files have the hash bbbb"));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(format!("{:#}", List::read(folder.path()).unwrap_err()).contains("cells.json: "));
        here.write(folder.path()).unwrap();
        assert_eq!(List::read(folder.path()).unwrap().unwrap(), here);
    }
}
