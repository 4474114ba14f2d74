//! `latentrace model verify`: the files of a checkpoint against checksums.

use crate::arguments::ChoiceArguments;
use crate::printer::line;
use anyhow::{Context, Result, anyhow, bail};
use latentrace::checkpoints::{known, sha256};
use latentrace::files::{counted, replace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Compare the files of a checkpoint with known checksums
///
/// With a lock file, or else with the checksums of published checkpoints.
#[derive(clap::Args)]
pub struct Verify {
    /// The checkpoint: a folder in the diffusers layout, a single .safetensors file, or a hub id
    model: PathBuf,
    /// Lines of a checksum and a path, as sha256sum writes them
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Write such a file, and compare with nothing
    #[arg(long, value_name = "FILE", conflicts_with = "lock")]
    write_lock: Option<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArguments,
}

impl Verify {
    /// Prints a line a file; fails if one of them is not what it should be.
    pub fn run(self) -> Result<()> {
        let checkpoint = self.choice.open(&self.model)?;
        let root = match checkpoint.place() {
            place if place.is_dir() => place.to_path_buf(),
            place => place.parent().map(Path::to_path_buf).unwrap_or_default(),
        };
        let mut sums = BTreeMap::new();
        for path in checkpoint.files()? {
            let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
            sums.insert(name, sha256(&path)?);
        }
        if let Some(lock) = &self.write_lock {
            let lines: Vec<String> = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
            replace(lock, lines.concat().as_bytes())?;
            line!("{}: {}", lock.display(), counted(sums.len(), "file"));
            return Ok(());
        }
        match &self.lock {
            Some(lock) => compared(&sums, &read(lock)?, lock),
            None => told(&sums),
        }
    }
}

/// The checksums of a lock file, by path.
fn read(lock: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(lock).with_context(|| lock.display().to_string())?;
    let mut sums = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed =
            line.split_once("  ").filter(|(sum, _)| sum.len() == 64 && sum.chars().all(|c| c.is_ascii_hexdigit()));
        let (sum, name) = parsed.ok_or_else(|| {
            anyhow!(
                "{}:{}: expected a sha256 of 64 digits, two spaces and a path, found {line}",
                lock.display(),
                number + 1
            )
        })?;
        sums.insert(name.to_owned(), sum.to_lowercase());
    }
    Ok(sums)
}

/// Compares with a lock file.
fn compared(sums: &BTreeMap<String, String>, locked: &BTreeMap<String, String>, lock: &Path) -> Result<()> {
    let mut wrong = 0;
    for (name, sum) in sums {
        let says = match locked.get(name) {
            Some(other) if other == sum => "as locked",
            Some(_) => "CHANGED",
            None => "not in the lock file",
        };
        wrong += usize::from(says != "as locked");
        line!("{sum}  {name}  {says}");
    }
    for name in locked.keys().filter(|name| !sums.contains_key(*name)) {
        wrong += 1;
        line!("{:64}  {name}  not used by this checkpoint", "");
    }
    if wrong > 0 {
        bail!("{}: {} as in {}", counted(wrong, "file"), if wrong == 1 { "is not" } else { "are not" }, lock.display());
    }
    Ok(())
}

/// Says which published file each one is.
fn told(sums: &BTreeMap<String, String>) -> Result<()> {
    let mut unknown = 0;
    for (name, sum) in sums {
        let weights = name.ends_with(".safetensors");
        match known(sum) {
            Some(published) => line!("{sum}  {name}  {published}"),
            None => line!("{sum}  {name}"),
        }
        unknown += usize::from(weights && known(sum).is_none());
    }
    if unknown > 0 {
        bail!(
            "{} of weights not among the published ones that are known here\nhint: --write-lock FILE keeps the checksums, and --lock FILE compares with them later",
            counted(unknown, "file")
        );
    }
    Ok(())
}
