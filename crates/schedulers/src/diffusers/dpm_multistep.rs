//! `DPMSolverMultistepScheduler`.

use super::dpm_solver::{FROM_DEIS, check_end_in_diffusers, in_diffusers, read_solver, solver_options};
use super::prelude::*;
use crate::samplers::{Ending, Of, Solver, multistep};

pub(super) static DPM_MULTISTEP: Scheduler = Scheduler {
    name: "dpm_multistep",
    diffusers: Some("DPMSolverMultistepScheduler"),
    about: "exponential integrator that remembers",
    options: &[
        &DDPM_TRAINING,
        &spacing("linspace"),
        &RESCALE,
        &SIGMAS,
        &THRESHOLD,
        &solver_options(true),
        &FLOW,
        &[("euler_at_final", Flag(false)), ("use_lu_lambdas", Flag(false))],
    ],
    only_exact: &[&fresh(1.0)],
    layout: Layout { network_time: NetworkTime::WholeUnlessCosine, ..Layout::DROPPED },
    lacks: &[AYS, DDPM_BETAS, HEUN_BETAS],
    spacing: read_spacing,
    sampler: read,
};

/// The solvers by the names of their papers and of k-diffusion.
pub(super) const PRESETS: &[Preset] = &[
    Preset {
        name: "dpm++2m",
        class: Class::DpmMultistep,
        options: &[("algorithm_type", Word("dpmsolver++")), ("solver_order", Whole(2))],
    },
    Preset {
        name: "dpm++3m",
        class: Class::DpmMultistep,
        options: &[("algorithm_type", Word("dpmsolver++")), ("solver_order", Whole(3))],
    },
    Preset {
        name: "dpm++2m_sde",
        class: Class::DpmMultistep,
        options: &[("algorithm_type", Word("sde-dpmsolver++")), ("solver_order", Whole(2))],
    },
    Preset {
        name: "dpm++3m_sde",
        class: Class::DpmMultistep,
        options: &[("algorithm_type", Word("sde-dpmsolver++")), ("solver_order", Whole(3))],
    },
    Preset {
        name: "dpm_solver_2m",
        class: Class::DpmMultistep,
        options: &[
            ("algorithm_type", Word("dpmsolver")),
            ("solver_order", Whole(2)),
            ("final_sigmas_type", Word("sigma_min")),
        ],
    },
];

#[derive(Debug)]
struct Multistep {
    solver: Solver,
    order: usize,
    ending: Ending,
}

fn read(read: &Reader) -> Result<Arc<dyn Sampler>, Error> {
    let algorithms = [
        ("dpmsolver++", (Of::Data, false)),
        ("dpmsolver", (Of::Noise, false)),
        ("sde-dpmsolver++", (Of::Data, true)),
        ("sde-dpmsolver", (Of::Noise, true)),
        FROM_DEIS,
    ];
    let (solver, order) = read_solver(read, &algorithms)?;
    Ok(Arc::new(Multistep { solver, order, ending: read_ending(read)? }))
}

impl Multistep {
    /// Whether a step of a run is of third order.
    fn reaches_third(&self, steps: usize) -> bool {
        self.order == 3 && self.ending.reaches_third(steps)
    }
}

impl Sampler for Multistep {
    fn steps(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        multistep(tape, x, path, self.solver, self.order, self.ending)
    }

    fn steps_in_diffusers(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        multistep(tape, x, path, in_diffusers(self.solver), self.order, self.ending)
    }

    fn check_in_diffusers(&self, asked: &Asked) -> Result<(), Error> {
        check_end_in_diffusers(self.solver, asked.ends_clean)?;
        if self.solver.of == Of::Noise && self.solver.is_stochastic() && self.reaches_third(asked.steps) {
            let reason = "is missing for sde-dpmsolver in diffusers; the exact reading has it";
            return Err(Error::Unsupported { field: "solver_order", found: "3".into(), reason });
        }
        Ok(())
    }

    /// The numbers of calls are measured on the mixture of [`truth`](crate::truth) in the tests.
    fn remark(&self, calls: usize) -> Option<Remark> {
        let is_stochastic = self.solver.is_stochastic();
        let enough = if is_stochastic { 15 } else { 40 };
        (self.reaches_third(calls) && calls < enough).then_some(Remark::ThirdOrder { is_stochastic })
    }

    fn remark_in_diffusers(&self, calls: usize) -> Option<Remark> {
        (self.reaches_third(calls) && self.solver.is_stochastic()).then_some(Remark::WrongSign)
    }
}
