//! How often each rule of a run fires, known before it is made: captures, edits, and windows of guidance.

use crate::description::Description;
use crate::record::Job;
use anyhow::{Error, Result};
use latentrace_pipeline::nn::ModuleValue;
use latentrace_pipeline::schedulers::Plan;
use latentrace_pipeline::{Dtype, Guidance, Model, Options, Outlined, Request, Size, Start, Window, moment, outline};
use latentrace_trace::{Course, EditRule, Foreseen, Passage, PerTap, Rule, Words};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;

/// How often each rule of a run fires, in the order in which they were given.
#[derive(Debug, Default)]
pub struct Fires {
    /// What is kept.
    pub capture: Vec<Foreseen>,
    /// What is changed.
    pub edits: Vec<Foreseen>,
    /// A window of guidance.
    pub guidance: Option<Foreseen>,
    /// Network calls of the run.
    calls: usize,
}

/// [`Fires`] as a record keeps it: how many tensors each rule selects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Of the rules in `capture`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<usize>,
    /// Of the cell's `edits`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<usize>,
    /// How many calls lie in the window of guidance, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<usize>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Does {
    Keep,
    Change,
    Guide,
}

impl Fires {
    /// Of the rules of a job.
    ///
    /// # Errors
    /// A rule cannot be read, or can be followed in no run of this model.
    pub fn of(job: &Job) -> Result<Fires> {
        let Description { capture, cell, calls, .. } = job.description();
        let window = match &cell.guidance {
            Guidance::Window(Window { sigma, .. }) => Some(*sigma),
            _ => None,
        };
        if capture.is_empty() && cell.edits.is_empty() && window.is_none() {
            return Ok(Fires { calls: *calls, ..Fires::default() });
        }
        let course = job.course()?;
        Ok(Fires {
            capture: capture.iter().map(|text| Ok(course.capture(&Rule::parse(text)?)?)).collect::<Result<_>>()?,
            edits: cell
                .edits
                .iter()
                .map(|text| Ok(noted(course.edit(&EditRule::parse(text)?)?, cell.dtype)))
                .collect::<Result<_>>()?,
            guidance: window.map(|window| course.levels_within(&format!("guidance {}", cell.guidance), window)),
            calls: *calls,
        })
    }

    /// Every rule with what it does.
    pub fn all(&self) -> impl Iterator<Item = (Does, &Foreseen)> {
        let of = |does| move |foreseen| (does, foreseen);
        let capture = self.capture.iter().map(of(Does::Keep));
        capture.chain(self.edits.iter().map(of(Does::Change))).chain(self.guidance.iter().map(of(Does::Guide)))
    }

    /// What the record says; nothing where there are no rules.
    pub fn counts(&self) -> Option<Counts> {
        let of = |rules: &[Foreseen]| rules.iter().map(|rule| rule.tensors).collect();
        let counts = Counts {
            capture: of(&self.capture),
            edits: of(&self.edits),
            guidance: self.guidance.as_ref().map(|window| window.calls),
        };
        (counts != Counts::default()).then_some(counts)
    }

    /// The rules among `given`, which are those of `foreseen`, that fire: the others have nothing to do in this run.
    pub fn firing<'a>(given: &'a [String], foreseen: &'a [Foreseen]) -> impl Iterator<Item = &'a String> {
        given.iter().zip(foreseen).filter(|(_, foreseen)| foreseen.tensors > 0).map(|(text, _)| text)
    }

    /// Checks that every rule fires that was given to this command, with every word that it names. `inherited` says
    /// which rules came with a record: these may lie in what is over.
    ///
    /// # Errors
    /// A rule that was given has nothing to do.
    pub fn check(self, inherited: impl Fn(Does, &str) -> bool) -> Result<Fires> {
        let is_given = |(does, rule): &(Does, &Foreseen)| !inherited(*does, &rule.rule);
        let place = self.all().position(|of| is_given(&of) && !of.1.unmet.is_empty());
        match place {
            None => Ok(self),
            Some(place) => {
                let Fires { capture, edits, guidance, .. } = self;
                let unmet = capture.into_iter().chain(edits).chain(guidance).nth(place).map(|rule| rule.unmet);
                match unmet.into_iter().flatten().next() {
                    Some(unmet) => Err(unmet.error.into()),
                    None => Ok(Fires::default()),
                }
            }
        }
    }

    /// Says on stderr how often each rule fires, and what may surprise.
    pub fn say(&self) {
        self.say_what_is_over();
        for (does, rule) in self.all().filter(|(_, rule)| rule.tensors > 0) {
            eprintln!("note: {}: {}", rule.rule, self.often(does, rule));
            rule.notes.iter().for_each(|note| eprintln!("note: {}: {note}", rule.rule));
        }
    }

    /// Says on stderr which rules came with a record and have nothing to do in the rest of the run.
    pub fn say_what_is_over(&self) {
        for (_, rule) in self.all().filter(|(_, rule)| rule.tensors == 0) {
            if let Some(unmet) = rule.unmet.first() {
                eprintln!("note: came with the record, and does not fire again: {}", unmet.error);
            }
        }
    }

    /// `keeps 20 tensors, at 10 of 50 calls`.
    fn often(&self, does: Does, Foreseen { tensors, calls, .. }: &Foreseen) -> String {
        let verb = match does {
            Does::Keep => "keeps",
            Does::Change => "changes",
            Does::Guide => return format!("holds at {calls} of {} calls", self.calls),
        };
        let plural = if *tensors == 1 { "" } else { "s" };
        format!("{verb} {tensors} tensor{plural}, at {calls} of {} calls", self.calls)
    }
}

/// Every rule of a sweep, and in how many of its cells it fires.
#[derive(Debug, Default)]
pub struct OfSweep(Vec<OfCells>);

/// A rule of some cells.
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
    /// How many tensors it selects in all of them.
    pub tensors: usize,
    /// The parts that no cell has had anything for yet, and what the first of them said.
    unmet: Vec<(String, Error)>,
}

impl OfSweep {
    /// Adds what is foreseen of a cell.
    pub fn add(&mut self, fires: Fires) {
        let Fires { capture, edits, guidance, .. } = fires;
        let capture = capture.into_iter().map(|rule| (Does::Keep, rule));
        let edits = edits.into_iter().map(|rule| (Does::Change, rule));
        for (does, rule) in capture.chain(edits).chain(guidance.map(|rule| (Does::Guide, rule))) {
            let firing = usize::from(rule.tensors > 0);
            match self.0.iter_mut().find(|known| (known.does, &known.rule) == (does, &rule.rule)) {
                Some(known) => {
                    let parts: HashSet<String> = rule.unmet.into_iter().map(|unmet| unmet.part).collect();
                    known.unmet.retain(|(part, _)| parts.contains(part));
                    known.cells += 1;
                    known.firing += firing;
                    known.tensors += rule.tensors;
                }
                None => self.0.push(OfCells {
                    does,
                    rule: rule.rule,
                    cells: 1,
                    firing,
                    tensors: rule.tensors,
                    unmet: rule.unmet.into_iter().map(|unmet| (unmet.part, unmet.error.into())).collect(),
                }),
            }
        }
    }

    /// Checks that every rule fires in one cell at least, with every word that it names.
    ///
    /// # Errors
    /// A rule that has nothing to do anywhere.
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
            Does::Guide => format!("holds at {tensors} calls, in {firing} of {cells} cells"),
        }
    }
}

/// An edit with what it does besides in a format of 16 bits.
fn noted(mut edit: Foreseen, dtype: Dtype) -> Foreseen {
    let of_attention = |tap: &PerTap| tap.role.module().is_some_and(ModuleValue::is_scores_or_probs);
    let moved = match dtype {
        Dtype::F16 => "0.4 %",
        Dtype::Bf16 => "2 %",
        Dtype::F32 => return edit, // 1.3e-6: rounding
    };
    if edit.taps.iter().any(of_attention) {
        edit.notes.push(format!(
            "the rows that it changes are rounded otherwise than by the fused kernel; on the bundled model that alone moves \
             the latents of 20 steps by {moved}"
        ));
    }
    edit
}

/// What will pass in a run of a model whose calls before `from` are taken from a record.
pub fn course(
    model: &Model,
    request: &Request,
    start: &Start,
    words: Words,
    options: Options,
    from: usize,
) -> Result<Course> {
    let plan = start.plan(request)?;
    let passage = |seen: &Outlined| Passage {
        tap: seen.tap.clone(),
        shape: seen.shape.clone(),
        kind: seen.kind,
        rows: seen.rows,
        grid: seen.grid,
        calls: seen.calls(&plan, start),
    };
    let passages = outlined(model, options, request.size)?.iter().map(passage).collect();
    let calls = (0..plan.calls()).map(|call| moment(&plan, call)).collect();
    Ok(Course::new(passages, calls, words).beginning_at(from))
}

/// How many steps a plan makes: from a picture, fewer than were asked for.
pub fn steps(plan: &Plan) -> usize {
    plan.steps().last().map_or(0, |last| last.index + 1)
}

/// The outline of a model at a size: the last one is kept, as the cells of a sweep ask for the same again and again.
fn outlined(model: &Model, options: Options, size: Size) -> Result<Rc<Vec<Outlined>>> {
    type Asked = (PathBuf, Options, Size);
    thread_local! {
        static LAST: RefCell<Option<(Asked, Rc<Vec<Outlined>>)>> = const { RefCell::new(None) };
    }
    let asked = (model.folder.clone(), options, size);
    let known = LAST.with_borrow(|last| last.as_ref().filter(|(of, _)| *of == asked).map(|(_, list)| list.clone()));
    if let Some(list) = known {
        return Ok(list);
    }
    let list = Rc::new(outline(&model.folder, options, Some(size))?);
    LAST.set(Some((asked, list.clone())));
    Ok(list)
}
