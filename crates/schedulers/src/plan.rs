//! A plan: a sampler unrolled to a straight-line program of network calls, noise draws and linear combinations.

use crate::{Form, Level, Val};
use ndarray::Array2;

/// A sampler unrolled over its noise levels; the n-th op computes [`Val`]`(n)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(crate) ops: Vec<Op>,
    pub(crate) steps: Vec<Step>,
    pub(crate) result: Val,
}

/// One instruction of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The image's latents, where the plan starts from an image.
    Given,
    /// A fresh standard normal draw.
    Noise,
    /// The network's output for `input` at time `t`.
    Eval {
        /// The input, at the unit variance that the network was trained on.
        input: Form,
        /// The time that the network gets.
        t: f64,
    },
    /// A linear combination of earlier values.
    Sum(Form),
    /// A clipped denoised estimate: the only op that is not linear.
    Clip {
        /// The estimate.
        of: Val,
        /// The limit.
        limit: Limit,
    },
}

/// The limit of a denoised estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Every element is clamped to `±range`.
    Clamp {
        /// The largest magnitude.
        range: f64,
    },
    /// Dynamic thresholding (arXiv 2205.11487, section 2.3), for each image by itself: `s` is the `ratio` quantile of the magnitudes
    /// (interpolated linearly between ranks), clamped to `1..=max`; every element is clamped to `±s` and divided by `s`.
    Dynamic {
        /// The quantile, in `0..=1`.
        ratio: f64,
        /// The largest `s`.
        max: f64,
    },
}

impl Limit {
    /// The estimate of one image, clipped.
    pub fn hold(self, estimate: &[f64]) -> Vec<f64> {
        match self {
            Limit::Clamp { range } => estimate.iter().map(|value| value.clamp(-range, range)).collect(),
            Limit::Dynamic { ratio, max } => {
                let mut sizes: Vec<f64> = estimate.iter().map(|value| value.abs()).collect();
                sizes.sort_by(f64::total_cmp);
                let rank = ratio * (sizes.len().max(1) - 1) as f64;
                let at = |rank: f64| sizes.get(rank as usize).copied().unwrap_or(0.0);
                let (low, high) = (at(rank.floor()), at(rank.ceil()));
                let most = (low + (high - low) * rank.fract()).clamp(1.0, max);
                estimate.iter().map(|value| value.clamp(-most, most) / most).collect()
            }
        }
    }
}

/// One network call and the values around it. Samples are in `x = x₀ + sigma·noise`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Which of the sampler's steps the call belongs to, counted from 0.
    pub index: usize,
    /// Which call of that step it is, counted from 0: a Runge-Kutta step of PNDM has four.
    pub evaluation: usize,
    /// The time that the network gets, and the real noise of the sample.
    pub level: Level,
    /// The sample.
    pub sample: Val,
    /// The network's output.
    pub output: Val,
    /// The clean estimate, after clipping. Most samplers use it; PNDM and IPNDM in diffusers use `output` instead, and the first
    /// step of that IPNDM uses neither.
    pub denoised: Val,
    /// The sample of the next call, or the last sample.
    pub next: Val,
    /// What a mask keeps of a known picture in the sample.
    pub known: Noised,
}

/// A known picture with noise, `picture·z + noise·n`, which replaces the part of a sample that a mask keeps.
///
/// It is the picture with the noise of the sample's level, [`Noised::to`]. diffusers' `add_noise` takes another level at two places.
/// At the middle of a step of DPM2 and DPM-Solver++ SDE it takes the level that the step goes to. PNDM takes the level of the call's
/// time, even if the sample was brought to another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noised {
    /// The coefficient of the picture's latents.
    pub picture: f64,
    /// The coefficient of the normal noise that the run started from.
    pub noise: f64,
}

impl Noised {
    /// A picture with noise up to a sigma.
    pub fn to(sigma: f64) -> Noised {
        Noised { picture: 1.0, noise: sigma }
    }

    /// A picture with the noise of a level, used as a sample of another: it stays the same at unit variance.
    pub(crate) fn used_as(noised: Level, sample: Level) -> Noised {
        match noised.input_scale() / sample.input_scale() {
            scale if noised.sigma != sample.sigma => Noised { picture: scale, noise: scale * noised.sigma },
            _ => Noised::to(sample.sigma),
        }
    }
}

impl Plan {
    /// The program.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The network calls in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The final latents, as they go to the image decoder.
    pub fn result(&self) -> Val {
        self.result
    }

    /// The number of network calls.
    pub fn calls(&self) -> usize {
        self.ops.iter().filter(|op| matches!(op, Op::Eval { .. })).count()
    }

    /// The number of noise draws, including the starting noise.
    pub fn draws(&self) -> usize {
        self.ops.iter().filter(|op| matches!(op, Op::Noise)).count()
    }

    /// Each network input in call order, then the result, in terms of the values that are not sums: the image, the draws, the outputs
    /// of the network and the clipped estimates.
    pub fn rows(&self) -> Vec<Form> {
        let inputs = self.ops.iter().filter_map(|op| match op {
            Op::Eval { input, .. } => Some(self.opened(input)),
            _ => None,
        });
        inputs.chain([self.row(self.result)]).collect()
    }

    /// The input of a network call in terms of the values that are not sums.
    pub fn input_row(&self, call: usize) -> Option<Form> {
        let mut inputs =
            self.ops.iter().filter_map(|op| if let Op::Eval { input, .. } = op { Some(input) } else { None });
        inputs.nth(call).map(|input| self.opened(input))
    }

    /// One value in terms of the values that are not sums.
    pub fn row(&self, of: Val) -> Form {
        self.opened(&of.into())
    }

    /// [`Plan::rows`] as a dense matrix, with a column for each op that is not a sum.
    pub fn matrix(&self) -> Array2<f64> {
        let is_sum = |op: &Op| matches!(op, Op::Sum(_));
        let columns: Vec<Val> =
            (0..).zip(&self.ops).filter(|(_, op)| !is_sum(op)).map(|(index, _)| Val(index)).collect();
        let rows = self.rows();
        Array2::from_shape_fn((rows.len(), columns.len()), |(row, column)| rows[row].coefficient(columns[column]))
    }

    /// For each op, the values that nothing needs after it. A value in [`Plan::steps`] is needed until the `next` of its step is
    /// computed; the result is always needed.
    pub fn last_uses(&self) -> Vec<Vec<Val>> {
        let mut last: Vec<usize> = (0..self.ops.len()).collect();
        for (index, op) in self.ops.iter().enumerate() {
            match op {
                Op::Given | Op::Noise => (),
                Op::Eval { input: form, .. } | Op::Sum(form) => {
                    form.terms().for_each(|(val, _)| last[val.0 as usize] = index)
                }
                Op::Clip { of, .. } => last[of.0 as usize] = index,
            }
        }
        for step in &self.steps {
            for val in [step.sample, step.output, step.denoised] {
                let use_of = &mut last[val.0 as usize];
                *use_of = step.next.0.max(*use_of as u32) as usize;
            }
        }
        let mut uses = vec![Vec::new(); self.ops.len()];
        for (val, index) in (0..).map(Val).zip(last).filter(|(val, _)| *val != self.result) {
            uses[index].push(val);
        }
        uses
    }

    /// A form with its sums expanded, by one pass from the last op to the first.
    fn opened(&self, form: &Form) -> Form {
        let mut weights = vec![0.0; self.ops.len()];
        let add = |weights: &mut Vec<f64>, form: &Form, scale: f64| {
            form.terms().for_each(|(val, coefficient)| weights[val.0 as usize] += scale * coefficient);
        };
        add(&mut weights, form, 1.0);
        for (index, op) in self.ops.iter().enumerate().rev() {
            if let Op::Sum(sum) = op {
                let weight = std::mem::take(&mut weights[index]);
                if weight != 0.0 {
                    add(&mut weights, sum, weight);
                }
            }
        }
        (0..).map(Val).zip(weights).filter(|(_, weight)| *weight != 0.0).collect()
    }
}
