//! HyperQueue: a task for each line of keys.

use super::job::{Job, joined};
use crate::printer::line;
use anyhow::{Result, anyhow, ensure};
use std::io::ErrorKind;
use std::process::Command;

/// The command that submits the tasks.
pub fn submit_command(job: &Job) -> Vec<String> {
    let path = |path: std::path::PathBuf| path.display().to_string();
    let logs = format!("{}/%{{TASK_ID}}.log", job.folder.display());
    let words =
        ["hq", "submit", "--name", &job.name, "--cpus", &job.threads.to_string(), "--stdout", &logs, "--stderr", &logs]
            .map(str::to_string);
    words.into_iter().chain(["--each-line".into(), path(job.keys()), "bash".into(), path(job.script())]).collect()
}

/// Submits the tasks if `hq` is there, and prints the commands that remain.
///
/// # Errors
/// `hq` refuses the job.
pub fn submit(job: &Job) -> Result<()> {
    let command = submit_command(job);
    let gather = format!("hq job wait last && bash {}", super::job::quoted(&job.gather().to_string_lossy()));
    match Command::new(&command[0]).args(&command[1..]).status() {
        Ok(status) => {
            ensure!(status.success(), "{}: {status}", joined(&command));
            line!("then: {gather}");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            line!("hq is not on PATH here. Where it is, call:");
            line!("{}", joined(&command));
            line!("{gather}");
            Ok(())
        }
        Err(error) => Err(anyhow!("hq: {error}")),
    }
}
