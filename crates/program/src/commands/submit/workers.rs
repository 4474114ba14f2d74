//! Several processes on this machine. Each begins with its share of the cells, and goes on with what others have not begun.

use super::job::Job;
use crate::commands::status::said;
use crate::interrupt;
use crate::orphan;
use crate::printer::{Printer, aside, line};
use anyhow::{Context, Result, bail};
use latentrace::experiments::Tally;
use latentrace::files::{counted, create_folder};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A process and its log.
struct Worker {
    child: Child,
    log: PathBuf,
}

/// Runs so many processes until the cells are made, but no more than there are tasks.
///
/// # Errors
/// A process cannot be started; or all failed, and not because cells cannot be made: some are left, and none is new.
pub fn run(job: &Job, root: &Path, count: usize) -> Result<()> {
    create_folder(&job.folder)?;
    interrupt::says("the same command goes on where this one stopped".into());
    let count = count.min(job.tasks.len());
    let mut watch = Watch::over(root)?;
    let (before, _) = watch.tally.count()?;
    let workers = (1..=count).map(|index| start(job, index, count)).collect::<Result<Vec<_>>>()?;
    line!("{}, logs in {}", counted(count, "worker"), job.folder.display());
    let failed = wait(workers, || watch.tell())?;
    watch.printer.end();
    for (log, status) in &failed {
        aside!("{}: {}", log.display(), cause(log, *status));
    }
    let (after, _) = watch.tally.count()?;
    let is_stuck = after.left > 0 && after.done == before.done;
    match failed.first() {
        Some((first, _)) if failed.len() == count && is_stuck => {
            bail!("every process failed\nhint: {} has all that the first one said", first.display())
        }
        _ => Ok(()),
    }
}

/// How far the processes are, in a line on a terminal.
struct Watch {
    tally: Tally,
    printer: Printer,
    /// When it was said last.
    told: Option<Instant>,
}

/// How often the cells are counted: many of them take a while on a slow file system.
const COUNTED: Duration = Duration::from_secs(1);

impl Watch {
    fn over(root: &Path) -> Result<Watch> {
        Ok(Watch { tally: Tally::of(root)?, printer: Printer::with_line(), told: None })
    }

    /// Says how far the processes are, if somebody sees it, and unless that was said just now.
    fn tell(&mut self) {
        if !self.printer.is_seen() || self.told.is_some_and(|told| told.elapsed() < COUNTED) {
            return;
        }
        if let Ok((counts, eta)) = self.tally.count() {
            self.printer.message(said(self.tally.name(), counts, eta));
        }
        self.told = Some(Instant::now());
    }
}

/// Why a process failed: its last error, or how it ended.
fn cause(log: &Path, status: ExitStatus) -> String {
    if let Some(signal) = status.signal() {
        return format!("ended by signal {signal}");
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let error = text.lines().rev().find(|line| line.starts_with("error: "));
    error.map_or_else(|| format!("{status}, without a message"), str::to_string)
}

fn start(job: &Job, index: usize, count: usize) -> Result<Worker> {
    let log = job.folder.join(format!("{index}.log"));
    let file = File::create(&log).with_context(|| log.display().to_string())?;
    let errors = file.try_clone().with_context(|| log.display().to_string())?;
    let child = Command::new(&job.command[0])
        .args(&job.command[1..])
        .args(["--retry", "--worker", &format!("{index}/{count}")])
        .env(orphan::PARENT, std::process::id().to_string())
        .current_dir(&job.directory)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .with_context(|| job.command[0].clone())?;
    Ok(Worker { child, log })
}

/// Waits for all processes. Returns the logs of those that failed, and how each ended.
fn wait(mut workers: Vec<Worker>, mut tell: impl FnMut()) -> Result<Vec<(PathBuf, ExitStatus)>> {
    let mut failed = Vec::new();
    while !workers.is_empty() {
        let mut left = Vec::new();
        for mut worker in workers {
            match worker.child.try_wait().with_context(|| worker.log.display().to_string())? {
                None => left.push(worker),
                Some(status) if status.success() => {}
                Some(status) => failed.push((worker.log, status)),
            }
        }
        workers = left;
        tell();
        if !workers.is_empty() {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_failed_is_said_with_its_error_or_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("1.log");
        let after = |script: &str| cause(&log, Command::new("sh").args(["-c", script]).status().unwrap());
        assert_eq!(after("kill -9 $$"), "ended by signal 9");
        assert_eq!(after("exit 3"), "exit status: 3, without a message");
        std::fs::write(&log, "x\nerror: no room\nhint: more\n").unwrap();
        assert_eq!(after("exit 1"), "error: no room");
    }
}
