//! `HeunDiscreteScheduler`.

use super::prelude::*;
use crate::samplers::{Churn, heun};

pub(super) static HEUN: Scheduler = Scheduler {
    name: "heun",
    diffusers: Some("HeunDiscreteScheduler"),
    about: "the trapezoid rule",
    options: &[&MIXED_TRAINING, &spacing("linspace"), &SIGMAS, &clip(false), &TIMESTEPS],
    only_exact: &[&CHURN],
    layout: Layout::FRACTIONAL,
    lacks: &[AYS, DDPM_BETAS],
    spacing: read_spacing,
    sampler: read,
};

/// The samplers of arXiv 2206.00364, without and with churn.
pub(super) const PRESETS: &[Preset] = &[
    Preset { name: "edm", class: Class::Heun, options: &[("use_karras_sigmas", Flag(true))] },
    Preset {
        name: "edm_sde",
        class: Class::Heun,
        options: &[
            ("use_karras_sigmas", Flag(true)),
            ("s_churn", Whole(40)),
            ("s_tmin", Number(0.05)),
            ("s_tmax", Whole(50)),
            ("s_noise", Number(1.003)),
        ],
    },
];

#[derive(Debug)]
struct Heun(Churn);

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    Ok(Arc::new(Heun(read_churn(read)?)))
}

impl Sampler for Heun {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        heun(tape, x, path, self.0)
    }
}
