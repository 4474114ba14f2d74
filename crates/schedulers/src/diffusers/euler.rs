//! `EulerDiscreteScheduler`.

use super::prelude::*;
use crate::samplers::{Churn, When, euler};

pub(super) static EULER: Scheduler = Scheduler {
    name: "euler",
    diffusers: Some("EulerDiscreteScheduler"),
    about: "along the slope",
    options: &[
        &DDPM_TRAINING,
        &spacing("linspace"),
        &RESCALE,
        &SIGMAS,
        &[
            ("interpolation_type", Word("linear")),
            ("timestep_type", Word("discrete")),
            ("final_sigmas_type", Word("zero")),
        ],
        &TIMESTEPS,
        &[("sigmas", Null)],
        &CHURN,
    ],
    only_exact: &[],
    layout: Layout::FRACTIONAL,
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

#[derive(Debug)]
struct Euler(Churn);

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    Ok(Arc::new(Euler(read_churn(read)?)))
}

impl Sampler for Euler {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        euler(tape, x, path, self.0, When::BeforeCall)
    }

    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        euler(tape, x, path, self.0, When::AfterCall)
    }
}
