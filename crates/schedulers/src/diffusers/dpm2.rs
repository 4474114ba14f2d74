//! `KDPM2DiscreteScheduler` and `KDPM2AncestralDiscreteScheduler`.

use super::prelude::*;
use crate::samplers::{Churn, Draws, Fresh, Of, TwoStages, two_stages};

pub(super) static DPM2: Scheduler = Scheduler {
    name: "dpm2",
    diffusers: Some("KDPM2DiscreteScheduler"),
    about: "the midpoint rule over log sigma",
    options: &[&MIXED_TRAINING, &spacing("linspace"), &SIGMAS],
    only_exact: &[&CHURN],
    layout: Layout { network_time: NetworkTime::KarrasRounded, ..Layout::FRACTIONAL },
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS, SAMPLE_PREDICTION],
    spacing: read_spacing,
    sampler: |read| Ok(Arc::new(TwoStages { churn: read_churn(read)?, ..MIDPOINT })),
};

pub(super) static DPM2_ANCESTRAL: Scheduler = Scheduler {
    name: "dpm2_a",
    diffusers: Some("KDPM2AncestralDiscreteScheduler"),
    about: "the midpoint rule, then fresh noise",
    only_exact: &[&fresh(1.0)],
    sampler: |read| Ok(Arc::new(TwoStages { fresh: read_fresh(read)?, ..MIDPOINT })),
    ..DPM2
};

const MIDPOINT: TwoStages =
    TwoStages { of: Of::Noise, fresh: Fresh::NONE, churn: Churn::NONE, middle: 0.5, precision: Precision::Double };

/// Also the sampler of DPM-Solver++(2S) ancestral.
impl Sampler for TwoStages {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        two_stages(tape, x, path, *self)
    }

    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        let fresh = Fresh { draws: Draws::Always, ..self.fresh };
        two_stages(tape, x, path, TwoStages { fresh, precision: Precision::Single, ..*self })
    }
}
