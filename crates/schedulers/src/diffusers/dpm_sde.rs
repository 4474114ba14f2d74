//! `DPMSolverSDEScheduler`.

use super::prelude::*;
use crate::samplers::{DpmSde, Draws, Fresh, dpmpp_sde};

pub(super) static DPM_SDE: Scheduler = Scheduler {
    name: "dpm++sde",
    diffusers: Some("DPMSolverSDEScheduler"),
    about: "exponential midpoint rule for the SDE",
    options: &[&MIXED_TRAINING, &spacing("linspace"), &SIGMAS, &[("noise_sampler_seed", Null)]],
    only_exact: &[&fresh(1.0), &[("r", Number(0.5))]],
    layout: Layout { karras_ends: KarrasEnds::Spacing, ..Layout::FRACTIONAL },
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS, SAMPLE_PREDICTION],
    spacing: read_spacing,
    sampler: read,
};

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    let (fresh, middle) = (read_fresh(read)?, read_middle(read)?);
    Ok(Arc::new(DpmSde { fresh, middle, precision: Precision::Double }))
}

impl Sampler for DpmSde {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        dpmpp_sde(tape, x, path, *self)
    }

    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        let fresh = Fresh { draws: Draws::Always, ..self.fresh };
        dpmpp_sde(tape, x, path, DpmSde { fresh, precision: Precision::Single, ..*self })
    }
}
