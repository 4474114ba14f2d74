//! Slurm: an array job, and a job that gathers when it has ended.

use super::job::{Job, joined, tasks};
use crate::printer::line;
use anyhow::{Context, Result, bail, ensure};
use latentrace::files::counted;
use std::io::ErrorKind;
use std::process::Command;

/// What Slurm is asked for.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Asked {
    /// Slurm: at most so many tasks in the array [default: as many as there are cells, or Slurm's MaxArraySize]
    #[arg(long, value_name = "TASKS", requires = "slurm", value_parser = clap::value_parser!(u32).range(1..))]
    array_size: Option<u32>,
    /// Slurm: at most so many tasks at the same time
    #[arg(long, value_name = "TASKS", requires = "slurm", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,
    /// Slurm: time limit of a task, such as 02:00:00
    #[arg(long, value_name = "TIME", requires = "slurm")]
    time: Option<String>,
    /// Slurm: the partition
    #[arg(long, value_name = "NAME", requires = "slurm")]
    partition: Option<String>,
    /// Slurm: resources of a task, such as gpu:1
    #[arg(long, value_name = "LIST", requires = "slurm")]
    gres: Option<String>,
    /// Slurm: memory of a task, such as 8G
    #[arg(long, value_name = "SIZE", requires = "slurm")]
    memory: Option<String>,
    /// Slurm: any other option of sbatch, as --sbatch=--account=vision
    #[arg(long, value_name = "OPTION", requires = "slurm", allow_hyphen_values = true)]
    sbatch: Vec<String>,
}

/// Slurm's own default of MaxArraySize, for a machine that has no Slurm.
const MAX_ARRAY_SIZE: usize = 1001;

/// The largest number of tasks in an array.
fn max_array_size() -> Result<usize> {
    let shown = said("scontrol", &["show".into(), "config".into()])?;
    let value = shown.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "MaxArraySize");
    let size = value.and_then(|(_, value)| value.trim().parse().ok());
    size.filter(|size| *size > 0).context("scontrol show config: no MaxArraySize\nhint: name it with --array-size")
}

impl Asked {
    /// The keys of each task.
    ///
    /// # Errors
    /// Slurm does not say how large an array may be, or so many tasks are too many.
    pub fn tasks(&self, keys: Vec<String>, each: Option<u32>, is_dry: bool) -> Result<Vec<Vec<String>>> {
        let most = match (max_array_size(), self.array_size) {
            (Ok(most), _) => most,
            (Err(_), Some(asked)) => asked as usize,
            (Err(_), None) if is_dry => MAX_ARRAY_SIZE,
            (Err(error), None) => return Err(error),
        };
        split(keys, self.array_size.map(|size| size as usize), each.map(|each| each as usize), most)
    }

    /// The lines that tell Slurm what a task needs.
    pub fn header(&self, job: &Job) -> String {
        let at_once = self.at_once.map(|tasks| format!("%{tasks}")).unwrap_or_default();
        let own = [
            format!("--array=0-{}{at_once}", job.tasks.len().saturating_sub(1)),
            format!("--output={}/%a.log", job.folder.display()),
        ];
        let gres = self.gres.as_ref().map(|gres| format!("--gres={gres}"));
        lines(job, &job.name, own.into_iter().chain(gres).chain(self.common(job)))
    }

    /// The lines of the job that gathers.
    pub fn gather_header(&self, job: &Job) -> String {
        let own = [format!("--output={}/gather.log", job.folder.display())];
        lines(job, &format!("{} gather", job.name), own.into_iter().chain(self.common(job)))
    }

    fn common(&self, job: &Job) -> impl Iterator<Item = String> {
        let named = [("--time", &self.time), ("--partition", &self.partition), ("--mem", &self.memory)];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        let threads = format!("--cpus-per-task={}", job.threads);
        [threads].into_iter().chain(named).chain(self.sbatch.clone()).collect::<Vec<_>>().into_iter()
    }

    /// Submits both jobs, whose scripts are written.
    ///
    /// # Errors
    /// `sbatch` is not there, or refuses a job.
    pub fn submit(&self, job: &Job) -> Result<()> {
        let array = said("sbatch", &["--parsable".into(), job.script().display().to_string()])?;
        let id = id_of(&array)?;
        line!("Slurm job {id}: {}, logs in {}", counted(job.tasks.len(), "task"), job.folder.display());
        let after = format!("--dependency=afterany:{id}");
        let gather = said("sbatch", &["--parsable".into(), after, job.gather().display().to_string()])?;
        line!("Slurm job {}: figures and tables, when it has ended", id_of(&gather)?);
        Ok(())
    }
}

/// Directives of a script. A line that would end early is an error before anything is written: see [`check`].
fn lines(job: &Job, name: &str, options: impl Iterator<Item = String>) -> String {
    let name = format!("--job-name={name}");
    let directory = format!("--chdir={}", job.directory.display());
    [name, directory].into_iter().chain(options).map(|option| format!("#SBATCH {}\n", escaped(&option))).collect()
}

/// An option as Slurm reads it in a script: with quotes where it has blanks.
fn escaped(option: &str) -> String {
    match option.contains([' ', '\t', '#', '"', '\'']) {
        true => format!("\"{}\"", option.replace('\\', "\\\\").replace('"', "\\\"")),
        false => option.into(),
    }
}

/// The keys of each task of an array with at most `most` tasks.
fn split(keys: Vec<String>, tasks_asked: Option<usize>, each: Option<usize>, most: usize) -> Result<Vec<Vec<String>>> {
    if let Some(asked) = tasks_asked.filter(|asked| *asked > most) {
        bail!(
            "--array-size {asked}: more than Slurm's MaxArraySize, {most}\nhint: --per-task gives each task several cells"
        );
    }
    let least = keys.len().div_ceil(tasks_asked.unwrap_or(most));
    if let Some(each) = each {
        let count = keys.len().div_ceil(each.max(1));
        let room = tasks_asked.unwrap_or(most);
        ensure!(
            each >= least,
            "--per-task {each}: {} need {count} tasks, and the array has {room}\nhint: --per-task {least}",
            counted(keys.len(), "cell")
        );
    }
    Ok(tasks(keys, each.unwrap_or(least)))
}

/// What a program says.
fn said(program: &str, arguments: &[String]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "{program}: not found on PATH, and it belongs to Slurm\nhint: --dry-run prints the scripts; --workers N makes the \
             cells on this machine"
        ),
        _ => anyhow::anyhow!("{program}: {error}"),
    })?;
    let command = || format!("{program} {}", joined(arguments));
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {}", command(), output.status, errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The id that `sbatch --parsable` prints: before a semicolon and the name of a cluster, if there is one.
fn id_of(printed: &str) -> Result<&str> {
    let id = printed.trim().split(';').next().unwrap_or_default();
    ensure!(!id.is_empty() && id.chars().all(|letter| letter.is_ascii_digit()), "sbatch printed no job id: {printed}");
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|key| format!("{key:016x}")).collect()
    }

    #[test]
    fn cells_are_split_into_the_tasks_of_an_array() {
        let sizes = |count, asked, each, most| -> Result<Vec<usize>> {
            let split = split(keys(count), asked, each, most)?;
            assert_eq!(split.concat(), keys(count), "every cell once, in order");
            Ok(split.iter().map(Vec::len).collect())
        };
        assert_eq!(sizes(5, None, None, 1001).unwrap(), [1; 5]);
        assert_eq!(sizes(10, None, None, 4).unwrap(), [3, 3, 3, 1]);
        assert_eq!(sizes(10, Some(2), None, 4).unwrap(), [5, 5]);
        assert_eq!(sizes(10, None, Some(4), 4).unwrap(), [4, 4, 2]);
        assert!(sizes(10_000, None, None, 1001).unwrap().len() <= 1001);
        let error = |result: Result<Vec<usize>>| format!("{:#}", result.unwrap_err());
        assert!(error(sizes(10, Some(5), None, 4)).contains("--array-size 5: more than Slurm's MaxArraySize, 4"));
        assert!(
            error(sizes(10, None, Some(2), 4))
                .contains("--per-task 2: 10 cells need 5 tasks, and the array has 4\nhint: --per-task 3")
        );
    }

    #[test]
    fn ids_are_read_and_options_with_blanks_are_quoted() {
        assert_eq!(id_of("123\n").unwrap(), "123");
        assert_eq!(id_of("77;cluster\n").unwrap(), "77");
        assert!(id_of("Submitted").is_err());
        assert_eq!(escaped("--job-name=a b"), "\"--job-name=a b\"");
        assert_eq!(escaped("--gres=gpu:1"), "--gres=gpu:1");
    }
}
