//! What is said while a sweep is made: a bar on a terminal, lines elsewhere, JSON where asked.

use crate::printer::{Printer, aside, line};
use latentrace::experiments::{End, Progress};
use latentrace::runs::{Event, Observer, OfCells, RunFolder, unstable};
use serde_json::{Value, json};
use std::time::Duration;

/// What cells have in common, in a line.
pub fn spared(evaluations: usize, of: usize) -> String {
    let same = of - evaluations;
    format!(
        "{evaluations} of {of} evaluations have to be computed: the other {same} are the same in another cell, and are taken over from it"
    )
}

/// Says what happens in a sweep.
pub struct Teller {
    json: bool,
    printer: Printer,
}

impl Teller {
    /// Speaks in JSON or in words.
    pub fn new(json: bool) -> Teller {
        Teller { json, printer: Printer::waiting() }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.printer.end();
    }

    /// Says it.
    pub fn tell(&self, progress: Progress) {
        match progress {
            Progress::Run(Event::Call) if self.json => {}
            Progress::Run(event) => self.printer.tell(event),
            Progress::Rule(rule) => self.rule(rule),
            Progress::Lost { lines, cells } => self.lost(lines, cells),
            Progress::Unstable { labels, cells } => self.unstable(labels, cells),
            Progress::Begin { cells, done, calls } => self.begin(cells, done, calls),
            Progress::Shared { evaluations, of } => self.shared(evaluations, of),
            Progress::Smaller { from, to, cause } => self.smaller(from, to, cause),
            Progress::Making(label) => self.printer.message(label),
            Progress::Waiting(label) => self.printer.message(format_args!("waiting for another process: {label}")),
            Progress::Cell { label, key, end, left, time_left } => self.cell(label, key, &end, (left, time_left)),
        }
    }

    fn rule(&self, rule: &OfCells) {
        match self.json {
            true => line!(
                "{}",
                json!({ "event": "rule", "rule": rule.rule, "tensors": rule.tensors, "cells": rule.cells,
                    "firing": rule.firing })
            ),
            false => aside!("note: {}: {}", rule.rule, rule.often()),
        }
    }

    fn lost(&self, lines: &[String], cells: usize) {
        let (count, first) = (lines.len(), &lines[0]);
        if self.json {
            return line!("{}", json!({ "event": "lost", "pictures": count, "of": cells, "first": first }));
        }
        aside!("warning: {count} of {cells} pictures lose text that does not fit, the first by its {first}");
        aside!("hint: the columns prompt_lost and negative_lost of results.csv have all of it");
    }

    fn unstable(&self, labels: &[&str], cells: usize) {
        let (count, first) = (labels.len(), labels[0]);
        if self.json {
            return line!("{}", json!({ "event": "unstable", "pictures": count, "of": cells, "first": first }));
        }
        self.printer.warn(&format!(
            "in {count} of {cells} pictures the clean estimates alternate from step to step: their sampler is unstable, and the picture may be the solver's, not the model's; the first is {first}\n{}; the column alternates_from of results.csv has them",
            unstable::hint(None)
        ));
    }

    fn begin(&self, cells: usize, done: usize, calls: usize) {
        if self.json {
            return line!("{}", json!({ "event": "begin", "pictures": cells, "there": done }));
        }
        if done > 0 {
            line!("{done} of {cells} pictures are there already");
        }
        self.printer.begin_sweep(calls);
    }

    fn shared(&self, evaluations: usize, of: usize) {
        match self.json {
            true => line!("{}", json!({ "event": "shared", "evaluations": evaluations, "of": of })),
            false => self.printer.aside(format_args!("note: {}", spared(evaluations, of))),
        }
    }

    fn smaller(&self, from: usize, to: usize, cause: &str) {
        match self.json {
            true => {
                line!("{}", json!({ "event": "smaller_batch", "pictures": to, "instead_of": from, "cause": cause }))
            }
            false => self
                .printer
                .aside(format_args!("note: {from} pictures in one batch do not fit, {to} are made at once: {cause}")),
        }
    }

    fn cell(&self, label: &str, key: &str, end: &End, rest: (usize, Option<Duration>)) {
        match end {
            End::Made { elapsed, run, .. } => self.made(label, key, (*elapsed, run), rest),
            End::Kept => self.event(label, key, "kept", json!({})),
            End::Failed(error) if self.json => self.event(label, key, "failed", json!({ "error": error })),
            // Why is said at the end, with those that failed before.
            End::Failed(_) => self.printer.aside(format_args!("{label}: failed")),
        }
    }

    /// The JSON object of a cell that has come to its end.
    fn event(&self, label: &str, key: &str, status: &str, more: Value) {
        let mut event = json!({ "event": "cell", "label": label, "key": key, "status": status });
        for (name, value) in more.as_object().into_iter().flatten() {
            event[name] = value.clone();
        }
        if self.json {
            line!("{event}");
        }
    }

    fn made(
        &self,
        label: &str,
        key: &str,
        (elapsed, run): (Duration, &RunFolder),
        (left, time_left): (usize, Option<Duration>),
    ) {
        let seconds = elapsed.as_secs_f64();
        if self.json {
            let folder = run.path().display().to_string();
            return self.event(label, key, "made", json!({ "seconds": seconds, "folder": folder }));
        }
        let to_go = match (left, time_left) {
            (0, _) => String::new(),
            (left, None) => format!(" ({left} to go)"),
            (left, Some(time)) => format!(" ({left} to go, {:.0} s)", time.as_secs_f64()),
        };
        self.printer.line(format_args!("{label}: {seconds:.1} s, {}{to_go}", run.picture().display()));
    }
}
