//! Slurm: an array job, and a job that gathers when it has ended.

use super::asked::Asked;
use super::job::{Job, joined, tasks};
use crate::printer::line;
use anyhow::{Context, Result, bail, ensure};
use latentrace::files::counted;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

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

    /// Checks that Slurm reads every option as it is meant: each is a line of a script, and the path of the logs is a pattern.
    ///
    /// # Errors
    /// An option or a path has a line break or another control character, or the path of the logs has a backslash.
    pub fn check(&self, name: &str, directory: &Path, root: &Path) -> Result<()> {
        let (directory, root) = (directory.display().to_string(), root.display().to_string());
        let own = [("the name of the experiment", name), ("the working folder", &directory), ("the folder", &root)];
        let own = own.into_iter().map(|(what, value)| (what, value.to_string()));
        for (what, value) in own.chain(self.given()) {
            ensure!(
                !value.contains(char::is_control),
                "{what} {value:?}: a line break or another control character, and Slurm reads a line for each option\nhint: \
                 write it without"
            );
        }
        ensure!(
            !root.contains('\\'),
            "{root}: Slurm reads a backslash in the path of a log as a sign of its own\nhint: another folder with --output"
        );
        Ok(())
    }

    /// The lines that tell Slurm what a task needs.
    pub fn header(&self, job: &Job) -> String {
        let at_once = self.at_once.map(|tasks| format!("%{tasks}")).unwrap_or_default();
        let own =
            [format!("--array=0-{}{at_once}", job.tasks.len().saturating_sub(1)), log(job, "%a.log"), threads(job)];
        let asked = given([
            ("--gres", &self.gres),
            ("--time", &self.time),
            ("--partition", &self.partition),
            ("--mem", &self.memory),
        ]);
        lines(job, &job.name, own.into_iter().chain(asked).chain(self.sbatch.iter().cloned()))
    }

    /// The lines of the job that gathers. It decodes and draws, so it does not ask for the time, the memory and the GPUs of a task.
    pub fn gather_header(&self, job: &Job) -> String {
        let own = [log(job, "gather.log"), threads(job)];
        let partition = given([("--partition", &self.partition)]);
        let more = self.sbatch.iter().filter(|option| !OF_A_TASK.iter().any(|own| option.starts_with(own))).cloned();
        lines(job, &format!("{} gather", job.name), own.into_iter().chain(partition).chain(more))
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

/// How options of `sbatch` begin that ask for what a task needs, and the job that gathers does not.
const OF_A_TASK: [&str; 6] = ["--gpu", "--gres", "--mem", "--time", "-G", "-t"];

/// The options that have a value.
fn given<'a, const N: usize>(options: [(&'a str, &'a Option<String>); N]) -> impl Iterator<Item = String> + 'a {
    options.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
}

/// The option for the threads of a cell.
fn threads(job: &Job) -> String {
    format!("--cpus-per-task={}", job.threads)
}

/// The option for a log in the folder of a job. Slurm reads the path as a pattern, in which `%%` is a percent sign.
fn log(job: &Job, name: &str) -> String {
    format!("--output={}/{name}", job.folder.display().to_string().replace('%', "%%"))
}

/// Directives of a script. What would end a line early is refused before anything is written: see [`Asked::check`].
fn lines(job: &Job, name: &str, options: impl Iterator<Item = String>) -> String {
    let name = format!("--job-name={name}");
    let directory = format!("--chdir={}", job.directory.display());
    [name, directory].into_iter().chain(options).map(|option| format!("#SBATCH {}\n", escaped(&option))).collect()
}

/// An option as Slurm reads it in a script: with quotes where it has blanks or signs of its own.
fn escaped(option: &str) -> String {
    match option.contains([' ', '\t', '#', '"', '\'', '\\']) {
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
        assert_eq!(escaped(r"--comment=a\b"), r#""--comment=a\\b""#);
    }

    fn job(folder: &str) -> Job {
        Job {
            name: "latentrace-x".into(),
            command: Vec::new(),
            directory: "/home/me".into(),
            folder: folder.into(),
            tasks: tasks(keys(3), 1),
            threads: 2,
        }
    }

    #[test]
    fn what_slurm_would_read_otherwise_is_refused_or_escaped() {
        let asked = |partition: &str, sbatch: &str| Asked {
            partition: Some(partition.into()),
            sbatch: vec![sbatch.into()],
            ..Asked::default()
        };
        let check = |asked: Asked, root: &str| asked.check("x", "/home/me".as_ref(), root.as_ref());
        check(asked("gpu", "--account=vision"), "/shared/a b").unwrap();
        let said = |result: Result<()>| format!("{:#}", result.unwrap_err());
        for (asked, root, expected) in [
            (asked("a\nrm -rf x", "--x"), "/s", r#"--partition "a\nrm -rf x": a line break or"#),
            (asked("a", "--x\r"), "/s", r#"--sbatch "--x\r": a line break or"#),
            (asked("a", "--x"), "/s\n", "the folder "),
            (asked("a", "--x"), r"/s\t", "a backslash in the path of a log"),
        ] {
            let error = said(check(asked, root));
            assert!(error.contains(expected) && error.contains("\nhint: "), "{error}");
        }
        let header = Asked::default().header(&job("/shared/100%/jobs/1"));
        assert!(header.contains("#SBATCH --output=/shared/100%%/jobs/1/%a.log\n"), "{header}");
    }

    #[test]
    fn the_job_that_gathers_does_not_ask_for_what_a_task_needs() {
        let asked = Asked {
            time: Some("01:00:00".into()),
            partition: Some("gpu".into()),
            gres: Some("gpu:1".into()),
            memory: Some("8G".into()),
            sbatch: ["--gpus=1", "--account=vision"].map(String::from).into(),
            ..Asked::default()
        };
        let (task, gather) = (asked.header(&job("/s/jobs/1")), asked.gather_header(&job("/s/jobs/1")));
        for option in ["--time=01:00:00", "--gres=gpu:1", "--mem=8G", "--gpus=1"] {
            assert!(task.contains(option) && !gather.contains(option), "{option}: {task}{gather}");
        }
        for option in ["--partition=gpu", "--account=vision", "--cpus-per-task=2", "--chdir=/home/me"] {
            assert!(task.contains(option) && gather.contains(option), "{option}: {task}{gather}");
        }
    }
}
