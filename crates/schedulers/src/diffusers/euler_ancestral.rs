//! `EulerAncestralDiscreteScheduler`.

use super::prelude::*;
use crate::samplers::{Draws, Fresh, ancestral};

pub(super) static EULER_ANCESTRAL: Scheduler = Scheduler {
    name: "euler_a",
    diffusers: Some("EulerAncestralDiscreteScheduler"),
    about: "along the slope, then fresh noise",
    options: &[&DDPM_TRAINING, &spacing("linspace"), &RESCALE],
    only_exact: &[&fresh(1.0)],
    layout: Layout::FRACTIONAL,
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS, SAMPLE_PREDICTION],
    spacing: read_spacing,
    sampler: read,
};

#[derive(Debug)]
struct EulerAncestral(Fresh);

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    Ok(Arc::new(EulerAncestral(read_fresh(read)?)))
}

impl Sampler for EulerAncestral {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        ancestral(tape, x, path.rest(), self.0, Precision::Double)
    }

    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        let fresh = Fresh { draws: Draws::Always, ..self.0 };
        ancestral(tape, x, path.rest(), fresh, Precision::Single)
    }
}
