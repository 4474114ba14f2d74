//! DPM-Solver-fast: k-diffusion's `sample_dpm_fast`, which diffusers does not have.

use super::prelude::*;
use crate::samplers::{Fresh, dpm_fast};

pub(super) static DPM_FAST: Scheduler = Scheduler {
    name: "dpm_fast",
    diffusers: None,
    about: "exponential integrator of three stages, as many calls as asked",
    options: &[&STABLE_DIFFUSION_TRAINING, &spacing("linspace")],
    only_exact: &[&fresh(0.0), &[("final_sigmas_type", Word("sigma_min"))]],
    layout: Layout::FRACTIONAL,
    lacks: &[],
    spacing: read_spacing,
    sampler: read,
};

#[derive(Debug)]
struct DpmFast(Fresh);

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    Ok(Arc::new(DpmFast(read_fresh(read)?)))
}

impl Sampler for DpmFast {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        dpm_fast(tape, x, path, self.0)
    }

    fn calls_together(&self) -> usize {
        3
    }
}
