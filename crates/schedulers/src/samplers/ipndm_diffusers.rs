//! IPNDM with the bookkeeping of diffusers, whose levels are its own, whatever the network was trained on.

use super::pndm::{WEIGHTS, weighted};
use crate::spacing::check_steps;
use crate::tape::Tape;
use crate::{Error, Form, Level, Val, single};
use std::f32::consts::PI;

/// The levels of so many steps, then the end. The amplitude of their noise is `sin²(πt/2)` at even times `t` from 1 to 0,
/// or it is given, level by level.
pub(crate) fn ipndm_levels(steps: usize, len: usize, given: Option<&[f64]>) -> Result<Vec<Level>, Error> {
    check_steps(steps, len)?;
    let refuse = |expected: String| Err(Error::Steps { expected, found: steps });
    let levels: Vec<Level> = match given {
        Some(given) if given.len() != steps + 1 => {
            let reason = "one less than trained_betas, which diffusers' IPNDMScheduler takes for its levels";
            return refuse(format!("{}, {reason}", given.len() - 1));
        }
        Some(given) => given.iter().map(|&amplitude| level(amplitude as f32)).collect(),
        None if steps == 1 => {
            return refuse("2 or more, as one step of diffusers' IPNDMScheduler makes zeros of everything".into());
        }
        None => single::linspace(1.0, 0.0, steps + 1).map(|time| level(amplitude(time))).collect(),
    };
    // diffusers looks its place up by the first time, and begins too late where that comes twice.
    if levels.windows(2).all(|pair| pair[1].t < pair[0].t) {
        return Ok(levels);
    }
    if given.is_none() {
        return refuse(
            "fewer, as so many have their first time twice in single precision, where diffusers loses its place".into(),
        );
    }
    let (found, reason) =
        ("numbers that do not fall", "are no levels down from noise; the exact reading takes them for variances");
    Err(Error::Unsupported { field: "trained_betas", found: found.into(), reason })
}

/// The amplitude of the noise in single precision, from which diffusers goes on.
fn amplitude(time: f32) -> f32 {
    let sine = f64::from(time * PI / 2.0).sin() as f32;
    sine * sine
}

/// The level whose sample the network sees as `√(1 − amplitude²)·x₀ + amplitude·noise`. It is told the angle between the
/// two, as a share of a right angle.
fn level(amplitude: f32) -> Level {
    let signal = (1.0 - amplitude * amplitude).sqrt();
    let angle = f64::from(amplitude).atan2(f64::from(signal)) as f32;
    let sigma = if signal == 0.0 { Level::PURE_NOISE } else { f64::from(amplitude) / f64::from(signal) };
    Level { t: f64::from(angle / PI * 2.0), sigma }
}

/// Walks `levels` down from `x`: each step along the noise that the weights of even steps foretell (arXiv 2202.09778,
/// eq. 12), as `x' = x + (sigma' − sigma)·noise` (eq. 9).
///
/// At the first level there is no signal. diffusers takes the sample for all noise there, and the clean estimate for zero
/// over 1e-8, so that nothing of the network's output goes on.
pub(crate) fn ipndm(tape: &mut Tape, mut x: Val, levels: &[Level]) -> Val {
    let mut noises: Vec<Form> = Vec::new();
    for (&now, &next) in levels.iter().zip(&levels[1..]) {
        tape.begin_step();
        let call = tape.call(x, now);
        let is_pure = now.sigma == Level::PURE_NOISE;
        noises.insert(0, if is_pure { x * now.input_scale() } else { call.noise() });
        noises.truncate(WEIGHTS.len());
        let noise = weighted(&noises);
        let clean = if is_pure { Form::default() } else { x - noise.clone() * now.sigma };
        x = tape.step(call, clean + noise * next.sigma);
    }
    x
}
