//! DPM-Solver: exponential integrators in the log signal-to-noise ratio (arXiv 2206.00927, 2211.01095), deterministic and
//! stochastic. What a step weighs; the steps are in `dpm_multistep` and `dpm_singlestep`.

use super::ancestral::Fresh;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Reading, Val};

/// What is integrated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Solver {
    /// What the network's outputs are turned into.
    pub(crate) of: Of,
    /// How much fresh noise is drawn, as a share of the reverse-time SDE's.
    pub(crate) fresh: Fresh,
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
    /// Whether fresh noise is drawn.
    pub(crate) fn is_stochastic(self) -> bool {
        self.fresh.share > 0.0
    }

    /// The weights from `now` to `next`. With the share `eta` of the SDE's noise a sample decays `1 + eta` times as fast:
    /// `dx = (1 + eta)·(x − D)/sigma dsigma + √(2·eta·sigma) dw`. A third order of diffusers is wrong in a sign where it
    /// draws noise, see [`Reading`].
    pub(super) fn weights(self, now: Level, next: Level, reading: Reading) -> Weights {
        let (from, to) = (now.sigma, next.sigma);
        let (eta, rate) = (self.fresh.share, 1.0 + self.fresh.share);
        let kept = to / from; // e^(−h)
        let h = -kept.ln();
        let (carry, zeroth, heun, second, noise) = match self.of {
            Of::Data => {
                let carry = kept.powf(rate);
                let whole = 1.0 - carry;
                let heun = 1.0 - whole / (rate * h);
                let half = if self.is_stochastic() && reading == Reading::Diffusers { -0.5 } else { 0.5 };
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

    /// The sum of a step's terms, and its fresh noise; diffusers draws where its weight is none, too.
    pub(super) fn step(self, tape: &mut Tape, x: Val, weights: &Weights, terms: [Form; 3], reading: Reading) -> Form {
        let [zeroth, first, second] = terms;
        let sum = x * weights.carry + zeroth * weights.zeroth + first * weights.first + second * weights.second;
        let draws = self.is_stochastic() && (weights.noise > 0.0 || reading == Reading::Diffusers);
        if draws { sum + tape.noise() * weights.noise } else { sum }
    }
}
