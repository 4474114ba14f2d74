//! Euler, Euler-ancestral and DDIM: a step along the probability-flow ODE, then fresh noise.

use crate::tape::Tape;
use crate::{Level, Reading, Val};

/// How much fresh noise a step draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fresh {
    /// The share of what the reverse-time SDE, or DDPM's posterior, draws (`eta`).
    pub(crate) share: f64,
    /// The deviation of the noise (`s_noise`); 1 keeps the level's variance.
    pub(crate) deviation: f64,
}

impl Fresh {
    /// No noise.
    pub(crate) const NONE: Fresh = Fresh { share: 0.0, deviation: 1.0 };
}

/// How a step from one level to another is split: down along the ODE to the sigma `down`, then up by fresh noise of
/// deviation `up`, where `down² + up²` is the next level's variance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    pub(crate) down: f64,
    pub(crate) up: f64,
}

impl Split {
    /// With `eta` 0 there is no fresh noise; with 1 it has the variance of DDPM's posterior (arXiv 2010.02502, eq. 16).
    pub(crate) fn new(from: f64, to: f64, eta: f64) -> Split {
        // What is kept is not taken as one less what is fresh, which would lose all its figures in a long step.
        let (ratio, share) = ((to / from).powi(2), eta.powi(2));
        Split { down: to * (1.0 - share + share * ratio).sqrt(), up: to * (share * (1.0 - ratio)).sqrt() }
    }

    /// The same as the ancestral samplers of diffusers have it: in single precision, where the difference of two variances
    /// loses most of its figures in a long step.
    pub(crate) fn of_reading(from: f64, to: f64, eta: f64, reading: Reading) -> Split {
        if reading == Reading::Exact || eta == 0.0 {
            return Split::new(from, to, eta);
        }
        let square = |x: f32| x * x;
        let (from, to) = (from as f32, to as f32);
        let up = (square(to) * (square(from) - square(to)) / square(from)).sqrt();
        Split { down: f64::from((square(to) - square(up)).sqrt()), up: f64::from(up) }
    }
}

/// Walks `levels` down from `x` (arXiv 2010.02502, eq. 12): Euler and DDIM without fresh noise, Euler-ancestral and DDPM's
/// posterior with the share 1.
pub(crate) fn ancestral(tape: &mut Tape, mut x: Val, levels: &[Level], fresh: Fresh, reading: Reading) -> Val {
    for (&now, &next) in levels.iter().zip(&levels[1..]) {
        tape.begin_step();
        let Split { down, up } = Split::of_reading(now.sigma, next.sigma, fresh.share, reading);
        let call = tape.call(x, now);
        let mut moved = x + call.slope() * (down - now.sigma);
        // diffusers draws for the last step too, and adds nothing of it.
        if up > 0.0 || reading == Reading::Diffusers {
            moved = moved + tape.noise() * (up * fresh.deviation);
        }
        x = tape.step(call, moved);
    }
    x
}
