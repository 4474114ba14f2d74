//! How far runs end from fine solutions of the same problem.

use super::Finished;
use crate::done::Done;
use anyhow::{Context, Result};
use latentrace_measures::relative_l2;
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_runs::Cell;

/// For each cell the error `‖x − x_ref‖ / ‖x_ref‖` of its final latents; `None` if it has no reference.
///
/// # Errors
/// A record cannot be read.
pub(crate) fn errors(finished: &Finished) -> Result<Vec<Option<f64>>> {
    let references = finished.references;
    let ends = references.iter().map(latents).collect::<Result<Vec<Tensor>>>()?;
    let error = |done: &Done| {
        let place = references.iter().position(|other| is_same_problem(&other.cell, &done.cell));
        place.map(|place| Ok(relative_l2(&latents(done)?, &ends[place]))).transpose()
    };
    finished.cells.iter().map(error).collect()
}

/// Whether two cells differ at most in sampler, steps and reading.
fn is_same_problem(a: &Cell, b: &Cell) -> bool {
    let plain = |cell: &Cell| Cell { sampler: None, steps: 0, reading: a.reading, ..cell.clone() };
    plain(a) == plain(b)
}

fn latents(done: &Done) -> Result<Tensor> {
    let trace = done.run.read()?;
    let entry = trace.values(SamplerValue::Latents).next();
    let entry = entry.with_context(|| format!("{}: its record has no final latents", trace.folder().display()))?;
    Ok(trace.tensor(entry)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_of_the_same_picture() {
        let cell = |text: &str| serde_json::from_str::<Cell>(text).unwrap();
        let coarse = cell(r#"{"prompt":"a","seed":3,"steps":10,"sampler":"pndm"}"#);
        assert!(is_same_problem(
            &coarse,
            &cell(r#"{"prompt":"a","seed":3,"steps":500,"sampler":"lms","reading":"exact"}"#)
        ));
        for other in
            [r#"{"prompt":"b","seed":3}"#, r#"{"prompt":"a","seed":4}"#, r#"{"prompt":"a","seed":3,"guidance":2}"#]
        {
            assert!(!is_same_problem(&coarse, &cell(other)), "{other}");
        }
    }
}
