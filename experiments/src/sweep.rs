//! The cells of an experiment, made: which together, in what order, and what happens where one fails.

use crate::capture::{disk, human};
use crate::cell::Cell;
use crate::inputs::Inputs;
use crate::lost;
use crate::models::Loaded;
use crate::record::{Job, Recorded, record_together};
use crate::rules::{OfCells, OfSweep};
use crate::sampler::set_by_pipeline;
use crate::spec::Spec;
use crate::store::{Claim, Mode, Store, key, trace_of};
use anyhow::{Error, Result};
use indicatif::ProgressBar;
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::{Model, Request, Start, evaluations};
use latentrace_trace::Layout;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Makes the cells of an experiment.
pub struct Bench<'a> {
    /// The experiment.
    pub spec: &'a Spec,
    /// How its cells are made.
    pub mode: Mode,
    /// How many pictures in one batch; as many as fit without.
    pub most: Option<usize>,
    /// The model in use.
    pub loaded: Loaded,
}

/// A cell to be made.
pub struct Task<'a> {
    /// Its settings.
    pub cell: &'a Cell,
    /// What the legend calls it.
    pub label: String,
    /// Its key in the store.
    pub key: String,
}

/// What is known of a sweep before it runs.
pub struct Checked {
    /// How often its rules fire.
    pub rules: Vec<OfCells>,
    /// What texts lose that do not fit the text encoder, a line for each cell that loses some.
    pub lost: Vec<String>,
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Made {
    /// How many pictures are new.
    pub new: usize,
    /// How many rows the network computed: a row is one sample with one text.
    pub evaluations: usize,
}

/// Latent pixels in a batch, all pictures together, that even a small machine has room for.
const ROOM: i64 = 16_384;
/// More pictures in one batch gain nothing.
const MOST: usize = 16;

impl<'a> Bench<'a> {
    /// Checks that every cell can be run by its model, before any is, and that every rule has something to do in one of
    /// them. Says what a pipeline sets of the cells' schedulers, once.
    pub fn check(&mut self, cells: &[(&Cell, String)]) -> Result<Checked> {
        let (mut rules, mut lost) = (OfSweep::default(), Vec::new());
        let mut said = BTreeSet::new();
        for (cell, label) in cells {
            let job = job(self.loaded.get(cell)?, cell, self.spec).map_err(|error| error.context(label.clone()))?;
            rules.add(job.foresee().map_err(|error| error.context(label.clone()))?);
            lost.extend(lost::lines(job.description()).into_iter().next());
            said.extend(set_by_pipeline(&job.asked().0.scheduler));
        }
        said.iter().for_each(|said| eprintln!("{said}"));
        Ok(Checked { rules: rules.check()?, lost })
    }

    /// A cell with its key. One that was made exactly is as good as one that is made fast.
    pub fn task<'b>(&self, store: &Store, cell: &'b Cell, label: String) -> Result<Task<'b>> {
        let (inputs, kept) = (Inputs::of(cell)?, self.spec.kept());
        let exact = key(cell, &inputs, &kept, Mode::Exact)?;
        let key = if self.mode == Mode::Exact || store.done(&exact).is_some() {
            exact
        } else {
            key(cell, &inputs, &kept, self.mode)?
        };
        Ok(Task { cell, label, key })
    }

    /// Network calls of the cells that are missing, each picture's counted.
    pub fn calls(&mut self, store: &Store, tasks: &[Task]) -> Result<usize> {
        let missing = tasks.iter().filter(|task| store.done(&task.key).is_none());
        missing.map(|task| Ok(job(self.loaded.get(task.cell)?, task.cell, self.spec)?.calls())).sum()
    }

    /// Makes what is missing. A cell that another process has in hand is waited for at the end.
    pub fn run(&mut self, store: &Store, tasks: &[Task], retry: bool, says: &Says) -> Result<Made> {
        let mut made = Made::default();
        let (done, mut missing): (Vec<&Task>, Vec<&Task>) =
            tasks.iter().partition(|task| store.done(&task.key).is_some());
        says.begin(tasks.len(), done.len());
        if retry {
            missing.iter().for_each(|task| store.forgive(&task.key));
        }
        missing.retain(|task| store.failure(&task.key).is_none());
        says.left(missing.len());
        let mut elsewhere = Vec::new();
        for batch in self.batches(&missing)? {
            let mut claims = Vec::new();
            let mut ours = Vec::new();
            for task in batch {
                match store.claim(&task.key)? {
                    None => elsewhere.push(task),
                    Some(_) if store.done(&task.key).is_some() => says.kept(task), // by another process, just now
                    Some(claim) => {
                        claims.push(claim);
                        ours.push(task);
                    }
                }
            }
            self.make(store, &ours, claims, says, &mut made)?;
        }
        for task in elsewhere {
            self.wait(store, task, says, &mut made)?;
        }
        Ok(made)
    }

    /// Waits until another process has made a cell, or makes it if that process is gone.
    fn wait(&mut self, store: &Store, task: &Task, says: &Says, made: &mut Made) -> Result<()> {
        says.message(&format!("waiting for another process: {}", task.label));
        loop {
            if store.done(&task.key).is_some() || store.failure(&task.key).is_some() {
                says.kept(task);
                return Ok(());
            }
            if let Some(claim) = store.claim(&task.key)?
                && store.done(&task.key).is_none()
            {
                return self.make(store, &[task], vec![claim], says, made);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Which cells are made together: in exact mode each alone; in fast mode those of one model, plan and size, but for
    /// those that look into a network or change what passes there.
    fn batches<'b, 'c>(&mut self, tasks: &[&'b Task<'c>]) -> Result<Vec<Vec<&'b Task<'c>>>> {
        if self.mode == Mode::Exact {
            return Ok(tasks.iter().map(|task| vec![*task]).collect());
        }
        let mut groups: Vec<(Option<Cell>, usize, Vec<&Task>)> = Vec::new();
        for task in tasks {
            let job = job(self.loaded.get(task.cell)?, task.cell, self.spec)?;
            let [_, height, width] = job.description().latents;
            let most = self.most.unwrap_or_else(|| ((ROOM / (height * width).max(1)) as usize).clamp(1, MOST));
            let alike = job.can_share().then(|| alike(task.cell));
            let room =
                groups.iter_mut().find(|(with, _, batch)| with.is_some() && *with == alike && batch.len() < most);
            match room {
                Some((_, _, batch)) => batch.push(task),
                None => groups.push((alike, most, vec![task])),
            }
        }
        Ok(groups.into_iter().map(|(_, _, batch)| batch).collect())
    }

    /// Makes cells that this process has claimed, together if there are several.
    fn make(&mut self, store: &Store, tasks: &[&Task], claims: Vec<Claim>, says: &Says, made: &mut Made) -> Result<()> {
        let Some(first) = tasks.first() else { return Ok(()) };
        let _claims = claims; // until the cells are kept
        says.message(&first.label);
        let model = self.loaded.get(first.cell)?;
        let jobs =
            |tasks: &[&Task]| tasks.iter().map(|task| job(model, task.cell, self.spec)).collect::<Result<Vec<_>>>();
        if self.mode == Mode::Fast && jobs(tasks)?.iter().all(Job::can_share) {
            let folders: Vec<TempDir> = tasks.iter().map(|task| store.begin(&task.key)).collect::<Result<_>>()?;
            let traces: Vec<PathBuf> = folders.iter().map(|folder| trace_of(folder.path())).collect();
            match record_together(jobs(tasks)?, &traces, &says.bar) {
                Ok((recorded, evaluations)) => {
                    made.evaluations += evaluations;
                    for ((task, folder), recorded) in tasks.iter().zip(folders).zip(&recorded) {
                        keep(store, task, folder, model, recorded, says, made)?;
                    }
                    return Ok(());
                }
                Err(error) if is_of_the_cell(&error) => {} // one of them: each by itself says which
                Err(error) => return Err(error),
            }
        }
        for task in tasks {
            let job = job(model, task.cell, self.spec)?;
            let evaluations = 2 * job.calls();
            let folder = store.begin(&task.key)?;
            match job.record(&trace_of(folder.path()), Layout::WHOLE, &says.bar) {
                Ok(recorded) => {
                    made.evaluations += evaluations;
                    keep(store, task, folder, model, &recorded, says, made)?;
                }
                Err(error) if is_of_the_cell(&error) => {
                    let error = format!("{error:#}");
                    store.fail(task.cell, &task.key, &task.label, &error)?;
                    says.failed(task, &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says what a run of the cells would cost.
    pub fn estimate(&mut self, cells: &[(&Cell, String)], root: &Path) -> Result<()> {
        let tasks: Vec<Task> =
            cells.iter().map(|(cell, label)| Task { cell, label: label.clone(), key: String::new() }).collect();
        let (mut rows, mut seconds, mut bytes) = (0, 0.0, 0);
        let mut probed: Vec<(Cell, f64, u64)> = Vec::new();
        for batch in self.batches(&tasks.iter().collect::<Vec<_>>())? {
            let model = self.loaded.get(batch[0].cell)?;
            let jobs: Vec<Job> = batch.iter().map(|task| job(model, task.cell, self.spec)).collect::<Result<_>>()?;
            let of_batch = cost(&jobs, self.mode)?;
            let like = alike(batch[0].cell);
            let (each, size) = match probed.iter().find(|(known, _, _)| *known == like) {
                Some((_, each, size)) => (*each, *size),
                None => {
                    let (each, size) = (probe(model, &jobs[0])?, disk(&jobs[0])?);
                    probed.push((like, each, size));
                    (each, size)
                }
            };
            rows += of_batch;
            seconds += each * of_batch as f64;
            bytes += size * jobs.len() as u64;
        }
        println!("{}: {} pictures into {}", self.spec.name, cells.len(), root.display());
        println!("{rows} evaluations of the network, a sample with a text each");
        println!("about {}, from a probe of two calls", indicatif::HumanDuration(Duration::from_secs_f64(seconds)));
        println!("about {} on disk", human(bytes));
        for (_, label) in cells.iter().take(20) {
            println!("  {label}");
        }
        if cells.len() > 20 {
            println!("  and {} more", cells.len() - 20);
        }
        Ok(())
    }
}

fn job<'m>(model: &'m Model, cell: &Cell, spec: &Spec) -> Result<Job<'m>> {
    Ok(Job::new(model, cell)?.capturing(&spec.capture, spec.budget))
}

/// A cell without what may differ in one batch.
fn alike(cell: &Cell) -> Cell {
    let image = cell.image.as_ref().map(|_| PathBuf::new());
    let guidance = 0.0.into();
    Cell { prompt: String::new(), negative: String::new(), seed: 0, guidance, image, ..cell.clone() }
}

/// Rows of the network for cells that are made together.
fn cost(jobs: &[Job], mode: Mode) -> Result<usize> {
    if mode == Mode::Exact || !jobs.iter().all(Job::can_share) {
        return Ok(jobs.iter().map(|job| 2 * job.calls()).sum());
    }
    Ok(evaluations(&jobs.iter().map(Job::asked).collect::<Vec<_>>())?)
}

/// Seconds that a row of the network takes: two calls of the first cell, after two that warm up.
fn probe(model: &Model, job: &Job) -> Result<f64> {
    let request = Request { steps: 2, ..job.asked().0.clone() };
    let run = || -> Result<Duration> {
        let began = Instant::now();
        let _ = model.denoise(&request, &Start::Noise, &[], &mut Pass::silent())?;
        Ok(began.elapsed())
    };
    run()?;
    let calls = model.check(&request)?.calls();
    Ok(run()?.as_secs_f64() / (2 * calls) as f64)
}

fn keep(
    store: &Store,
    task: &Task,
    folder: TempDir,
    model: &Model,
    recorded: &Recorded,
    says: &Says,
    made: &mut Made,
) -> Result<()> {
    let folder = store.put(folder, &task.key, &task.label, model, recorded)?;
    store.forgive(&task.key);
    made.new += 1;
    says.made(task, recorded.elapsed, &folder);
    Ok(())
}

/// Whether an error says something of the cell, and not of the disk or the machine: the others can be made all the same.
fn is_of_the_cell(error: &Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(latentrace_pipeline::Error::NotFinite { .. })))
}

/// What is said while cells are made: a bar on a terminal, lines elsewhere, JSON where asked.
pub struct Says {
    json: bool,
    /// Moves with every network call.
    pub bar: ProgressBar,
    began: Instant,
    left: std::cell::Cell<usize>,
    made: std::cell::Cell<usize>,
}

impl Says {
    /// Speaks in JSON or in words.
    pub fn new(json: bool, bar: ProgressBar) -> Says {
        if json {
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        Says { json, bar, began: Instant::now(), left: 0.into(), made: 0.into() }
    }

    /// A JSON object on a line.
    pub fn event(&self, event: Value) {
        println!("{event}");
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Says how often each rule fires.
    pub fn rules(&self, rules: &[OfCells]) {
        for rule in rules {
            match self.json {
                true => self.event(json!({ "event": "rule", "rule": rule.rule, "tensors": rule.tensors,
                    "cells": rule.cells, "firing": rule.firing })),
                false => eprintln!("note: {}: {}", rule.rule, rule.often()),
            }
        }
    }

    fn begin(&self, all: usize, done: usize) {
        if self.json {
            self.event(json!({ "event": "begin", "pictures": all, "there": done }));
        } else if done > 0 {
            println!("{done} of {all} pictures are there already");
        }
    }

    fn left(&self, left: usize) {
        self.left.set(left);
    }

    fn message(&self, text: &str) {
        self.bar.set_message(text.to_string());
    }

    fn kept(&self, task: &Task) {
        self.left.set(self.left.get().saturating_sub(1));
        if self.json {
            self.event(json!({ "event": "cell", "label": task.label, "key": task.key, "status": "kept" }));
        }
    }

    fn failed(&self, task: &Task, error: &str) {
        self.left.set(self.left.get().saturating_sub(1));
        match self.json {
            true => self.event(
                json!({ "event": "cell", "label": task.label, "key": task.key, "status": "failed", "error": error }),
            ),
            false => self.bar.suspend(|| eprintln!("{}: failed: {error}", task.label)),
        }
    }

    fn made(&self, task: &Task, elapsed: Duration, folder: &Path) {
        self.made.set(self.made.get() + 1);
        self.left.set(self.left.get().saturating_sub(1));
        let seconds = elapsed.as_secs_f64();
        if self.json {
            return self.event(json!({ "event": "cell", "label": task.label, "key": task.key, "status": "made",
                "seconds": seconds, "folder": folder.display().to_string() }));
        }
        let left = self.began.elapsed().as_secs_f64() / self.made.get() as f64 * self.left.get() as f64;
        let left =
            if self.left.get() == 0 { String::new() } else { format!(" ({} to go, {left:.0} s)", self.left.get()) };
        let line = format!("{}: {seconds:.1} s, {}{left}", task.label, folder.join("image.png").display());
        self.bar.suspend(|| println!("{line}"));
    }
}
