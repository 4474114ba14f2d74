//! What a sweep would cost, known before it is run.

use crate::progress::Progress;
use crate::sweep::Sweep;
use anyhow::Result;
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::{Model, Prepared, Request, Start};
use latentrace_runs::{Cell, Cost, Ready};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a sweep would cost.
#[derive(Debug, Default)]
pub struct Estimate {
    /// What the legend calls each cell.
    pub labels: Vec<String>,
    /// Rows of the network: a row is one sample with one text.
    pub evaluations: usize,
    /// Rows of the network for each cell by itself, all together.
    pub apart: usize,
    /// How long it may take, from a probe of two calls.
    pub time: Duration,
    /// Bytes on the disk, roughly.
    pub bytes: u64,
}

impl Sweep<'_> {
    /// Estimates what all cells would cost if none were there.
    ///
    /// # Errors
    /// A model cannot be opened, or its probe fails.
    pub fn estimate(&mut self, tell: &dyn Fn(Progress)) -> Result<Estimate> {
        let labels = self.tasks.iter().map(|task| task.label.clone()).collect();
        let mut found = Estimate { labels, ..Estimate::default() };
        let mut probed: Vec<(Cell, Duration, u64)> = Vec::new();
        let batches = self.batches(&self.ordered(&(0..self.tasks.len()).collect::<Vec<_>>()));
        let evaluations = self.evaluations(&batches);
        found.apart = self.evaluations_apart(&batches);
        for (batch, rows) in batches.iter().zip(evaluations) {
            let runs: Vec<&Ready> = batch.iter().filter_map(|&index| self.tasks[index].ready.as_ref()).collect();
            let Some(first) = runs.first() else { continue };
            let cell = &self.tasks[batch[0]].cell;
            let like = alike(cell);
            let (each, size) = match probed.iter().find(|(known, ..)| *known == like) {
                Some((_, each, size)) => (*each, *size),
                None => {
                    let model = self.loaded.get(cell, &crate::progress::OfRuns(tell))?;
                    let cost = Cost::of(first, 0)?;
                    let (each, size) = (probe(model, first.prepared())?, cost.recorded() + cost.pictures);
                    probed.push((like, each, size));
                    (each, size)
                }
            };
            found.evaluations += rows;
            found.time += each * rows as u32;
            found.bytes += size * runs.len() as u64;
        }
        Ok(found)
    }
}

/// A cell without what may differ in one batch.
pub(crate) fn alike(cell: &Cell) -> Cell {
    let [image, mask] = [&cell.image, &cell.mask].map(|path| path.as_ref().map(|_| PathBuf::new()));
    let guidance = 0.0.into();
    let [prompt_2, negative_2] = [&cell.prompt_2, &cell.negative_2].map(|text| text.as_ref().map(|_| String::new()));
    Cell {
        prompt: String::new(),
        negative: String::new(),
        prompt_2,
        negative_2,
        seed: 0,
        guidance,
        image,
        mask,
        ..cell.clone()
    }
}

/// The numbers of steps that a probe tries, until the scheduler can sample one.
const PROBES: std::ops::RangeInclusive<usize> = 2..=16;

/// How long a row of the network takes: the calls of a few steps of a request, after as many that warm up.
fn probe(model: &Model, like: &Prepared) -> Result<Duration> {
    let start = match &like.start {
        // An inpainting model runs with a mask only.
        Start::Masked { picture, mask, .. } => {
            Start::Masked { strength: 1.0, picture: picture.clone(), mask: mask.clone() }
        }
        _ => Start::Noise,
    };
    let Request { scheduler, reading, .. } = &like.request;
    let steps = PROBES.into_iter().find(|steps| scheduler.plan(*steps, *reading).is_ok());
    let steps = steps.unwrap_or(like.request.steps);
    let prepared: Prepared = model.prepare(Request { steps, ..like.request.clone() }, start)?;
    let run = || -> Result<Duration> {
        let began = Instant::now();
        let _ = model.sample(&prepared, &[], &mut Pass::silent())?;
        Ok(began.elapsed())
    };
    run()?;
    Ok(run()?.div_f64((prepared.negative.rows() * prepared.plan.calls()) as f64))
}
