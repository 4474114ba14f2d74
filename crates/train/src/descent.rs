//! The loop of both trainings.

use crate::TrainingProgress;
use crate::error::{Error, Result};
use crate::optimizer::Optimizer;
use crate::recipe::PhaseRecipe;
use latentrace_nn::tch::Tensor;
use std::path::Path;
use std::time::Instant;

/// Steps between two progress reports.
const REPORT: u64 = 25;
/// Steps between two saved states.
const SAVE: u64 = 500;

/// Trains to the last step of the phase, from the state in the file `state` if there is one. `loss` returns the loss of
/// a step; everything random in it depends on the step's number.
pub(crate) fn descend(
    name: &'static str,
    phase: &PhaseRecipe,
    optimizer: &mut Optimizer,
    state: &Path,
    mut report: impl FnMut(TrainingProgress),
    mut loss: impl FnMut(u64) -> Result<Tensor>,
) -> Result<()> {
    optimizer.resume(state)?;
    let (began, mut sum, mut terms) = (Instant::now(), 0.0, 0);
    while optimizer.step < phase.steps {
        let loss = loss(optimizer.step)?;
        optimizer.descend(&loss, phase);
        sum += loss.double_value(&[]);
        terms += 1;
        let (step, last) = (optimizer.step, optimizer.step == phase.steps);
        if step.is_multiple_of(REPORT) || last {
            let loss = sum / f64::from(terms);
            if !loss.is_finite() {
                return Err(Error::Diverged { phase: name, step, loss });
            }
            report(TrainingProgress { phase: name, step, steps: phase.steps, loss, elapsed: began.elapsed() });
            (sum, terms) = (0.0, 0);
        }
        if step.is_multiple_of(SAVE) || last {
            optimizer.save(state)?;
        }
    }
    Ok(())
}
