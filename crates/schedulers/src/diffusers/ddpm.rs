//! `DDPMScheduler`.

use super::prelude::*;
use crate::samplers::{Ddpm, Draws, Variance, ddpm};

pub(super) static DDPM: Scheduler = Scheduler {
    name: "ddpm",
    diffusers: Some("DDPMScheduler"),
    about: "to the posterior mean, then fresh noise",
    options: &[
        &DDPM_TRAINING,
        &spacing("leading"),
        &RESCALE,
        &[("variance_type", Word("fixed_small"))],
        &TIMESTEPS,
        &clip(true),
        &THRESHOLD,
    ],
    only_exact: &[],
    layout: Layout::WHOLE,
    lacks: &[AYS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

/// The exact reading has `fixed_large_log` as `fixed_large`, the variance that it stands for.
#[derive(Debug)]
struct Ancestral {
    variance: Variance,
    /// Whether diffusers takes the square root of a negative number.
    is_undefined: bool,
}

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    let types = [
        ("fixed_small", Ok((Variance::Small, false))),
        ("fixed_small_log", Ok((Variance::Small, false))),
        ("fixed_large", Ok((Variance::Large, false))),
        ("fixed_large_log", Ok((Variance::Large, true))),
        ("learned", Err("learned")),
        ("learned_range", Err("learned_range")),
    ];
    // The classes that save null for "not learned" share their files with this one; diffusers then computes fixed_small.
    let (variance, is_undefined) = match read.value("variance_type").is_null() {
        true => (Variance::Small, false),
        false => read.choice("variance_type", &types)?.map_err(learned_variance)?,
    };
    Ok(Arc::new(Ancestral { variance, is_undefined }))
}

impl Sampler for Ancestral {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        ddpm(tape, x, path.rest(), Ddpm { variance: self.variance, least: None, draws: Draws::Used })
    }

    /// The variance is at least 1e-20, and the last step draws noise of that weight unless its time is 0.
    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        ddpm(tape, x, path.rest(), Ddpm { variance: self.variance, least: Some(1e-20), draws: Draws::Always })
    }

    fn check_in_diffusers(&self, _: &Asked) -> Result<(), Error> {
        if !self.is_undefined {
            return Ok(());
        }
        let reason = "is the square root of a negative number in diffusers; the exact reading reads it as fixed_large";
        Err(Error::Unsupported { field: "variance_type", found: "fixed_large_log".into(), reason })
    }
}
