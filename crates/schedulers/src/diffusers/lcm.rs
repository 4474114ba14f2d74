//! `LCMScheduler`.

use super::prelude::*;
use crate::samplers::lcm;

pub(super) static LCM: Scheduler = Scheduler {
    name: "lcm",
    diffusers: Some("LCMScheduler"),
    about: "to the end and back, for consistency networks",
    options: &[&STABLE_DIFFUSION_TRAINING, &spacing("leading"), &RESCALE, &DISTILLED, &clip(false), &THRESHOLD],
    only_exact: &[],
    layout: Layout::WHOLE,
    lacks: &[DDPM_BETAS, HEUN_BETAS],
    spacing: read_distilled_spacing,
    sampler: read,
};

/// The options of the distillation, which TCD has too.
pub(super) const DISTILLED: [Setting; 4] = [
    ("original_inference_steps", Whole(50)),
    ("timestep_scaling", Number(10.0)),
    ("set_alpha_to_one", Flag(true)),
    ("timesteps", Null),
];

#[derive(Debug)]
struct Lcm {
    /// `timestep_scaling`.
    scaling: f64,
}

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    Ok(Arc::new(Lcm { scaling: read_timestep_scaling(read)? }))
}

impl Sampler for Lcm {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        lcm(tape, x, path.rest(), self.scaling)
    }
}
