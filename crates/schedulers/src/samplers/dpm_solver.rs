//! DPM-Solver: exponential integrators in the log signal-to-noise ratio (arXiv 2206.00927, 2211.01095), deterministic and
//! stochastic: the weights of a step. The steps are in `dpm_multistep` and `dpm_singlestep`.

use super::ancestral::Fresh;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Val};

/// A DPM-Solver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Solver {
    /// What the polynomial goes through.
    pub(crate) of: Of,
    /// How much fresh noise is drawn, as a share of the reverse-time SDE's.
    pub(crate) fresh: Fresh,
    /// Whether the second order takes the polynomial's own weights ("heun") or half the first weight ("midpoint").
    pub(crate) is_heun: bool,
    pub(crate) third: ThirdOrder,
}

/// The weights of the third order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThirdOrder {
    /// Those of the polynomial.
    Polynomial,
    /// As diffusers has them: the second derivative counts half in the multistep solver, and has a wrong sign in a step of
    /// [`Of::Data`] that draws noise.
    OfDiffusers,
}

/// What the polynomial of an exponential integrator goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// The noise: DPM-Solver (arXiv 2206.00927, eq. 3.7).
    Noise,
    /// The clean sample: DPM-Solver++ (arXiv 2211.01095, eq. 9).
    Data,
}

impl Of {
    /// The value of a call that the polynomial goes through.
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
    /// Whether fresh noise is drawn.
    pub(crate) fn is_stochastic(self) -> bool {
        self.fresh.share > 0.0
    }

    /// The weights from `now` to `next`. With the share `eta` of the SDE's noise a sample decays `1 + eta` times as fast:
    /// `dx = (1 + eta)·(x − D)/sigma dsigma + √(2·eta·sigma) dw`.
    pub(super) fn weights(self, now: Level, next: Level) -> Weights {
        let (from, to) = (now.sigma, next.sigma);
        let (eta, rate) = (self.fresh.share, 1.0 + self.fresh.share);
        let kept = to / from; // e^(−h)
        let h = -kept.ln();
        let (carry, zeroth, heun, second, noise) = match self.of {
            Of::Data => {
                let carry = kept.powf(rate);
                let whole = 1.0 - carry;
                let heun = 1.0 - whole / (rate * h);
                let is_wrong = self.is_stochastic() && self.third == ThirdOrder::OfDiffusers;
                let half = if is_wrong { -0.5 } else { 0.5 };
                (carry, whole, heun, half - heun / (rate * h), to * (1.0 - kept.powf(2.0 * eta)).sqrt())
            }
            // e^h is taken together with the sigma before it: sigma'·(e^h − 1) = sigma − sigma'.
            Of::Noise => {
                let whole = rate * (to - from);
                let heun = whole / h + rate * to;
                (1.0, whole, heun, heun / h + rate * to / 2.0, (eta * (from.powi(2) - to.powi(2))).sqrt())
            }
        };
        let first = self.pick(heun, zeroth / 2.0);
        Weights { carry, zeroth, first, second, noise: noise * self.fresh.deviation }
    }

    fn pick(self, heun: f64, midpoint: f64) -> f64 {
        if self.is_heun { heun } else { midpoint }
    }

    /// The sum of a step's terms and its fresh noise.
    pub(super) fn step(self, tape: &mut Tape, x: Val, weights: &Weights, terms: [Form; 3]) -> Form {
        let [zeroth, first, second] = terms;
        let sum = x * weights.carry + zeroth * weights.zeroth + first * weights.first + second * weights.second;
        if self.fresh.is_drawn(weights.noise) { sum + tape.noise() * weights.noise } else { sum }
    }
}
