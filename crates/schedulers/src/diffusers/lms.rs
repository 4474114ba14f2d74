//! `LMSDiscreteScheduler`.

use super::prelude::*;
use crate::samplers::{Adams, Ending, Missing, Over, adams};

pub(super) static LMS: Scheduler = Scheduler {
    name: "lms",
    diffusers: Some("LMSDiscreteScheduler"),
    about: "Adams-Bashforth over sigma",
    options: &[&DDPM_TRAINING, &spacing("linspace"), &SIGMAS, &[("order", Whole(4))]],
    only_exact: &[],
    layout: Layout { karras_ends: KarrasEnds::Spacing, ..Layout::FRACTIONAL },
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

#[derive(Debug)]
struct Lms(Adams);

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    let order = read.integer("order", 1, 4)?;
    let ending = Ending::default();
    Ok(Arc::new(Lms(Adams { over: Over::Sigma, order, ending, missing: Missing::Skipped })))
}

impl Sampler for Lms {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        adams(tape, x, path, self.0)
    }

    /// From an image, the weights count slopes that there are not.
    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        adams(tape, x, path, Adams { missing: Missing::Zero, ..self.0 })
    }
}
