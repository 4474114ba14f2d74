//! A request with everything that is computed before the networks run.

use crate::counts;
use crate::error::Result;
use crate::{Model, Request, Start};
use latentrace_schedulers::Plan;
use latentrace_text::Tokens;
use std::sync::Arc;

/// A request that has been checked, with its plan and its tokens: everything that is computed before the networks run.
#[derive(Clone)]
pub struct Prepared {
    /// The request.
    pub request: Request,
    /// The start.
    pub start: Start,
    /// The plan from the start to the final latents.
    pub plan: Arc<Plan>,
    /// The tokens of the prompt and of the negative prompt, with the text that does not fit.
    pub tokens: [Tokens; 2],
}

impl Prepared {
    /// The number of steps of the run. A run from a picture makes fewer than the request says.
    pub fn steps(&self) -> usize {
        steps(&self.plan)
    }
}

/// The number of steps of a plan.
pub fn steps(plan: &Plan) -> usize {
    plan.steps().last().map_or(0, |last| last.index + 1)
}

impl Model {
    /// Checks, plans and tokenizes a request. This is done once; running, recording and counting the cost of a request
    /// all use the result.
    ///
    /// # Errors
    /// A size, guidance, strength or number of steps is not possible.
    pub fn prepare(&self, request: Request, start: Start) -> Result<Prepared> {
        let plan = Arc::new(self.check_start(&request, &start)?);
        let tokens = [self.tokens(&request.prompt)?, self.tokens(&request.negative)?];
        Ok(Prepared { request, start, plan, tokens })
    }

    /// The tokens of a text.
    pub(crate) fn tokens(&self, text: &str) -> Result<Tokens> {
        counts::add(|counts| &mut counts.texts);
        Ok(self.tokenizer.encode(text)?)
    }
}
