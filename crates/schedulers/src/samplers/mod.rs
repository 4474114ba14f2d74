//! The samplers, each a function from levels to a plan. They work in `x = x₀ + sigma·noise`, whatever their papers use.

mod adams;
mod ancestral;
mod ddim_diffusers;
mod ddpm;
mod distilled;
mod dpm_fast;
mod dpm_multistep;
mod dpm_singlestep;
mod dpm_solver;
mod euler;
mod inversion;
mod ipndm_diffusers;
mod midpoint;
mod pndm;
mod pndm_diffusers;
mod sa_solver;
mod unipc;

pub(crate) use adams::Over;
pub(crate) use ancestral::Fresh;
pub(crate) use ddim_diffusers::{ddim, ddim_inverse};
pub(crate) use ddpm::Variance;
pub(crate) use dpm_multistep::Ending;
pub(crate) use dpm_solver::{Of, Solver};
pub(crate) use euler::Churn;
pub(crate) use inversion::inversion;
pub(crate) use ipndm_diffusers::{ipndm as ipndm_of_diffusers, ipndm_levels};
pub(crate) use midpoint::TwoStages;
pub(crate) use pndm_diffusers::{Times, pndm as pndm_of_diffusers};
pub(crate) use sa_solver::SaSolver;
pub(crate) use unipc::UniPc;

use crate::tape::Tape;
use crate::{Level, Reading, Schedule, Val};

/// A sampler with its options.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sampler {
    Ddpm { variance: Variance, undefined: bool },
    Ddim { eta: f64, to_clean: bool },
    DdimInverse { from_clean: bool },
    Pndm { warm_up: bool, to_clean: bool },
    Adams { over: Over, order: usize, ending: Ending },
    Euler { churn: Churn },
    Ancestral { fresh: Fresh },
    Heun { churn: Churn },
    TwoStages(TwoStages),
    DpmSde { fresh: Fresh, middle: f64 },
    DpmFast { fresh: Fresh },
    Multistep { solver: Solver, order: usize, ending: Ending },
    Singlestep { solver: Solver, order: usize, falls: bool },
    UniPc(UniPc),
    SaSolver(SaSolver),
    Lcm { scaling: f64 },
    Tcd { eta: f64 },
}

/// What a sampler walks on.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    /// Every level of the run, the end too.
    pub(crate) levels: &'a [Level],
    /// Where the walk begins: above 0 for a run from an image.
    pub(crate) begin: usize,
    /// How many steps the whole run counts, of which churn takes its share.
    pub(crate) counted: usize,
    pub(crate) schedule: &'a Schedule,
    pub(crate) reading: Reading,
}

impl Sampler {
    /// Walks the path down from `x`. PNDM, IPNDM and DDIM as diffusers keeps their books, and DDIM up, are other functions.
    pub(crate) fn walk(&self, tape: &mut Tape, x: Val, path: Path) -> Val {
        let Path { levels, begin, schedule, reading, .. } = path;
        let rest = &levels[begin..];
        match self {
            Sampler::Ddpm { variance, .. } => ddpm::ddpm(tape, x, rest, *variance, reading),
            Sampler::Ddim { eta, .. } => {
                let fresh = Fresh { share: *eta, deviation: 1.0 };
                ancestral::ancestral(tape, x, rest, fresh, Reading::Exact)
            }
            Sampler::DdimInverse { .. } => inversion(tape, x, rest),
            Sampler::Pndm { warm_up, .. } => pndm::pndm(tape, x, rest, schedule, *warm_up),
            Sampler::Adams { over, order, ending } => adams::adams(tape, x, path, *over, *order, *ending),
            Sampler::Euler { churn } => euler::euler(tape, x, path, *churn),
            Sampler::Ancestral { fresh } => ancestral::ancestral(tape, x, rest, *fresh, reading),
            Sampler::Heun { churn } => euler::heun(tape, x, path, *churn),
            Sampler::TwoStages(stages) => stages.walk(tape, x, path),
            Sampler::DpmSde { fresh, middle } => midpoint::dpmpp_sde(tape, x, path, *fresh, *middle),
            Sampler::DpmFast { fresh } => dpm_fast::dpm_fast(tape, x, path, *fresh),
            Sampler::Multistep { solver, order, ending } => {
                dpm_multistep::multistep(tape, x, path, *solver, *order, *ending)
            }
            Sampler::Singlestep { solver, order, falls } => {
                let ends_clean = levels.last().is_some_and(|end| end.sigma == 0.0);
                let stages = dpm_singlestep::stages(levels.len() - 1, *order, *falls, ends_clean);
                dpm_singlestep::singlestep(tape, x, path, *solver, &stages)
            }
            Sampler::UniPc(solver) => unipc::unipc(tape, x, path, solver),
            Sampler::SaSolver(solver) => sa_solver::sa_solver(tape, x, path, *solver),
            Sampler::Lcm { scaling } => distilled::lcm(tape, x, rest, *scaling),
            Sampler::Tcd { eta } => distilled::tcd(tape, x, rest, *eta, schedule, reading),
        }
    }
}
