//! Which rows the network must compute for several images, some of which have equal samples.

use crate::common::{Common, Named, Work};
use crate::counts;
use crate::error::Result;
use crate::execute::missing;
use crate::network::Outputs;
use crate::{Lineage, Lines, Prepared, Setting};
use latentrace_nn::Branch;
use latentrace_nn::tch::Tensor;
use std::collections::HashMap;

/// One row that the network computes: the sample of an image under a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) image: usize,
    /// The index of the condition in the list of different ones.
    pub(crate) condition: usize,
    lineage: Lineage,
}

/// The images of a batch, and what they have in common with other batches.
pub(crate) struct Batch<'a> {
    pub(crate) runs: &'a [Named<'a>],
    /// For each image, the indices of its conditions in the list of different ones: with the negative prompt, and with the prompt.
    pub(crate) conditions: &'a [[usize; 2]],
    pub(crate) common: &'a mut Common,
    /// The work for each image. A row that belongs to several is the work of the first.
    pub(crate) work: Vec<Work>,
}

impl Batch<'_> {
    /// The outputs of every image at a call. `compute` computes rows, `[rows, 4, height, width]`. A call that is made
    /// again computes all of them.
    pub(crate) fn outputs(
        &mut self,
        call: usize,
        again: bool,
        compute: impl FnOnce(&[Row]) -> Tensor,
    ) -> Result<Vec<Outputs>> {
        let mut found: HashMap<Lineage, Tensor> = HashMap::new();
        let mut rows: Vec<Row> = Vec::new();
        for (image, branch, lineage) in self.needed(call) {
            let is_new = !found.contains_key(&lineage) && !rows.iter().any(|row| row.lineage == lineage);
            match self.common.row(lineage).filter(|_| !again) {
                Some((known, _)) => _ = found.insert(lineage, known),
                None if is_new => rows.push(Row { image, condition: self.conditions[image][branch as usize], lineage }),
                None => {}
            }
        }
        if !again {
            self.note(call, &rows);
        }
        if !rows.is_empty() {
            let outputs = compute(&rows);
            for (index, row) in (0..).zip(&rows) {
                let output = outputs.narrow(0, index, 1);
                if !again {
                    let Named { name, lines } = self.runs[row.image];
                    self.common.keep(row.lineage, lines.bytes, &output, name);
                }
                found.insert(row.lineage, output);
            }
        }
        self.runs.iter().map(|run| outputs_of(run, call, &found)).collect()
    }

    /// The rows that the images need at a call, with the branch of each.
    fn needed(&self, call: usize) -> Vec<(usize, Branch, Lineage)> {
        let of_image = |(image, run): (usize, &Named)| {
            let branches = [Branch::Unconditional, Branch::Conditional];
            let calls = run.lines.calls.get(call);
            branches.map(|branch| Some((image, branch, calls?.row(branch)?)))
        };
        self.runs.iter().enumerate().flat_map(of_image).flatten().collect()
    }

    /// Notes the rows that are computed, and those that come from other batches.
    fn note(&mut self, call: usize, rows: &[Row]) {
        counts::add_many(|counts| &mut counts.rows, rows.len());
        rows.iter().for_each(|row| self.work[row.image].evaluations += 1);
        for (run, work) in self.runs.iter().zip(&mut self.work) {
            let rows = run.lines.calls.get(call).into_iter().flat_map(|call| call.rows());
            let known: Option<_> = rows.filter_map(|row| self.common.row(row)).next();
            if let Some((_, by)) = known {
                work.take(by);
            }
        }
    }
}

/// The outputs of an image. A guidance weight of 1 needs no unconditional row, and a weight of 0 no conditional one.
fn outputs_of(run: &Named, call: usize, found: &HashMap<Lineage, Tensor>) -> Result<Outputs> {
    let needed = run.lines.calls.get(call).ok_or_else(missing)?;
    let row = |row: Lineage| found.get(&row).map(Tensor::shallow_clone).ok_or_else(missing);
    match (needed.unconditional, needed.conditional) {
        (Some(u), Some(c)) => Ok(Outputs::Both { unconditional: row(u)?, conditional: row(c)? }),
        (None, Some(c)) => Ok(Outputs::Conditional(row(c)?)),
        (Some(u), None) => Ok(Outputs::Unconditional(row(u)?)),
        (None, None) => Err(missing()),
    }
}

/// How many rows the network computes for images of one model that are run in one batch. A row is one sample with one
/// text.
pub fn evaluations(images: &[&Prepared]) -> usize {
    let setting = Setting { mode: crate::Mode::Batched, ..Setting::default() };
    let lines: Vec<Lines> = images.iter().map(|image| Lines::of(image, &setting)).collect();
    crate::pool::evaluations(&[lines.iter().collect()]).into_iter().sum()
}
