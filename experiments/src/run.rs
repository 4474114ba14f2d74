//! `latentrace run`: an experiment from its spec.

use crate::cell::Cell;
use crate::experiment::Experiment;
use crate::figures::{Done, Finished};
use crate::interrupt;
use crate::models::{Loaded, home};
use crate::record::bar;
use crate::results::{self, Failed};
use crate::spec::{Spec, Sweep};
use crate::store::{Mode, Store};
use crate::sweep::{Bench, Checked, Says, Task};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Run an experiment from its spec; what is done already is not done again
#[derive(clap::Args)]
pub struct Run {
    /// The spec: a TOML file, or the name of one in experiments/specs (see `latentrace experiments`)
    spec: PathBuf,
    /// Replace a field: --set prompt="a red circle", or let it vary: --set "seed=[1, 2, 3]", --set "seed={ range = [1, 9] }"
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the results [default: runs/ and the name of the experiment]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Run cells of one plan in batches and compute once what they share: faster, and equal up to rounding
    #[arg(long)]
    fast: bool,
    /// How many pictures in one batch, with --fast [default: as many as fit in about 16384 latent pixels, at most 16]
    #[arg(long, value_name = "PICTURES", requires = "fast", value_parser = clap::value_parser!(u64).range(1..=1024))]
    batch: Option<u64>,
    /// Try cells again that failed before
    #[arg(long)]
    retry: bool,
    /// Do not ask, however many cells there are
    #[arg(long)]
    yes: bool,
    /// Say what would be run, how long it may take and how large it is, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// A JSON object on a line for all that happens
    #[arg(long)]
    json: bool,
}

/// More cells than anyone starts without being asked.
const MANY: usize = 2000;

impl Run {
    /// Runs what is missing, then measures and draws everything.
    pub fn run(self) -> Result<()> {
        let path = found(&self.spec)?;
        let spec = Spec::open(&path, &self.set)?;
        self.ask(spec.count())?;
        let sweep = spec.expand()?;
        let root = self.output.clone().unwrap_or_else(|| PathBuf::from("runs").join(&spec.name));
        let mode = if self.fast { Mode::Fast } else { Mode::Exact };
        let mut bench =
            Bench { spec: &spec, mode, most: self.batch.map(|most| most as usize), loaded: Loaded::default() };
        let cells = sweep.points.iter().map(|point| (&point.cell, sweep.label(point)));
        let references = sweep.references.iter().map(|cell| (cell, format!("reference, seed {}", cell.seed)));
        let cells: Vec<(&Cell, String)> = cells.chain(references).collect();
        let Checked { rules, lost } = bench.check(&cells)?;
        self.say_lost(&lost, cells.len());
        if self.dry_run {
            Says::new(self.json, indicatif::ProgressBar::hidden()).rules(&rules);
            return bench.estimate(&cells, &root);
        }
        let began = Instant::now();
        let store = Store::open(&root)?;
        let tasks: Vec<Task> =
            cells.into_iter().map(|(cell, label)| bench.task(&store, cell, label)).collect::<Result<_>>()?;
        let says = Says::new(self.json, bar(bench.calls(&store, &tasks)?));
        if !self.json && !spec.about.is_empty() {
            println!("{}", spec.about);
        }
        says.rules(&rules);
        interrupt::says("the same command goes on where this one stopped".into());
        let made = bench.run(&store, &tasks, self.retry, &says)?;
        says.clear();
        let done = |range: std::ops::Range<usize>| self.done(&store, &sweep, &tasks, range);
        let (cells, references) = (done(0..sweep.points.len()), done(sweep.points.len()..tasks.len()));
        let title = title(&spec, &sweep);
        let finished = Finished {
            root: &root,
            title: &title,
            axes: &sweep.axes,
            columns: spec.columns,
            measures: &spec.measure,
            cells: &cells,
            references: &references,
        };
        let place = |index: usize| sweep.points.get(index).map(|point| point.place.clone()).unwrap_or_default();
        let failure = |(index, task): (usize, &Task)| {
            Some(Failed { place: place(index), label: task.label.clone(), error: store.failure(&task.key)? })
        };
        let failed: Vec<Failed> = tasks.iter().enumerate().filter_map(failure).collect();
        let _figures = store.claim_figures()?;
        let mut files = vec![results::write(&finished, &failed)?];
        Experiment::write(&finished)?;
        if !cells.is_empty() {
            for figure in &spec.figures {
                files.extend(figure.draw(&finished, &mut bench.loaded)?);
            }
        }
        self.summary(&tasks, &made, &files, began, &says);
        for Failed { label, error, .. } in &failed {
            eprintln!("failed: {label}: {error}");
        }
        ensure!(failed.is_empty(), "{} of {} cells failed\nhint: --retry tries them again", failed.len(), tasks.len());
        Ok(())
    }

    /// Says once what texts lose that do not fit the text encoder.
    fn say_lost(&self, lost: &[String], cells: usize) {
        let Some(first) = lost.first() else { return };
        let count = lost.len();
        if self.json {
            println!("{}", json!({ "event": "lost", "pictures": count, "of": cells, "first": first }));
        } else {
            eprintln!("warning: {count} of {cells} pictures lose text that does not fit, the first by its {first}");
            eprintln!("hint: the columns prompt_lost and negative_lost of results.csv have all of it");
        }
    }

    /// Checks that so many cells are meant.
    fn ask(&self, count: usize) -> Result<()> {
        if count <= MANY || self.yes || self.dry_run && count <= 100 * MANY {
            return Ok(());
        }
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            bail!("{count} cells, more than {MANY}\nhint: --yes runs them all");
        }
        eprint!("{count} cells: run them all? [y/N] ");
        std::io::stderr().flush().ok();
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        ensure!(answer.trim().eq_ignore_ascii_case("y"), "{count} cells: not run");
        Ok(())
    }

    /// The tasks that are done, with their places.
    fn done(&self, store: &Store, sweep: &Sweep, tasks: &[Task], range: std::ops::Range<usize>) -> Vec<Done> {
        let of = |index: usize| {
            let Task { cell, label, key } = &tasks[index];
            let place = sweep.points.get(index).map(|point| point.place.clone()).unwrap_or_default();
            Some(Done { cell: (*cell).clone(), label: label.clone(), place, folder: store.done(key)? })
        };
        range.filter_map(of).collect()
    }

    fn summary(&self, tasks: &[Task], made: &crate::sweep::Made, files: &[PathBuf], began: Instant, says: &Says) {
        let seconds = began.elapsed().as_secs_f64();
        if self.json {
            let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
            let crate::sweep::Made { new, evaluations } = made;
            return says
                .event(json!({ "event": "end", "pictures": tasks.len(), "new": new, "evaluations": evaluations,
                "seconds": seconds, "files": files }));
        }
        println!(
            "{} pictures, {} of them new, by {} evaluations of the network, in {seconds:.1} s",
            tasks.len(),
            made.new,
            made.evaluations
        );
        for path in files {
            println!("  {}", path.display());
        }
    }
}

/// A spec by its path, or by its name among those that are brought along.
fn found(spec: &Path) -> Result<PathBuf> {
    if spec.is_file() {
        return Ok(spec.into());
    }
    let named = home().map(|home| home.join("experiments/specs").join(spec).with_extension("toml"));
    named.filter(|path| path.is_file()).with_context(|| {
        format!("{}: no such spec\nhint: `latentrace experiments` lists those that are brought along", spec.display())
    })
}

/// What is the same everywhere, for a title; of prompts that differ in a word or two, what they are made from.
fn title(spec: &Spec, sweep: &Sweep) -> String {
    let cells: Vec<&Cell> = sweep.points.iter().map(|point| &point.cell).collect();
    let Some(cell) = cells.first() else { return String::new() };
    let same = |field: &str| cells.iter().all(|other| other.value(field) == cell.value(field));
    let mut parts = Vec::new();
    if let Some(prompt) = if same("prompt") { Some(cell.prompt.as_str()) } else { spec.prompt() } {
        let mut shown: String = prompt.chars().take(120).collect();
        if shown.len() < prompt.len() {
            shown.push('…');
        }
        parts.push(format!("“{shown}”"));
    }
    if same("negative") && !cell.negative.is_empty() {
        parts.push(format!("not “{}”", cell.negative));
    }
    for field in ["seed", "steps", "guidance"] {
        if same(field) {
            parts.push(format!("{field} {}", cell.value(field)));
        }
    }
    parts.join(", ")
}
