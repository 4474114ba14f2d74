//! `latentrace verify`: a recorded run, computed again from its record alone.

use crate::description::Description;
use crate::record::{recorded_outputs, start};
use crate::rules::steps;
use anyhow::{Result, ensure};
use latentrace_pipeline::nn::{Both, Moment, Pass, Tap};
use latentrace_pipeline::{SamplerTaps, replay};
use latentrace_trace::{Against, Check, Edits, Trace};
use serde_json::json;
use std::path::PathBuf;

/// Compute every step of a recorded run again, from its record alone, and hold it against the record
#[derive(clap::Args)]
pub struct Verify {
    /// The trace
    trace: PathBuf,
    /// The largest difference allowed, relative to a tensor's largest magnitude
    #[arg(long, default_value_t = 1e-6)]
    tolerance: f64,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Prints the worst difference of every call; fails above the tolerance.
    pub fn run(self) -> Result<()> {
        let trace = Trace::open(&self.trace)?;
        let description = Description::of(&trace)?;
        let damaged: Vec<String> = trace
            .entries()
            .iter()
            .filter(|entry| entry.stored.is_some())
            .filter_map(|entry| trace.tensor(entry).and_then(|_| trace.places(entry)).err())
            .map(|error| error.to_string())
            .collect();
        let checks = if damaged.is_empty() { checks(&trace, &description)? } else { Vec::new() };
        let worst = checks.iter().max_by(|a, b| a.relative.total_cmp(&b.relative));
        let beyond: Vec<&Check> =
            checks.iter().filter(|check| check.relative > self.tolerance || check.relative.is_nan()).collect();
        let problems: Vec<&String> = trace.problems().iter().chain(&damaged).collect();
        if self.json {
            println!(
                "{}",
                json!({ "calls": trace.complete(), "of": description.calls, "tensors": checks.len(),
                "worst": worst.map(|check| check.relative), "tolerance": self.tolerance, "problems": problems,
                "beyond": beyond.iter().map(|check| json!({ "call": check.call, "tap": check.tap, "relative": check.relative })).collect::<Vec<_>>() })
            );
        } else {
            self.report(&trace, &description, &checks, &problems);
        }
        ensure!(trace.complete() > 0, "{}: no call was recorded whole", self.trace.display());
        ensure!(
            problems.is_empty(),
            "{}: {} tensors or lines cannot be trusted, see above",
            self.trace.display(),
            problems.len()
        );
        if let Some(check) = beyond.first() {
            anyhow::bail!(
                "{} at call {}: {:.1e} off, above the tolerance of {:.1e}; {} such tensors",
                check.tap,
                check.call,
                check.relative,
                self.tolerance,
                beyond.len()
            );
        }
        Ok(())
    }

    fn report(&self, trace: &Trace, description: &Description, checks: &[Check], problems: &[&String]) {
        for problem in problems {
            println!("problem: {problem}");
        }
        println!("{:>5} {:>8} {:>10} {:>10}  worst tensor", "call", "t", "absolute", "relative");
        for call in 0..trace.complete() {
            let of_call = checks.iter().filter(|check| check.call == call);
            let Some(worst) = of_call.max_by(|a, b| a.relative.total_cmp(&b.relative)) else { continue };
            let t = trace.entries().iter().find(|entry| entry.call == call).map_or(f64::NAN, |entry| entry.t);
            let tap = if worst.absolute == 0.0 { "" } else { &worst.tap };
            println!("{call:>5} {t:>8.1} {:>10.1e} {:>10.1e}  {tap}", worst.absolute, worst.relative);
        }
        if let Some(fork) = description.fork.as_ref().filter(|fork| fork.level.is_none()) {
            println!(
                "the calls before {} are those of {}, where they can be verified",
                fork.call,
                fork.trace.display()
            );
        }
        let worst = checks.iter().map(|check| check.relative).fold(0.0, f64::max);
        println!(
            "{} tensors of {} calls (of {}) computed again: worst relative difference {worst:.1e}",
            checks.len(),
            trace.complete() - taken_over(description),
            description.calls
        );
    }
}

/// Every value of the sampler that the record holds, computed again from those before it.
fn checks(trace: &Trace, description: &Description) -> Result<Vec<Check>> {
    let request = description.request()?;
    let taps = SamplerTaps::new();
    let [channels, height, width] = description.latents;
    let outputs = recorded_outputs(trace, trace.complete())?;
    let taken_over = taken_over(description);
    let skip = |_: &Tap, moment: &Moment| moment.call < taken_over;
    // The outputs are recorded as edited, so edits of what they are made of are not made again.
    let edited: Vec<Tap> = taps.all().into_iter().filter(|tap| !tap.name().ends_with("conditional")).cloned().collect();
    let start = start(trace, description)?;
    let steps = steps(&start.plan(&request)?);
    let of_sampler = |text: &&String| Edits::new(&[(*text).clone()], &edited, description.words(), steps).is_ok();
    let rules: Vec<String> = description.cell.edits.iter().filter(of_sampler).cloned().collect();
    let edits = Edits::new(&rules, &edited, description.words(), steps)?.beginning_at(taken_over);
    let mut probe = Both(edits, Against::new(trace, skip));
    let shape = [1, channels, height, width];
    replay(&request, &start, &outputs, shape, &taps, &mut Pass::watched(&mut probe))?;
    probe.1.outcome()?;
    let complete = trace.complete();
    Ok(std::mem::take(&mut probe.1.checks).into_iter().filter(|check| check.call < complete).collect())
}

/// How many calls are those of the run that this one was forked from.
fn taken_over(description: &Description) -> usize {
    description.fork.as_ref().filter(|fork| fork.level.is_none()).map_or(0, |fork| fork.call)
}
