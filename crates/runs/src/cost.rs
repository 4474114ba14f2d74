//! The cost of a run, computed before it is made.

use crate::ready::Ready;
use anyhow::Result;
use latentrace_pipeline::nn::ModuleValue;
use latentrace_trace::{Foreseen, Layout};
use std::collections::HashSet;

/// The disk space and memory that a run needs.
#[derive(Debug)]
pub struct Cost {
    /// The sampler's values, which every run records.
    pub sampler: Foreseen,
    /// Bytes of the tensors that capture rules keep, at most the budget.
    pub captured: u64,
    /// Bytes of the run's picture files, roughly.
    pub pictures: u64,
    /// Upper bound of the bytes of memory that recording and editing need: the scores and probabilities of one
    /// attention, and the tensors that wait to be written.
    pub memory: u64,
}

impl Cost {
    /// The cost of a run whose calls before `from` are taken from a record.
    ///
    /// # Errors
    /// The checkpoint no longer exists.
    pub fn of(ready: &Ready, from: usize) -> Result<Cost> {
        let course = ready.course(from)?;
        let [height, width] = ready.description.size;
        let bytes = ready.fires.capture.iter().map(Foreseen::bytes).sum::<u64>();
        Ok(Cost {
            sampler: course.flight_recorder()?,
            captured: ready.description.budget.map_or(bytes, |budget| bytes.min(budget)),
            pictures: 12 * (height * width) as u64,
            memory: memory(ready, &course),
        })
    }

    /// Bytes of the record.
    pub fn recorded(&self) -> u64 {
        self.sampler.bytes() + self.captured
    }
}

/// The memory of the largest attention whose scores or probabilities a rule uses, and of the writer's queue, in bytes.
fn memory(ready: &Ready, course: &latentrace_trace::Course) -> u64 {
    let fires = &ready.fires;
    let asked: HashSet<&str> =
        fires.capture.iter().chain(&fires.edits).flat_map(|rule| &rule.taps).map(|tap| tap.tap.as_str()).collect();
    let materialised = course.passages().iter().filter(|passage| {
        let value = passage.tap.role().module();
        asked.contains(passage.tap.name()) && value.is_some_and(ModuleValue::is_scores_or_probs)
    });
    let largest = materialised.map(|passage| 2 * passage.shape.iter().product::<i64>() as u64 * 4).max();
    largest.unwrap_or(0) + if fires.capture.is_empty() { 0 } else { Layout::LIVE.memory() }
}
