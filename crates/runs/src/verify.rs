//! Verification: a recorded run computed again from its record, and compared with it.

use crate::description::{Description, ForkPoint, Phase, PhaseSettings};
use crate::folder::RunFolder;
use crate::past::{edits_at, recorded_outputs, start};
use anyhow::Result;
use latentrace_pipeline::nn::{Both, Moment, Pass, Role, Tap};
use latentrace_pipeline::{Outputs, SamplerTaps, Threads, replay, steps};
use latentrace_trace::{Against, Check, EditRule, Selector, Trace};

/// Whether the tensor of a tap belongs to one branch of guidance.
fn is_of_a_branch(tap: &Tap) -> bool {
    matches!(tap.role(), Role::Sampler(value) if value.branch().is_some())
}

/// Whether a value differs by more than a tolerance, or its difference is NaN.
pub fn is_beyond(check: &Check, tolerance: f64) -> bool {
    check.relative > tolerance || check.relative.is_nan()
}

/// The largest difference, relative to a tensor's largest magnitude, that is expected on the same kind of machine: the
/// rounding of f32 sums over a few hundred terms.
pub const TOLERANCE: f64 = 1e-6;

/// The result of verifying a record.
pub struct Verification {
    /// A line for each damaged or missing part.
    pub problems: Vec<String>,
    /// Every value of the sampler in the record, compared with the value computed from earlier ones.
    pub checks: Vec<Check>,
    /// The first call that is verified. The record does not have the settings of the calls before it, which are another
    /// run's.
    pub begin: usize,
}

impl Verification {
    /// Verifies the record of a run with [`TOLERANCE`].
    ///
    /// # Errors
    /// See [`Verification::of`].
    pub fn of_run(run: &RunFolder) -> Result<Verification> {
        let trace = run.read()?;
        let description = Description::of(&trace)?;
        Verification::of(&trace, &description, TOLERANCE)
    }

    /// The largest relative difference; infinite if the record is damaged or a difference is NaN.
    pub fn worst(&self) -> f64 {
        let worst = self
            .checks
            .iter()
            .map(|check| check.relative)
            .fold(0.0, |worst, next| if next > worst { next } else { worst });
        if self.problems.is_empty() && !self.checks.iter().any(|check| check.relative.is_nan()) {
            worst
        } else {
            f64::INFINITY
        }
    }

    /// Verifies a record with a tolerance.
    ///
    /// # Errors
    /// The record lacks the network's outputs, or its description is not valid.
    pub fn of(trace: &Trace, description: &Description, tolerance: f64) -> Result<Verification> {
        let stored = trace.entries().iter().filter(|entry| entry.stored.is_some());
        let damaged: Vec<String> = stored
            .filter_map(|entry| trace.tensor(entry).and_then(|_| trace.places(entry)).err())
            .map(|error| error.to_string())
            .collect();
        let phases = description.phases();
        let unknown = phases.iter().take_while(|phase| phase.settings.is_none()).last();
        let mut found = Verification {
            problems: trace.problems().to_vec(),
            checks: Vec::new(),
            begin: unknown.map_or(0, |phase| phase.until),
        };
        if !damaged.is_empty() || trace.complete() == 0 {
            found.problems.extend(damaged);
            return Ok(found);
        }
        let _held = Threads::of_record(description.program.threads).hold();
        let outputs = recorded_outputs(trace, trace.complete())?;
        let mut begin = 0;
        for Phase { until, settings } in &phases {
            if let Some(settings) = settings {
                found.add(trace, description, settings, &outputs, begin..*until)?;
            }
            begin = *until;
        }
        found.skip_calls_of_a_fork_of_a_fork(description, tolerance);
        Ok(found)
    }

    /// Verifies the calls of one phase.
    fn add(
        &mut self,
        trace: &Trace,
        description: &Description,
        settings: &PhaseSettings,
        outputs: &[Outputs],
        calls: std::ops::Range<usize>,
    ) -> Result<()> {
        let request = description.request_of(&settings.cell)?;
        let taps = SamplerTaps::new();
        let [channels, height, width] = description.latents;
        let calls = calls.start..calls.end.min(trace.complete());
        // The outputs are recorded after edits, so edits of the two branches are not applied again.
        let edited: Vec<Tap> = taps.all().into_iter().filter(|tap| !is_of_a_branch(tap)).cloned().collect();
        let rules = description.edits(&settings.cell, trace.folder())?;
        let start = start(trace, description)?;
        let plan = start.plan(&request)?;
        let steps = steps(&plan);
        let edits = edits_at(&rules, &edited, &settings.words(), steps)?.beginning_at(calls.start);
        // The noise of a branch is recorded before its output is edited, and the output after, so neither can be
        // computed from the other.
        let selectors: Vec<&Selector> = rules.iter().map(EditRule::selector).collect();
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
        replay(&request, &start, &plan, outputs, shape, &taps, &mut Pass::watched(&mut probe))?;
        probe.0.outcome()?;
        probe.1.outcome()?;
        self.checks.append(&mut probe.1.checks);
        let file = trace.folder().join("index.jsonl");
        let missing = std::mem::take(&mut probe.1.missing).into_iter();
        self.problems.extend(missing.map(|(_, name)| format!("{}: no line of {name}", file.display())));
        Ok(())
    }

    /// Handles a fork of a fork with another sampler. A record of an earlier version does not say which calls such a
    /// fork took over: they are the calls that its own settings do not reproduce.
    fn skip_calls_of_a_fork_of_a_fork(&mut self, description: &Description, tolerance: f64) {
        let Some(ForkPoint { past: None, level: Some(_), call, .. }) = &description.fork else { return };
        let mut beyond = self.checks.iter().filter(|check| is_beyond(check, tolerance)).peekable();
        if beyond.peek().is_some() && beyond.all(|check| check.call < *call) {
            self.begin = *call;
            self.checks.retain(|check| check.call >= *call);
        }
    }
}
