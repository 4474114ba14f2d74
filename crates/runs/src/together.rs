//! Runs of one plan and size, made in one batch and recorded separately.

use crate::observer::Observer;
use crate::ready::Ready;
use crate::record::{Recorded, Tick, begin};
use anyhow::Result;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::nn::{Block, Both, Moment, Pass, Probe, Tap};
use latentrace_pipeline::{Common, Model, Named, Prepared};
use latentrace_trace::{Capture, Layout, Recorder, Trace};
use std::path::PathBuf;
use std::time::Instant;

/// Makes runs of one plan and size in one batch, and records each into its own new folder. `named` has the lineages of
/// each, see [`Ready::lines`], and `common` what they have in common with other batches.
///
/// # Errors
/// A folder cannot be written, or a run fails.
pub fn record_together(
    model: &Model,
    runs: &[Ready],
    folders: &[PathBuf],
    (common, named): (&mut Common, &[Named]),
    observer: &dyn Observer,
) -> Result<Vec<Recorded>> {
    let began = Instant::now();
    let mut recorders = Vec::new();
    let mut descriptions = Vec::new();
    for (ready, folder) in runs.iter().zip(folders) {
        let threads = model.threads_for(ready.request().size, runs.len());
        let (writer, description) = begin(ready, threads, folder, Layout::WHOLE)?;
        let words = description.words();
        descriptions.push(description);
        recorders.push(Recorder::new(&Capture::default(), &model.taps, words, ready.prepared.steps(), writer)?);
    }
    let mut probe = Both(Fan { recorders }, Tick { observer, from: 0 });
    let images: Vec<&Prepared> = runs.iter().map(|ready| &ready.prepared).collect();
    let together = model.make_together_with(&images, named, common, &mut Pass::watched(&mut probe))?;
    runs.iter().try_for_each(|ready| ready.description.check_checkpoint(model))?;
    let elapsed = began.elapsed().div_f64(runs.len() as f64); // an equal share for each
    let ends = probe.0.recorders.into_iter().map(|recorder| recorder.end(None)).collect::<Result<Vec<_>, _>>()?;
    let outcomes = together.outcomes.into_iter().zip(together.work);
    let recorded = outcomes.zip(descriptions).zip(ends).zip(folders);
    let recorded = recorded.map(|((((outcome, work), description), beyond_budget), folder)| {
        let trace = Trace::open(folder)?;
        Ok(Recorded { outcome, trace, description, elapsed, beyond_budget, together: true, work })
    });
    recorded.collect()
}

/// A recorder for each image of a batch.
struct Fan {
    recorders: Vec<Recorder>,
}

impl Probe for Fan {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        let own = Moment { image: 0, ..*moment };
        self.recorders.get(moment.image).is_some_and(|recorder| recorder.wants(tap, &own))
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        match self.recorders.get_mut(moment.image) {
            Some(recorder) => recorder.visit(tap, Moment { image: 0, ..moment }, tensor),
            None => tensor,
        }
    }

    fn takes_blocks(&self, tap: &Tap, moment: &Moment) -> bool {
        let own = Moment { image: 0, ..*moment };
        self.recorders.get(moment.image).is_none_or(|recorder| recorder.takes_blocks(tap, &own))
    }

    fn visit_block(&mut self, tap: &Tap, moment: Moment, block: &Block) {
        if let Some(recorder) = self.recorders.get_mut(moment.image) {
            recorder.visit_block(tap, Moment { image: 0, ..moment }, block);
        }
    }

    fn stop(&mut self, moment: &Moment) -> Option<String> {
        self.recorders.iter_mut().find_map(|recorder| recorder.stop(moment))
    }
}
