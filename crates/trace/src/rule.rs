//! What to keep of a run: `selector | reduction | ..`.

use crate::error::Result;
use crate::reduction::{self, Reduction, Storage};
use crate::{Scene, Selector};
use latentrace_nn::Tap;
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

    /// Holds that the rule selects something of `taps`, and that its reductions fit what it selects.
    ///
    /// # Errors
    /// It selects nothing, or a reduction does not fit.
    pub fn check<'a>(&self, taps: impl Iterator<Item = &'a Tap> + Clone, scene: &Scene) -> Result<()> {
        let mut selected = taps.clone().filter(|tap| self.selector.names(tap)).peekable();
        if selected.peek().is_none() {
            return Err(self.selector.fits_nothing(taps.map(Tap::name)));
        }
        for tap in selected {
            for reduction in &self.reductions {
                reduction.check(&format!("{} | {}", self.selector.text(), self.suffix), tap, scene)?;
            }
        }
        Ok(())
    }
}
