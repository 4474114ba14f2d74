//! Euler, Euler-ancestral and DDIM: a step along the probability-flow ODE, then fresh noise.

use crate::precision::Precision;
use crate::tape::Tape;
use crate::{Level, Val};

/// How much fresh noise a step draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fresh {
    /// The share of what the reverse-time SDE, or DDPM's posterior, draws (`eta`).
    pub(crate) share: f64,
    /// The deviation of the noise (`s_noise`); 1 keeps the variance of the level.
    pub(crate) deviation: f64,
    pub(crate) draws: Draws,
}

/// Which steps draw noise. A draw moves every later one of the same seed, even if its weight is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draws {
    /// Those where it has a weight.
    Used,
    /// All.
    Always,
}

impl Fresh {
    /// No noise.
    pub(crate) const NONE: Fresh = Fresh { share: 0.0, deviation: 1.0, draws: Draws::Used };

    /// Whether a step draws noise that gets this weight.
    pub(crate) fn is_drawn(self, weight: f64) -> bool {
        weight > 0.0 || self.draws == Draws::Always && self.share > 0.0
    }
}

/// A step from one level to another in two parts: down along the ODE to the sigma `down`, then up by fresh noise of deviation `up`,
/// where `down² + up²` is the variance of the next level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    pub(crate) down: f64,
    pub(crate) up: f64,
}

impl Split {
    /// With `eta` 0 there is no fresh noise; with 1 it has the variance of DDPM's posterior (arXiv 2010.02502, eq. 16).
    ///
    /// [`Precision::Single`] is what the ancestral samplers of diffusers compute: differences of two variances, which lose
    /// most of their digits in a long step.
    pub(crate) fn new(from: f64, to: f64, eta: f64, precision: Precision) -> Split {
        if precision == Precision::Single && eta > 0.0 {
            let square = |x: f32| x * x;
            let (from, to) = (from as f32, to as f32);
            let up = eta as f32 * (square(to) * (square(from) - square(to)) / square(from)).sqrt();
            return Split { down: f64::from((square(to) - square(up)).sqrt()), up: f64::from(up) };
        }
        // `down` is no difference, which would lose its digits in a long step.
        let (ratio, share) = ((to / from).powi(2), eta.powi(2));
        Split { down: to * (1.0 - share + share * ratio).sqrt(), up: to * (share * (1.0 - ratio)).sqrt() }
    }
}

/// Steps down `levels` from `x` (arXiv 2010.02502, eq. 12): Euler and DDIM without fresh noise, Euler-ancestral and DDPM's
/// posterior with the share 1.
pub(crate) fn ancestral(tape: &mut Tape, mut x: Val, levels: &[Level], fresh: Fresh, precision: Precision) -> Val {
    for (&now, &next) in levels.iter().zip(&levels[1..]) {
        tape.begin_step();
        let Split { down, up } = Split::new(now.sigma, next.sigma, fresh.share, precision);
        let call = tape.call(x, now);
        let mut moved = x + call.slope() * (down - now.sigma);
        if fresh.is_drawn(up) {
            moved = moved + tape.noise() * (up * fresh.deviation);
        }
        x = tape.step(call, moved);
    }
    x
}
