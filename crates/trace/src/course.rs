//! The tensors that will pass in a run, known before the run. Every rule is checked against them, and it is counted how
//! often it will fire.

use crate::edit::{is_computed_again, is_of_denoiser};
use crate::error::{Error, Result, rule};
use crate::selector::Window;
use crate::words::check_places;
use crate::{EditRule, Key, Rule, Selector, Trace, Words};
use latentrace_nn::tch::Kind;
use latentrace_nn::{Branch, Moment, Role, Row, Rows, Tap, shape_only};
use std::collections::{BTreeSet, HashMap};

/// The course of a run that is still to be made: every tensor that will pass a tap, and at which calls.
#[derive(Clone, Debug)]
pub struct Course {
    passages: Vec<Passage>,
    calls: Vec<Moment>,
    words: Words,
    from: usize,
}

/// A tensor that will pass a tap.
#[derive(Clone, Debug)]
pub struct Passage {
    /// The tap. Its [`Tap::id`] need not be that of the tap in the run.
    pub tap: Tap,
    /// The shape. The first axis is that of `rows`.
    pub shape: Vec<i64>,
    /// The number format.
    pub kind: Kind,
    /// What the first axis stands for.
    pub rows: Rows,
    /// Height and width of the picture whose pixels are one axis, see [`Moment::grid`].
    pub grid: Option<[i64; 2]>,
    /// The network calls at which it passes; none if it does not pass in this run.
    pub calls: Vec<usize>,
}

/// How often a rule will fire in a run.
#[derive(Debug)]
pub struct Foreseen {
    /// The rule as written.
    pub rule: String,
    /// How many tensors it will keep or change. A row of a batch counts as one.
    pub tensors: usize,
    /// At how many network calls.
    pub calls: usize,
    /// The same for each tap, in the order in which they pass.
    pub taps: Vec<PerTap>,
    /// The parts of the rule for which the run has nothing. Never empty if `tensors` is 0.
    pub unmet: Vec<Unmet>,
    /// Remarks that the user should see.
    pub notes: Vec<String>,
}

/// What a rule does at a tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerTap {
    /// The name of the tap.
    pub tap: String,
    /// What the tensors that pass there are.
    pub role: Role,
    /// How many tensors.
    pub tensors: usize,
    /// How many bytes a capture rule keeps of them.
    pub bytes: u64,
}

/// A part of a rule for which a run has nothing.
#[derive(Debug)]
pub struct Unmet {
    /// The part: a word, or empty for the whole rule.
    pub part: String,
    /// Why, and what would work.
    pub error: Error,
}

/// How many bytes a rule keeps of a row that passes at a call; `None` if it does nothing with it.
type Does<'a> = dyn FnMut(&Passage, usize, &Row) -> Result<Option<u64>> + 'a;

impl Course {
    /// The course of a run from what passes, in order, and the moment of each network call.
    pub fn new(passages: Vec<Passage>, calls: Vec<Moment>, words: Words) -> Course {
        Course { passages, calls, words, from: 0 }
    }

    /// The same course where the calls before `call` are taken from a record and the network does not make them.
    pub fn beginning_at(self, call: usize) -> Course {
        Course { from: call, ..self }
    }

    /// How many steps the sampler makes.
    pub fn steps(&self) -> usize {
        self.calls.last().map_or(0, |last| last.step + 1)
    }

    /// Every tensor that passes.
    pub fn passages(&self) -> &[Passage] {
        &self.passages
    }

    /// How often a rule keeps a tensor, and how many bytes that is.
    ///
    /// # Errors
    /// A reduction does not fit what the rule selects.
    pub fn capture(&self, rule: &Rule) -> Result<Foreseen> {
        let named = self.named(&rule.selector);
        for passage in &named {
            rule.check_shape(&passage.tap, &passage.shape, passage.grid)?;
        }
        let mut sizes: HashMap<(u32, Option<Branch>), Option<u64>> = HashMap::new();
        // In calls from a record the network's tensors do not pass again, but the sampler's do.
        let passes = |passage: &Passage, call| call >= self.from || !is_of_denoiser(&passage.tap);
        self.foresee(rule.text(), &rule.selector, rule.words(), &named, passes, &mut |passage, _, row| {
            let kept = || {
                let row_shape = [&[1], &passage.shape[1..]].concat();
                let whole = shape_only(&row_shape, passage.kind);
                let kept = rule.reduce(&passage.tap, row.branch, whole, passage.grid, &self.words)?;
                Some(kept.bytes(rule.storage))
            };
            Ok(*sizes.entry((passage.tap.id(), row.branch)).or_insert_with(kept))
        })
    }

    /// What every record keeps without a rule: the sampler's values.
    ///
    /// # Errors
    /// Those of [`Course::capture`].
    pub fn flight_recorder(&self) -> Result<Foreseen> {
        self.capture(&Rule::flight_recorder())
    }

    /// How often an edit changes a tensor.
    ///
    /// # Errors
    /// The rule does not fit what it selects, or takes tensors of another run that its trace lacks.
    pub fn edit(&self, rule: &EditRule) -> Result<Foreseen> {
        let text = rule.text();
        let named = self.named(&rule.selector);
        for passage in &named {
            rule.edit.check(text, &passage.tap)?;
            check_places(rule.edit.words(), passage.shape.last().copied().unwrap_or(0), text)?;
        }
        let trace = rule.reads().map(Trace::open).transpose()?;
        // What is taken from a record was edited already.
        let passes = |passage: &Passage, call| call >= self.from || is_computed_again(&passage.tap);
        self.foresee(text, &rule.selector, rule.edit.words(), &named, passes, &mut |passage, call, row| {
            if let Some(trace) = &trace {
                holds(trace, text, passage, call, row)?;
            }
            let words = rule.edit.words();
            let is_there = words.is_empty() || !self.words.all_places(words, row.branch).is_empty();
            Ok(is_there.then_some(0))
        })
    }

    /// Where in the run a selector selects something, or some rows of it: the role of the tensor, and the call.
    pub fn selected(&self, selector: &Selector) -> BTreeSet<(Role, usize)> {
        let at = |passage: &Passage, call: usize| {
            let is_selected = selector.admits(&self.moment(passage, call), self.steps());
            is_selected.then(|| (passage.tap.role(), call))
        };
        let named = self.passages.iter().filter(|passage| selector.names(&passage.tap));
        named.flat_map(|passage| passage.calls.iter().filter_map(move |&call| at(passage, call))).collect()
    }

    /// How many calls have a sigma inside a window, both ends included.
    pub fn levels_within(&self, text: &str, [low, high]: [f64; 2]) -> Foreseen {
        let within = self.made().filter(|call| (low..=high).contains(&call.sigma)).count();
        let unmet = (within == 0).then(|| Unmet {
            part: String::new(),
            error: rule(text, "no noise level of this run lies in its window", self.levels(low, high)),
        });
        Foreseen {
            rule: text.into(),
            tensors: within,
            calls: within,
            taps: Vec::new(),
            unmet: unmet.into_iter().collect(),
            notes: Vec::new(),
        }
    }

    fn named(&self, selector: &Selector) -> Vec<&Passage> {
        self.passages.iter().filter(|passage| selector.names(&passage.tap)).collect()
    }

    /// The calls that this run makes.
    fn made(&self) -> impl Iterator<Item = &Moment> {
        self.calls.iter().filter(|call| call.call >= self.from)
    }

    /// The moment of a tensor that passes at a call.
    fn moment(&self, passage: &Passage, call: usize) -> Moment {
        Moment { rows: passage.rows, grid: passage.grid, ..self.calls[call] }
    }

    /// Counts the rows that a rule selects. `does` returns how many bytes the rule keeps of a row, or `None`.
    fn foresee(
        &self,
        text: &str,
        selector: &Selector,
        words: &[String],
        named: &[&Passage],
        passes: impl Fn(&Passage, usize) -> bool,
        does: &mut Does,
    ) -> Result<Foreseen> {
        let mut found = Foreseen {
            rule: text.into(),
            tensors: 0,
            calls: 0,
            taps: Vec::new(),
            unmet: Vec::new(),
            notes: Vec::new(),
        };
        let (mut calls, mut shared, mut selected) = (BTreeSet::new(), Vec::new(), false);
        for passage in named {
            let mut at = PerTap { tap: passage.tap.name().into(), role: passage.tap.role(), tensors: 0, bytes: 0 };
            for &call in passage.calls.iter().filter(|&&call| passes(passage, call)) {
                let moment = self.moment(passage, call);
                if !selector.admits(&moment, self.steps()) {
                    continue;
                }
                for row in moment.rows(passage.shape[0]).iter().filter(|row| selector.admits_row(row)) {
                    selected = true;
                    if let Some(bytes) = does(passage, call, row)? {
                        (at.tensors, at.bytes) = (at.tensors + 1, at.bytes + bytes);
                        calls.insert(call);
                        if row.branch.is_none() && !shared.contains(&passage.tap.name()) {
                            shared.push(passage.tap.name());
                        }
                    }
                }
            }
            found.tensors += at.tensors;
            found.add(at);
        }
        found.calls = calls.len();
        let unknown = words.iter().filter(|word| !self.words.has(word));
        found.unmet = unknown.map(|word| Unmet { part: word.clone(), error: self.words.unknown(word, text) }).collect();
        if found.tensors == 0 {
            let error = match selected {
                true => self.of_another_branch(text, words),
                false => self.nothing(text, selector, named, passes),
            };
            found.unmet.push(Unmet { part: String::new(), error });
        }
        found.notes.extend(shared_by_both(selector, &shared));
        Ok(found)
    }

    /// The error of a rule that selects nothing: why, and what there is.
    fn nothing(
        &self,
        text: &str,
        selector: &Selector,
        named: &[&Passage],
        passes: impl Fn(&Passage, usize) -> bool,
    ) -> Error {
        if named.is_empty() {
            return selector.passes_nothing(self.passages.iter().map(|passage| passage.tap.name()));
        }
        let passing = || named.iter().flat_map(|passage| passage.calls.iter().map(move |&call| (*passage, call)));
        if passing().next().is_none() {
            let cause = format!("{} does not pass in this run", named[0].tap.name());
            return rule(
                text,
                cause,
                "it passes where a run starts from a picture: latentrace vary, or image in a spec",
            );
        }
        let admits = |windows: &[Window], (passage, call): (&Passage, usize)| {
            let moment = self.moment(passage, call);
            let rows = moment.rows(passage.shape[0]);
            windows.iter().all(|window| window.admits(&moment, self.steps()))
                && rows.iter().any(|row| windows.iter().all(|window| window.admits_row(row)))
        };
        let windows = selector.windows();
        for window in windows {
            if !passing().any(|at| admits(std::slice::from_ref(window), at)) {
                let steps: BTreeSet<usize> = passing().map(|(_, call)| self.calls[call].step).collect();
                let hint = match (window, steps.first(), steps.len()) {
                    (Window::Step(_), Some(step), 1) => format!("{} passes at step {step} only", named[0].tap.name()),
                    _ => self.what_there_is(window),
                };
                return rule(text, format!("{window} selects nothing of this run"), hint);
            }
        }
        if passing().any(|at| admits(windows, at)) && !passing().any(|(passage, call)| passes(passage, call)) {
            let cause = "it passes before the first call that this run makes";
            return rule(text, cause, format!("calls from {} on are made", self.from));
        }
        match passing().any(|at| admits(windows, at)) {
            true => {
                let first = self.calls.get(self.from).map_or(0, |call| call.step);
                let hint = format!("this run makes the steps {first} to {}", self.steps().saturating_sub(1));
                rule(text, "all that it selects lies before the first step that this run makes", hint)
            }
            false => {
                let hint = windows.iter().map(|window| self.what_there_is(window)).collect::<Vec<_>>().join("; ");
                rule(text, "no tensor lies in all of its windows", hint)
            }
        }
    }

    /// The error of words that are only in the text of the other branch.
    fn of_another_branch(&self, text: &str, words: &[String]) -> Error {
        let cause = format!("{}: not in the text of the branch that is selected", words.join(", "));
        rule(text, cause, self.words.listed())
    }

    /// What a run has that a window could select.
    fn what_there_is(&self, window: &Window) -> String {
        match window {
            Window::Step(_) => match self.steps() {
                1 => "the only step is 0".into(),
                steps => format!("steps are 0 to {}", steps - 1),
            },
            Window::Evaluation(_) => match self.calls.iter().map(|call| call.evaluation).max() {
                None | Some(0) => "each step calls the network once: @eval[0]".into(),
                Some(last) => format!("calls of a step are 0 to {last} at most"),
            },
            Window::Image(_) => "a run is one image: @image[0]".into(),
            Window::Sigma { low, high } => self.levels(*low, *high),
            Window::Branch(_) => self.branches(),
        }
    }

    /// The branches that pass. Without guidance, or with zeros in the place of the negative prompt, there may be one alone.
    fn branches(&self) -> String {
        let is_of = |of| self.passages.iter().any(|passage| passage.rows == Rows::Branch(of));
        let is_guided = self.passages.iter().any(|passage| passage.rows == Rows::Branches);
        match (is_guided, is_of(Branch::Unconditional)) {
            (true, true) => "branches are @branch{cond} and @branch{uncond}".into(),
            (true, false) => {
                "branches of the UNet are @branch{cond} and @branch{uncond}; the negative prompt is not encoded, because features or zeros stand in its place".into()
            }
            (false, _) => {
                "this run has @branch{cond} alone: it is without guidance, so that nothing is computed for the negative prompt".into()
            }
        }
    }

    /// The range of the noise levels, and those nearest to a window.
    fn levels(&self, low: f64, high: f64) -> String {
        let sigmas = || self.made().map(|call| call.sigma);
        let (least, greatest) = (sigmas().fold(f64::INFINITY, f64::min), sigmas().fold(0.0, f64::max));
        let below = sigmas().filter(|sigma| *sigma < low).fold(f64::NEG_INFINITY, f64::max);
        let above = sigmas().filter(|sigma| *sigma > high).fold(f64::INFINITY, f64::min);
        let show = |sigma: f64| format!("{:.*}", 4usize.saturating_sub(sigma.log10().floor().max(0.0) as usize), sigma);
        let levels = format!("sigma goes from {} down to {}", show(greatest), show(least));
        match below.is_finite() && above.is_finite() {
            true => format!("{levels}, and next to the window is {} and {}", show(above), show(below)),
            false => levels,
        }
    }
}

impl Foreseen {
    fn add(&mut self, at: PerTap) {
        match self.taps.iter_mut().find(|known| known.tap == at.tap) {
            Some(known) => (known.tensors, known.bytes) = (known.tensors + at.tensors, known.bytes + at.bytes),
            None if at.tensors > 0 => self.taps.push(at),
            None => {}
        }
    }

    /// How many bytes a capture rule keeps.
    pub fn bytes(&self) -> u64 {
        self.taps.iter().map(|tap| tap.bytes).sum()
    }
}

/// The remark for taps whose tensors both branches share, if a rule selects one branch.
fn shared_by_both(selector: &Selector, shared: &[&str]) -> Option<String> {
    let window = selector.windows().iter().find(|window| matches!(window, Window::Branch(_)))?;
    let (first, more) = (shared.first()?, shared.len() - 1);
    let taps = match more {
        0 => first.to_string(),
        1 => format!("{first} and another tap"),
        _ => format!("{first} and {more} more taps"),
    };
    Some(format!("{taps}: both branches share what passes, so {window} selects it for both"))
}

/// Checks that the trace of another run has the whole tensor of a row, in its shape.
fn holds(trace: &Trace, text: &str, passage: &Passage, call: usize, row: &Row) -> Result<()> {
    let tap = passage.tap.name().to_string();
    let key = Key { call, tap, branch: row.branch, image: row.image, kept: String::new() };
    let absent = |hint: String| Error::Absent {
        name: format!("{text}: {}", key.name()),
        folder: trace.folder().display().to_string(),
        hint,
    };
    let shape: Vec<i64> = [&[1], &passage.shape[1..]].concat();
    match trace.find(&key).filter(|entry| entry.stored.is_some()) {
        None if trace.of_tap(passage.tap.name()).all(|entry| !entry.kept.is_empty() || entry.stored.is_none()) => {
            Err(absent(format!("record that run with --capture {}", passage.tap.name())))
        }
        None => Err(absent("that run had fewer calls, or did not record it; @step[..] selects steps".into())),
        Some(entry) if entry.shape.iter().map(|&side| side as i64).ne(shape.iter().copied()) => {
            Err(absent(format!("it is there in shape {:?}, and {shape:?} is called for", entry.shape)))
        }
        Some(_) => Ok(()),
    }
}
