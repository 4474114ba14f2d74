//! What the runs of a sweep have in common: computed by the first run that needs it, and taken over by the others.

use crate::condition::EncodedText;
use crate::error::Result;
use crate::network::{Network, Outputs};
use crate::pool::{Pool, ROOM, wanted};
use crate::{Call, Lineage, Lines};
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Branch, Pass};
use latentrace_schedulers::Level;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What the runs of a sweep have in common, while runs that need it are left: outputs of the network, and features of texts. Nothing
/// else is kept of a run.
pub struct Common {
    /// Rows of the network's output, `[1, 4, height, width]`.
    rows: Pool<Row>,
    /// Encoded texts.
    texts: Pool<EncodedText>,
}

/// A row of the network's output.
struct Row {
    output: Tensor,
    /// The name of the run that computed it.
    by: Rc<str>,
}

/// The work of a run for which some outputs were known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How many rows the network computed. A row is one sample with one text.
    pub evaluations: usize,
    /// How many calls were taken over, by the name of the run that made them. In a batch a call counts if a row of it was.
    pub taken: BTreeMap<String, usize>,
}

impl Work {
    /// Counts a call that was taken over.
    pub(crate) fn take(&mut self, by: &str) {
        *self.taken.entry(by.into()).or_default() += 1;
    }
}

/// A run with its lineages, and its name for other runs.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// The name.
    pub name: &'a str,
    /// The lineages.
    pub lines: &'a Lines,
}

/// The room for features of texts, in bytes.
const ROOM_OF_TEXTS: usize = 64 << 20;

impl Common {
    /// For runs that will be made.
    pub fn of<'a>(runs: impl Iterator<Item = &'a Lines> + Clone) -> Common {
        Common {
            rows: Pool::of(runs.clone().flat_map(wanted), ROOM),
            texts: Pool::of(runs.flat_map(wanted_texts), ROOM_OF_TEXTS),
        }
    }

    /// A run begins. It has to be announced before it is made, and also if it is not made after all.
    pub fn begin(&mut self, lines: &Lines) {
        self.rows.begin(wanted(lines));
        self.texts.begin(wanted_texts(lines));
    }

    /// The runs that have begun are at their end: what no other needs is dropped.
    pub fn end(&mut self) {
        self.rows.end();
        self.texts.end();
    }

    /// How many outputs of the network are kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no output of the network is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a branch, which `encode` computes if it is not known.
    pub(crate) fn text(
        &mut self,
        lines: &Lines,
        branch: Branch,
        encode: impl FnOnce() -> Result<EncodedText>,
    ) -> Result<EncodedText> {
        let text = lines.text(branch);
        if let Some(known) = text.filter(|_| !lines.texts_seen).and_then(|text| self.texts.get(text)) {
            return Ok(known.clone());
        }
        let encoded = encode()?;
        if let Some(text) = text {
            self.texts.put(text, encoded.bytes(), || encoded.map(Tensor::copy));
        }
        Ok(encoded)
    }

    /// The row of a call, if it is known.
    pub(crate) fn row(&self, row: Lineage) -> Option<(Tensor, &Rc<str>)> {
        self.rows.get(row).map(|Row { output, by }| (output.shallow_clone(), by))
    }

    /// Keeps a row, if a later run needs it. It is copied, because the network may use the memory again.
    pub(crate) fn keep(&mut self, row: Lineage, bytes: usize, output: &Tensor, by: &str) {
        self.rows.put(row, bytes, || Row { output: output.copy(), by: by.into() });
    }

    /// The outputs of a call, if all its rows are known, and the run that computed them.
    fn outputs(&self, call: &Call) -> Option<(Outputs, &Rc<str>)> {
        let (conditional, by) = self.row(call.conditional?)?;
        Some(match call.unconditional {
            None => (Outputs::Conditional(conditional), by),
            Some(unconditional) => {
                let (unconditional, _) = self.row(unconditional)?;
                (Outputs::Both { unconditional, conditional }, by)
            }
        })
    }
}

/// The texts that a run may take from another, without duplicates.
fn wanted_texts(lines: &Lines) -> impl Iterator<Item = Lineage> {
    let [negative, prompt] = lines.texts;
    let both = [negative, prompt.filter(|_| prompt != negative)];
    both.into_iter().flatten().filter(|_| !lines.texts_seen)
}

/// Outputs that earlier runs have computed, and those of a network in their absence.
pub(crate) struct Taking<'a> {
    pub(crate) common: &'a mut Common,
    pub(crate) run: Named<'a>,
    pub(crate) then: &'a mut dyn Network,
    pub(crate) work: Work,
}

impl Network for Taking<'_> {
    fn outputs(&mut self, pass: &mut Pass, call: usize, input: &Tensor, level: Level) -> Result<Vec<Outputs>> {
        let Named { name, lines } = self.run;
        let needed = lines.calls.get(call).filter(|_| !pass.moment().again);
        if let Some((known, by)) = needed.filter(|call| !call.seen).and_then(|call| self.common.outputs(call)) {
            self.work.take(by);
            return Ok(vec![known]);
        }
        let outputs = self.then.outputs(pass, call, input, level)?;
        if let (Some(call), [outputs]) = (needed, outputs.as_slice()) {
            self.work.evaluations += outputs.tensors().count();
            for (branch, output) in outputs.by_branch() {
                if let Some(row) = call.row(branch) {
                    self.common.keep(row, lines.bytes, output, name);
                }
            }
        }
        Ok(outputs)
    }

    fn hint(&self) -> &'static str {
        self.then.hint()
    }
}
