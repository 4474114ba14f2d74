//! `latentrace submit`: a sweep by many processes or machines.

mod asked;
mod hyperqueue;
mod job;
mod slurm;
mod workers;

use super::run::{found, root_of};
use super::status::summary;
use crate::printer::line;
use crate::sweeps::Teller;
use anyhow::{Context, Result, ensure};
use asked::Asked;
pub use job::joined;
use job::{Job, tasks};
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
    asked: Asked,
    /// How many cells a task makes one after the other; those that share calls stand together [default: one, or as many as needed]
    #[arg(long, value_name = "CELLS", conflicts_with = "workers", value_parser = clap::value_parser!(u32).range(1..))]
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

/// What runs the processes, and what it is asked for.
enum Chosen {
    Slurm,
    HyperQueue(hyperqueue::Request),
    Workers(u32),
}

impl Submit {
    /// Submits what is left.
    pub fn run(self) -> Result<()> {
        let file = found(&self.spec)?;
        let spec = Spec::open(&file, &self.set)?;
        let root = root_of(self.output.as_deref(), &spec);
        for path in [&file, &root, &working_folder()?] {
            let hint = "hint: scripts and commands are written in UTF-8: use another name";
            ensure!(path.to_str().is_some(), "{}: no UTF-8\n{hint}", path.display());
        }
        let engine = self.chosen(&spec, &root)?;
        let teller = Teller::new(false);
        let sweep = Sweep::new(&spec, self.how(Part::All), &root, &|told| teller.tell(told))?;
        teller.end();
        if !self.dry_run {
            sweep.hand_out()?;
        }
        let keys = self.to_do(&sweep, &root)?;
        let threads = sweep.threads();
        if !self.dry_run && matches!(engine, Chosen::Workers(_)) {
            sweep.forgive(&keys)?;
        }
        drop(sweep);
        if keys.is_empty() {
            line!("nothing to submit; `{}` draws figures and tables", joined(&self.gather_command()));
            return Ok(());
        }
        let tasks = match engine {
            Chosen::Slurm => self.asked.tasks(keys, self.per_task, self.dry_run)?,
            Chosen::HyperQueue(_) | Chosen::Workers(_) => tasks(keys, self.per_task.map_or(1, |each| each as usize)),
        };
        let job = self.job(&file, &root, spec.name.clone(), tasks, threads)?;
        if self.dry_run {
            self.print(&job, &engine);
            return Ok(());
        }
        match engine {
            Chosen::Slurm => {
                job.write(&self.asked.header(&job), &self.asked.gather_header(&job))?;
                self.asked.submit(&job)
            }
            Chosen::HyperQueue(request) => {
                job.write("", "")?;
                hyperqueue::submit(&job, request)
            }
            Chosen::Workers(count) => {
                workers::run(&job, &root, count as usize)?;
                self.finish(&spec, &root)
            }
        }
    }

    /// What runs the processes. Nothing is written before this.
    ///
    /// # Errors
    /// It cannot have something that is asked for.
    fn chosen(&self, spec: &Spec, root: &Path) -> Result<Chosen> {
        if self.engine.slurm {
            self.asked.check(&spec.name, &working_folder()?, &absolute(root)?)?;
            return Ok(Chosen::Slurm);
        }
        match self.engine.workers {
            None => hyperqueue::Request::of(&self.asked).map(Chosen::HyperQueue),
            Some(count) => {
                self.asked.check_only(&[], "--workers", "leave it out, or submit with --slurm")?;
                Ok(Chosen::Workers(count))
            }
        }
    }

    fn how(&self, part: Part) -> How {
        How { mode: if self.batched { Mode::Batched } else { Mode::Alone }, part, ..How::default() }
    }

    /// Makes what workers have left that were killed, and draws.
    fn finish(&self, spec: &Spec, root: &Path) -> Result<()> {
        let status = Status::of(root)?;
        status.iter().for_each(|status| line!("{}", summary(status)));
        let is_all = status.is_some_and(|status| status.there.running.is_empty() && status.left.is_empty());
        let part = if is_all { Part::Gather } else { Part::All };
        let teller = Teller::new(false);
        let sweep = Sweep::new(spec, self.how(part), root, &|_| ())?;
        let results = sweep.run(&|told| teller.tell(told))?;
        teller.end();
        super::run::ended(&results)
    }

    /// The keys of the cells that are to be made, in the order in which those that share calls stand together.
    fn to_do(&self, sweep: &Sweep, root: &Path) -> Result<Vec<String>> {
        if self.dry_run && !root.join("cells").is_dir() {
            return Ok(sweep.order());
        }
        let status = Status::of_sound(root, sweep.list())?;
        line!("{}", summary(&status));
        let keys: std::collections::HashSet<&str> = status.to_do().map(|cell| cell.key.as_str()).collect();
        Ok(sweep.order().into_iter().filter(|key| keys.contains(key.as_str())).collect())
    }

    /// The options that decide the cells, as `latentrace run` has them.
    fn options(&self) -> Vec<String> {
        let set = self.set.iter().flat_map(|set| ["--set".to_string(), set.clone()]);
        set.chain(self.batched.then(|| "--batched".to_string())).collect()
    }

    /// The command that draws figures and tables, as it is typed here.
    fn gather_command(&self) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut command = vec!["latentrace".to_string(), "run".into(), text(&self.spec)];
        command.extend(self.output.iter().flat_map(|output| ["--output".to_string(), text(output)]));
        command.extend(self.options());
        command.push("--gather".into());
        command
    }

    fn job(&self, file: &Path, root: &Path, name: String, tasks: Vec<Vec<String>>, threads: usize) -> Result<Job> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let program = std::env::current_exe().context("the path of this program")?;
        let (file, root) = (absolute(file)?, absolute(root)?);
        let mut command =
            vec![text(program), "run".into(), text(file), "--output".into(), text(root.clone()), "--yes".into()];
        command.extend(self.options());
        let directory = working_folder()?;
        Ok(Job {
            name: format!("latentrace-{name}"),
            command,
            directory,
            folder: if self.dry_run { Job::next_folder(&root)? } else { Job::new_folder(&root)? },
            tasks,
            threads,
        })
    }

    /// Prints what would be submitted.
    fn print(&self, job: &Job, engine: &Chosen) {
        let cells = job.tasks.iter().map(Vec::len).sum::<usize>();
        let (cells, tasks) = (counted(cells, "cell"), counted(job.tasks.len(), "task"));
        let scripts = |header: &str, gather_header: &str| {
            let (task, gather) = (job.script_text(header), job.gather_text(gather_header));
            format!("{}:\n{task}\n{}:\n{gather}", job.script().display(), job.gather().display())
        };
        match engine {
            Chosen::Workers(count) => {
                let (workers, command) = (counted(*count as usize, "worker"), joined(&job.command));
                line!("{cells} by {workers}: {command} --retry --worker 1/{count} ..");
            }
            Chosen::Slurm => {
                line!("{cells} in {tasks}; {}", scripts(&self.asked.header(job), &self.asked.gather_header(job)));
            }
            Chosen::HyperQueue(request) => {
                let command = joined(&hyperqueue::submit_command(job, *request));
                line!("{cells} in {tasks}: {command}\n{}", scripts("", ""));
            }
        }
    }
}

/// The folder in which this process works.
fn working_folder() -> Result<PathBuf> {
    std::env::current_dir().context("the working folder")
}

/// A path that means the same from any folder.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}
