//! Which tensor, at which steps, carries what one run has and another has not.

use crate::description::Description;
use crate::observer::Observer;
use crate::phases::Phased;
use anyhow::{Context, Result, ensure};
use latentrace_pipeline::Model;
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::nn::tch::{Kind, Tensor};
use latentrace_trace::{Selector, Trace};
use std::path::Path;

/// Two recorded runs, the sites whose tensors of the one are put into the other, and the blocks of steps in which they are.
pub struct Causal<'a> {
    /// The run that is changed.
    base: &'a Trace,
    /// The run that the tensors come from.
    source: &'a Trace,
    run: Phased<'a>,
    /// The names of the taps.
    pub sites: Vec<String>,
    /// The first step of each block, and one after its last.
    pub blocks: Vec<(usize, usize)>,
    calls: usize,
}

impl<'a> Causal<'a> {
    /// Of a whole run and another that holds the sites whole. `parent` says where the run is that the base was forked from,
    /// for a base that an earlier version forked.
    ///
    /// # Errors
    /// The base is not whole, or a site is not recorded whole in the source.
    pub fn new(
        model: &'a Model,
        (base, source): (&'a Trace, &'a Trace),
        (sites, blocks): (&str, usize),
        parent: Option<&Path>,
        observer: &'a dyn Observer,
    ) -> Result<Causal<'a>> {
        let run = Phased::new(model, base, parent, observer)?;
        let calls = Description::of(base)?.calls;
        let sites = named(sites, model, source)?;
        let (first, last) = run.steps();
        Ok(Causal { base, source, run, sites, blocks: split(first, last, blocks), calls })
    }

    /// Network calls of all runs together, of two passes each.
    pub fn calls(&self) -> usize {
        let of_site: usize = self.blocks.iter().map(|(first, _)| self.calls_from(*first)).sum();
        of_site * self.sites.len()
    }

    /// Calls from a step to the end.
    pub fn calls_from(&self, step: usize) -> usize {
        self.calls - self.first_call(step)
    }

    fn first_call(&self, step: usize) -> usize {
        self.base.entries().iter().find(|entry| entry.step == step).map_or(0, |entry| entry.call)
    }

    /// Runs the base once for every site and block, and returns which part of the way to the other run's final latents each
    /// leads: a row for each site. `made` is told of each run, with its site and its network calls.
    ///
    /// # Errors
    /// The two runs end in the same latents, or a run fails.
    pub fn measure(&self, made: impl Fn(&str, usize)) -> Result<Vec<Vec<f64>>> {
        let end = |trace: &Trace| -> Result<Tensor> {
            let entry = trace.values(SamplerValue::Latents).next().context("a run without its end")?;
            Ok(trace.tensor(entry)?)
        };
        let (from, to) = (end(self.base)?, end(self.source)?);
        let apart = distance(&from, &to);
        ensure!(apart > 0.0, "the two runs end in the same latents");
        let row = |site: &String| {
            let of = |&(first, last): &(usize, usize)| {
                let source = self.source.folder().display();
                let rule = format!("{site} @step[{first}:{last}] => replace({source})").parse()?;
                let patched = self.run.patched(&rule, self.first_call(first))?;
                made(site, self.calls_from(first));
                Ok(1.0 - distance(&patched, &to) / apart)
            };
            self.blocks.iter().map(of).collect::<Result<_>>()
        };
        self.sites.iter().map(row).collect()
    }
}

/// The taps that a selector names, which a record must hold whole.
fn named(text: &str, model: &Model, source: &Trace) -> Result<Vec<String>> {
    let selector = Selector::parse(text)?;
    let sites: Vec<String> =
        model.taps.iter().filter(|tap| selector.names(tap)).map(|tap| tap.name().to_string()).collect();
    ensure!(!sites.is_empty(), selector.fits_nothing(model.taps.iter().map(|tap| tap.name())));
    let whole = |site: &str| source.of_tap(site).any(|entry| entry.kept.is_empty() && entry.stored.is_some());
    if let Some(site) = sites.iter().find(|site| !whole(site)) {
        anyhow::bail!(
            "{}: {site} was not kept whole\nhint: record it with --capture \"{text}\"",
            source.folder().display()
        );
    }
    Ok(sites)
}

/// The steps from `first` to before `last` in blocks as even as they can be: the first of each, and one after its last.
fn split(first: usize, last: usize, count: usize) -> Vec<(usize, usize)> {
    let steps = last.saturating_sub(first).max(1);
    let count = count.min(steps).max(1);
    (0..count).map(|block| (first + block * steps / count, first + (block + 1) * steps / count)).collect()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_all_steps_once() {
        assert_eq!(split(0, 50, 5), [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50)]);
        assert_eq!(split(0, 3, 2), [(0, 1), (1, 3)]);
        assert_eq!(split(0, 2, 9), [(0, 1), (1, 2)]);
        assert_eq!(split(30, 50, 2), [(30, 40), (40, 50)]);
    }
}
