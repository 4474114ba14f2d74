//! Samplers as plans. A [`Config`] is read from a `scheduler_config.json` and makes a [`Plan`] for a number of steps. Each
//! [`Step`] of the plan is one network call.
//!
//! A sampler is linear in its start, its noise draws and the outputs of the network (except for clipping). So here it is not an
//! object with a `step` method, but a straight-line program whose coefficients are known in double precision before any tensor
//! exists. Plans can be printed, plotted, compared and tested, and one executor runs them all.
//!
//! Everything is in one coordinate, `x = x₀ + sigma·noise` (arXiv 2206.00364), whatever the paper of a sampler uses. The network
//! gets `x` scaled to unit variance. In this coordinate the probability-flow ODE is `dx/dsigma = (x − denoised)/sigma`, and there
//! are few kinds of samplers:
//!
//! - a step along the slope, then fresh noise: Euler, DDIM, their ancestral forms, DDPM
//!   (arXiv 2006.11239, 2010.02502);
//! - two slopes per step: Heun, DPM2 (arXiv 2206.00364);
//! - a polynomial through the latest slopes: LMS, PNDM and IPNDM with the weights of even steps
//!   (arXiv 2202.09778), DEIS over log sigma (arXiv 2204.13902);
//! - a polynomial through the latest clean estimates, with the rest of the equation solved exactly: DPM-Solver++
//!   (arXiv 2211.01095), UniPC, which adds a corrector (arXiv 2302.04867), and SA-Solver, which draws noise
//!   (arXiv 2309.05019);
//! - a step to the clean estimate and back up: LCM and TCD, for distilled networks.
//!
//! The [`chapter`] explains them one after the other, with code that runs. [`Class`] lists the classes; [`named`] finds one by a
//! short name. A config has two [`Reading`]s: as diffusers runs it, including its faults, and as the papers define it. [`truth`]
//! has data whose exact flow is known, to measure the error of a sampler, and [`stability`] what a plan makes of a small difference.
//! [`run()`] runs a plan on tensors of any library, [`Run`]
//! waits for each network call, and [`evaluate`] keeps every value.
//!
//! A schedule with zero terminal signal-to-noise ratio has an infinite sigma at its last time. It is replaced by
//! [`Level::PURE_NOISE`], 2²⁴, which is the same in single precision. A network that predicts the noise is an error there.
//! diffusers' IPNDM always begins there.
//!
//! # How the crate is organized
//!
//! `samplers/` is mathematics: functions from noise levels and options to the steps of a plan. `levels/` computes the levels of a
//! run. `diffusers/` has a file for each scheduler class, with its names, its options and their defaults, and what it does in each
//! reading. To add a class, write its file and add it to the list in `diffusers/mod.rs`.
//!
//! ```
//! use latentrace_schedulers::{Config, Reading};
//!
//! let config = Config::from_json(
//!     r#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
//!         "skip_prk_steps": true, "steps_offset": 1}"#,
//! )?;
//! let plan = config.plan(3, Reading::Diffusers)?;
//! println!("{plan}");
//! let printed = "\
//! v0   noise
//! v1   +3.09552·v0
//! v2   network at 667 of +0.32305·v1
//! v3   +1.00000·v1 -2.92955·v2
//! v4   +1.00000·v1 -1.99404·v2
//! v5   network at 334 of +0.73026·v4
//! v6   +1.00000·v4 -0.93551·v5
//! v7   +1.00000·v1 -0.99702·v2 -0.99702·v5
//! v8   network at 334 of +0.73026·v7
//! v9   +1.00000·v7 -0.93551·v8
//! v10  +0.44710·v2 +1.00000·v7 -1.34129·v8
//! v11  network at 1 of +0.99915·v10
//! v12  +1.00000·v10 -0.04131·v11
//! v13  -0.00506·v2 +0.01620·v8 +1.00000·v10 -0.02328·v11
//! v14  +0.99957·v13
//! result v14";
//! assert_eq!(plan.to_string(), printed);
//! # Ok::<(), latentrace_schedulers::Error>(())
//! ```

mod class;
mod config;
mod diffusers;
mod error;
mod evaluate;
mod form;
mod integrals;
mod level;
mod levels;
mod options;
mod plan;
mod planning;
mod precision;
mod reading;
mod remark;
mod run;
mod samplers;
mod schedule;
mod single;
pub mod stability;
mod tape;
mod text;
pub mod truth;
mod weight;

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

/// How samplers of diffusion models work: a chapter to read.
pub mod chapter {
    #![doc = include_str!("../docs/chapter.md")]
    #[cfg(doc)]
    use crate::{Config, Level, Plan, Prediction, Schedule, truth};
}

pub use class::{Named, class_of, named};
pub use config::Config;
pub use diffusers::Class;
pub use error::Error;
pub use evaluate::evaluate;
pub use form::{Form, Val};
pub use level::{Level, Prediction};
pub use options::{Origin, Pipeline};
pub use plan::{Limit, Noised, Op, Plan, Step};
pub use reading::Reading;
pub use remark::Remark;
pub use run::{Run, RunError, Tensor, run};
pub use schedule::Schedule;
pub use weight::{Curve, Weight, Window};
