//! `latentrace run`: an experiment from its spec.

use crate::cell::Cell;
use crate::figures::{self, Done, Finished};
use crate::models::Loaded;
use crate::record::{Job, bar};
use crate::spec::Spec;
use crate::store::{Store, trace_of};
use anyhow::{Context, Result};
use latentrace_trace::Layout;
use std::path::PathBuf;
use std::time::Instant;

/// Run an experiment from its spec; what is done already is not done again
#[derive(clap::Args)]
pub struct Run {
    /// The spec, a TOML file such as experiments/specs/sweep-guidance.toml
    spec: PathBuf,
    /// Replace a field: --set prompt="a red circle", or let it vary: --set "seed=[1, 2, 3]"
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the results [default: runs/ and the name of the experiment]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Say what would be run, and run nothing
    #[arg(long)]
    dry_run: bool,
}

impl Run {
    /// Runs what is missing, then draws everything.
    pub fn run(self) -> Result<()> {
        let spec = Spec::open(&self.spec, &self.set)?;
        let cells = spec.cells().with_context(|| self.spec.display().to_string())?;
        let root = self.output.clone().unwrap_or_else(|| PathBuf::from("runs").join(&spec.name));
        let mut loaded = Loaded::default();
        let mut calls = Vec::new();
        for cell in &cells {
            let model = loaded.get(cell)?;
            let job = Job::new(model, cell)?.capturing(&spec.capture, spec.budget);
            job.check()?;
            calls.push(job.calls());
        }
        if self.dry_run {
            let total: usize = calls.iter().sum();
            println!(
                "{}: {} pictures, {total} network calls of two passes each, into {}",
                spec.name,
                cells.len(),
                root.display()
            );
            return Ok(());
        }
        if !spec.about.is_empty() {
            println!("{}", spec.about);
        }
        let began = Instant::now();
        let store = Store::open(&root)?;
        let keys: Vec<String> = cells.iter().map(|cell| store.key(cell)).collect::<Result<_>>()?;
        let missing = keys.iter().filter(|key| store.done(key).is_none()).count();
        if missing < cells.len() {
            println!("{} of {} pictures are there already", cells.len() - missing, cells.len());
        }
        let left = calls.iter().zip(&keys).filter(|(_, key)| store.done(key).is_none()).map(|(calls, _)| calls).sum();
        let bar = bar(left);
        let mut done = Vec::new();
        for (cell, key) in cells.iter().zip(&keys) {
            let label = label(&spec, cell);
            let folder = match store.done(key) {
                Some(folder) => folder,
                None => {
                    bar.set_message(label.clone());
                    let model = loaded.get(cell)?;
                    let folder = store.begin()?;
                    let job = Job::new(model, cell)?.capturing(&spec.capture, spec.budget);
                    let recorded = job.record(&trace_of(folder.path()), Layout::WHOLE, &bar)?;
                    let folder = store.put(folder, cell, key, &label, model, &recorded)?;
                    let line = format!(
                        "{label}: {:.1} s, {}",
                        recorded.elapsed.as_secs_f64(),
                        folder.join("image.png").display()
                    );
                    if bar.is_hidden() {
                        println!("{line}")
                    } else {
                        bar.println(line)
                    }
                    folder
                }
            };
            done.push(Done { cell: cell.clone(), label, folder });
        }
        bar.finish_and_clear();
        let title = title(&spec, &cells);
        let finished = Finished { root: &root, spec: &spec, title: &title, cells: &done };
        let mut made = figures::grid(&finished)?;
        made.extend(figures::curves(&finished)?);
        println!("{} pictures, {missing} of them new, in {:.1} s", cells.len(), began.elapsed().as_secs_f64());
        for path in made {
            println!("  {}", path.display());
        }
        Ok(())
    }
}

/// What varies, for a legend: `guidance 4`.
fn label(spec: &Spec, cell: &Cell) -> String {
    let parts: Vec<String> = spec.axes().iter().map(|axis| format!("{axis} {}", cell.value(axis))).collect();
    if parts.is_empty() { format!("seed {}", cell.seed) } else { parts.join(", ") }
}

/// What is the same everywhere, for a title.
fn title(spec: &Spec, cells: &[Cell]) -> String {
    let Some(cell) = cells.first() else { return spec.name.clone() };
    let axes = spec.axes();
    let same = |field: &str| !axes.contains(&field);
    let mut parts = Vec::new();
    if same("prompt") {
        let mut prompt: String = cell.prompt.chars().take(120).collect();
        if prompt.len() < cell.prompt.len() {
            prompt.push('…');
        }
        parts.push(format!("“{prompt}”"));
    }
    for field in ["seed", "steps", "guidance"] {
        if same(field) {
            parts.push(format!("{field} {}", cell.value(field)));
        }
    }
    parts.join(", ")
}
