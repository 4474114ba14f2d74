//! DPM-Solver++(2S) ancestral: k-diffusion's `sample_dpmpp_2s_ancestral`, which diffusers does not have.

use super::prelude::*;
use crate::samplers::{Churn, Of, TwoStages};

pub(super) static DPM2S_ANCESTRAL: Scheduler = Scheduler {
    name: "dpm++2s_a",
    diffusers: None,
    about: "exponential midpoint rule, then fresh noise",
    options: &[&STABLE_DIFFUSION_TRAINING, &spacing("linspace")],
    only_exact: &[&fresh(1.0), &[("r", Number(0.5))]],
    layout: Layout::FRACTIONAL,
    lacks: &[],
    spacing: read_spacing,
    sampler: read,
};

/// The sampler is that of DPM2 with another second stage.
fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    let (fresh, middle) = (read_fresh(read)?, read_middle(read)?);
    let (churn, precision) = (Churn::NONE, Precision::Double);
    Ok(Arc::new(TwoStages { of: Of::Data, fresh, churn, middle, precision }))
}
