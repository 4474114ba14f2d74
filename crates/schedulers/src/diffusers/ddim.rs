//! `DDIMScheduler`.

use super::prelude::*;
use crate::samplers::{Draws, Fresh, Split, ancestral};

pub(super) static DDIM: Scheduler = Scheduler {
    name: "ddim",
    diffusers: Some("DDIMScheduler"),
    about: "along the slope, with any share of fresh noise",
    options: &[
        &DDPM_TRAINING,
        &spacing("leading"),
        &RESCALE,
        &[("set_alpha_to_one", Flag(true)), ("eta", Number(0.0))],
        &clip(true),
        &THRESHOLD,
    ],
    only_exact: &[],
    layout: Layout::WHOLE,
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

#[derive(Debug)]
struct Ddim {
    eta: f64,
    set_alpha_to_one: bool,
}

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    Ok(Arc::new(Ddim { eta: read_eta(read)?, set_alpha_to_one: read.flag("set_alpha_to_one")? }))
}

impl Sampler for Ddim {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        let fresh = Fresh { share: self.eta, deviation: 1.0, draws: Draws::Used };
        ancestral(tape, x, path.rest(), fresh, Precision::Double)
    }

    /// Each step goes down by `T / steps`, whatever the list of times is, to the end if that is below zero; and takes the
    /// sample to be at the time that the network gets, whatever level the last step went to. If the estimate is clipped,
    /// the noise is still the network's.
    fn run_in_diffusers(&self, tape: &mut Tape, run: &Run) -> Result<(Val, Level), Error> {
        let (schedule, levels) = (run.path.schedule, run.path.rest());
        let stride = (schedule.len() / run.steps) as f64;
        let mut held = (run.start(tape, levels[0]), levels[0]);
        for &now in &levels[..levels.len() - 1] {
            tape.begin_step();
            let target = now.t - stride;
            let next = if target < 0.0 { run.alpha_end(self.set_alpha_to_one) } else { schedule.level(target) };
            let x = rescaled(tape, held, now);
            let Split { down, up } = Split::new(now.sigma, next.sigma, self.eta, Precision::Double);
            let call = tape.call(x, now);
            let mut moved = call.denoised + call.noise() * down;
            if self.eta > 0.0 {
                moved = moved + tape.noise() * up;
            }
            held = (tape.step(call, moved), next);
        }
        Ok(held)
    }
}

/// A sample of one level used as a sample of another: it stays the same at unit variance.
pub(super) fn rescaled(tape: &mut Tape, (x, at): (Val, Level), now: Level) -> Val {
    if at.sigma == now.sigma { x } else { tape.sum(x * (at.input_scale() / now.input_scale())) }
}
