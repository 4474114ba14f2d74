//! A recorded run at the doors of one that is computed again.

use crate::compare::distance;
use crate::{Entry, Error, Key, Trace};
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Moment, Probe, Role, Row, Tap};

/// A probe that puts the recorded tensor in the place of each that passes, for the calls before some call: so a run goes
/// on from its record.
pub struct Playback<'a> {
    trace: &'a Trace,
    before: usize,
    failed: Option<Error>,
}

impl<'a> Playback<'a> {
    /// Of the sampler's values of every call before `before`.
    pub fn new(trace: &'a Trace, before: usize) -> Playback<'a> {
        Playback { trace, before, failed: None }
    }

    /// Says what could not be read.
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

/// A probe that holds every value of the sampler against the record, and lets the recorded one pass, so that each is
/// computed from recorded ones and no error adds up.
pub struct Against<'a> {
    trace: &'a Trace,
    skip: Box<Choice<'a>>,
    /// What was computed again, in order.
    pub checks: Vec<Check>,
    /// The names of what was computed again and is not in the record, with their calls.
    pub missing: Vec<(usize, String)>,
    failed: Option<Error>,
}

/// A choice of tensors.
type Choice<'a> = dyn Fn(&Tap, &Moment) -> bool + 'a;

/// One recorded tensor against the same computed again.
#[derive(Clone, Debug)]
pub struct Check {
    /// The network call.
    pub call: usize,
    /// The tap.
    pub tap: String,
    /// The largest difference.
    pub absolute: f64,
    /// The same over the largest magnitude.
    pub relative: f64,
}

impl<'a> Against<'a> {
    /// Against a trace, without the tensors that `skip` names.
    pub fn new(trace: &'a Trace, skip: impl Fn(&Tap, &Moment) -> bool + 'a) -> Against<'a> {
        Against { trace, skip: Box::new(skip), checks: Vec::new(), missing: Vec::new(), failed: None }
    }

    /// Says what could not be read.
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
                        return tensor; // another tensor, if the same numbers, would pass for an edit
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

/// The recorded value of the sampler for all rows of `like`; `None` where the record lacks one.
fn recorded(trace: &Trace, tap: &Tap, moment: Moment, like: &Tensor) -> crate::Result<Option<Tensor>> {
    let rows = moment.rows(like.size().first().copied().unwrap_or(0));
    let Role::Sampler(value) = tap.role() else { return Ok(None) };
    let entry = |row: &Row| trace.find_value(value, moment.call, row.image);
    let found: Option<Vec<&Entry>> = rows.iter().map(entry).collect();
    let Some(found) = found.filter(|found| !found.is_empty()) else { return Ok(None) };
    let parts = found.into_iter().map(|entry| trace.tensor(entry)).collect::<crate::Result<Vec<_>>>()?;
    Ok(Some(Tensor::cat(&parts, 0).to_kind(like.kind()).to_device(like.device())))
}
