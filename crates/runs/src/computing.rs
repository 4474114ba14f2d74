//! How the networks of a store's cells are computed: chosen once, and kept in the store.

use crate::cell::Cell;
use anyhow::{Result, anyhow, bail};
use latentrace_files::{counted, read_text, replace};
use latentrace_pipeline::nn::{Kernels, all_threads, given_threads};
use latentrace_pipeline::{Checkpoint, Dtype, KernelChoice, Model, Options, Threads, are_measured};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// On how many CPU threads, and by which kernels, networks are computed where a cell does not say it. Both change rounding,
/// and which are the fastest depends on the machine. So a store keeps what the process that began it has chosen, and the
/// others follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Computing {
    threads: Counts,
    /// The kernels of large networks on the CPU, by number format.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    kernels: BTreeMap<Dtype, Kernels>,
    /// Whether the store is of a version that kept no such file. Then the keys of its cells do not have the threads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    from_before: bool,
}

/// A number of CPU threads for small calls of a UNet, and one for large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    small: usize,
    large: usize,
}

/// Its file in a store.
const FILE: &str = "computing.json";

impl Computing {
    /// As this process chooses.
    pub fn here() -> Computing {
        let [small, large] = Threads::of_environment().counts();
        Computing { threads: Counts { small, large }, kernels: BTreeMap::new(), from_before: false }
    }

    /// As in a store of a version that kept no choice, whose cells were made on so many threads and by these kernels.
    pub fn from_before(threads: usize, kernels: Kernels) -> Computing {
        let of_all = [Dtype::F32, Dtype::F16, Dtype::Bf16].map(|dtype| (dtype, kernels));
        Computing { threads: Counts { small: threads, large: threads }, kernels: of_all.into(), from_before: true }
    }

    /// As a store has chosen. `None` if it has not.
    ///
    /// # Errors
    /// The file cannot be read, or says something else.
    pub fn of_store(root: &Path) -> Result<Option<Computing>> {
        let file = root.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let hint = "hint: without this file the cells that are there count as made by an earlier version";
        let read: Computing =
            serde_json::from_str(&read_text(&file)?).map_err(|error| anyhow!("{}: {error}\n{hint}", file.display()))?;
        let Counts { small, large } = read.threads;
        match [small, large].contains(&0) {
            true => bail!("{}: threads: expected 1 or more, found 0\n{hint}", file.display()),
            false => Ok(Some(read)),
        }
    }

    /// Keeps the choice in a store, unless the store has it. The caller has the store's claim on its own files.
    ///
    /// # Errors
    /// Another process has kept another choice meanwhile, or the file cannot be written.
    pub fn keep(&self, root: &Path) -> Result<()> {
        let kept = Computing::of_store(root)?;
        let mut whole = kept.clone().unwrap_or_else(|| self.clone());
        for (dtype, kernels) in &self.kernels {
            whole.kernels.entry(*dtype).or_insert(*kernels);
        }
        let is_ours = |(dtype, kernels): (&Dtype, &Kernels)| whole.kernels.get(dtype) == Some(kernels);
        if whole.threads != self.threads || !self.kernels.iter().all(is_ours) {
            bail!(
                "{}: another process has begun it meanwhile with {whole}, and this one with {self}\nhint: the same command again follows that one",
                root.display()
            );
        }
        match kept == Some(whole.clone()) {
            true => Ok(()),
            false => Ok(replace(&root.join(FILE), format!("{:#}\n", serde_json::to_value(&whole)?).as_bytes())?),
        }
    }

    /// Whether keys have the number of threads.
    pub fn is_from_before(&self) -> bool {
        self.from_before
    }

    /// The threads that a model runs on.
    pub(crate) fn threads(&self) -> Threads {
        let Counts { small, large } = self.threads;
        Threads::Chosen { small, large }
    }

    /// The options that a cell's model is loaded with.
    ///
    /// # Errors
    /// The device is not there.
    pub(crate) fn options(&self, cell: &Cell, checkpoint: &Checkpoint) -> Result<Options> {
        let options = cell.options();
        let is_open = options.kernels == KernelChoice::Fastest;
        let is_measured = is_open && are_measured(&checkpoint.unet.config, options.device.find()?);
        let chosen = self.kernels.get(&options.dtype).filter(|_| is_measured);
        Ok(chosen.map_or(options, |kernels| Options { kernels: KernelChoice::Exactly(*kernels), ..options }))
    }

    /// Notes the kernels of a cell's model, if they are new.
    pub(crate) fn note(&mut self, cell: &Cell, model: &Model) {
        if cell.kernels.is_none() && are_measured(&model.checkpoint.unet.config, model.device) {
            self.kernels.entry(cell.dtype).or_insert(model.kernels);
        }
    }

    /// Checks that this process can have as many threads as a picture of the store in a folder is made on.
    ///
    /// # Errors
    /// The environment gives another number, or the machine has fewer.
    pub fn check_threads(count: usize, root: &Path) -> Result<()> {
        let root = root.display();
        let chosen = counted(count, "thread");
        match given_threads() {
            Some((name, value)) if all_threads() != count => bail!(
                "{root}: its cells are computed on {chosen}, and {name}={value} gives {}\nhint: unset {name}, or give another folder with --output",
                all_threads()
            ),
            None if all_threads() < count => bail!(
                "{root}: its cells are computed on {chosen}, and this machine has {}\nhint: another folder with --output",
                all_threads()
            ),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Computing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { small, large } = self.threads;
        write!(f, "{} ({large} for large networks)", counted(small, "thread"))?;
        let dtypes = self.kernels.iter().map(|(dtype, kernels)| format!(", {dtype:?} by {kernels}").to_lowercase());
        dtypes.into_iter().try_for_each(|words| f.write_str(&words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(threads: usize, kernels: &str) -> Computing {
        let kernels = [(Dtype::Bf16, kernels.parse().unwrap())].into();
        Computing { threads: Counts { small: 1, large: threads }, kernels, from_before: false }
    }

    #[test]
    fn the_first_choice_is_kept_and_others_follow_or_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Computing::of_store(root).unwrap(), None);
        let first = chosen(2, "channels-last");
        first.keep(root).unwrap();
        assert_eq!(Computing::of_store(root).unwrap(), Some(first.clone()));
        first.keep(root).unwrap();
        for other in [chosen(4, "channels-last"), chosen(2, "plain")] {
            let refused = other.keep(root).unwrap_err().to_string();
            assert!(refused.contains("2 for large networks), bf16 by channels-last, and this one with"), "{refused}");
        }
        // What a later sweep adds for another number format leaves the rest as it is.
        let kernels = [(Dtype::F32, Kernels::PLAIN)].into();
        Computing { kernels, ..first.clone() }.keep(root).unwrap();
        assert_eq!(Computing::of_store(root).unwrap().unwrap().kernels.len(), 2);
    }

    #[test]
    fn a_file_that_says_something_else_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "",
            "{}",
            "{\"threads\":{\"small\":0,\"large\":2}}",
            "{\"threads\":{\"small\":1,\"large\":2},\"kernels\":{\"f32\":\"quick\"}}",
        ] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let error = Computing::of_store(folder.path()).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("hint: "), "{text:?}: {error}");
        }
    }
}
