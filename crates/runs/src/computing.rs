//! How the networks of a store's cells are computed: chosen once, and kept in the store.

use crate::cell::Cell;
use crate::key::{self, Computed, Mode};
use anyhow::{Result, anyhow, bail};
use latentrace_files::{counted, read_text, replace};
use latentrace_pipeline::nn::tch::Device;
use latentrace_pipeline::nn::{Kernels, all_threads, given_threads};
use latentrace_pipeline::{Checkpoint, Dtype, KernelChoice, Model, Options, Threads, are_measured};
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
    /// How the cells were made that are from before there was such a file. Their keys do not have the threads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<Before>,
}

/// How the cells of a model in a number format were made on the CPU before there was such a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    /// The hash of the model's files.
    model: String,
    dtype: Dtype,
    threads: usize,
    kernels: Kernels,
}

/// A number of CPU threads for small calls of a UNet, and one for large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    small: usize,
    large: usize,
}

impl Computing {
    /// Its file in a store.
    pub const FILE: &str = "computing.json";

    /// As this process chooses.
    pub fn here() -> Computing {
        let [small, large] = Threads::of_environment().counts();
        Computing { threads: Counts { small, large }, kernels: BTreeMap::new(), before: Vec::new() }
    }

    /// As this process chooses, but for what was made in the store of a version that kept no choice: each model in each number
    /// format goes on as in the descriptions of its runs.
    pub fn from_before<'a>(descriptions: impl Iterator<Item = &'a Value>) -> Computing {
        let mut before: Vec<Before> = Vec::new();
        for one in descriptions.filter_map(Before::of) {
            match before.iter_mut().find(|known| (&known.model, known.dtype) == (&one.model, one.dtype)) {
                // Those that were made in a batch may have had more.
                Some(known) => known.threads = known.threads.min(one.threads),
                None => before.push(one),
            }
        }
        Computing { before, ..Computing::here() }
    }

    /// As a store has chosen. `None` if it has not.
    ///
    /// # Errors
    /// The file cannot be read, or says something else.
    pub fn of_store(root: &Path) -> Result<Option<Computing>> {
        let file = root.join(Computing::FILE);
        if !file.exists() {
            return Ok(None);
        }
        let hint = "hint: restore it, or remove it: the sweep then goes on as the cells that are there were computed";
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
            false => {
                Ok(replace(&root.join(Computing::FILE), format!("{:#}\n", serde_json::to_value(&whole)?).as_bytes())?)
            }
        }
    }

    /// Under which keys a cell may be in the store: how it was made, and what of its computation the key has. A cell that was made
    /// alone is as good as one of a batch. The last is the one that it is made under by `mode`. `computed` is that of its run by
    /// itself.
    pub fn keyed(&self, cell: &Cell, model: &str, computed: Computed, mode: Mode) -> Vec<(Mode, Computed)> {
        let on = |threads: Option<usize>| Computed { threads, ..computed };
        // A batch may be a large call of a UNet where a picture alone is a small one.
        let large = computed.threads.map(|_| self.threads.large);
        let mut keyed = vec![(Mode::Alone, computed), (Mode::Batched, on(large))];
        if let Some(before) = self.of_before(cell, model) {
            // The file may have been lost: then the keys have the threads.
            keyed[0].1 = on(Some(before.threads));
            keyed.extend([(Mode::Alone, on(None)), (Mode::Batched, on(None))]);
        }
        keyed.retain(|(own, _)| *own == Mode::Alone || mode == Mode::Batched);
        keyed
    }

    fn of_before(&self, cell: &Cell, model: &str) -> Option<&Before> {
        self.before.iter().find(|before| before.model == model && before.dtype == cell.dtype)
    }

    /// The threads that a cell's model runs on.
    fn threads(&self, before: Option<&Before>) -> Threads {
        let Counts { small, large } = self.threads;
        before.map_or(Threads::Chosen { small, large }, |before| Threads::Chosen {
            small: before.threads,
            large: before.threads,
        })
    }

    /// The options that a cell's model is loaded with, and the threads that it runs on.
    ///
    /// # Errors
    /// The device is not there, or a file of the checkpoint cannot be read.
    pub(crate) fn options(&self, cell: &Cell, checkpoint: &Checkpoint) -> Result<(Options, Threads)> {
        let options = cell.options();
        let before = match self.before.is_empty() {
            true => None,
            false => self.of_before(cell, &key::hash(&std::path::absolute(checkpoint.place())?, &cell.choice())?),
        };
        let threads = self.threads(before);
        if options.kernels != KernelChoice::Fastest || options.device.find()? != Device::Cpu {
            return Ok((options, threads));
        }
        let measured = are_measured(&checkpoint.unet.config, Device::Cpu);
        let of_store = self.kernels.get(&options.dtype).filter(|_| measured);
        let chosen = before.map(|before| &before.kernels).or(of_store);
        let kernels = chosen.map_or(KernelChoice::Fastest, |kernels| KernelChoice::Exactly(*kernels));
        Ok((Options { kernels, ..options }, threads))
    }

    /// Notes the kernels of a cell's model, if they are new. `is_open` says whether they were left to the machine.
    pub(crate) fn note(&mut self, cell: &Cell, model: &Model, is_open: bool) {
        if is_open && are_measured(&model.checkpoint.unet.config, model.device) {
            self.kernels.entry(cell.dtype).or_insert(model.kernels);
        }
    }

    /// Checks that this process can have as many threads as a cell of the store in a folder is made on: `own` by itself, and in
    /// a batch as many as a large call of a UNet.
    ///
    /// # Errors
    /// The environment gives another number, or the machine has fewer.
    pub fn check_threads(&self, own: usize, is_batched: bool, root: &Path) -> Result<()> {
        check_threads(own, root)?;
        if is_batched { check_threads(self.threads.large, root) } else { Ok(()) }
    }
}

impl Before {
    /// That of a run on the CPU. `None` if the description cannot be read, or is of a GPU.
    fn of(description: &Value) -> Option<Before> {
        let program = &description["program"];
        let threads = usize::try_from(program["threads"].as_u64()?).ok().filter(|count| *count > 0)?;
        let kernels = description["kernels"].as_str().map_or(Ok(Kernels::PLAIN), str::parse).ok()?;
        let dtype = serde_json::from_value(description["cell"]["dtype"].clone()).ok()?;
        let model = description["model"]["blake3"].as_str()?.to_string();
        (program["device"] == "cpu").then_some(Before { model, dtype, threads, kernels })
    }
}

fn check_threads(count: usize, root: &Path) -> Result<()> {
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
        Computing { threads: Counts { small: 1, large: threads }, kernels, before: Vec::new() }
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
    fn a_store_from_before_goes_on_by_model_and_number_format() {
        let about = |model: &str, dtype: &str, device: &str, threads: usize, kernels: Option<&str>| {
            let mut about = serde_json::json!({ "model": { "blake3": model }, "cell": { "dtype": dtype },
                "program": { "device": device, "threads": threads } });
            kernels.into_iter().for_each(|kernels| about["kernels"] = kernels.into());
            about
        };
        let found = [
            about("a", "f32", "cuda(0)", 2, Some("channels-last+fused")),
            about("a", "bf16", "cpu", 2, Some("attention-amx")),
            about("b", "f32", "cpu", 4, None),
            about("b", "f32", "cpu", 1, None),
            serde_json::json!({}),
        ];
        let computing = Computing::from_before(found.iter());
        assert_eq!(computing.before.len(), 2);
        let cell = |dtype| Cell { dtype, ..Cell::default() };
        let computed = Computed { kernels: Kernels::PLAIN, threads: Some(3) };
        let keyed = |dtype, model, mode| -> Vec<(Mode, Option<usize>)> {
            let keyed = computing.keyed(&cell(dtype), model, computed, mode);
            keyed.into_iter().map(|(mode, computed)| (mode, computed.threads)).collect()
        };
        let (alone, batched) = (Mode::Alone, Mode::Batched);
        assert_eq!(keyed(Dtype::Bf16, "a", alone), [(alone, Some(2)), (alone, None)], "the file may have been lost");
        let large = Some(computing.threads.large);
        let all = [(alone, Some(1)), (batched, large), (alone, None), (batched, None)];
        assert_eq!(keyed(Dtype::F32, "b", batched), all);
        assert_eq!(keyed(Dtype::F32, "a", alone), [(alone, Some(3))], "made by nobody yet");
        let threads = |dtype, model| computing.threads(computing.of_before(&cell(dtype), model));
        assert_eq!(threads(Dtype::F32, "b"), Threads::Chosen { small: 1, large: 1 }, "the batch had more");
        assert_eq!(threads(Dtype::Bf16, "a"), Threads::Chosen { small: 2, large: 2 });
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
            std::fs::write(folder.path().join(Computing::FILE), text).unwrap();
            let error = Computing::of_store(folder.path()).unwrap_err().to_string();
            assert!(error.contains(Computing::FILE) && error.contains("hint: "), "{text:?}: {error}");
        }
    }
}
