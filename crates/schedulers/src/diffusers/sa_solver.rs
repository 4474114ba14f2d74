//! `SASolverScheduler`.

use super::prelude::*;
use crate::samplers::{Draws, Of, SaSolver, sa_solver};

pub(super) static SA_SOLVER: Scheduler = Scheduler {
    name: "sa_solver",
    diffusers: Some("SASolverScheduler"),
    about: "Adams predictor and corrector for the SDE",
    options: &[
        &DDPM_TRAINING,
        &spacing("linspace"),
        &SIGMAS,
        &THRESHOLD,
        &[
            ("predictor_order", Whole(2)),
            ("corrector_order", Whole(2)),
            ("tau_func", Null),
            ("algorithm_type", Word("data_prediction")),
            ("lower_order_final", Flag(true)),
            ("lambda_min_clipped", Null),
            ("variance_type", Null),
        ],
        &FLOW,
    ],
    only_exact: &[&[("tau", Null)]],
    layout: Layout { end: End::Least, ramp: Ramp::Repeated, ..Layout::DROPPED },
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    refuse_flow(read)?;
    refuse_learned_variance(read)?;
    read.must_be_off("tau_func", "is a function, which no config can hold")?;
    let of = [("data_prediction", Of::Data), ("noise_prediction", Of::Noise)];
    Ok(Arc::new(SaSolver {
        of: read.choice("algorithm_type", &of)?,
        predictor: read.integer("predictor_order", 1, 4)?,
        corrector: read.integer("corrector_order", 1, 4)?,
        falls: read.flag("lower_order_final")?,
        tau: read.number_or_null("tau", 0.0, "a number not below 0, or null for 1 in the middle of the run")?,
        draws: Draws::Used,
    }))
}

impl Sampler for SaSolver {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        sa_solver(tape, x, path, *self)
    }

    /// An image gets the noise of the network's time, which is not that of the level if the time was rounded.
    fn run_in_diffusers(&self, tape: &mut Tape, run: &Run) -> Result<(Val, Level), Error> {
        let first = run.first();
        let x = run.start_noised_to(tape, first, run.path.schedule.level(first.t));
        Ok((sa_solver(tape, x, run.path, SaSolver { draws: Draws::Always, ..*self }), run.end))
    }
}
