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
    /// The tokens of the prompt and of the negative prompt for each text encoder, with the text that does not fit. Both have
    /// the same number of chunks.
    pub tokens: [Vec<Tokens>; 2],
    /// The number of tokens of a chunk, for the first text encoder.
    pub length: usize,
    /// What the UNet takes.
    pub input: UnetInput,
}

impl Prepared {
    /// The number of steps of the run. A run from a picture makes fewer than the request says.
    pub fn steps(&self) -> usize {
        steps(&self.plan)
    }

    /// The tokens of the prompt and of the negative prompt for the first text encoder. Records have these only.
    pub fn first_tokens(&self) -> [&Tokens; 2] {
        first(&self.tokens)
    }
}

/// The tokens of two texts for the first text encoder.
pub(crate) fn first(tokens: &[Vec<Tokens>; 2]) -> [&Tokens; 2] {
    tokens.each_ref().map(|tokens| &tokens[0])
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
        let (length, input) = (self.tokenizer().length(), self.checkpoint.input());
        if request.features.is_some() {
            let none = vec![Tokens::default(); self.texts.len()];
            return Ok(Prepared { request, start, plan, tokens: [none.clone(), none], length, input });
        }
        let mut tokens = [self.tokens(&request.prompt, request.text)?, self.tokens(&request.negative, request.text)?];
        self.level(&mut tokens);
        Ok(Prepared { request, start, plan, tokens, length, input })
    }

    /// The tokens of a text for each text encoder.
    pub(crate) fn tokens(&self, text: &str, options: TextOptions) -> Result<Vec<Tokens>> {
        counts::add(|counts| &mut counts.texts);
        self.texts.iter().map(|of| Ok(of.tokenizer.encode_as(text, options.form())?)).collect()
    }

    /// Adds chunks without text to the shorter of two texts, for each text encoder.
    fn level(&self, [prompt, negative]: &mut [Vec<Tokens>; 2]) {
        for (text, (prompt, negative)) in self.texts.iter().zip(prompt.iter_mut().zip(negative)) {
            let mut both = [&mut *prompt, &mut *negative].map(std::mem::take);
            text.tokenizer.level(&mut both);
            [*prompt, *negative] = both;
        }
    }
}
