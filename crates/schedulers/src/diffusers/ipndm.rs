//! `IPNDMScheduler`, which in diffusers has its own levels and times, whatever the network was trained on.

use super::prelude::*;
use crate::error::shown;
use crate::levels::check_steps;
use crate::options::Options;
use crate::samplers::{Adams, Ending, Missing, Over, WEIGHTS, adams, weighted};
use crate::{Form, Prediction, Schedule, single};
use std::f32::consts::PI;

pub(super) static IPNDM: Scheduler = Scheduler {
    name: "ipndm",
    diffusers: Some("IPNDMScheduler"),
    about: "Adams-Bashforth for even steps",
    options: &[&STABLE_DIFFUSION_TRAINING, &spacing("linspace")],
    only_exact: &[&[("order", Whole(4))]],
    layout: Layout::FRACTIONAL,
    lacks: &[],
    spacing: read_spacing,
    sampler: read,
};

/// Options of the training and the spacing, which the class of diffusers has in its config and does not use.
const UNUSED: [&str; 5] = ["beta_start", "beta_end", "beta_schedule", "timestep_spacing", "steps_offset"];

#[derive(Debug)]
struct Ipndm {
    order: usize,
}

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    Ok(Arc::new(Ipndm { order: read.integer("order", 1, 4)? }))
}

impl Sampler for Ipndm {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        let ending = Ending::default();
        adams(tape, x, path, Adams { over: Over::Index, order: self.order, ending, missing: Missing::Skipped })
    }

    /// Each step goes along the noise that the weights of even steps give (arXiv 2202.09778, eq. 12), as
    /// `x' = x + (sigma' − sigma)·noise` (eq. 9).
    ///
    /// There is no signal at the first level. diffusers takes the sample for all noise there, and the clean estimate for zero
    /// over 1e-8, so that nothing of the first output remains.
    fn run_in_diffusers(&self, tape: &mut Tape, run: &Run) -> Result<(Val, Level), Error> {
        let levels = run.path.levels;
        let mut x = run.start(tape, levels[0]);
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
        Ok((x, levels[levels.len() - 1]))
    }

    /// Its own levels; `trained_betas` are levels too.
    fn levels_in_diffusers(
        &self,
        options: &Options,
        schedule: &Schedule,
        steps: usize,
        _: &Layout,
    ) -> Result<Vec<Level>, Error> {
        levels(steps, schedule.len(), options.betas.given())
    }

    /// A start from an image, an override of the training, and a prediction other than the velocity are errors. diffusers ignores
    /// the training in a file, and so does this.
    fn check_in_diffusers(&self, asked: &Asked) -> Result<(), Error> {
        if let Some(strength) = asked.strength {
            let reason =
                "needs noise added to an image, which diffusers' IPNDMScheduler cannot do; the exact reading can";
            return Err(Error::Unsupported { field: "strength", found: strength.to_string(), reason });
        }
        if let Some((field, value)) = UNUSED.iter().find_map(|name| Some((*name, asked.overrides.get(*name)?))) {
            return Err(Error::OnlyExact { field, found: shown(value), class: Class::Ipndm });
        }
        let found = match asked.prediction {
            Prediction::Velocity => return Ok(()),
            Prediction::Epsilon => "epsilon",
            Prediction::Sample => "sample",
        };
        let reason = "is read as v_prediction by diffusers' IPNDMScheduler; v_prediction works, and the exact reading reads each as it is";
        Err(Error::Unsupported { field: "prediction_type", found: found.into(), reason })
    }
}

/// The levels of a run in diffusers, then the end. The amplitude of their noise is `sin²(πt/2)` at even times `t` from 1 to 0, or
/// `given` one by one.
fn levels(steps: usize, len: usize, given: Option<&[f64]>) -> Result<Vec<Level>, Error> {
    check_steps(steps, len)?;
    let refuse = |expected: String| Err(Error::Steps { expected, found: steps });
    let levels: Vec<Level> = match given {
        Some(given) if given.len() != steps + 1 => {
            let reason = "one less than trained_betas, which diffusers' IPNDMScheduler uses as its levels";
            return refuse(format!("{}, {reason}", given.len() - 1));
        }
        Some(given) => given.iter().map(|&amplitude| level(amplitude as f32)).collect(),
        None if steps == 1 => {
            return refuse("2 or more, because diffusers' IPNDMScheduler returns zeros after one step".into());
        }
        None => single::linspace(1.0, 0.0, steps + 1).map(|time| level(amplitude(time))).collect(),
    };
    // diffusers finds its first step by the time, and begins too late if that time comes twice.
    if levels.windows(2).all(|pair| pair[1].t < pair[0].t) {
        return Ok(levels);
    }
    if given.is_none() {
        return refuse(
            "fewer, because the first two times are equal in single precision, and diffusers begins at the wrong step"
                .into(),
        );
    }
    let (found, reason) =
        ("numbers that do not fall", "cannot be levels down from noise; the exact reading uses them as variances");
    Err(Error::Unsupported { field: "trained_betas", found: found.into(), reason })
}

/// The amplitude of the noise in single precision, which diffusers computes everything else from.
fn amplitude(time: f32) -> f32 {
    let sine = f64::from(time * PI / 2.0).sin() as f32;
    sine * sine
}

/// The level whose sample the network sees as `√(1 − amplitude²)·x₀ + amplitude·noise`. The network's time is the angle between
/// the two, as a share of a right angle.
fn level(amplitude: f32) -> Level {
    let signal = (1.0 - amplitude * amplitude).sqrt();
    let angle = f64::from(amplitude).atan2(f64::from(signal)) as f32;
    let sigma = if signal == 0.0 { Level::PURE_NOISE } else { f64::from(amplitude) / f64::from(signal) };
    Level { t: f64::from(angle / PI * 2.0), sigma }
}
