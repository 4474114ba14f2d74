//! What each task is to have, as it is asked for on the command line.

use anyhow::{Result, bail};

/// What each task is to have. Slurm takes all of it, HyperQueue some, and processes on this machine nothing.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Asked {
    /// Slurm: at most so many tasks in the array [default: as many as there are cells, or Slurm's MaxArraySize]
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) array_size: Option<u32>,
    /// Slurm: at most so many tasks at the same time
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) at_once: Option<u32>,
    /// Slurm, HyperQueue: time limit of a task, such as 02:00:00
    #[arg(long, value_name = "TIME")]
    pub(super) time: Option<String>,
    /// Slurm: the partition
    #[arg(long, value_name = "NAME")]
    pub(super) partition: Option<String>,
    /// Slurm, HyperQueue: resources of a task, such as gpu:1
    #[arg(long, value_name = "LIST")]
    pub(super) gres: Option<String>,
    /// Slurm, HyperQueue: memory of a task, such as 8G
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// Slurm: any other option of sbatch, as --sbatch=--account=vision
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub(super) sbatch: Vec<String>,
}

impl Asked {
    /// The options that were given, with their values.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static str, String)> {
        let number = |value: Option<u32>| value.map(|value| value.to_string());
        let once = [
            ("--array-size", number(self.array_size)),
            ("--at-once", number(self.at_once)),
            ("--time", self.time.clone()),
            ("--partition", self.partition.clone()),
            ("--gres", self.gres.clone()),
            ("--memory", self.memory.clone()),
        ];
        let more = self.sbatch.iter().map(|option| ("--sbatch", Some(option.clone())));
        once.into_iter().chain(more).filter_map(|(option, value)| Some((option, value?)))
    }

    /// Checks that nothing is asked for but what an engine `takes`.
    ///
    /// # Errors
    /// Another option was given: the error names it, and says `hint`.
    pub(super) fn check_only(&self, takes: &[&str], engine: &str, hint: &str) -> Result<()> {
        match self.given().find(|(option, _)| !takes.contains(option)) {
            None => Ok(()),
            Some((option, value)) => bail!("{option} {value}: not an option of {engine}\nhint: {hint}"),
        }
    }
}
