//! Probes that compare or replace the sampler's values of a run with those of a record.

use crate::compare::distance;
use crate::{Entry, Error, Key, Trace};
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Moment, Probe, Role, Row, Tap};

/// A probe that replaces every value of the sampler by the recorded one, in the calls before a given call. So a run
/// continues from its record.
pub struct Playback<'a> {
    trace: &'a Trace,
    before: usize,
    failed: Option<Error>,
}

impl<'a> Playback<'a> {
    /// For the calls before `before`.
    pub fn new(trace: &'a Trace, before: usize) -> Playback<'a> {
        Playback { trace, before, failed: None }
    }

    /// Returns the first error of the run.
    ///
    /// # Errors
    /// A recorded tensor is damaged.
    pub fn outcome(&mut self) -> crate::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl Probe for Playback<'_> {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        moment.call < self.before && tap.role().is_of_sampler()
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        match recorded(self.trace, tap, moment, &tensor) {
            Ok(Some(recorded)) => recorded,
            Ok(None) => tensor,
            Err(error) => {
                self.failed.get_or_insert(error);
                tensor
            }
        }
    }

    fn stop(&mut self, _: &Moment) -> Option<String> {
        self.failed.as_ref().map(Error::to_string)
    }
}

/// A probe that compares every value of the sampler with the recorded one and passes on the recorded one, so that each
/// value is computed from recorded values and errors do not accumulate.
pub struct Against<'a> {
    trace: &'a Trace,
    skip: Box<Choice<'a>>,
    /// The comparisons, in order.
    pub checks: Vec<Check>,
    /// Values that were computed and are not in the record: their calls and names.
    pub missing: Vec<(usize, String)>,
    failed: Option<Error>,
}

/// A predicate over tensors.
type Choice<'a> = dyn Fn(&Tap, &Moment) -> bool + 'a;

/// The comparison of a recorded tensor with the same tensor computed again.
#[derive(Clone, Debug)]
pub struct Check {
    /// The network call.
    pub call: usize,
    /// The tap.
    pub tap: String,
    /// The largest difference.
    pub absolute: f64,
    /// The same divided by the largest magnitude.
    pub relative: f64,
}

impl<'a> Against<'a> {
    /// Compares with a trace, except the tensors for which `skip` is true.
    pub fn new(trace: &'a Trace, skip: impl Fn(&Tap, &Moment) -> bool + 'a) -> Against<'a> {
        Against { trace, skip: Box::new(skip), checks: Vec::new(), missing: Vec::new(), failed: None }
    }

    /// Returns the first error of the run.
    ///
    /// # Errors
    /// A recorded tensor is damaged.
    pub fn outcome(&mut self) -> crate::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl Probe for Against<'_> {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.role().is_of_sampler()
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        match recorded(self.trace, tap, moment, &tensor) {
            Ok(Some(recorded)) => {
                if !(self.skip)(tap, &moment) {
                    let (absolute, relative) = distance(&recorded, &tensor);
                    self.checks.push(Check { call: moment.call, tap: tap.name().into(), absolute, relative });
                    if absolute == 0.0 {
                        return tensor; // returning another tensor would count as an edit
                    }
                }
                recorded
            }
            Ok(None) => {
                if !(self.skip)(tap, &moment) {
                    let tap = tap.name().into();
                    let key = Key { call: moment.call, tap, branch: None, image: 0, kept: String::new() };
                    self.missing.push((moment.call, key.name()));
                }
                tensor
            }
            Err(error) => {
                self.failed.get_or_insert(error);
                tensor
            }
        }
    }

    fn stop(&mut self, _: &Moment) -> Option<String> {
        self.failed.as_ref().map(Error::to_string)
    }
}

/// The recorded value of the sampler for all rows of `like`; `None` if the record lacks one of them.
fn recorded(trace: &Trace, tap: &Tap, moment: Moment, like: &Tensor) -> crate::Result<Option<Tensor>> {
    let rows = moment.rows(like.size().first().copied().unwrap_or(0));
    let Role::Sampler(value) = tap.role() else { return Ok(None) };
    let entry = |row: &Row| trace.find_value(value, moment.call, row.image);
    let found: Option<Vec<&Entry>> = rows.iter().map(entry).collect();
    let Some(found) = found.filter(|found| !found.is_empty()) else { return Ok(None) };
    let parts = found.into_iter().map(|entry| trace.tensor(entry)).collect::<crate::Result<Vec<_>>>()?;
    Ok(Some(Tensor::cat(&parts, 0).to_kind(like.kind()).to_device(like.device())))
}
