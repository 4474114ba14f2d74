//! HyperQueue: a task for each line of keys.

use super::job::{Job, joined, quoted};
use crate::printer::line;
use anyhow::{Result, anyhow, ensure};
use std::io::ErrorKind;
use std::process::{Command, Stdio};

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
    let gather = |id: &str| format!("hq job wait {id} && bash {}", quoted(&job.gather().to_string_lossy()));
    match Command::new(&command[0]).args(&command[1..]).stderr(Stdio::inherit()).output() {
        Ok(output) => {
            let printed = String::from_utf8_lossy(&output.stdout);
            line!("{}", printed.trim_end());
            ensure!(output.status.success(), "{}: {}", joined(&command), output.status);
            match id_of(&printed) {
                Some(id) => line!("then: {}", gather(&id)),
                None => line!("then, with the id of the job in place of ID: {}", gather("ID")),
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            line!(
                "hq is not on PATH here. Where it is, call, with the id that the first command prints in place of ID:"
            );
            line!("{}", joined(&command));
            line!("{}", gather("ID"));
            Ok(())
        }
        Err(error) => Err(anyhow!("hq: {error}")),
    }
}

/// The id in what `hq submit` prints, such as `Job submitted successfully, job ID: 7`, or in `7` alone.
fn id_of(printed: &str) -> Option<String> {
    let plain = printed.trim();
    let after = plain.rsplit_once("job ID:").map_or(plain, |(_, after)| after.trim_start());
    let id: String = after.chars().take_while(char::is_ascii_digit).collect();
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_job_is_read_from_what_hq_prints() {
        for (printed, id) in [
            ("Job submitted successfully, job ID: 12\n", Some("12")),
            ("Job submitted \u{1b}[32msuccessfully\u{1b}[0m, job ID: 3", Some("3")),
            ("7\n", Some("7")),
            ("submitted", None),
            ("", None),
        ] {
            assert_eq!(id_of(printed).as_deref(), id, "{printed}");
        }
    }
}
