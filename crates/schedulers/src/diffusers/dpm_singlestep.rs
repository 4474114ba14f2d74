//! `DPMSolverSinglestepScheduler`.

use super::dpm_solver::{FROM_DEIS, check_end_in_diffusers, in_diffusers, read_solver, solver_options};
use super::prelude::*;
use crate::samplers::{Of, Solver, singlestep, stages};

pub(super) static DPM_SINGLESTEP: Scheduler = Scheduler {
    name: "dpm_singlestep",
    diffusers: Some("DPMSolverSinglestepScheduler"),
    about: "exponential integrator of two or three stages",
    options: &[&DDPM_TRAINING, &SIGMAS, &THRESHOLD, &solver_options(false), &FLOW],
    only_exact: &[&spacing("linspace"), &fresh(1.0)],
    layout: Layout::DROPPED,
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

/// The solvers by the names of their paper and of k-diffusion.
pub(super) const PRESETS: &[Preset] = &[
    Preset {
        name: "dpm++2s",
        class: Class::DpmSinglestep,
        options: &[("algorithm_type", Word("dpmsolver++")), ("solver_order", Whole(2))],
    },
    Preset {
        name: "dpm++3s",
        class: Class::DpmSinglestep,
        options: &[("algorithm_type", Word("dpmsolver++")), ("solver_order", Whole(3))],
    },
];

#[derive(Debug)]
struct Singlestep {
    solver: Solver,
    order: usize,
    /// `lower_order_final`.
    falls: bool,
}

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    let algorithms = [
        ("dpmsolver++", (Of::Data, false)),
        ("dpmsolver", (Of::Noise, false)),
        ("sde-dpmsolver++", (Of::Data, true)),
        FROM_DEIS,
    ];
    let (solver, order) = read_solver(read, &algorithms)?;
    Ok(Arc::new(Singlestep { solver, order, falls: read_ending(read)?.falls }))
}

impl Singlestep {
    fn steps_of(&self, solver: Solver, tape: &mut Tape, x: Val, path: Path) -> Val {
        let ends_clean = path.levels.last().is_some_and(|end| end.sigma == 0.0);
        let stages = stages(path.levels.len() - 1, self.order, self.falls, ends_clean);
        singlestep(tape, x, path, solver, &stages)
    }
}

impl Sampler for Singlestep {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        self.steps_of(self.solver, tape, x, path)
    }

    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        self.steps_of(in_diffusers(self.solver), tape, x, path)
    }

    fn check_in_diffusers(&self, asked: &Asked) -> Result<(), Error> {
        check_end_in_diffusers(self.solver, asked.ends_clean)
    }

    fn calls_together(&self) -> usize {
        self.order
    }
}
