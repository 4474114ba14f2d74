//! Samplers of two stages with the middle taken in log sigma: DPM2, DPM-Solver++(2S) and its stochastic kin.

use super::ancestral::Split;
use super::dpm_solver::Of;
use crate::tape::Tape;
use crate::{Level, Reading, Schedule, Val};

/// The level half-way in log sigma.
fn middle(from: f64, to: f64, schedule: &Schedule) -> Level {
    let sigma = (from * to).sqrt();
    Level { t: schedule.time(sigma), sigma }
}

/// Walks `levels` down from `x` in two stages a step, with fresh noise of the share `eta` after it: DPM2, where the noise
/// of the middle stands for the whole step (the midpoint rule; k-diffusion's `dpm_2` and `dpm_2_ancestral`), and
/// DPM-Solver++(2S), where its clean estimate does (arXiv 2211.01095, algorithm 1; `dpmpp_2s_ancestral`).
pub(crate) fn two_stages(
    tape: &mut Tape,
    mut x: Val,
    levels: &[Level],
    of: Of,
    eta: f64,
    schedule: &Schedule,
    reading: Reading,
) -> Val {
    for (&now, &next) in levels.iter().zip(&levels[1..]) {
        tape.begin_step();
        let Split { down, up } = Split::new(now.sigma, next.sigma, eta);
        let call = tape.call(x, now);
        if down == 0.0 {
            x = tape.step(call, x - call.slope() * now.sigma);
            continue;
        }
        let half = middle(now.sigma, down, schedule);
        let guess = tape.step(call, call.towards(call.denoised, half.sigma));
        let second = tape.call(guess, half);
        let mut moved = match of {
            Of::Noise => x + second.slope() * (down - now.sigma),
            Of::Data => call.towards(second.denoised, down),
        };
        if up > 0.0 || eta > 0.0 && reading == Reading::Diffusers {
            moved = moved + tape.noise() * up;
        }
        x = tape.step(second, moved);
    }
    x
}

/// DPM-Solver++ SDE: both stages draw fresh noise, of one Brownian motion in sigma (k-diffusion's `dpmpp_sde` with the middle
/// at one half).
pub(crate) fn dpmpp_sde(
    tape: &mut Tape,
    mut x: Val,
    levels: &[Level],
    eta: f64,
    schedule: &Schedule,
    reading: Reading,
) -> Val {
    for (&now, &next) in levels.iter().zip(&levels[1..]) {
        tape.begin_step();
        let call = tape.call(x, now);
        if next.sigma == 0.0 {
            x = tape.step(call, x - call.slope() * now.sigma);
            continue;
        }
        let half = middle(now.sigma, next.sigma, schedule);
        let (near, far) = (Split::new(now.sigma, half.sigma, eta), Split::new(now.sigma, next.sigma, eta));
        let mut guess = call.towards(call.denoised, near.down);
        let draws = near.up > 0.0 || reading == Reading::Diffusers;
        let first = draws.then(|| tape.noise());
        if let Some(noise) = first {
            guess = guess + noise * near.up;
        }
        let guess = tape.step(call, guess);
        let second = tape.call(guess, half);
        let mut moved = call.towards(second.denoised, far.down);
        if let Some(first) = first {
            // The motion over the whole step is that over its two parts, brought to unit variance.
            let (one, two) = (now.sigma - half.sigma, half.sigma - next.sigma);
            let whole = first * one.sqrt() + tape.noise() * two.sqrt();
            moved = moved + whole * if far.up > 0.0 { far.up / (one + two).sqrt() } else { 0.0 };
        }
        x = tape.step(second, moved);
    }
    x
}
