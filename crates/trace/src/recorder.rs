//! The probe that records.

use crate::entry::End;
use crate::error::Result;
use crate::incoming::{Incoming, Left};
use crate::numbers::Form;
use crate::reduction::{Reduced, Storage, apply};
use crate::rule::Rule;
use crate::totals::Totals;
use crate::writer::{AT_ONCE, Beside, Content, Item, Writer};
use crate::{Error, Reduction, Words};
use latentrace_nn::tch::{Device, Tensor};
use latentrace_nn::{Block, Branch, Moment, Probe, Row, Tap, set_threads};
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
    /// What comes in blocks at the moment, by [`Tap::id`].
    incoming: HashMap<u32, Vec<Incoming>>,
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
            incoming: HashMap::new(),
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

    /// The rows that a rule keeps of a tensor, of which there are `count`: those that it selects, except those that a rule
    /// `before` it keeps in the same way.
    fn rows(&self, before: &[usize], rule: usize, moment: &Moment, count: i64) -> Vec<(i64, Row)> {
        let same = |other: &&usize| self.rules[**other].suffix == self.rules[rule].suffix;
        let before: Vec<usize> = before.iter().filter(same).copied().collect();
        let admits = |rule: usize, row: &Row| self.rules[rule].selector.admits_row(row);
        let rows = moment.rows(count).into_iter();
        rows.filter(|row| admits(rule, row) && !before.iter().any(|&other| admits(other, row)))
            .map(|row| (row.index, row))
            .collect()
    }

    /// Keeps some rows of a tensor.
    fn keep(&mut self, rule: usize, tap: &Tap, moment: Moment, rows: Vec<(i64, Row)>, tensor: &Tensor) {
        if !self.rules[rule].reductions.is_empty() {
            return rows.into_iter().for_each(|(_, row)| self.keep_reduced(rule, tap, moment, row, tensor));
        }
        let size = tensor.size();
        let moment = Moment { grid: Reduced::grid(tap, size.len(), moment.grid), ..moment };
        if self.rules[rule].storage == Storage::Stats && tensor.device() == Device::Cpu {
            return self.keep_statistics(rule, tap, moment, rows, (tensor, &size));
        }
        let each = bytes(tensor, self.rules[rule].storage) / size.first().map_or(1, |&rows| rows.max(1) as u64);
        let affordable = rows.iter().take_while(|_| rule == 0 || spend(&mut self.left, each)).count();
        self.beyond_budget += (rows.len() - affordable) as u64;
        let rows = rows[..affordable].to_vec();
        if !rows.is_empty() {
            let (tensor, storage) = (tensor.shallow_clone(), self.rules[rule].storage);
            self.push(rule, tap, moment, Content::Numbers { tensor, rows, storage, beside: Beside::Nothing });
        }
    }

    /// Keeps the statistics of some rows of a tensor on the CPU. They are computed here and now, while the numbers are in the
    /// processor's cache and before the tensor's memory would be needed for the next.
    fn keep_statistics(
        &mut self,
        rule: usize,
        tap: &Tap,
        moment: Moment,
        rows: Vec<(i64, Row)>,
        (tensor, size): (&Tensor, &[i64]),
    ) {
        let form = match Form::of_row(size, tensor.kind()) {
            Ok(form) => form,
            Err(error) => {
                self.failed.get_or_insert(error);
                return;
            }
        };
        let totals = Totals::of_rows(tensor, rows.iter().map(|(index, _)| *index), set_threads());
        let statistics = totals.iter().map(Totals::statistics);
        let rows = rows.iter().map(|(_, row)| *row).zip(statistics).collect();
        self.push(rule, tap, moment, Content::Statistics { rows, form });
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
        let from = Reduced::whole(tap, whole, moment.grid);
        self.keep_left(rule, 0, tap, moment, row, from);
    }

    /// Keeps what a rule's reductions from the number `first` on make of what is left of a row.
    fn keep_left(&mut self, rule: usize, first: usize, tap: &Tap, moment: Moment, row: Row, from: Reduced) {
        let of = &self.rules[rule];
        let (storage, rest) = (of.storage, &of.reductions[first..]);
        let Some((reduced, histogram_of)) = all_reduced(rest, tap, row.branch, from, &self.words) else { return };
        if !spend(&mut self.left, reduced.bytes(storage)) {
            self.beyond_budget += 1;
            return;
        }
        let Reduced { tensor, grid, places } = reduced;
        let (moment, rows) = (Moment { grid, ..moment }, vec![(0, row)]);
        let beside = match (places, histogram_of) {
            (Some(places), _) => Beside::Places(places),
            (None, Some(whole)) => Beside::HistogramOf(whole),
            (None, None) if storage == Storage::Stats && tensor.device() == Device::Cpu => {
                let size = tensor.size();
                return self.keep_statistics(rule, tap, moment, rows, (&tensor, &size));
            }
            (None, None) => Beside::Nothing,
        };
        self.push(rule, tap, moment, Content::Numbers { tensor, rows, storage, beside });
    }

    fn push(&mut self, rule: usize, tap: &Tap, moment: Moment, content: Content) {
        let item = Item { tap: tap.clone(), kept: self.rules[rule].suffix.clone(), moment, content };
        self.waiting_bytes += item.bytes();
        self.waiting.push(item);
        if self.waiting_bytes >= AT_ONCE {
            self.give();
        }
    }

    /// Begins a call, if a tensor of it has not passed yet: what was before it is complete.
    fn begin(&mut self, moment: &Moment) {
        if let Some(call) = self.call.filter(|call| *call < moment.call) {
            self.give();
            self.writer.complete(call, self.beyond_budget);
        }
        self.call = self.call.max(Some(moment.call));
    }

    /// What is to be made of a tensor that comes in blocks, for each rule and row.
    fn expect(&mut self, tap: &Tap, moment: &Moment, whole: [i64; 4]) -> Vec<Incoming> {
        let rules: Vec<usize> = self.admitted(tap, moment).collect();
        let mut expected = Vec::new();
        for (place, &rule) in rules.iter().enumerate() {
            let rows = self.rows(&rules[..place], rule, moment, whole[0]);
            let shape = [&[1], &whole[1..]].concat();
            match self.rules[rule].check_shape(tap, &shape, moment.grid) {
                Ok(()) => expected.extend(rows.into_iter().map(|(_, row)| Incoming::new(rule, row))),
                Err(error) => _ = self.failed.get_or_insert(error),
            }
        }
        expected
    }

    /// Keeps what is left of a row that has come in blocks.
    fn keep_incoming(&mut self, tap: &Tap, moment: Moment, incoming: Incoming) {
        let (rule, row) = (incoming.rule, incoming.row);
        match incoming.end() {
            None => {}
            Some(Left::Sums(sums, shape, kind)) => match Form::of_row(&shape, kind) {
                Ok(form) => {
                    let moment = Moment { grid: Reduced::grid(tap, shape.len(), moment.grid), ..moment };
                    self.push(rule, tap, moment, Content::Statistics { rows: vec![(row, sums.statistics())], form });
                }
                Err(error) => _ = self.failed.get_or_insert(error),
            },
            Some(Left::Numbers(whole)) => {
                let from = Reduced::whole(tap, whole, moment.grid);
                self.keep_left(rule, self.rules[rule].parts().0.len(), tap, moment, row, from);
            }
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
        self.begin(&moment);
        let rules: Vec<usize> = self.admitted(tap, &moment).collect();
        for (place, &rule) in rules.iter().enumerate() {
            let rows = self.rows(&rules[..place], rule, &moment, tensor.size().first().copied().unwrap_or(0));
            self.keep(rule, tap, moment, rows, &tensor);
        }
        tensor
    }

    /// Whether no rule keeps all numbers of the tensor.
    fn takes_blocks(&self, tap: &Tap, moment: &Moment) -> bool {
        self.admitted(tap, moment).all(|rule| self.rules[rule].reduces())
    }

    fn visit_block(&mut self, tap: &Tap, moment: Moment, block: &Block) {
        if block.is_first() {
            self.begin(&moment);
            let expected = self.expect(tap, &moment, block.whole);
            self.incoming.insert(tap.id(), expected);
        }
        let Some(mut incoming) = self.incoming.remove(&tap.id()) else { return };
        for of in incoming.iter_mut().filter(|of| of.row.index == block.place.row) {
            of.take(&self.rules[of.rule], tap, block, &self.words);
        }
        match block.is_last() {
            true => incoming.into_iter().for_each(|of| self.keep_incoming(tap, moment, of)),
            false => _ = self.incoming.insert(tap.id(), incoming),
        }
    }
}

impl Reduced {
    /// How many bytes it takes when it is stored.
    pub fn bytes(&self, storage: Storage) -> u64 {
        let places = self.places.as_ref().filter(|_| storage != Storage::Stats);
        bytes(&self.tensor, storage) + places.map_or(0, |places| bytes(places, Storage::Full))
    }
}

/// What reductions make of what is left of a row; and of a histogram, the numbers that it counts.
fn all_reduced(
    reductions: &[Reduction],
    tap: &Tap,
    branch: Option<Branch>,
    from: Reduced,
    words: &Words,
) -> Option<(Reduced, Option<Tensor>)> {
    match reductions.split_last() {
        Some((last @ Reduction::Histogram(_), before)) => {
            let from = apply(before, tap, branch, from, words)?;
            let counted = from.tensor.shallow_clone();
            Some((last.apply(tap, branch, from, words)?, Some(counted)))
        }
        _ => Some((apply(reductions, tap, branch, from, words)?, None)),
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
