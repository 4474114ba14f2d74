//! SA-Solver: Adams' methods for the reverse-time SDE, with any share of its noise (arXiv 2309.05019).

use super::Path;
use super::ancestral::Draws;
use super::dpm_solver::Of;
use crate::integrals::lagrange_integrals;
use crate::tape::{Call, Tape};
use crate::{Form, Level, Val};

/// The solver's options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SaSolver {
    /// What the polynomials go through: the clean sample or the noise.
    pub(crate) of: Of,
    /// How many outputs the predictor uses.
    pub(crate) predictor: usize,
    /// How many the corrector uses, including the new one.
    pub(crate) corrector: usize,
    /// Whether both orders fall towards the end.
    pub(crate) falls: bool,
    /// The share of the SDE's noise; `None` for the authors' choice.
    pub(crate) tau: Option<f64>,
    pub(crate) draws: Draws,
}

/// A predicted step: where it started, its noise, and how many outputs will correct it.
struct Predicted {
    base: Form,
    from: Level,
    noise: Option<Val>,
    corrector: usize,
}

/// Takes the steps of `path` from `x` (arXiv 2309.05019, algorithm 1).
pub(crate) fn sa_solver(tape: &mut Tape, mut x: Val, path: Path, solver: SaSolver) -> Val {
    let Path { levels, begin, .. } = path;
    let steps = levels.len() - 1;
    let most = solver.predictor.max(solver.corrector - 1);
    // Only the first order can step to sigma 0, where lambda is infinite.
    let falls = solver.falls || levels[steps].sigma == 0.0;
    let mut past: Vec<Call> = Vec::new();
    let mut last: Option<Predicted> = None;
    for index in begin..steps {
        tape.begin_step();
        let (now, next) = (levels[index], levels[index + 1]);
        let call = tape.call(x, now);
        past.insert(0, call);
        let base = match &last {
            Some(last) => {
                let corrected = solver.step(&last.base, last.from, now, &past[..last.corrector], true);
                tape.sum(solver.with_noise(corrected, last.from, now, last.noise))
            }
            None => x,
        };
        past.truncate(most);
        let is_drawn = solver.draws == Draws::Always || solver.deviation(now, next) > 0.0;
        let noise = is_drawn.then(|| tape.noise());
        let left = if falls { steps - index } else { most };
        let order = solver.predictor.min(left).min(past.len());
        let predicted = solver.step(&base.into(), now, next, &past[..order], false);
        let corrector = solver.corrector.min(left + 1).min(past.len() + 1);
        last = Some(Predicted { base: base.into(), from: now, noise, corrector });
        x = tape.step(call, solver.with_noise(predicted, now, next, noise));
    }
    x
}

impl SaSolver {
    /// The share of the SDE's noise at a time. The authors' choice is 1 from time 200 to 800, and 0 elsewhere.
    fn tau(self, t: f64) -> f64 {
        self.tau.unwrap_or(f64::from(u8::from((200.0..=800.0).contains(&t))))
    }

    /// The mean of a step (arXiv 2309.05019, eq. 14 and 17): the polynomial through the outputs of `calls`, newest first,
    /// integrated exactly. With `sees_end` the newest call is at the end of the step.
    fn step(self, x: &Form, from: Level, to: Level, calls: &[Call], sees_end: bool) -> Form {
        let rate = 1.0 + self.tau(from.t).powi(2);
        let kept = to.sigma / from.sigma; // e^(−h)
        let h = -kept.ln();
        let values = calls.iter().map(|call| self.of.value(call));
        let (carry, weights) = match self.of {
            Of::Data => (kept.powf(rate), self.data_weights(from, to, calls, rate, sees_end)),
            Of::Noise => {
                let nodes: Vec<f64> = calls.iter().map(|call| call.level.lambda() - from.lambda()).collect();
                let weights = lagrange_integrals(&nodes, 1.0, h);
                (1.0, weights.into_iter().map(|weight| -rate * from.sigma * weight).collect())
            }
        };
        values.zip(weights).fold(x.clone() * carry, |sum, (value, weight): (Form, f64)| sum + value * weight)
    }

    fn data_weights(self, from: Level, to: Level, calls: &[Call], rate: f64, sees_end: bool) -> Vec<f64> {
        let h = to.lambda() - from.lambda();
        if calls.len() == 1 {
            return vec![1.0 - (-rate * h).exp()];
        }
        let nodes: Vec<f64> = calls.iter().map(|call| to.lambda() - call.level.lambda()).collect();
        let mut weights: Vec<f64> =
            lagrange_integrals(&nodes, rate, h).into_iter().map(|weight| rate * weight).collect();
        if calls.len() == 2 {
            // The authors replace the integral of the first power by half a square, which is equal to third order.
            let exact = (rate * h - 1.0 + (-rate * h).exp()) / rate.powi(2);
            let distance = if sees_end { h } else { from.lambda() - calls[1].level.lambda() };
            let trade = rate * (h.powi(2) / 2.0 - exact) / distance;
            weights[0] += trade;
            weights[1] -= trade;
        }
        weights
    }

    /// The deviation of a step's noise.
    fn deviation(self, from: Level, to: Level) -> f64 {
        let tau = self.tau(from.t);
        match self.of {
            Of::Data => to.sigma * (1.0 - (to.sigma / from.sigma).powf(2.0 * tau.powi(2))).sqrt(),
            Of::Noise => tau * (from.sigma.powi(2) - to.sigma.powi(2)).sqrt(),
        }
    }

    fn with_noise(self, mean: Form, from: Level, to: Level, noise: Option<Val>) -> Form {
        noise.map_or(mean.clone(), |noise| mean + noise * self.deviation(from, to))
    }
}
