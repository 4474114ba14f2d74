//! Cells of one model in the making: alone, in a batch, or in smaller batches; kept, or noted as failed.

use crate::lease::Lease;
use crate::progress::{End, OfRuns, Progress};
use crate::store::Store;
use crate::sweep::{Made, Task};
use crate::time_left::Speed;
use anyhow::{Error, Result};
use latentrace_pipeline::{Common, Lines, Model, Named};
use latentrace_runs::{Job, Mode, Ready, Recorded, RunFolder, record_together};
use latentrace_trace::Layout;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;
use tempfile::TempDir;

/// Cells of one model in the making.
pub(crate) struct Making<'a> {
    pub(crate) tasks: &'a [Task],
    pub(crate) store: &'a Store,
    pub(crate) claims: HashMap<usize, Lease>,
    /// Cells that another process has taken over.
    pub(crate) lost: Vec<usize>,
    pub(crate) model: &'a Model,
    pub(crate) made: &'a mut Made,
    pub(crate) left: &'a mut Speed,
    /// See [`Sweep`](crate::Sweep).
    pub(crate) room: &'a mut Option<i64>,
    pub(crate) tell: &'a dyn Fn(Progress),
}

/// What became of cells that were to be made in one batch.
enum Batch {
    /// All are made.
    Made,
    /// One of them cannot be made.
    Failed,
    /// There is not enough memory for so many, as the error says.
    TooLarge(Error),
}

impl Making<'_> {
    /// Makes cells in one batch, or in smaller ones if there is not enough memory.
    pub(crate) fn batched(&mut self, indices: &[usize], mut runs: Vec<Ready>, common: &mut Common) -> Result<()> {
        let pixels = runs.first().map_or(1, |ready| ready.description().latents[1..].iter().product::<i64>().max(1));
        let mut left = indices;
        while !left.is_empty() {
            let most = self.room.map_or(left.len(), |room| ((room / pixels) as usize).clamp(1, left.len()));
            let (now, later) = left.split_at(most);
            match self.together(now, &runs[..most], common)? {
                Batch::TooLarge(error) if most > 1 => {
                    let to = most / 2;
                    *self.room = Some(to as i64 * pixels);
                    let error = error.root_cause().to_string();
                    let cause = error.lines().next().unwrap_or_default();
                    (self.tell)(Progress::Smaller { from: most, to, cause });
                    continue;
                }
                Batch::Made => drop(runs.drain(..most)),
                Batch::Failed | Batch::TooLarge(_) => self.each_by_itself(now, runs.drain(..most).collect())?,
            }
            left = later;
        }
        Ok(())
    }

    /// Makes cells in one batch.
    fn together(&mut self, indices: &[usize], runs: &[Ready], common: &mut Common) -> Result<Batch> {
        let tasks = self.tasks;
        let folders = indices.iter().map(|&index| self.begin(index)).collect::<Result<Vec<TempDir>>>()?;
        let traces: Vec<PathBuf> =
            folders.iter().map(|folder| RunFolder::new(folder.path()).trace().to_path_buf()).collect();
        let named: Vec<Named> = indices.iter().map(|&index| tasks[index].named()).collect();
        match record_together(self.model, runs, &traces, (common, &named), &OfRuns(self.tell)) {
            Ok(recorded) => {
                for ((&index, folder), recorded) in indices.iter().zip(folders).zip(&recorded) {
                    self.keep(index, folder, recorded)?;
                }
                Ok(Batch::Made)
            }
            Err(error) if is_of_memory(&error) => Ok(Batch::TooLarge(error)),
            Err(error) if is_of_the_cell(&error) => Ok(Batch::Failed), // one of them: each by itself says which
            Err(_) if indices.iter().any(|index| !self.holds(*index)) => Ok(Batch::Failed), // its folder is gone
            Err(error) => Err(tasks[indices[0]].not_kept(&error)),
        }
    }

    /// Makes cells of a batch, one of which fails, each by itself.
    fn each_by_itself(&mut self, indices: &[usize], runs: Vec<Ready>) -> Result<()> {
        for (&index, ready) in indices.iter().zip(runs) {
            let lines = ready.lines(self.model, Mode::Alone)?;
            self.alone(index, ready, &lines, &mut Common::of(std::iter::empty()))?;
        }
        Ok(())
    }

    /// Makes a cell alone.
    pub(crate) fn alone(&mut self, index: usize, ready: Ready, lines: &Lines, common: &mut Common) -> Result<()> {
        let task = &self.tasks[index];
        if !self.holds(index) {
            self.lost.push(index);
            return Ok(());
        }
        let folder = self.begin(index)?;
        let trace = RunFolder::new(folder.path()).trace().to_path_buf();
        let run = Named { name: task.own_key(), lines };
        match Job::of(self.model, ready).record_with(common, run, &trace, Layout::WHOLE, &OfRuns(self.tell)) {
            Ok(recorded) => self.keep(index, folder, &recorded),
            Err(error) => self.failed(index, &error),
        }
    }

    /// Notes that a cell could not be made.
    ///
    /// # Errors
    /// The error says nothing of the cell, and ends the sweep.
    fn failed(&mut self, index: usize, error: &Error) -> Result<()> {
        let task = &self.tasks[index];
        if !self.holds(index) {
            self.lost.push(index); // whoever has taken it over has also cleared away its folder
            return Ok(());
        }
        if !is_of_the_cell(error) {
            return Err(task.not_kept(error));
        }
        let (key, error) = (task.own_key(), format!("{error:#}"));
        self.store.fail(&task.cell, key, &task.label, &error)?;
        task.ended(key, End::Failed(&error), self.left, self.tell);
        Ok(())
    }

    /// Whether a cell is still this process's to make.
    fn holds(&self, index: usize) -> bool {
        self.claims.get(&index).is_some_and(Lease::holds)
    }

    fn begin(&self, index: usize) -> Result<TempDir> {
        self.store.begin(self.tasks[index].own_key())
    }

    /// Keeps a cell that is made. Its frames are decoded on the way.
    fn keep(&mut self, index: usize, folder: TempDir, recorded: &Recorded) -> Result<()> {
        let task = &self.tasks[index];
        let key = task.own_key(); // another process may have made it alone meanwhile
        let Some(claim) = self.claims.get(&index) else { return Ok(()) }; // there is always one
        let began = Instant::now();
        let kept = self.store.put((folder, claim), (key, &task.label), self.model, recorded, &OfRuns(self.tell));
        let run = match kept {
            Ok(Some(run)) => run,
            Ok(None) => {
                self.lost.push(index);
                return Ok(());
            }
            Err(error) => return self.failed(index, &error), // its frames may not fit, or be no numbers
        };
        self.store.forgive(key);
        self.made.new += 1;
        self.made.evaluations += recorded.work.evaluations;
        let (elapsed, whole) = (recorded.elapsed, recorded.elapsed + began.elapsed());
        task.ended(key, End::Made { elapsed, whole, run: &run }, self.left, self.tell);
        Ok(())
    }
}

/// Whether an error says something of the cell, and not of the disk or of other cells: the others can be made all the same.
fn is_of_the_cell(error: &Error) -> bool {
    let not_finite = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(latentrace_pipeline::Error::NotFinite { .. }))
    };
    error.chain().any(not_finite) || is_of_memory(error)
}

/// Whether an error says that there is not enough memory: fewer or smaller pictures may fit.
fn is_of_memory(error: &Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(latentrace_pipeline::Error::Memory(_))))
}
