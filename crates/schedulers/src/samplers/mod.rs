//! The samplers as mathematics: functions from noise levels and options to the steps of a plan.
//!
//! They work in `x = x₀ + sigma·noise`, whatever their papers use. They do not depend on scheduler classes, configs or readings:
//! [`diffusers`](crate::diffusers) has the options that each class passes to them.

mod adams;
mod ancestral;
mod ddpm;
mod distilled;
mod dpm_fast;
mod dpm_multistep;
mod dpm_singlestep;
mod dpm_solver;
mod euler;
mod inversion;
mod midpoint;
mod pndm;
mod sa_solver;
mod unipc;

pub(crate) use adams::{Adams, Missing, Over, adams};
pub(crate) use ancestral::{Draws, Fresh, Split, ancestral};
pub(crate) use ddpm::{Ddpm, Variance, ddpm};
pub(crate) use distilled::{Tcd, TcdTimes, lcm, tcd};
pub(crate) use dpm_fast::dpm_fast;
pub(crate) use dpm_multistep::{Ending, multistep};
pub(crate) use dpm_singlestep::{singlestep, stages};
pub(crate) use dpm_solver::{Of, Solver, ThirdOrder};
pub(crate) use euler::{Churn, When, euler, heun};
pub(crate) use inversion::inversion;
pub(crate) use midpoint::{DpmSde, TwoStages, dpmpp_sde, two_stages};
pub(crate) use pndm::{WEIGHTS, pndm, weighted};
pub(crate) use sa_solver::{SaSolver, sa_solver};
pub(crate) use unipc::{UniPc, unipc};

use crate::{Level, Schedule};

/// The levels of a run, and where a sampler begins.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    /// Every level of the run, including the end.
    pub(crate) levels: &'a [Level],
    /// The index of the first level: above 0 if the run starts from an image.
    pub(crate) begin: usize,
    /// The number of steps that churn is divided by.
    pub(crate) counted: usize,
    pub(crate) schedule: &'a Schedule,
}

impl<'a> Path<'a> {
    /// The levels from the first one on.
    pub(crate) fn rest(self) -> &'a [Level] {
        &self.levels[self.begin..]
    }
}
