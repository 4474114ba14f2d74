//! The probe that records.

use crate::entry::End;
use crate::error::Result;
use crate::reduction::Reduced;
use crate::reduction::Storage;
use crate::rule::Rule;
use crate::writer::{AT_ONCE, Beside, Item, Writer};
use crate::{Error, Reduction, Words};
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Moment, Probe, Row, Tap};
use std::collections::HashMap;

/// What a recorder keeps besides the sampler's values.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// Which tensors.
    pub rules: Vec<Rule>,
    /// At most how many bytes of them; the sampler's values do not count. Tensors beyond it are counted but not kept.
    pub budget: Option<u64>,
}

/// A probe that records the sampler's values and what its rules select.
pub struct Recorder {
    /// The first is [`Rule::flight_recorder`].
    rules: Vec<Rule>,
    /// The rules that select each tap, by [`Tap::id`].
    selected: HashMap<u32, Vec<usize>>,
    words: Words,
    steps: usize,
    writer: Writer,
    /// Items that the writer has not got yet: its thread is woken once for each call, not for each tensor.
    waiting: Vec<Item>,
    waiting_bytes: u64,
    /// The current call; `None` before its first tensor.
    call: Option<usize>,
    /// The calls before this one are complete in the record already.
    begin: usize,
    left: Option<u64>,
    beyond_budget: u64,
    failed: Option<Error>,
}

impl Recorder {
    /// A recorder of a run of `steps` steps on a model with these taps. A [`Course`](crate::Course) counts before the
    /// run how often each rule will keep something. If the writer continues a record, the record's complete calls are
    /// not recorded again, and their bytes count in the budget.
    ///
    /// # Errors
    /// A rule selects no tap, or a reduction does not fit what it selects.
    pub fn new(capture: &Capture, taps: &[Tap], words: Words, steps: usize, writer: Writer) -> Result<Recorder> {
        let mut rules = vec![Rule::flight_recorder()];
        rules.extend(capture.rules.iter().cloned());
        for rule in &capture.rules {
            rule.check(taps.iter(), &words)?;
        }
        let of = |tap: &Tap| {
            let rules = rules.iter().enumerate().filter(|(_, rule)| rule.selector.names(tap));
            rules.map(|(index, _)| index).collect::<Vec<_>>()
        };
        let selected = taps.iter().map(|tap| (tap.id(), of(tap))).filter(|(_, rules)| !rules.is_empty()).collect();
        let begun = writer.begun();
        // The first tensor that does not fit ends the budget, see `spend`.
        let left = |budget: u64| if begun.beyond_budget > 0 { 0 } else { budget.saturating_sub(begun.spent) };
        Ok(Recorder {
            rules,
            selected,
            words,
            steps,
            writer,
            waiting: Vec::new(),
            waiting_bytes: 0,
            call: (begun.calls == 0).then_some(0),
            begin: begun.calls,
            left: capture.budget.map(left),
            beyond_budget: begun.beyond_budget,
            failed: None,
        })
    }

    /// Ends the record; `error` says why the run stopped before its end, if it did. Returns how many tensors did not
    /// fit the byte budget.
    ///
    /// # Errors
    /// Something could not be written, or a reduction did not fit a tensor that passed.
    pub fn end(mut self, error: Option<String>) -> Result<u64> {
        self.give();
        let (beyond_budget, failed) = (self.beyond_budget, self.failed.take());
        let error = error.or(failed.as_ref().map(Error::to_string));
        if let Some(call) = self.call.filter(|_| error.is_none()) {
            self.writer.complete(call, beyond_budget);
        }
        self.writer.end(End { error, beyond_budget })?;
        failed.map_or(Ok(beyond_budget), Err)
    }

    fn admitted(&self, tap: &Tap, moment: &Moment) -> impl Iterator<Item = usize> {
        let rules = self.selected.get(&tap.id()).map(Vec::as_slice).unwrap_or_default();
        rules.iter().copied().filter(|&rule| self.rules[rule].selector.admits(moment, self.steps))
    }

    /// Keeps the rows of a tensor that a rule selects, except those that a rule `before` it keeps in the same way.
    fn keep(&mut self, before: &[usize], rule: usize, tap: &Tap, moment: Moment, tensor: &Tensor) {
        let rows = moment.rows(tensor.size().first().copied().unwrap_or(0));
        let same = |other: &&usize| self.rules[**other].suffix == self.rules[rule].suffix;
        let before: Vec<usize> = before.iter().filter(same).copied().collect();
        let admits = |rule: usize, row: &Row| self.rules[rule].selector.admits_row(row);
        let admitted =
            rows.into_iter().filter(|row| admits(rule, row) && !before.iter().any(|&other| admits(other, row)));
        if !self.rules[rule].reductions.is_empty() {
            return admitted
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|row| self.keep_reduced(rule, tap, moment, row, tensor));
        }
        let rows: Vec<(i64, Row)> = admitted.map(|row| (row.index, row)).collect();
        let each =
            bytes(tensor, self.rules[rule].storage) / tensor.size().first().map_or(1, |&rows| rows.max(1) as u64);
        let affordable = rows.iter().take_while(|_| rule == 0 || spend(&mut self.left, each)).count();
        self.beyond_budget += (rows.len() - affordable) as u64;
        let rows = rows[..affordable].to_vec();
        if !rows.is_empty() {
            let whole = Reduced::whole(tap, tensor.shallow_clone(), moment.grid);
            self.push(rule, tap, moment, whole, rows, Beside::Nothing);
        }
    }

    /// Keeps what a rule's reductions make of a row.
    fn keep_reduced(&mut self, rule: usize, tap: &Tap, moment: Moment, row: Row, tensor: &Tensor) {
        let of = &self.rules[rule];
        let whole = tensor.narrow(0, row.index, 1);
        let fits = of.check_shape(tap, &whole.size(), moment.grid);
        if let Err(error) = fits {
            self.failed.get_or_insert(error);
            return;
        }
        let reduced = of.reduce(tap, row.branch, whole.shallow_clone(), moment.grid, &self.words);
        let Some(mut reduced) = reduced else { return };
        if !spend(&mut self.left, reduced.bytes(of.storage)) {
            self.beyond_budget += 1;
            return;
        }
        let beside = match (reduced.places.take(), of.reductions.last()) {
            (Some(places), _) => Beside::Places(places),
            (None, Some(Reduction::Histogram(_))) => Beside::HistogramOf(whole),
            _ => Beside::Nothing,
        };
        self.push(rule, tap, moment, reduced, vec![(0, row)], beside);
    }

    fn push(&mut self, rule: usize, tap: &Tap, moment: Moment, of: Reduced, rows: Vec<(i64, Row)>, beside: Beside) {
        let Rule { storage, suffix, .. } = &self.rules[rule];
        let moment = Moment { grid: of.grid, ..moment };
        let item =
            Item { tap: tap.clone(), kept: suffix.clone(), moment, tensor: of.tensor, rows, storage: *storage, beside };
        self.waiting_bytes += item.bytes();
        self.waiting.push(item);
        if self.waiting_bytes >= AT_ONCE {
            self.give();
        }
    }

    /// Gives the waiting items to the writer.
    fn give(&mut self) {
        self.waiting_bytes = 0;
        if !self.waiting.is_empty() {
            self.writer.put(std::mem::take(&mut self.waiting));
        }
    }
}

impl Probe for Recorder {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        !moment.again && moment.call >= self.begin && self.admitted(tap, moment).next().is_some()
    }

    fn stop(&mut self, _: &Moment) -> Option<String> {
        self.failed.as_ref().map(Error::to_string).or_else(|| self.writer.failed().map(str::to_string))
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        if let Some(call) = self.call.filter(|call| *call < moment.call) {
            self.give();
            self.writer.complete(call, self.beyond_budget);
        }
        self.call = self.call.max(Some(moment.call));
        let rules: Vec<usize> = self.admitted(tap, &moment).collect();
        for (place, &rule) in rules.iter().enumerate() {
            self.keep(&rules[..place], rule, tap, moment, &tensor);
        }
        tensor
    }
}

impl Reduced {
    /// How many bytes it takes when it is stored.
    pub fn bytes(&self, storage: Storage) -> u64 {
        let places = self.places.as_ref().filter(|_| storage != Storage::Stats);
        bytes(&self.tensor, storage) + places.map_or(0, |places| bytes(places, Storage::Full))
    }
}

/// How many bytes a tensor takes when it is stored.
fn bytes(tensor: &Tensor, storage: Storage) -> u64 {
    let each = match storage {
        Storage::Full => tensor.kind().elt_size_in_bytes() as u64,
        Storage::F16 => 2,
        Storage::Q8 => 1,
        Storage::Stats => 0,
    };
    tensor.numel() as u64 * each
}

/// Takes bytes of the budget; returns whether they fit.
fn spend(left: &mut Option<u64>, bytes: u64) -> bool {
    match left {
        None => true,
        Some(left) if *left >= bytes => {
            *left -= bytes;
            true
        }
        Some(left) => {
            *left = 0; // nothing is kept after the first that does not fit, so that what is kept has no gaps
            false
        }
    }
}
