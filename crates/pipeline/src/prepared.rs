//! A request with everything that is computed before the networks run.

use crate::counts;
use crate::error::Result;
use crate::{Model, Request, Start, TextOptions, UnetInput};
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
    /// The tokens of the prompt and of the negative prompt, with the text that does not fit. Both have the same number
    /// of chunks.
    pub tokens: [Tokens; 2],
    /// The number of tokens of a chunk.
    pub length: usize,
    /// What the UNet takes.
    pub input: UnetInput,
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
    /// A size, guidance, strength or number of steps is not possible, or a text cannot be read.
    pub fn prepare(&self, request: Request, start: Start) -> Result<Prepared> {
        let plan = Arc::new(self.check_start(&request, &start)?);
        let (length, input) = (self.tokenizer.length(), self.checkpoint.input());
        if request.features.is_some() {
            let tokens = [Tokens::default(), Tokens::default()];
            return Ok(Prepared { request, start, plan, tokens, length, input });
        }
        let mut tokens = [self.tokens(&request.prompt, request.text)?, self.tokens(&request.negative, request.text)?];
        self.tokenizer.level(&mut tokens);
        Ok(Prepared { request, start, plan, tokens, length, input })
    }

    /// The tokens of a text.
    pub(crate) fn tokens(&self, text: &str, options: TextOptions) -> Result<Tokens> {
        counts::add(|counts| &mut counts.texts);
        Ok(self.tokenizer.encode_as(text, options.form())?)
    }
}
