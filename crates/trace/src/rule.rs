//! What to keep of a run: `selector | reduction | ..`.

use crate::error::Result;
use crate::reduction::{self, Reduced, Reduction, Storage};
use crate::{Selector, Words};
use latentrace_nn::tch::Tensor;
use latentrace_nn::{Branch, Tap};
use std::sync::Arc;

/// Which tensors to keep, and what of them.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which, and when.
    pub selector: Selector,
    /// What of them, in order.
    pub reductions: Vec<Reduction>,
    /// How it is stored.
    pub storage: Storage,
    /// The reductions as written, without those that change nothing.
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
        Ok(Rule { selector, reductions, storage, suffix: written.join(" | ").into() })
    }

    /// What is kept of every run: all values of the sampler whole, from which every step can be computed again.
    pub(crate) fn flight_recorder() -> Rule {
        Rule {
            selector: Selector::of_sampler(),
            reductions: Vec::new(),
            storage: Storage::Full,
            suffix: Arc::default(),
        }
    }

    /// Checks that the rule selects something of `taps`, and that its reductions fit what it selects, as far as the roles
    /// of taps say. [`Course::capture`](crate::Course::capture) knows more.
    ///
    /// # Errors
    /// It selects nothing, or a reduction does not fit.
    pub fn check<'a>(&self, taps: impl Iterator<Item = &'a Tap> + Clone, words: &Words) -> Result<()> {
        let mut selected = taps.clone().filter(|tap| self.selector.names(tap)).peekable();
        if selected.peek().is_none() {
            return Err(self.selector.fits_nothing(taps.map(Tap::name)));
        }
        words.check(self.words(), &self.text())?;
        for tap in selected {
            for reduction in &self.reductions {
                reduction.check(&self.text(), tap)?;
            }
        }
        Ok(())
    }

    /// The rule as written, without what changes nothing.
    pub fn text(&self) -> String {
        match self.suffix.is_empty() {
            true => self.selector.text().into(),
            false => format!("{} | {}", self.selector.text(), self.suffix),
        }
    }

    /// The words that it names.
    pub(crate) fn words(&self) -> &[String] {
        let words = self.reductions.iter().find_map(|reduction| match reduction {
            Reduction::Tokens(words) => Some(words.as_slice()),
            _ => None,
        });
        words.unwrap_or_default()
    }

    /// Checks that its reductions fit a row of a shape that passes a tap, where the module works on a grid of pixels.
    pub(crate) fn check_shape(&self, tap: &Tap, shape: &[i64], grid: Option<[i64; 2]>) -> Result<()> {
        self.reductions.iter().try_for_each(|reduction| reduction.check_shape(&self.text(), tap, shape, grid))
    }

    /// What is left of a row, `[1, ..]`, that passes a tap at a moment.
    pub(crate) fn reduce(
        &self,
        tap: &Tap,
        branch: Option<Branch>,
        tensor: Tensor,
        grid: Option<[i64; 2]>,
        words: &Words,
    ) -> Option<Reduced> {
        let whole = Reduced::whole(tap, tensor, grid);
        self.reductions.iter().try_fold(whole, |from, reduction| reduction.apply(tap, branch, from, words))
    }
}
