//! Records the plan of a sampler while it runs.

use crate::plan::{Limit, Noised, Op, Plan, Step};
use crate::{Error, Form, Level, Prediction, Val};

/// The program so far.
pub(crate) struct Tape {
    ops: Vec<Op>,
    steps: Vec<Step>,
    pub(crate) prediction: Prediction,
    limit: Option<Limit>,
    /// How many of the sampler's steps have begun, and how many calls the current one has made.
    begun: usize,
    calls: usize,
}

/// A network call whose step is not complete yet.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    index: usize,
    evaluation: usize,
    pub(crate) level: Level,
    pub(crate) sample: Val,
    pub(crate) output: Val,
    pub(crate) denoised: Val,
    prediction: Prediction,
    known: Noised,
}

impl Call {
    /// The noise in the sample, which is the slope of the probability-flow ODE in sigma (arXiv
    /// 2206.00364, eq. 1 and 3).
    pub(crate) fn slope(&self) -> Form {
        (self.sample - self.denoised) * (1.0 / self.level.sigma)
    }

    /// The noise that the network finds in the sample, even if the estimate was clipped.
    pub(crate) fn noise(&self) -> Form {
        let (a, b) = self.prediction.epsilon(self.level.sigma);
        self.sample * a + self.output * b
    }

    /// The sample moved to `sigma` along the straight line to `clean`.
    pub(crate) fn towards(&self, clean: impl Into<Form>, sigma: f64) -> Form {
        let kept = sigma / self.level.sigma;
        self.sample * kept + clean.into() * (1.0 - kept)
    }
}

impl Tape {
    pub(crate) fn new(prediction: Prediction, limit: Option<Limit>) -> Tape {
        Tape { ops: Vec::new(), steps: Vec::new(), prediction, limit, begun: 0, calls: 0 }
    }

    /// Begins a step of the sampler: the calls that follow belong to it.
    pub(crate) fn begin_step(&mut self) {
        (self.begun, self.calls) = (self.begun + 1, 0);
    }

    pub(crate) fn given(&mut self) -> Val {
        self.push(Op::Given)
    }

    pub(crate) fn noise(&mut self) -> Val {
        self.push(Op::Noise)
    }

    pub(crate) fn sum(&mut self, form: impl Into<Form>) -> Val {
        self.push(Op::Sum(form.into()))
    }

    /// Calls the network on `sample`.
    pub(crate) fn call(&mut self, sample: Val, level: Level) -> Call {
        self.call_with(sample, level, Noised::to(level.sigma))
    }

    /// Calls the network on `sample`, of which a mask keeps `known`.
    pub(crate) fn call_with(&mut self, sample: Val, level: Level, known: Noised) -> Call {
        let output = self.push(Op::Eval { input: sample * level.input_scale(), t: level.t });
        let (p, q) = self.prediction.denoising(level.sigma);
        let estimate = self.sum(sample * p + output * q);
        let denoised = self.limit.map_or(estimate, |limit| self.push(Op::Clip { of: estimate, limit }));
        self.calls += 1;
        let (index, evaluation, prediction) = (self.begun.saturating_sub(1), self.calls - 1, self.prediction);
        Call { index, evaluation, level, sample, output, denoised, prediction, known }
    }

    /// Completes the step of a call with the sample of the next call.
    pub(crate) fn step(&mut self, call: Call, next: Form) -> Val {
        let Call { index, evaluation, level, sample, output, denoised, known, .. } = call;
        let next = self.sum(next);
        self.steps.push(Step { index, evaluation, level, sample, output, denoised, next, known });
        next
    }

    /// Ends the plan with `x`, a sample of a level, scaled to unit variance.
    pub(crate) fn finish(mut self, x: Val, at: Level) -> Result<Plan, Error> {
        let result = self.sum(x * at.input_scale());
        let plan = Plan { ops: self.ops, steps: self.steps, result };
        if plan.steps.iter().any(|step| step.level.sigma == Level::PURE_NOISE) && self.prediction == Prediction::Epsilon
        {
            return Err(Error::PureNoise);
        }
        let broken = plan.ops.iter().position(|op| match op {
            Op::Eval { input: form, .. } | Op::Sum(form) => !form.is_finite(),
            _ => false,
        });
        match broken {
            Some(index) => {
                let done = plan.steps.iter().filter(|step| (step.next.0 as usize) < index).count();
                Err(Error::NotFinite { step: done, steps: plan.steps.len() })
            }
            None => Ok(plan),
        }
    }

    fn push(&mut self, op: Op) -> Val {
        self.ops.push(op);
        Val(self.ops.len() as u32 - 1)
    }
}
