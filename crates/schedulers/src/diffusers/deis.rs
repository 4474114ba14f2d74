//! `DEISMultistepScheduler`.

use super::prelude::*;
use crate::samplers::{Adams, Missing, Over, adams};

pub(super) static DEIS: Scheduler = Scheduler {
    name: "deis",
    diffusers: Some("DEISMultistepScheduler"),
    about: "Adams-Bashforth over log sigma",
    options: &[
        &DDPM_TRAINING,
        &spacing("linspace"),
        &SIGMAS,
        &THRESHOLD,
        &[
            ("solver_order", Whole(2)),
            ("algorithm_type", Word("deis")),
            ("solver_type", Word("logrho")),
            ("lower_order_final", Flag(true)),
        ],
        &FLOW,
    ],
    only_exact: &[],
    layout: Layout { end: End::Least, ramp: Ramp::Repeated, ..Layout::DROPPED },
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

/// DEIS of third order.
pub(super) const PRESETS: &[Preset] =
    &[Preset { name: "deis3", class: Class::Deis, options: &[("solver_order", Whole(3))] }];

#[derive(Debug)]
struct Deis(Adams);

/// Other solvers' values of `algorithm_type` and `solver_type`, which a config of another class may have, are taken for the
/// default, as in diffusers.
fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    refuse_flow(read)?;
    read.choice("algorithm_type", &["deis", "dpmsolver", "dpmsolver++"].map(|name| (name, ())))?;
    read.choice("solver_type", &["logrho", "midpoint", "heun", "bh1", "bh2"].map(|name| (name, ())))?;
    let order = read.integer("solver_order", 1, 3)?;
    let ending = read_ending(read)?;
    Ok(Arc::new(Deis(Adams { over: Over::LogSigma, order, ending, missing: Missing::Skipped })))
}

impl Sampler for Deis {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        adams(tape, x, path, self.0)
    }
}
