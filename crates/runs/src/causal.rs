//! Causal tracing, or activation patching: how much of the difference of two runs a tensor carries, at some steps (Meng
//! et al. 2022, arXiv 2202.05262).

use crate::description::Description;
use crate::observer::Observer;
use crate::phases::Phased;
use anyhow::{Context, Result, ensure};
use latentrace_pipeline::Model;
use latentrace_pipeline::nn::SamplerValue;
use latentrace_pipeline::nn::tch::{Kind, Tensor};
use latentrace_trace::{Selector, Trace};
use std::path::Path;

/// Two recorded runs, the sites whose tensors are copied from one run into the other, and the blocks of steps in which
/// they are.
pub struct CausalTracing<'a> {
    /// The run that is patched.
    base: &'a Trace,
    /// The run that the tensors come from.
    source: &'a Trace,
    run: Phased<'a>,
    /// The names of the taps, one for each site.
    pub sites: Vec<String>,
    /// For each block, its first step and the step after its last.
    pub blocks: Vec<(usize, usize)>,
    calls: usize,
}

impl<'a> CausalTracing<'a> {
    /// Prepares the patching of `base` with tensors of `source`. `sites` is a selector of taps, and `blocks` the number
    /// of blocks of steps. `parent` is the run that the base was forked from; it is needed only for a fork of an
    /// earlier version.
    ///
    /// # Errors
    /// The base is not complete, it has no tensor at any of the sites, or the source does not have one without reductions.
    pub fn new(
        model: &'a Model,
        (base, source): (&'a Trace, &'a Trace),
        (sites, blocks): (&str, usize),
        parent: Option<&Path>,
        observer: &'a dyn Observer,
    ) -> Result<CausalTracing<'a>> {
        let run = Phased::new(model, base, parent, observer)?;
        let calls = Description::of(base)?.calls;
        let sites = named(sites, model, &run, source)?;
        let (first, last) = run.steps();
        Ok(CausalTracing { base, source, run, sites, blocks: split(first, last, blocks), calls })
    }

    /// The number of network calls of all runs together. With guidance, each call computes both branches.
    pub fn calls(&self) -> usize {
        let of_site: usize = self.blocks.iter().map(|(first, _)| self.calls_from(*first)).sum();
        of_site * self.sites.len()
    }

    /// The number of network calls from a step to the end.
    pub fn calls_from(&self, step: usize) -> usize {
        self.calls - self.first_call(step)
    }

    fn first_call(&self, step: usize) -> usize {
        self.base.entries().iter().find(|entry| entry.step == step).map_or(0, |entry| entry.call)
    }

    /// Runs the base once for every site and block, and returns how far each leads to the source's final latents:
    /// `1 - d / D`. `d` is the distance of the patched run's latents to the source's, and `D` that of the base's. 0 is no
    /// effect, and 1 is the source itself. The result has a row for each site. `made` is called after each run, with its
    /// site and its number of network calls.
    ///
    /// # Errors
    /// The two runs have the same final latents, or a run fails.
    pub fn measure(&self, made: impl Fn(&str, usize)) -> Result<Vec<Vec<f64>>> {
        let end = |trace: &Trace| -> Result<Tensor> {
            let entry = trace.values(SamplerValue::Latents).next().context("a run without final latents")?;
            Ok(trace.tensor(entry)?)
        };
        let (from, to) = (end(self.base)?, end(self.source)?);
        let apart = distance(&from, &to);
        ensure!(
            apart > 0.0,
            "{} and {}: the same final latents\nhint: name two runs that differ, for instance in their prompts",
            self.base.folder().display(),
            self.source.folder().display()
        );
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

/// The taps that a selector names and that a tensor passes in the run. The record must have each without reductions.
fn named(text: &str, model: &Model, run: &Phased, source: &Trace) -> Result<Vec<String>> {
    let selector = Selector::parse(text)?;
    let mut sites: Vec<String> =
        model.taps.iter().filter(|tap| selector.names(tap)).map(|tap| tap.name().to_string()).collect();
    ensure!(!sites.is_empty(), selector.fits_nothing(model.taps.iter().map(|tap| tap.name())));
    let passed = run.passed()?;
    sites.retain(|site| passed.contains(site));
    ensure!(!sites.is_empty(), "{text}: no tensor passes there in the run that is changed");
    let whole = |site: &str| source.of_tap(site).any(|entry| entry.kept.is_empty() && entry.stored.is_some());
    if let Some(site) = sites.iter().find(|site| !whole(site)) {
        anyhow::bail!(
            "{}: {site} was not kept without reductions\nhint: record it with --capture \"{text}\"",
            source.folder().display()
        );
    }
    Ok(sites)
}

/// Divides the steps `first..last` into blocks of nearly equal size. Returns the first step of each, and the step after
/// its last.
fn split(first: usize, last: usize, count: usize) -> Vec<(usize, usize)> {
    let steps = last.saturating_sub(first).max(1);
    let count = count.min(steps).max(1);
    (0..count).map(|block| (first + block * steps / count, first + (block + 1) * steps / count)).collect()
}

/// The root mean square difference, in f64.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_every_step_once() {
        assert_eq!(split(0, 50, 5), [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50)]);
        assert_eq!(split(0, 3, 2), [(0, 1), (1, 3)]);
        assert_eq!(split(0, 2, 9), [(0, 1), (1, 2)]);
        assert_eq!(split(30, 50, 2), [(30, 40), (40, 50)]);
    }
}
