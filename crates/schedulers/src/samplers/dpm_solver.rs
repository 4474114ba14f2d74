//! DPM-Solver: exponential integrators in the log signal-to-noise ratio (arXiv 2206.00927, 2211.01095), deterministic and
//! stochastic. What a step weighs; the steps are in `dpm_multistep` and `dpm_singlestep`.

use crate::tape::{Call, Tape};
use crate::{Form, Level, Reading, Val};

/// What is integrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Solver {
    /// What the network's outputs are turned into.
    pub(crate) of: Of,
    /// Whether fresh noise is drawn, as the reverse-time SDE has it.
    pub(crate) is_stochastic: bool,
    /// Whether the second order takes the polynomial's own weights ("heun") or half the first weight ("midpoint").
    pub(crate) is_heun: bool,
}

/// What an exponential integrator takes for slowly changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The noise: DPM-Solver (arXiv 2206.00927, eq. 3.7).
    Noise,
    /// The clean sample: DPM-Solver++ (arXiv 2211.01095, eq. 9).
    Data,
}

impl Of {
    /// What of a call is integrated.
    pub(crate) fn value(self, call: &Call) -> Form {
        match self {
            Of::Data => call.denoised.into(),
            Of::Noise => call.slope(),
        }
    }
}

/// The weights of a step: `x' = carry·x + zeroth·D₀ + first·D₁ + second·D₂ + noise·z`, where `D₁` and `D₂` are the first
/// two terms of the polynomial in the step's share.
pub(super) struct Weights {
    carry: f64,
    zeroth: f64,
    first: f64,
    second: f64,
    noise: f64,
}

impl Solver {
    /// The weights from `now` to `next`. A third order of diffusers is wrong in a sign where it draws noise, see
    /// [`Reading`].
    pub(super) fn weights(self, now: Level, next: Level, reading: Reading) -> Weights {
        let (from, to) = (now.sigma, next.sigma);
        let kept = to / from; // e^(−h)
        let h = -kept.ln();
        match (self.of, self.is_stochastic) {
            (Of::Data, false) => {
                let whole = 1.0 - kept;
                let heun = 1.0 - whole / h;
                Weights {
                    carry: kept,
                    zeroth: whole,
                    first: self.pick(heun, whole / 2.0),
                    second: 0.5 - heun / h,
                    noise: 0.0,
                }
            }
            (Of::Data, true) => {
                let whole = 1.0 - kept.powi(2);
                let heun = 1.0 - whole / (2.0 * h);
                let half = if reading == Reading::Diffusers { -0.5 } else { 0.5 };
                Weights {
                    carry: kept.powi(2),
                    zeroth: whole,
                    first: self.pick(heun, whole / 2.0),
                    second: half - heun / (2.0 * h),
                    noise: to * whole.sqrt(),
                }
            }
            // e^h is taken together with the sigma before it: sigma'·(e^h − 1) = sigma − sigma'.
            (Of::Noise, false) => {
                let whole = to - from;
                let heun = whole / h + to;
                let second = heun / h + to / 2.0;
                Weights { carry: 1.0, zeroth: whole, first: self.pick(heun, whole / 2.0), second, noise: 0.0 }
            }
            (Of::Noise, true) => {
                let whole = 2.0 * (to - from);
                let heun = whole / h + 2.0 * to;
                let second = heun / h + to;
                let noise = (from.powi(2) - to.powi(2)).sqrt();
                Weights { carry: 1.0, zeroth: whole, first: self.pick(heun, whole / 2.0), second, noise }
            }
        }
    }

    fn pick(self, heun: f64, midpoint: f64) -> f64 {
        if self.is_heun { heun } else { midpoint }
    }

    /// The sum of a step's terms, and its fresh noise; diffusers draws where its weight is none, too.
    pub(super) fn step(self, tape: &mut Tape, x: Val, weights: &Weights, terms: [Form; 3], reading: Reading) -> Form {
        let [zeroth, first, second] = terms;
        let sum = x * weights.carry + zeroth * weights.zeroth + first * weights.first + second * weights.second;
        let draws = self.is_stochastic && (weights.noise > 0.0 || reading == Reading::Diffusers);
        if draws { sum + tape.noise() * weights.noise } else { sum }
    }
}
