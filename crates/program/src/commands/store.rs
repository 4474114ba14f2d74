//! `latentrace store`: the folders of sweeps, merged, checked and cleared.

use crate::printer::{Printer, aside, line};
use crate::sweeps::Teller;
use anyhow::{Result, ensure};
use latentrace::experiments::{Health, How, Merged, Pruned, Spec, Sweep, merge, prune, verify};
use latentrace::files::counted;
use latentrace::runs::Mode;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Merge, check and clear the folders of sweeps
#[derive(clap::Args)]
pub struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Merge(Merge),
    Verify(Verify),
    Prune(Prune),
}

impl Store {
    /// Runs the action.
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::Merge(action) => action.run(),
            Action::Verify(action) => action.run(),
            Action::Prune(action) => action.run(),
        }
    }
}

/// Copy the cells of folders into another one
///
/// Cells that are there are not copied again, so a merge that was stopped goes on. Every copy is checked by its hashes.
/// `latentrace run SPEC --output FOLDER --gather` then draws figures and tables.
#[derive(clap::Args)]
struct Merge {
    /// Folders of sweeps
    #[arg(required = true)]
    from: Vec<PathBuf>,
    /// The folder that the cells are copied into
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
}

impl Merge {
    fn run(self) -> Result<()> {
        let printer = Printer::with_line();
        let Merged { copied, known, damaged, in_hand } = merge(&self.from, &self.into, &|folder: &Path| {
            printer.message(folder.display());
        })?;
        printer.end();
        line!("{}: {} copied, {known} there already", self.into.display(), counted(copied, "cell"));
        in_hand.iter().for_each(|folder| aside!("{}: was not copied: a process is making this cell", folder.display()));
        said(&damaged, "was not copied")?;
        let hint = "hint: merge again when the processes that make them have ended";
        ensure!(in_hand.is_empty(), "{} in hand in {}\n{hint}", counted(in_hand.len(), "cell"), self.into.display());
        Ok(())
    }
}

/// Compare all files of all cells with their hashes
#[derive(clap::Args)]
struct Verify {
    /// Folder of a sweep
    folder: PathBuf,
}

impl Verify {
    fn run(self) -> Result<()> {
        let Health { sound, without_hashes, damaged } = verify(&self.folder)?;
        line!("{}: {} as written", self.folder.display(), counted(sound, "cell"));
        if without_hashes > 0 {
            line!("{} of an earlier version, without hashes: their files can be read", counted(without_hashes, "cell"));
        }
        said(&damaged, "is damaged")
    }
}

/// Names what is damaged, and fails if something is.
fn said(damaged: &[(PathBuf, String)], what: &str) -> Result<()> {
    for (folder, damage) in damaged {
        aside!("{}: {what}: {damage}", folder.display());
    }
    let hint = "hint: `latentrace run SPEC --retry` makes damaged cells again";
    ensure!(damaged.is_empty(), "{} damaged\n{hint}", counted(damaged.len(), "cell"));
    Ok(())
}

/// Remove cells that no experiment has, and the notes of cells that failed
#[derive(clap::Args)]
struct Prune {
    /// Folder of a sweep
    folder: PathBuf,
    /// Remove the cells that are in none of these specs [default: no cell is removed]
    #[arg(long, value_name = "SPEC", num_args = 1..)]
    keep: Vec<PathBuf>,
    /// Replace a field of the specs, as in `latentrace run`
    #[arg(long, value_name = "KEY=VALUE", requires = "keep")]
    set: Vec<String>,
    /// Remove the cells also if none would be left
    #[arg(long)]
    yes: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    fn run(self) -> Result<()> {
        let mut wanted = (!self.keep.is_empty()).then(HashSet::new);
        for path in &self.keep {
            wanted.get_or_insert_default().extend(self.keys(path)?);
        }
        let mut pruned = prune(&self.folder, wanted.as_ref(), true)?;
        if !self.dry_run {
            self.check_some_are_left(&pruned)?;
            pruned = prune(&self.folder, wanted.as_ref(), false)?;
        }
        let Pruned { cells, failures, .. } = pruned;
        let verb = if self.dry_run { "would be removed" } else { "removed" };
        cells.iter().chain(&failures).for_each(|path| line!("{}: {verb}", path.display()));
        line!("{} and {} {verb}", counted(cells.len(), "cell"), counted(failures.len(), "failure note"));
        Ok(())
    }

    /// Checks that a cell is left, or that none is meant to be.
    fn check_some_are_left(&self, planned: &Pruned) -> Result<()> {
        let hint = "hint: --dry-run names them; --yes removes them";
        ensure!(
            planned.kept > 0 || planned.cells.is_empty() || self.yes,
            "{}: none of the {} is in the specs, and all would be removed\n{hint}",
            self.folder.display(),
            counted(planned.cells.len(), "cell")
        );
        Ok(())
    }

    /// The keys of all cells of a spec, made alone or in batches.
    ///
    /// # Errors
    /// The spec cannot be read, or its keys are others here for another reason than the spec: another libtorch or model.
    fn keys(&self, path: &Path) -> Result<Vec<String>> {
        let spec = Spec::open(&super::run::found(path)?, &self.set)?;
        let teller = Teller::new(false);
        let mut keys = Vec::new();
        for mode in [Mode::Alone, Mode::Batched] {
            let sweep = Sweep::new(&spec, How { mode, ..How::default() }, &self.folder, &|told| teller.tell(told))?;
            let list = sweep.list();
            list.check_origin(&self.folder)?;
            keys.extend(list.cells.iter().flat_map(|cell| cell.keys()).map(str::to_string));
        }
        teller.end();
        Ok(keys)
    }
}
