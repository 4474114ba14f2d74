//! `TCDScheduler`.

use super::lcm::DISTILLED;
use super::prelude::*;
use crate::samplers::{Tcd, TcdTimes, tcd};

pub(super) static TCD: Scheduler = Scheduler {
    name: "tcd",
    diffusers: Some("TCDScheduler"),
    about: "below the next level and back, for consistency networks",
    options: &[
        &STABLE_DIFFUSION_TRAINING,
        &spacing("leading"),
        &RESCALE,
        &DISTILLED,
        &clip(false),
        &THRESHOLD,
        &[("eta", Number(0.3))],
    ],
    only_exact: &[],
    layout: Layout { end: End::Least, ..Layout::WHOLE },
    lacks: &[DDPM_BETAS, HEUN_BETAS],
    spacing: read_distilled_spacing,
    sampler: read,
};

/// `timestep_scaling` is checked and has no effect, as in diffusers.
fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    read_timestep_scaling(read)?;
    Ok(Arc::new(Tcd { eta: read_eta(read)?, times: TcdTimes::Fractional }))
}

impl Sampler for Tcd {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        tcd(tape, x, path.rest(), path.schedule, *self)
    }

    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        tcd(tape, x, path.rest(), path.schedule, Tcd { times: TcdTimes::Whole, ..*self })
    }

    fn clips_in_diffusers(&self) -> bool {
        false
    }
}
