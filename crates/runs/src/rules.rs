//! How often each rule of a run fires, counted before the run is made. Rules are captures, edits and windows of noise levels.

use crate::cell::Cell;
use crate::description::Description;
use crate::models::checkpoint;
use crate::ready::Ready;
use anyhow::{Error, Result, anyhow};
use latentrace_pipeline::nn::ModuleValue;
use latentrace_pipeline::{
    Choice, Dtype, Guidance, Lora, Options, Outlined, Prepared, Scale, Size, TextShape, Window, moment, outline,
};
use latentrace_trace::{Course, Foreseen, Passage, PerTap, Words};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How often each rule of a run fires, in the order of the rules.
#[derive(Debug, Default)]
pub struct Fires {
    /// The capture rules.
    pub capture: Vec<Foreseen>,
    /// The edits.
    pub edits: Vec<Foreseen>,
    /// The guidance window, if the guidance is one.
    pub guidance: Option<Foreseen>,
    /// The windows of LoRAs.
    pub loras: Vec<Foreseen>,
    /// The number of network calls of the run.
    calls: usize,
}

/// [`Fires`] in the description of a record: how many tensors each rule selects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleCounts {
    /// For each rule in `capture`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<usize>,
    /// For each of the cell's `edits`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<usize>,
    /// How many calls are in the guidance window, if the guidance is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<usize>,
    /// For each LoRA whose scale is a window, how many calls are in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<usize>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Does {
    /// Keeps tensors: a capture rule.
    Keep,
    /// Changes tensors: an edit.
    Change,
    /// Sets the guidance weight in a window of noise levels.
    Guide,
    /// Scales a LoRA in a window of noise levels.
    Scale,
}

impl Fires {
    /// Counts the rules of a run whose calls before `from` are taken from a record.
    ///
    /// # Errors
    /// A rule cannot be applied in any run of this model.
    pub(crate) fn of(ready: &Ready, from: usize) -> Result<Fires> {
        let Description { capture, cell, calls, .. } = ready.description();
        let window = match &cell.guidance {
            Guidance::Window(Window { sigma, .. }) => Some(*sigma),
            _ => None,
        };
        let of_lora = |lora: &Lora| match &lora.scale {
            // Outside of other windows the LoRA acts too.
            Scale::Window(Window { sigma, outside: 0.0, .. }) => Some((format!("LoRA {lora}"), *sigma)),
            _ => None,
        };
        let loras: Vec<(String, [f64; 2])> = cell.loras.iter().filter_map(of_lora).collect();
        if capture.is_empty() && cell.edits.is_empty() && window.is_none() && loras.is_empty() {
            return Ok(Fires { calls: *calls, ..Fires::default() });
        }
        let course = ready.course(from)?;
        Ok(Fires {
            capture: capture.iter().map(|rule| course.capture(rule)).collect::<Result<_, _>>()?,
            edits: cell.edits.iter().map(|rule| Ok(noted(course.edit(rule)?, cell.dtype))).collect::<Result<_>>()?,
            guidance: window.map(|window| course.levels_within(&format!("guidance {}", cell.guidance), window)),
            loras: loras.iter().map(|(text, window)| course.levels_within(text, *window)).collect(),
            calls: *calls,
        })
    }

    /// Every rule with what it does.
    pub fn all(&self) -> impl Iterator<Item = (Does, &Foreseen)> {
        let of = |does| move |foreseen| (does, foreseen);
        let tensors = self.capture.iter().map(of(Does::Keep)).chain(self.edits.iter().map(of(Does::Change)));
        tensors.chain(self.guidance.iter().map(of(Does::Guide))).chain(self.loras.iter().map(of(Does::Scale)))
    }

    /// The counts for the record; `None` if there are no rules.
    pub fn counts(&self) -> Option<RuleCounts> {
        let of = |rules: &[Foreseen]| rules.iter().map(|rule| rule.tensors).collect();
        let counts = RuleCounts {
            capture: of(&self.capture),
            edits: of(&self.edits),
            guidance: self.guidance.as_ref().map(|window| window.calls),
            loras: self.loras.iter().map(|window| window.calls).collect(),
        };
        (counts != RuleCounts::default()).then_some(counts)
    }

    /// The rules that fire at least once. `foreseen` has the counts of the rules in `given`.
    pub fn firing<'a, R>(given: &'a [R], foreseen: &'a [Foreseen]) -> impl Iterator<Item = &'a R> {
        given.iter().zip(foreseen).filter(|(_, foreseen)| foreseen.tensors > 0).map(|(rule, _)| rule)
    }

    /// Checks that every rule that was given to this command fires, for every word that it names. `inherited` says
    /// which rules came with a record; these may select earlier calls only, and are not checked.
    ///
    /// # Errors
    /// A rule that was given selects no tensor.
    pub fn check(&self, inherited: impl Fn(Does, &str) -> bool) -> Result<()> {
        let is_given = |(does, rule): &(Does, &Foreseen)| !inherited(*does, &rule.rule);
        match self.all().filter(is_given).find_map(|(_, rule)| rule.unmet.first()) {
            Some(unmet) => Err(anyhow!("{}", unmet.error)),
            None => Ok(()),
        }
    }

    /// Lines about the rules for the user, before a run: how often each fires, and notes.
    pub fn notes(&self) -> Vec<String> {
        let firing = self.all().filter(|(_, rule)| rule.tensors > 0);
        let of = |(does, rule): (Does, &Foreseen)| {
            let often = format!("{}: {}", rule.rule, self.often(does, rule));
            let notes = rule.notes.iter().map(|note| format!("{}: {note}", rule.rule));
            std::iter::once(often).chain(notes).collect::<Vec<_>>()
        };
        self.over().chain(firing.flat_map(of)).collect()
    }

    /// Lines about the rules that came with a record and do not fire in the rest of the run.
    pub fn over(&self) -> impl Iterator<Item = String> {
        let unmet = self.all().filter(|(_, rule)| rule.tensors == 0).filter_map(|(_, rule)| rule.unmet.first());
        unmet.map(|unmet| format!("came with the record, and does not fire again: {}", unmet.error))
    }

    /// `keeps 20 tensors, at 10 of 50 calls`.
    fn often(&self, does: Does, Foreseen { tensors, calls, .. }: &Foreseen) -> String {
        let verb = match does {
            Does::Keep => "keeps",
            Does::Change => "changes",
            Does::Guide | Does::Scale => return format!("holds at {calls} of {} calls", self.calls),
        };
        let plural = if *tensors == 1 { "" } else { "s" };
        format!("{verb} {tensors} tensor{plural}, at {calls} of {} calls", self.calls)
    }
}

/// The rules of a sweep, with the number of cells in which each fires.
#[derive(Debug, Default)]
pub struct OfSweep(Vec<OfCells>);

/// A rule of one or more cells of a sweep.
#[derive(Debug)]
pub struct OfCells {
    /// What it does.
    pub does: Does,
    /// As written.
    pub rule: String,
    /// How many cells have it.
    pub cells: usize,
    /// In how many it fires.
    pub firing: usize,
    /// How many tensors it selects in all cells together.
    pub tensors: usize,
    /// The parts of the rule that have selected nothing in any cell so far, each with the error of the first cell.
    unmet: Vec<(String, Error)>,
}

impl OfSweep {
    /// Adds the rules of a cell.
    pub fn add(&mut self, fires: &Fires) {
        for (does, rule) in fires.all() {
            let firing = usize::from(rule.tensors > 0);
            match self.0.iter_mut().find(|known| (known.does, &known.rule) == (does, &rule.rule)) {
                Some(known) => {
                    let parts: HashSet<&str> = rule.unmet.iter().map(|unmet| unmet.part.as_str()).collect();
                    known.unmet.retain(|(part, _)| parts.contains(part.as_str()));
                    known.cells += 1;
                    known.firing += firing;
                    known.tensors += rule.tensors;
                }
                None => self.0.push(OfCells {
                    does,
                    rule: rule.rule.clone(),
                    cells: 1,
                    firing,
                    tensors: rule.tensors,
                    unmet: rule.unmet.iter().map(|unmet| (unmet.part.clone(), anyhow!("{}", unmet.error))).collect(),
                }),
            }
        }
    }

    /// Checks that every rule fires in at least one cell, for every word that it names.
    ///
    /// # Errors
    /// A rule selects no tensor in any cell.
    pub fn check(mut self) -> Result<Vec<OfCells>> {
        for rule in &mut self.0 {
            if let Some((_, error)) = rule.unmet.drain(..).next() {
                return Err(if rule.cells > 1 { error.context("in no cell of this experiment") } else { error });
            }
        }
        Ok(self.0)
    }
}

impl OfCells {
    /// `keeps 20 tensors in 3 of 9 cells`.
    pub fn often(&self) -> String {
        let OfCells { cells, firing, tensors, .. } = self;
        match self.does {
            Does::Keep => format!("keeps {tensors} tensors, in {firing} of {cells} cells"),
            Does::Change => format!("changes {tensors} tensors, in {firing} of {cells} cells"),
            Does::Guide | Does::Scale => format!("holds at {tensors} calls, in {firing} of {cells} cells"),
        }
    }
}

/// Adds a note to an edit of attention in a 16-bit format.
fn noted(mut edit: Foreseen, dtype: Dtype) -> Foreseen {
    let of_attention = |tap: &PerTap| tap.role.module().is_some_and(ModuleValue::is_scores_or_probs);
    let moved = match dtype {
        Dtype::F16 => "0.4 %",
        Dtype::Bf16 => "2 %",
        Dtype::F32 => return edit, // 1.3e-6: rounding
    };
    if edit.taps.iter().any(of_attention) {
        edit.notes.push(format!(
            "the rows that it changes are rounded otherwise than by the fused kernel; on the bundled model this alone \
             changes the latents of 20 steps by {moved}"
        ));
    }
    edit
}

/// The tensors that will pass the taps in a run of a checkpoint whose calls before `from` are taken from a record.
///
/// # Errors
/// The checkpoint no longer exists.
pub fn course(place: &Path, cell: &Cell, prepared: &Prepared, words: Words, from: usize) -> Result<Course> {
    let Prepared { request, start, plan, .. } = prepared;
    let passage = |seen: &Outlined| Passage {
        tap: seen.tap.clone(),
        shape: seen.shape.clone(),
        kind: seen.kind,
        rows: seen.rows,
        grid: seen.grid,
        calls: seen.calls(plan, start),
    };
    let text = TextShape::of(prepared);
    let passages = outlined(place, cell, request.size, text)?.iter().map(passage).collect();
    let calls = (0..plan.calls()).map(|call| moment(plan, call)).collect();
    Ok(Course::new(passages, calls, words).beginning_at(from))
}

/// The outline of a model at a size, for texts of a shape. The last one is kept, because the cells of a sweep mostly need the same.
fn outlined(place: &Path, cell: &Cell, size: Size, text: TextShape) -> Result<Rc<Vec<Outlined>>> {
    type Asked = (PathBuf, Choice, Options, Size, TextShape);
    thread_local! {
        static LAST: RefCell<Option<(Asked, Rc<Vec<Outlined>>)>> = const { RefCell::new(None) };
    }
    // No LoRA changes a shape.
    let choice = Choice { loras: Vec::new(), ..cell.choice() };
    let asked = (place.to_path_buf(), choice, cell.options(), size, text);
    let known = LAST.with_borrow(|last| last.as_ref().filter(|(of, _)| *of == asked).map(|(_, list)| list.clone()));
    if let Some(list) = known {
        return Ok(list);
    }
    let list = Rc::new(outline(&checkpoint(place, &asked.1)?, cell.options(), Some(size), text)?);
    LAST.set(Some((asked, list.clone())));
    Ok(list)
}
