//! The scheduler classes of diffusers, and those of k-diffusion that diffusers lacks: a file for each class, or for two that
//! differ by a line.
//!
//! A class is a [`Scheduler`]: its names, its options with their defaults, how diffusers computes its levels, and a function
//! that reads its [`Sampler`]. The sampler is what the class does in the exact reading, and what diffusers does instead. To add
//! a class, write its file and add its line to [`classes!`] below. If it has short names that set options, add them to [`PRESETS`].

mod sampler;
mod scheduler;
mod settings;

// The classes.
mod ddim;
mod ddim_inverse;
mod ddpm;
mod deis;
mod dpm2;
mod dpm2s_ancestral;
mod dpm_fast;
mod dpm_multistep;
mod dpm_sde;
mod dpm_singlestep;
mod dpm_solver;
mod euler;
mod euler_ancestral;
mod heun;
mod ipndm;
mod lcm;
mod lms;
mod pndm;
mod sa_solver;
mod tcd;
mod unipc;

pub(crate) use sampler::{Asked, Run, Sampler, Source};
pub(crate) use scheduler::{Preset, Scheduler, Setting};
pub(crate) use settings::LEVELS;

use serde::{Deserialize, Serialize};

/// What the files of the classes use.
mod prelude {
    pub(super) use super::sampler::{Asked, Run, Sampler, Source};
    pub(super) use super::scheduler::Literal::{EmptyList, Flag, Null, Number, Whole, Word};
    pub(super) use super::scheduler::{Preset, Scheduler, Setting};
    pub(super) use super::settings::*;
    pub(super) use crate::levels::{End, KarrasEnds, Layout, NetworkTime, Ramp, Spacing};
    pub(super) use crate::options::Reader;
    pub(super) use crate::precision::Precision;
    pub(super) use crate::samplers::Path;
    pub(super) use crate::tape::Tape;
    pub(super) use crate::{Class, Error, Level, Remark, Val};
    pub(super) use std::sync::Arc;
}

/// Makes [`Class`] of a list of variants and the [`Scheduler`] of each.
macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident => $scheduler:path,)*) => {
        /// A scheduler class of diffusers, or of k-diffusion if diffusers has none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Class {
            $($(#[$doc])* $class,)*
        }

        impl Class {
            /// Every class.
            pub const ALL: [Class; [$(stringify!($class)),*].len()] = [$(Class::$class,)*];

            /// All about the class.
            pub(crate) fn scheduler(self) -> &'static Scheduler {
                match self {
                    $(Class::$class => &$scheduler,)*
                }
            }
        }
    };
}

classes! {
    /// `DDPMScheduler`: ancestral sampling (arXiv 2006.11239).
    Ddpm => ddpm::DDPM,
    /// `DDIMScheduler`: implicit models, from deterministic to DDPM (arXiv 2010.02502).
    Ddim => ddim::DDIM,
    /// `DDIMInverseScheduler`: DDIM run backwards, from an image to its noise (arXiv 2105.05233, section F).
    DdimInverse => ddim_inverse::DDIM_INVERSE,
    /// `PNDMScheduler`: pseudo linear multistep (arXiv 2202.09778).
    Pndm => pndm::PNDM,
    /// `IPNDMScheduler`: PNDM without its warm-up (arXiv 2204.13902, section 4). In diffusers it has its own levels and
    /// times, and reads every network output as a velocity.
    Ipndm => ipndm::IPNDM,
    /// `LMSDiscreteScheduler`: linear multistep on the probability-flow ODE.
    Lms => lms::LMS,
    /// `EulerDiscreteScheduler`: Euler's method, with optional churn (arXiv 2206.00364).
    Euler => euler::EULER,
    /// `EulerAncestralDiscreteScheduler`: Euler's method with fresh noise after each step.
    EulerAncestral => euler_ancestral::EULER_ANCESTRAL,
    /// `HeunDiscreteScheduler`: the trapezoid rule (arXiv 2206.00364, algorithm 1, and 2 with churn).
    Heun => heun::HEUN,
    /// `KDPM2DiscreteScheduler`: the midpoint rule, with the midpoint in log sigma (arXiv 2206.00364).
    Dpm2 => dpm2::DPM2,
    /// `KDPM2AncestralDiscreteScheduler`: DPM2 with fresh noise after each step.
    Dpm2Ancestral => dpm2::DPM2_ANCESTRAL,
    /// `DPMSolverMultistepScheduler`: multistep exponential integrators (arXiv 2206.00927, 2211.01095).
    DpmMultistep => dpm_multistep::DPM_MULTISTEP,
    /// `DPMSolverSinglestepScheduler`: exponential integrators of two and three stages.
    DpmSinglestep => dpm_singlestep::DPM_SINGLESTEP,
    /// DPM-Solver++(2S) with fresh noise after each step, as in k-diffusion.
    Dpm2sAncestral => dpm2s_ancestral::DPM2S_ANCESTRAL,
    /// `DPMSolverSDEScheduler`: the stochastic DPM-Solver++ of two stages.
    DpmSde => dpm_sde::DPM_SDE,
    /// DPM-Solver-fast: exponential integrators of third order for any number of calls, as in k-diffusion.
    DpmFast => dpm_fast::DPM_FAST,
    /// `DEISMultistepScheduler`: Adams-Bashforth in log sigma (arXiv 2204.13902).
    Deis => deis::DEIS,
    /// `UniPCMultistepScheduler`: predictor and corrector (arXiv 2302.04867).
    UniPc => unipc::UNIPC,
    /// `SASolverScheduler`: stochastic Adams (arXiv 2309.05019).
    SaSolver => sa_solver::SA_SOLVER,
    /// `LCMScheduler`: for networks with consistency distillation (arXiv 2310.04378).
    Lcm => lcm::LCM,
    /// `TCDScheduler`: for networks with trajectory consistency distillation (arXiv 2402.19159).
    Tcd => tcd::TCD,
}

/// The short names that set options too, in the order that they are listed in.
pub(crate) const PRESETS: [&[Preset]; 5] =
    [heun::PRESETS, dpm_multistep::PRESETS, dpm_singlestep::PRESETS, unipc::PRESETS, deis::PRESETS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_that_a_class_names_is_one_that_it_reads() {
        for class in Class::ALL {
            let read: Vec<&str> = class.option_names().collect();
            let lacks = class.scheduler().lacks.iter().copied().flatten().map(|(option, _)| *option);
            let presets = PRESETS.into_iter().flatten().filter(|preset| preset.class == class);
            let set = presets.flat_map(|preset| preset.options).map(|(option, _)| *option);
            lacks.chain(set).for_each(|option| assert!(read.contains(&option), "{class}: {option}"));
        }
    }

    #[test]
    fn an_option_of_diffusers_is_listed_once() {
        for class in Class::ALL {
            let mut options: Vec<&str> =
                class.scheduler().options.iter().copied().flatten().map(|(name, _)| *name).collect();
            let count = options.len();
            options.sort_unstable();
            options.dedup();
            assert_eq!(options.len(), count, "{class}");
        }
    }
}
