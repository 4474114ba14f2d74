//! What to keep of a run: capture rules, `selector | reduction | ..`.

use crate::error::{Error, Result};
use crate::reduction::{self, Reduced, Reduction, Storage};
use crate::{Selector, Words};
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Branch, Tap};
use std::str::FromStr;
use std::sync::Arc;

/// A capture rule, `selector | reduction | ..`: which tensors to keep, and what of them. It is parsed once, with
/// [`FromStr`]; [`Display`](std::fmt::Display) and serde write it exactly as it was given.
#[derive(Clone, Debug)]
pub struct Rule {
    text: String,
    pub(crate) selector: Selector,
    pub(crate) reductions: Vec<Reduction>,
    pub(crate) storage: Storage,
    /// The reductions as written, without `full`, which changes nothing.
    pub(crate) suffix: Arc<str>,
}

impl Rule {
    /// Reads a rule such as `unet.**.attn2.probs @branch{cond} | head_mean | tokens(red)`.
    ///
    /// # Errors
    /// The selector or a reduction cannot be read.
    pub fn parse(text: &str) -> Result<Rule> {
        let mut parts = text.split('|');
        let selector = Selector::parse(parts.next().unwrap_or_default())?;
        let parts: Vec<&str> = parts.map(str::trim).collect();
        let (reductions, storage) = reduction::parse(text, &parts)?;
        let written: Vec<&str> = parts.into_iter().filter(|part| *part != "full").collect();
        Ok(Rule { text: text.into(), selector, reductions, storage, suffix: written.join(" | ").into() })
    }

    /// What is kept of every run: all values of the sampler, from which every step can be computed again.
    pub(crate) fn flight_recorder() -> Rule {
        let selector = Selector::of_sampler();
        Rule {
            text: selector.text().into(),
            selector,
            reductions: Vec::new(),
            storage: Storage::Full,
            suffix: Arc::default(),
        }
    }

    /// Which tensors, and when.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// What is kept of a tensor, in the order in which it is applied.
    pub fn reductions(&self) -> &[Reduction] {
        &self.reductions
    }

    /// How the numbers are stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Checks that the rule selects one of `taps` at least, and that its reductions fit what it selects, as far as the
    /// roles of the taps say. [`Course::capture`](crate::Course::capture) checks the shapes too.
    ///
    /// # Errors
    /// It selects no tap, or a reduction does not fit.
    pub fn check<'a>(&self, taps: impl Iterator<Item = &'a Tap> + Clone, words: &Words) -> Result<()> {
        let mut selected = taps.clone().filter(|tap| self.selector.names(tap)).peekable();
        if selected.peek().is_none() {
            return Err(self.selector.fits_nothing(taps.map(Tap::name)));
        }
        words.check(self.words(), self.text())?;
        for tap in selected {
            for reduction in &self.reductions {
                reduction.check(self.text(), tap)?;
            }
        }
        Ok(())
    }

    /// The rule as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The words of the prompt that it names.
    pub(crate) fn words(&self) -> &[String] {
        let words = self.reductions.iter().find_map(|reduction| match reduction {
            Reduction::Tokens(words) => Some(words.as_slice()),
            _ => None,
        });
        words.unwrap_or_default()
    }

    /// Checks that its reductions fit a tensor of a shape at a tap, where the module works on a grid of pixels.
    pub(crate) fn check_shape(&self, tap: &Tap, shape: &[i64], grid: Option<[i64; 2]>) -> Result<()> {
        self.reductions.iter().try_for_each(|reduction| reduction.check_shape(self.text(), tap, shape, grid))
    }

    /// Applies the reductions to a row, `[1, ..]`, that passes a tap.
    pub(crate) fn reduce(
        &self,
        tap: &Tap,
        branch: Option<Branch>,
        tensor: Tensor,
        grid: Option<[i64; 2]>,
        words: &Words,
    ) -> Option<Reduced> {
        reduction::apply(&self.reductions, tap, branch, Reduced::whole(tap, tensor, grid), words)
    }

    /// Its first reductions, as far as they are of each query of an attention alone; and the others.
    pub(crate) fn parts(&self) -> (&[Reduction], &[Reduction]) {
        let other = |reduction: &Reduction| !reduction.is_of_queries();
        let first = self.reductions.iter().position(other).unwrap_or(self.reductions.len());
        self.reductions.split_at(first)
    }

    /// Whether it keeps less than all numbers of a tensor.
    pub(crate) fn reduces(&self) -> bool {
        !self.reductions.is_empty() || self.storage == Storage::Stats
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rule> {
        Rule::parse(text)
    }
}

as_text!(Rule);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_written_and_read_exactly_as_it_was_given() {
        for text in [" unet.** @step[0:4]|head_mean |  tokens( red )| q8", "a.out | full", "a.out"] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!((rule.to_string().as_str(), rule.text()), (text, text));
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(json, serde_json::to_string(text).unwrap());
            let again: Rule = serde_json::from_str(&json).unwrap();
            assert_eq!((again.reductions(), again.storage()), (rule.reductions(), rule.storage()));
            assert_eq!((again.selector(), &again), (rule.selector(), &rule));
        }
        let error = serde_json::from_str::<Rule>("\"a | half\"").unwrap_err().to_string();
        assert!(error.contains("a | half: half is no reduction\nhint: reductions are full"), "{error}");
        assert_eq!(&*Rule::parse("a | full | q8").unwrap().suffix, "q8", "what changes nothing names no tensor");
    }
}
