//! A request with everything that is computed before the networks run.

use crate::counts;
use crate::error::Result;
use crate::{Model, Negative, Request, Start, TextOptions, UnetInput};
use latentrace_nn::Branch;
use latentrace_schedulers::Plan;
use latentrace_text::{Encoding, Tokens};
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
    /// What each text encoder is to return of the prompt, and of the negative prompt.
    pub(crate) encodings: [Vec<Encoding>; 2],
    /// What stands for the negative prompt.
    pub negative: Negative,
    /// The sizes, crops and scores that the UNet takes with the prompt and with the negative prompt, if it takes any.
    pub ids: Option<[Vec<f64>; 2]>,
}

impl Prepared {
    /// The number of steps of the run. A run from a picture makes fewer than the request says.
    pub fn steps(&self) -> usize {
        steps(&self.plan)
    }

    /// The tokens of the prompt and of the negative prompt for the first text encoder.
    pub fn first_tokens(&self) -> [&Tokens; 2] {
        first(&self.tokens)
    }

    /// The sizes, crops and scores that the UNet takes with the text of a branch, if it takes any.
    pub fn ids_of(&self, branch: Branch) -> Option<&[f64]> {
        let [prompt, negative] = self.ids.as_ref()?;
        Some(match branch {
            Branch::Conditional => prompt,
            Branch::Unconditional => negative,
        })
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
        let none = vec![Tokens::default(); self.texts.len()];
        let tokens = match request.features {
            Some(_) => [none.clone(), none],
            None => self.both_tokens(&request)?,
        };
        Ok(Prepared {
            length: self.tokenizer().length(),
            input: self.checkpoint.input(),
            encodings: self.encodings(&request),
            negative: self.negative(&request),
            ids: self.ids(&request.micro, request.size, &start, request.reading)?,
            request,
            start,
            plan,
            tokens,
        })
    }

    /// The tokens of the prompt and of the negative prompt for each text encoder, all of one number of chunks.
    fn both_tokens(&self, request: &Request) -> Result<[Vec<Tokens>; 2]> {
        let mut both = [Vec::new(), Vec::new()];
        for (index, of) in self.texts.iter().enumerate() {
            let texts = self.texts_for(request, index);
            for (tokens, text) in both.iter_mut().zip(texts) {
                tokens.push(of.tokenizer.encode_as(text, request.text.form())?);
            }
        }
        both.iter().for_each(|_| counts::add(|counts| &mut counts.texts));
        self.level(&mut both);
        Ok(both)
    }

    /// The tokens of a text for each text encoder, all of one number of chunks.
    pub(crate) fn tokens(&self, text: &str, options: TextOptions) -> Result<Vec<Tokens>> {
        counts::add(|counts| &mut counts.texts);
        let tokens = self.texts.iter().map(|of| Ok(of.tokenizer.encode_as(text, options.form())?));
        let mut one = [tokens.collect::<Result<Vec<_>>>()?];
        self.level(&mut one);
        let [tokens] = one;
        Ok(tokens)
    }

    /// Adds chunks without text to the shorter of texts. Two tokenizers may need different numbers of chunks for one text.
    fn level(&self, texts: &mut [Vec<Tokens>]) {
        let longest = texts.iter().flatten().map(|tokens| tokens.ids.len()).max().unwrap_or(0);
        for tokens in texts {
            self.texts.iter().zip(tokens).for_each(|(text, tokens)| text.tokenizer.fill(tokens, longest));
        }
    }
}
