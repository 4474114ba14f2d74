//! `latentrace verify`: a recorded run, computed again from its record alone.

use crate::description::{Description, Fork, Phase, Settings};
use crate::record::{edits_at, recorded_outputs, start};
use crate::rules::steps;
use anyhow::{Result, ensure};
use latentrace_pipeline::nn::{Both, Moment, Pass, Role, Tap};
use latentrace_pipeline::{Outputs, SamplerTaps, replay};
use latentrace_trace::{Against, Check, EditRule, Selector, Trace};
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
        let found = Found::of(&trace, &description, self.tolerance)?;
        let beyond: Vec<&Check> = found.checks.iter().filter(|check| is_beyond(check, self.tolerance)).collect();
        let worst = found.checks.iter().max_by(|a, b| a.relative.total_cmp(&b.relative));
        if self.json {
            println!(
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
            "{}: the record is damaged or was changed, {} problems: see above",
            self.trace.display(),
            found.problems.len()
        );
        ensure!(trace.complete() > 0, "{}: no call was recorded whole", self.trace.display());
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

    fn report(&self, trace: &Trace, description: &Description, found: &Found) {
        for problem in &found.problems {
            println!("problem: {problem}");
        }
        println!("{:>5} {:>8} {:>10} {:>10}  worst tensor", "call", "t", "absolute", "relative");
        for call in 0..trace.complete() {
            let of_call = found.checks.iter().filter(|check| check.call == call);
            let Some(worst) = of_call.max_by(|a, b| a.relative.total_cmp(&b.relative)) else { continue };
            let t = trace.entries().iter().find(|entry| entry.call == call).map_or(f64::NAN, |entry| entry.t);
            let tap = if worst.absolute == 0.0 { "" } else { &worst.tap };
            println!("{call:>5} {t:>8.1} {:>10.1e} {:>10.1e}  {tap}", worst.absolute, worst.relative);
        }
        if let Some(Fork { trace: other, .. }) = description.fork.as_ref().filter(|_| found.begin > 0) {
            let other = other.display();
            println!("the calls before {} are those of {other}, where they can be verified", found.begin);
        }
        let (complete, calls) = (trace.complete(), description.calls);
        match (trace.live(), trace.end()) {
            (Some(owner), _) => println!("a live run: {owner} has it in hand; {complete} of {calls} calls are whole"),
            (None, None) if complete < found.begin => {
                println!("cut off before its own first call, {}: {complete} of {calls} calls are whole", found.begin);
            }
            (None, None) => println!("cut off: {complete} of {calls} calls are whole"),
            _ => {}
        }
        if !trace.vouches_for_run() {
            println!("note: the record is of before run.json had a checksum, so a change of it would not be seen");
        }
        let worst = found.checks.iter().map(|check| check.relative).fold(0.0, f64::max);
        println!(
            "{} tensors of {} calls (of {calls}) computed again: worst relative difference {worst:.1e}",
            found.checks.len(),
            complete.saturating_sub(found.begin),
        );
    }
}

/// Whether what passes a tap is of one branch of guidance.
fn is_of_a_branch(tap: &Tap) -> bool {
    matches!(tap.role(), Role::Sampler(value) if value.branch().is_some())
}

fn is_beyond(check: &Check, tolerance: f64) -> bool {
    check.relative > tolerance || check.relative.is_nan()
}

/// What was found in a record.
pub struct Found {
    /// What is damaged or missing, a line each.
    pub problems: Vec<String>,
    /// Every value of the sampler that the record holds, computed again from those before it.
    pub checks: Vec<Check>,
    /// The calls before this one are those of another run, of whose settings the record says nothing.
    pub begin: usize,
}

impl Found {
    /// Computes a recorded run again.
    ///
    /// # Errors
    /// The record lacks what the run is computed from, or its description says what cannot be.
    pub fn of(trace: &Trace, description: &Description, tolerance: f64) -> Result<Found> {
        let stored = trace.entries().iter().filter(|entry| entry.stored.is_some());
        let damaged: Vec<String> = stored
            .filter_map(|entry| trace.tensor(entry).and_then(|_| trace.places(entry)).err())
            .map(|error| error.to_string())
            .collect();
        let phases = description.phases();
        let unknown = phases.iter().take_while(|phase| phase.settings.is_none()).last();
        let mut found = Found {
            problems: trace.problems().to_vec(),
            checks: Vec::new(),
            begin: unknown.map_or(0, |phase| phase.until),
        };
        if !damaged.is_empty() || trace.complete() == 0 {
            found.problems.extend(damaged);
            return Ok(found);
        }
        let outputs = recorded_outputs(trace, trace.complete())?;
        let mut begin = 0;
        for Phase { until, settings } in &phases {
            if let Some(settings) = settings {
                found.add(trace, description, settings, &outputs, begin..*until)?;
            }
            begin = *until;
        }
        found.ask_for_a_fork_of_a_fork(description, tolerance);
        Ok(found)
    }

    /// Computes the calls of one phase again.
    fn add(
        &mut self,
        trace: &Trace,
        description: &Description,
        settings: &Settings,
        outputs: &[Outputs],
        calls: std::ops::Range<usize>,
    ) -> Result<()> {
        let request = description.request_of(&settings.cell)?;
        let taps = SamplerTaps::new();
        let [channels, height, width] = description.latents;
        let calls = calls.start..calls.end.min(trace.complete());
        // The outputs are recorded as edited, so edits of what they are made of are not made again.
        let edited: Vec<Tap> = taps.all().into_iter().filter(|tap| !is_of_a_branch(tap)).cloned().collect();
        let rules = description.edits(&settings.cell, trace.folder())?;
        let start = start(trace, description)?;
        let steps = steps(&start.plan(&request)?);
        let edits = edits_at(&rules, &edited, &settings.words(), steps)?.beginning_at(calls.start);
        // The noise of a branch passes before its output is edited, and the record holds the output after: neither follows
        // from the other.
        let parsed: Vec<EditRule> = rules.iter().map(|rule| EditRule::parse(rule)).collect::<Result<_, _>>()?;
        let selectors: Vec<&Selector> = parsed.iter().map(EditRule::selector).collect();
        let branches =
            [[&taps.unconditional, &taps.output_unconditional], [&taps.conditional, &taps.output_conditional]];
        let is_edited = |tap: &Tap, moment: &Moment| {
            let of = |[noise, output]: &[&Tap; 2]| {
                [noise.name(), output.name()].contains(&tap.name())
                    && selectors.iter().any(|selector| selector.names(output) && selector.admits(moment, steps))
            };
            branches.iter().any(of)
        };
        let skip = |tap: &Tap, moment: &Moment| !calls.contains(&moment.call) || is_edited(tap, moment);
        let mut probe = Both(edits, Against::new(trace, skip));
        let shape = [1, channels, height, width];
        replay(&request, &start, outputs, shape, &taps, &mut Pass::watched(&mut probe))?;
        probe.0.outcome()?;
        probe.1.outcome()?;
        self.checks.append(&mut probe.1.checks);
        let file = trace.folder().join("index.jsonl");
        let missing = std::mem::take(&mut probe.1.missing).into_iter();
        self.problems.extend(missing.map(|(_, name)| format!("{}: no line of {name}", file.display())));
        Ok(())
    }

    /// A record of before does not say of a fork of a fork with another sampler that calls were taken over: they are those
    /// that the run's own settings do not lead to.
    fn ask_for_a_fork_of_a_fork(&mut self, description: &Description, tolerance: f64) {
        let Some(Fork { past: None, level: Some(_), call, .. }) = &description.fork else { return };
        let mut beyond = self.checks.iter().filter(|check| is_beyond(check, tolerance)).peekable();
        if beyond.peek().is_some() && beyond.all(|check| check.call < *call) {
            self.begin = *call;
            self.checks.retain(|check| check.call >= *call);
        }
    }
}
