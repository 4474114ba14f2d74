//! `latentrace submit`: a sweep by many processes or machines.

mod hyperqueue;
mod job;
mod slurm;
mod workers;

use super::run::{found, root_of};
use super::status::summary;
use crate::printer::line;
use crate::sweeps::Teller;
use anyhow::{Context, Result};
use job::{Job, joined, tasks};
use latentrace::experiments::{How, Part, Spec, Status, Sweep};
use latentrace::files::counted;
use latentrace::runs::Mode;
use std::path::{Path, PathBuf};

/// Make a sweep by many processes: with Slurm, with HyperQueue, or on this machine
///
/// The folder of the results must be one that all machines share. Cells that are done or that a process has in hand are not
/// submitted; those that failed or were lost are submitted again by the same command.
#[derive(clap::Args)]
pub struct Submit {
    /// The spec: a TOML file, or the name of one in experiments/specs
    spec: PathBuf,
    /// Replace a field, as in `latentrace run`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the results [default: as in `latentrace run`]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Make the cells of a task in batches, as in `latentrace run`
    #[arg(long)]
    batched: bool,
    #[command(flatten)]
    engine: Engine,
    #[command(flatten)]
    slurm: slurm::Asked,
    /// How many cells a task makes one after the other; those that share calls stand together [default: one, or as many as needed]
    #[arg(long, value_name = "CELLS", value_parser = clap::value_parser!(u32).range(1..))]
    per_task: Option<u32>,
    /// Print what would be submitted, and submit nothing
    #[arg(long)]
    dry_run: bool,
}

/// What runs the processes.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Engine {
    /// Submit an array job to Slurm, and a job that draws figures and tables when it has ended
    #[arg(long)]
    slurm: bool,
    /// Submit to HyperQueue, or print the commands where there is no hq
    #[arg(long)]
    hq: bool,
    /// Run so many processes on this machine, and draw figures and tables when they have ended
    #[arg(long, value_name = "PROCESSES", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
}

impl Submit {
    /// Submits what is left.
    pub fn run(self) -> Result<()> {
        let file = found(&self.spec)?;
        let spec = Spec::open(&file, &self.set)?;
        let root = root_of(self.output.as_deref(), &spec);
        let teller = Teller::new(false);
        let mode = if self.batched { Mode::Batched } else { Mode::Alone };
        let how = |part| How { mode, part, ..How::default() };
        let sweep = Sweep::new(&spec, how(Part::All), &root, &|told| teller.tell(told))?;
        teller.end();
        if !self.dry_run {
            sweep.hand_out()?;
        }
        let keys = self.to_do(&sweep, &root)?;
        let threads = sweep.threads();
        drop(sweep);
        if keys.is_empty() {
            line!("nothing to submit; `latentrace run {} --gather` draws figures and tables", self.spec.display());
            return Ok(());
        }
        let tasks = match self.engine.slurm {
            true => self.slurm.tasks(keys, self.per_task, self.dry_run)?,
            false => tasks(keys, self.per_task.map_or(1, |each| each as usize)),
        };
        let job = self.job(&file, &root, spec.name.clone(), tasks, threads)?;
        match (self.dry_run, self.engine.workers) {
            (true, workers) => self.print(&job, workers),
            (false, Some(count)) => {
                workers::run(&job, &root, count as usize)?;
                line!("{}", summary(&Status::of(&root)?));
                let teller = Teller::new(false);
                let sweep = Sweep::new(&spec, how(Part::Gather), &root, &|_| ())?;
                let results = sweep.run(&|told| teller.tell(told))?;
                teller.end();
                super::run::ended(&results)
            }
            (false, None) if self.engine.slurm => {
                job.write(&self.slurm.header(&job), &self.slurm.gather_header(&job))?;
                self.slurm.submit(&job)
            }
            (false, None) => {
                job.write("", "")?;
                hyperqueue::submit(&job)
            }
        }
    }

    /// The keys of the cells that are to be made, in the order in which those that share calls stand together.
    fn to_do(&self, sweep: &Sweep, root: &Path) -> Result<Vec<String>> {
        if self.dry_run && !root.join("cells").is_dir() {
            return Ok(sweep.order());
        }
        let status = match self.dry_run {
            true => Status::of_list(root, sweep.list())?,
            false => Status::of(root)?,
        };
        line!("{}", summary(&status));
        let keys: std::collections::HashSet<&str> = status.to_do().map(|cell| cell.key.as_str()).collect();
        Ok(sweep.order().into_iter().filter(|key| keys.contains(key.as_str())).collect())
    }

    fn job(&self, file: &Path, root: &Path, name: String, tasks: Vec<Vec<String>>, threads: usize) -> Result<Job> {
        let absolute = |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let program = std::env::current_exe().context("the path of this program")?;
        let (file, root) = (absolute(file)?, absolute(root)?);
        let mut command =
            vec![text(program), "run".into(), text(file), "--output".into(), text(root.clone()), "--yes".into()];
        command.extend(self.set.iter().flat_map(|set| ["--set".to_string(), set.clone()]));
        command.extend(self.batched.then(|| "--batched".to_string()));
        let directory = std::env::current_dir().context("the working folder")?;
        Ok(Job {
            name: format!("latentrace-{name}"),
            command,
            directory,
            folder: Job::next_folder(&root)?,
            tasks,
            threads,
        })
    }

    /// Prints what would be submitted.
    fn print(&self, job: &Job, workers: Option<u32>) -> Result<()> {
        let cells = job.tasks.iter().map(Vec::len).sum::<usize>();
        let (cells, tasks) = (counted(cells, "cell"), counted(job.tasks.len(), "task"));
        match workers {
            Some(count) => {
                line!(
                    "{cells} by {}: {} --retry --worker 1/{count} ..",
                    counted(count as usize, "worker"),
                    joined(&job.command)
                );
            }
            None if self.engine.slurm => {
                line!("{cells} in {tasks}; {}:\n{}", job.script().display(), job.script_text(&self.slurm.header(job)));
                line!("{}:\n{}", job.gather().display(), job.gather_text(&self.slurm.gather_header(job)));
            }
            None => {
                line!("{cells} in {tasks}: {}", joined(&hyperqueue::submit_command(job)));
                line!("{}:\n{}", job.script().display(), job.script_text(""));
                line!("{}:\n{}", job.gather().display(), job.gather_text(""));
            }
        }
        Ok(())
    }
}
