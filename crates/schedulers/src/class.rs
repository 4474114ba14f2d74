//! The scheduler classes: their names, where they come from, and what each is called.

use crate::Error;
use crate::error::nearest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A scheduler class of diffusers, or of k-diffusion where diffusers has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// `DDPMScheduler`: ancestral sampling (arXiv 2006.11239).
    Ddpm,
    /// `DDIMScheduler`: implicit models, from deterministic to DDPM (arXiv 2010.02502).
    Ddim,
    /// `DDIMInverseScheduler`: DDIM run backwards, from an image to its noise (arXiv 2105.05233, section F).
    DdimInverse,
    /// `PNDMScheduler`: pseudo linear multistep (arXiv 2202.09778).
    Pndm,
    /// `IPNDMScheduler`: the same without its warm-up (arXiv 2204.13902, section 4). In diffusers it has levels and
    /// times of its own, and takes every output for a velocity.
    Ipndm,
    /// `LMSDiscreteScheduler`: linear multistep on the probability-flow ODE.
    Lms,
    /// `EulerDiscreteScheduler`: Euler's method, with noise added and taken away again if asked (arXiv 2206.00364).
    Euler,
    /// `EulerAncestralDiscreteScheduler`: Euler's method with fresh noise at each step.
    EulerAncestral,
    /// `HeunDiscreteScheduler`: the trapezoid rule (arXiv 2206.00364, algorithm 1, and 2 with noise).
    Heun,
    /// `KDPM2DiscreteScheduler`: the midpoint rule, the middle taken in log sigma (arXiv 2206.00364).
    Dpm2,
    /// `KDPM2AncestralDiscreteScheduler`: the same with fresh noise at each step.
    Dpm2Ancestral,
    /// `DPMSolverMultistepScheduler`: exponential integrators that remember (arXiv 2206.00927, 2211.01095).
    DpmMultistep,
    /// `DPMSolverSinglestepScheduler`: exponential integrators of two and three stages.
    DpmSinglestep,
    /// DPM-Solver++(2S) with fresh noise at each step, as k-diffusion has it.
    Dpm2sAncestral,
    /// `DPMSolverSDEScheduler`: the stochastic DPM-Solver++ of two stages.
    DpmSde,
    /// DPM-Solver-fast: exponential integrators of third order for any number of calls, as k-diffusion has it.
    DpmFast,
    /// `DEISMultistepScheduler`: Adams-Bashforth on log sigma (arXiv 2204.13902).
    Deis,
    /// `UniPCMultistepScheduler`: predictor and corrector (arXiv 2302.04867).
    UniPc,
    /// `SASolverScheduler`: stochastic Adams (arXiv 2309.05019).
    SaSolver,
    /// `LCMScheduler`: for networks distilled to consistency (arXiv 2310.04378).
    Lcm,
    /// `TCDScheduler`: for networks distilled to consistency along the trajectory (arXiv 2402.19159).
    Tcd,
}

/// Which options a name sets besides its class.
type Preset = &'static [(&'static str, &'static str)];

/// Short names that mean a class with some options, whose values are JSON.
const PRESETS: [(&str, Class, Preset); 11] = [
    ("edm", Class::Heun, &[("use_karras_sigmas", "true")]),
    (
        "edm_sde",
        Class::Heun,
        &[("use_karras_sigmas", "true"), ("s_churn", "40"), ("s_tmin", "0.05"), ("s_tmax", "50"), ("s_noise", "1.003")],
    ),
    ("dpm++2m", Class::DpmMultistep, &[("algorithm_type", "\"dpmsolver++\""), ("solver_order", "2")]),
    ("dpm++3m", Class::DpmMultistep, &[("algorithm_type", "\"dpmsolver++\""), ("solver_order", "3")]),
    ("dpm++2m_sde", Class::DpmMultistep, &[("algorithm_type", "\"sde-dpmsolver++\""), ("solver_order", "2")]),
    ("dpm++3m_sde", Class::DpmMultistep, &[("algorithm_type", "\"sde-dpmsolver++\""), ("solver_order", "3")]),
    (
        "dpm_solver_2m",
        Class::DpmMultistep,
        &[("algorithm_type", "\"dpmsolver\""), ("solver_order", "2"), ("final_sigmas_type", "\"sigma_min\"")],
    ),
    ("dpm++2s", Class::DpmSinglestep, &[("algorithm_type", "\"dpmsolver++\""), ("solver_order", "2")]),
    ("dpm++3s", Class::DpmSinglestep, &[("algorithm_type", "\"dpmsolver++\""), ("solver_order", "3")]),
    ("unipc_bh1", Class::UniPc, &[("solver_type", "\"bh1\"")]),
    ("deis3", Class::Deis, &[("solver_order", "3")]),
];

/// A class, and options with their values.
pub type Named = (Class, Vec<(&'static str, Value)>);

/// The class of a name, and the options that the name sets: a short name (`ddpm`, `dpm++2m_sde`), or diffusers' name of
/// a class.
pub fn named(name: &str) -> Result<Named, Error> {
    if let Some(class) = Class::ALL.into_iter().find(|class| class.name() == name || class.to_string() == name) {
        return Ok((class, Vec::new()));
    }
    if let Some((_, class, options)) = PRESETS.iter().find(|(known, ..)| *known == name) {
        let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        return Ok((*class, options.iter().map(|(key, text)| (*key, value(text))).collect()));
    }
    let long = Class::ALL.map(|class| class.to_string());
    let mut names: Vec<&str> = Class::names().collect();
    names.extend(long.iter().map(String::as_str));
    Err(Error::Class { found: name.chars().take(60).collect(), nearest: nearest(name, names) })
}

/// The class of a short name (`ddpm`, `pndm`, `lms`) or of its name in diffusers.
pub fn class_of(name: &str) -> Result<Class, Error> {
    Ok(named(name)?.0)
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 21] = [
        Class::Ddpm,
        Class::Ddim,
        Class::DdimInverse,
        Class::Pndm,
        Class::Ipndm,
        Class::Lms,
        Class::Euler,
        Class::EulerAncestral,
        Class::Heun,
        Class::Dpm2,
        Class::Dpm2Ancestral,
        Class::DpmMultistep,
        Class::DpmSinglestep,
        Class::Dpm2sAncestral,
        Class::DpmSde,
        Class::DpmFast,
        Class::Deis,
        Class::UniPc,
        Class::SaSolver,
        Class::Lcm,
        Class::Tcd,
    ];

    /// Every short name that [`named`] knows: one for each class, then the presets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Class::ALL.into_iter().map(Class::name).chain(PRESETS.iter().map(|(name, ..)| *name))
    }

    /// The short name, as a user types it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Ddpm => "ddpm",
            Class::Ddim => "ddim",
            Class::DdimInverse => "ddim_inverse",
            Class::Pndm => "pndm",
            Class::Ipndm => "ipndm",
            Class::Lms => "lms",
            Class::Euler => "euler",
            Class::EulerAncestral => "euler_a",
            Class::Heun => "heun",
            Class::Dpm2 => "dpm2",
            Class::Dpm2Ancestral => "dpm2_a",
            Class::DpmMultistep => "dpm_multistep",
            Class::DpmSinglestep => "dpm_singlestep",
            Class::Dpm2sAncestral => "dpm++2s_a",
            Class::DpmSde => "dpm++sde",
            Class::DpmFast => "dpm_fast",
            Class::Deis => "deis",
            Class::UniPc => "unipc",
            Class::SaSolver => "sa_solver",
            Class::Lcm => "lcm",
            Class::Tcd => "tcd",
        }
    }

    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Class::Ddpm => "to the posterior mean, then fresh noise",
            Class::Ddim => "along the slope, with any share of fresh noise",
            Class::DdimInverse => "DDIM backwards, from an image to its noise",
            Class::Pndm => "Adams-Bashforth for even steps, with a warm-up",
            Class::Ipndm => "Adams-Bashforth for even steps",
            Class::Lms => "Adams-Bashforth over sigma",
            Class::Euler => "along the slope",
            Class::EulerAncestral => "along the slope, then fresh noise",
            Class::Heun => "the trapezoid rule",
            Class::Dpm2 => "the midpoint rule over log sigma",
            Class::Dpm2Ancestral => "the midpoint rule, then fresh noise",
            Class::DpmMultistep => "exponential integrator that remembers",
            Class::DpmSinglestep => "exponential integrator of two or three stages",
            Class::Dpm2sAncestral => "exponential midpoint rule, then fresh noise",
            Class::DpmSde => "exponential midpoint rule for the SDE",
            Class::DpmFast => "exponential integrator of three stages, as many calls as asked",
            Class::Deis => "Adams-Bashforth over log sigma",
            Class::UniPc => "exponential predictor and corrector",
            Class::SaSolver => "Adams predictor and corrector for the SDE",
            Class::Lcm => "to the end and back, for consistency networks",
            Class::Tcd => "below the next level and back, for consistency networks",
        }
    }

    /// Whether diffusers has it. What it lacks has one reading: the exact one.
    pub fn is_in_diffusers(self) -> bool {
        !matches!(self, Class::Dpm2sAncestral | Class::DpmFast)
    }

    /// Whether diffusers runs networks that put out the clean sample by it.
    pub(crate) fn takes_samples(self) -> bool {
        use Class::{Dpm2, Dpm2Ancestral, DpmSde, EulerAncestral, Pndm};
        !matches!(self, Pndm | EulerAncestral | Dpm2 | Dpm2Ancestral | DpmSde)
    }

    /// Whether diffusers knows one of the rarer beta schedules for the class.
    pub(crate) fn takes_betas(self, name: &str) -> bool {
        match name {
            "exp" => self == Class::Heun,
            _ => self == Class::Ddpm,
        }
    }

    /// Whether the class has levels of its own in diffusers, which so reads nothing of how the network was trained.
    pub(crate) fn has_own_levels(self) -> bool {
        self == Class::Ipndm
    }

    /// How diffusers lays the levels of the class; of one that has its own there, how those of its kin are laid.
    pub(crate) fn family(self) -> Family {
        match self {
            Class::Ddpm | Class::Ddim | Class::DdimInverse | Class::Pndm | Class::Lcm | Class::Tcd => Family::Whole,
            Class::Ipndm
            | Class::Lms
            | Class::Euler
            | Class::EulerAncestral
            | Class::Heun
            | Class::Dpm2
            | Class::Dpm2Ancestral
            | Class::Dpm2sAncestral
            | Class::DpmSde
            | Class::DpmFast => Family::Fractional,
            Class::DpmMultistep | Class::DpmSinglestep | Class::Deis | Class::UniPc | Class::SaSolver => {
                Family::Dropped
            }
        }
    }
}

/// The three ways in which diffusers lays a class's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Whole training times, and their noise.
    Whole,
    /// Times between the training times too. The sample is kept at the scale of the image.
    Fractional,
    /// Whole training times, one more than there are steps, of which the last is dropped. Karras sigmas and the like
    /// span all that was trained, whatever the spacing.
    Dropped,
}

/// The name in diffusers; what diffusers lacks has its short name.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Ddpm => "DDPMScheduler",
            Class::Ddim => "DDIMScheduler",
            Class::DdimInverse => "DDIMInverseScheduler",
            Class::Pndm => "PNDMScheduler",
            Class::Ipndm => "IPNDMScheduler",
            Class::Lms => "LMSDiscreteScheduler",
            Class::Euler => "EulerDiscreteScheduler",
            Class::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Class::Heun => "HeunDiscreteScheduler",
            Class::Dpm2 => "KDPM2DiscreteScheduler",
            Class::Dpm2Ancestral => "KDPM2AncestralDiscreteScheduler",
            Class::DpmMultistep => "DPMSolverMultistepScheduler",
            Class::DpmSinglestep => "DPMSolverSinglestepScheduler",
            Class::Dpm2sAncestral => "dpm++2s_a",
            Class::DpmFast => "dpm_fast",
            Class::DpmSde => "DPMSolverSDEScheduler",
            Class::Deis => "DEISMultistepScheduler",
            Class::UniPc => "UniPCMultistepScheduler",
            Class::SaSolver => "SASolverScheduler",
            Class::Lcm => "LCMScheduler",
            Class::Tcd => "TCDScheduler",
        })
    }
}
