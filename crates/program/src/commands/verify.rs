//! `latentrace verify`: a recorded run, computed again from its record alone.

use crate::arguments::parse_tolerance;
use crate::printer::line;
use anyhow::{Result, ensure};
use latentrace::files::counted;
use latentrace::runs::{Description, ForkPoint, RunFolder, TOLERANCE, Verification, is_beyond};
use latentrace::trace::{Check, Trace};
use serde_json::json;
use std::path::PathBuf;

/// Compute a recorded run again from its record, and compare
///
/// Every step is computed from the record alone, without the model.
#[derive(clap::Args)]
pub struct Verify {
    /// The run: its folder, or its record
    run: PathBuf,
    /// The largest difference allowed, relative to a tensor's largest magnitude
    #[arg(long, default_value_t = TOLERANCE, value_parser = parse_tolerance)]
    tolerance: f64,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Prints the worst difference of every call; fails above the tolerance.
    pub fn run(self) -> Result<()> {
        let trace = RunFolder::find(&self.run)?.read()?;
        let description = Description::of(&trace)?;
        let found = Verification::of(&trace, &description, self.tolerance)?;
        let beyond: Vec<&Check> = found.checks.iter().filter(|check| is_beyond(check, self.tolerance)).collect();
        let worst = found.checks.iter().max_by(|a, b| a.relative.total_cmp(&b.relative));
        if self.json {
            line!(
                "{}",
                json!({ "calls": trace.complete(), "of": description.calls, "tensors": found.checks.len(),
                "worst": worst.map(|check| check.relative), "tolerance": self.tolerance, "problems": found.problems,
                "live": trace.live(), "not_verified_before": found.begin, "vouches_for_run": trace.vouches_for_run(),
                "beyond": beyond.iter().map(|check| json!({ "call": check.call, "tap": check.tap, "relative": check.relative })).collect::<Vec<_>>() })
            );
        } else {
            self.report(&trace, &description, &found);
        }
        ensure!(
            found.problems.is_empty(),
            "{}: the record is damaged or was changed: {}, see above",
            self.run.display(),
            counted(found.problems.len(), "problem")
        );
        ensure!(trace.complete() > 0, "{}: no call was recorded whole", self.run.display());
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

    fn report(&self, trace: &Trace, description: &Description, found: &Verification) {
        for problem in &found.problems {
            line!("problem: {problem}");
        }
        line!("{:>5} {:>8} {:>10} {:>10}  worst tensor", "call", "t", "absolute", "relative");
        for call in 0..trace.complete() {
            let of_call = found.checks.iter().filter(|check| check.call == call);
            let Some(worst) = of_call.max_by(|a, b| a.relative.total_cmp(&b.relative)) else { continue };
            let t = trace.entries().iter().find(|entry| entry.call == call).map_or(f64::NAN, |entry| entry.t);
            let tap = if worst.absolute == 0.0 { "" } else { &worst.tap };
            line!("{call:>5} {t:>8.1} {:>10.1e} {:>10.1e}  {tap}", worst.absolute, worst.relative);
        }
        if let Some(ForkPoint { trace: other, .. }) = description.fork.as_ref().filter(|_| found.begin > 0) {
            let other = other.display();
            line!("the calls before {} are those of {other}, where they can be verified", found.begin);
        }
        let (complete, calls) = (trace.complete(), description.calls);
        match (trace.live(), trace.end()) {
            (Some(owner), _) => line!("a live run: {owner} is writing it; {complete} of {calls} calls are whole"),
            (None, None) if complete < found.begin => {
                line!("cut off before its own first call, {}: {complete} of {calls} calls are whole", found.begin);
            }
            (None, None) => line!("cut off: {complete} of {calls} calls are whole"),
            _ => {}
        }
        // Without an entry it is the index that is missing.
        if !trace.vouches_for_run() && !trace.entries().is_empty() {
            line!("note: the record is of before run.json had a checksum, so a change of it would not be seen");
        }
        let worst = found.checks.iter().map(|check| check.relative).fold(0.0, f64::max);
        line!(
            "{} tensors of {} calls (of {calls}) computed again: worst relative difference {worst:.1e}",
            found.checks.len(),
            complete.saturating_sub(found.begin),
        );
    }
}
