//! `latentrace run`: an experiment from its spec.

use crate::bytes::human;
use crate::interrupt;
use crate::orphan;
use crate::printer::{self, aside, line};
use crate::sweeps::{Teller, spared};
use anyhow::{Context, Result, bail, ensure};
use indicatif::HumanDuration;
use latentrace::experiments::{Estimate, Failed, How, Listed, Part, Results, Shard, Spec, Sweep};
use latentrace::files::{counted, near};
use latentrace::runs::{Mode, home};
use serde_json::json;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Run an experiment from its spec; finished cells are kept
///
/// A cell is one combination of settings. A stopped experiment continues where it stopped.
#[derive(clap::Args)]
pub struct Run {
    /// The spec: a TOML file, or the name of one in experiments/specs (see `latentrace experiments`)
    spec: PathBuf,
    /// Replace a field: --set prompt="a red circle", or let it vary: --set "seed=[1, 2, 3]", --set "seed={ range = [1, 9] }"
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the results [default: runs/ and the name of the experiment, with what --set sets]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Make cells of one plan in batches and compute once what they share: faster, and equal up to rounding
    #[arg(long, alias = "fast")]
    batched: bool,
    /// How many pictures in one batch, with --batched [default: as many as fit in about 16384 latent pixels, at most 16]
    #[arg(long, value_name = "PICTURES", requires = "batched", value_parser = clap::value_parser!(u64).range(1..=1024))]
    batch: Option<u64>,
    /// Try cells again that failed before, or of which a file was damaged
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
    #[command(flatten)]
    share: Share,
}

/// Which of the cells, where several processes or machines share the work.
#[derive(clap::Args)]
#[group(multiple = false)]
struct Share {
    /// Print the key and the label of every cell, and run nothing
    #[arg(long, help_heading = SHARING, hide_short_help = true, conflicts_with = "dry_run")]
    list: bool,
    /// Make the cells with these keys only, and draw nothing
    #[arg(long, value_name = "KEY", num_args = 1.., help_heading = SHARING, hide_short_help = true)]
    only: Vec<String>,
    /// Make one of several shares, such as 3/8, and draw nothing
    #[arg(long, value_name = "I/N", help_heading = SHARING, hide_short_help = true)]
    shard: Option<Shard>,
    /// Begin with one of several shares, go on with what others have not begun, and draw nothing
    #[arg(long, value_name = "I/N", help_heading = SHARING, hide_short_help = true)]
    worker: Option<Shard>,
    /// Make nothing: draw figures and tables of what is there
    #[arg(long, help_heading = SHARING, hide_short_help = true, conflicts_with = "dry_run")]
    gather: bool,
}

/// The heading of the options by which processes share the work.
const SHARING: &str = "Sharing the work (see latentrace submit)";

impl Share {
    fn part(&self) -> Part {
        match (self.shard, self.worker) {
            _ if self.gather => Part::Gather,
            _ if !self.only.is_empty() => Part::Only(self.only.clone()),
            (Some(shard), _) => Part::Shard(shard),
            (None, Some(shard)) => Part::Worker(shard),
            (None, None) => Part::All,
        }
    }
}

/// More cells than anyone starts without being asked.
const MANY: usize = 2000;

impl Run {
    /// Runs what is missing, then measures and draws everything.
    pub fn run(self) -> Result<()> {
        if self.share.worker.is_some() {
            orphan::watch();
        }
        let spec = Spec::open(&found(&self.spec)?, &self.set)?;
        self.ask(spec.count())?;
        let root = root_of(self.output.as_deref(), &spec);
        let teller = Teller::new(self.json);
        let tell = |progress: latentrace::experiments::Progress| teller.tell(progress);
        let quiet = |_: latentrace::experiments::Progress| ();
        let mut sweep = Sweep::new(&spec, self.how(), &root, if self.share.list { &quiet } else { &tell })?;
        if self.share.list {
            teller.end();
            sweep.list().cells.iter().for_each(|cell| self.listed(cell));
            return Ok(());
        }
        if self.dry_run {
            estimated(&spec, &root, &sweep.estimate(&tell)?);
            return Ok(());
        }
        if !self.json && !spec.about.is_empty() {
            line!("{}", spec.about);
        }
        interrupt::says("the same command goes on where this one stopped".into());
        let began = Instant::now();
        let results = sweep.run(&tell)?;
        teller.end();
        self.summary(&results, began.elapsed().as_secs_f64());
        ended(&results)
    }

    fn listed(&self, Listed { key, label, .. }: &Listed) {
        match self.json {
            true => line!("{}", json!({ "key": key, "label": label })),
            false => line!("{key}  {label}"),
        }
    }

    fn how(&self) -> How {
        let mode = if self.batched { Mode::Batched } else { Mode::Alone };
        How { mode, batch: self.batch.map(|batch| batch as usize), retry: self.retry, part: self.share.part() }
    }

    /// Checks that so many cells are meant.
    fn ask(&self, count: usize) -> Result<()> {
        let runs_nothing = self.dry_run || self.share.list || self.share.gather;
        if count <= MANY || self.yes || runs_nothing && count <= 100 * MANY {
            return Ok(());
        }
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            bail!("{count} cells, more than {MANY}\nhint: --yes runs them all");
        }
        printer::ask(format_args!("{count} cells: run them all? [y/N] "));
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        ensure!(answer.trim().eq_ignore_ascii_case("y"), "{count} cells: not run");
        Ok(())
    }

    fn summary(&self, results: &Results, seconds: f64) {
        let Results { cells, new, evaluations, files, .. } = results;
        if self.json {
            let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
            return line!(
                "{}",
                json!({ "event": "end", "pictures": cells, "new": new, "evaluations": evaluations, "seconds": seconds,
                    "files": files })
            );
        }
        let pictures = counted(*cells, "picture");
        line!("{pictures}, {new} of them new, by {evaluations} evaluations of the network, in {seconds:.1} s");
        printer::files(files);
    }
}

/// The folder of a sweep's results.
pub fn root_of(output: Option<&Path>, spec: &Spec) -> PathBuf {
    output.map_or_else(|| PathBuf::from("runs").join(spec.folder()), Path::to_path_buf)
}

/// Says which cells are missing. Fails if a cell could not be made, or if none is made yet.
pub fn ended(results: &Results) -> Result<()> {
    let Results { failed, cells, missing, .. } = results;
    let hint = "hint: the same command without --gather makes them";
    ensure!(*missing == 0 || missing < cells, "none of the {} is made yet\n{hint}", counted(*cells, "cell"));
    if *missing > 0 {
        aside!("note: {missing} of {cells} cells are not made yet; figures and tables are of the others");
    }
    failed.iter().for_each(|Failed { label, error, .. }| aside!("failed: {label}: {error}"));
    ensure!(failed.is_empty(), "{} of {cells} cells failed\nhint: --retry tries them again", failed.len());
    Ok(())
}

/// Says what a run of the cells would cost.
fn estimated(spec: &Spec, root: &Path, Estimate { labels, evaluations, apart, time, bytes }: &Estimate) {
    line!("{}: {} into {}", spec.name, counted(labels.len(), "picture"), root.display());
    line!("{evaluations} evaluations of the network; each computes one picture with one text at one step");
    if evaluations < apart {
        line!("{}", spared(*evaluations, *apart));
    }
    line!("about {}, from a probe of two calls", HumanDuration(*time));
    line!("about {} on disk", human(*bytes));
    labels.iter().take(20).for_each(|label| line!("  {label}"));
    if labels.len() > 20 {
        line!("  and {} more", labels.len() - 20);
    }
}

/// What to do about a name that no spec has.
fn like(spec: &Path) -> String {
    let paths = super::experiments::specs().unwrap_or_default();
    let names = paths.iter().filter_map(|path| path.file_stem()?.to_str());
    match near(&spec.to_string_lossy(), names) {
        Some(name) => format!("did you mean {name}?"),
        None => "`latentrace experiments` lists those that are brought along".into(),
    }
}

/// A spec by its path, or by its name among those that are brought along.
pub fn found(spec: &Path) -> Result<PathBuf> {
    if spec.is_file() {
        return Ok(spec.into());
    }
    let named = home().map(|home| home.join("experiments/specs").join(spec).with_extension("toml"));
    named
        .filter(|path| path.is_file())
        .with_context(|| format!("{}: no such spec\nhint: {}", spec.display(), like(spec)))
}
