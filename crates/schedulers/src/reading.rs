//! The two readings of one config.

use serde::{Deserialize, Serialize};

/// How a config is read: as diffusers runs it, or as the mathematics means it.
///
/// The exact reading mends these faults, and changes nothing else:
///
/// | fault of the diffusers reading | the exact reading |
/// |---|---|
/// | the schedule is kept in single precision | double precision |
/// | one step with `linspace` starts at time 0, where there is hardly any noise | starts at the last time |
/// | PNDM goes down by `T / steps` whatever its list of times says | each step ends on the next time of the list |
/// | PNDM averages raw velocities of different noise levels, then converts the average | converts each output at its own level |
/// | PNDM with `set_alpha_to_one` false leaves the noise of time 0 in the image | always ends clean |
/// | PNDM from an image drops the second call of its first step, and stays one level off | makes both calls |
/// | PNDM's Runge-Kutta start fails below 4 steps, and overruns its list from an image | as many such steps as there are |
/// | IPNDM has levels and times of its own, from pure noise and time 1 to 0, whatever the network was trained on; `trained_betas` are those levels | those of the schedule |
/// | IPNDM takes every output for a velocity (other `prediction_type`s are an error) | for what `prediction_type` says |
/// | IPNDM forgets the first output: its first step starts from an image of zeros, so one step (an error) would make nothing else | each step goes on from the network's estimate |
/// | IPNDM cannot start from an image (an error) | starts from one like the others |
/// | a strength is cut off to whole steps | is where it says, the nearest level moved there |
/// | LMS from an image weighs a history it does not have | the order grows with the history |
/// | LMS, Euler, Heun, DPM2 and DPM++ SDE start at variance sigma² for `linspace` and `trailing` | at sigma² + 1, as the network expects |
/// | DDIM goes down by `T / steps` whatever its list of times says, and leaves the noise of time 0 in the image unless `set_alpha_to_one` | each step ends on the next time of the list, the last one clean |
/// | DDIM holds the estimate within the limit and not the noise with it | both |
/// | DEIS, SA-Solver and TCD leave the noise of time 0 in the image | always end clean; DEIS follows its polynomial down to the noise of time 0, and its newest slope from there, and SA-Solver's order falls |
/// | DEIS and SA-Solver end Karras and like sigmas with a step of no length | with a step to no noise |
/// | the third order of multistep DPM-Solver weighs its second difference by half of what it should, so it is of second order; with noise (`sde-dpmsolver++`) in a wrong sign too | the weights of the polynomial |
/// | the third order of `sde-dpmsolver` is missing; `dpmsolver` cannot end clean | they are there |
/// | UniPC steps to no noise at a high order, which is infinite | goes back to first order there |
/// | UniPC without `predict_x0`, and TCD, ignore thresholding | hold the estimate within it |
/// | Euler with `s_churn` puts noise in after the network's call, which has not seen it | before, as the paper has it |
/// | Euler's `log_linear` interpolation makes a sigma too many, tells times of other levels, and never reaches the end | each level has its time, and the last step ends clean |
/// | SA-Solver from an image adds the noise of the rounded time | of the level |
/// | Karras and like times are rounded, or cut off, in solvers that count in whole times | told as they are |
/// | schedules stretched to zero signal end at sigma 4096 for some classes | at [`Level::PURE_NOISE`](crate::Level::PURE_NOISE) for all |
/// | an inversion (`DDIMInverseScheduler`) tells the network the time of the level that it goes to | of the level that the sample has |
/// | Euler-ancestral, DDIM, SA-Solver draw noise of weight zero | draw what they use |
/// | DDPM draws a last noise of weight 1e-10 where the last time is above 0 | draws what it uses |
/// | DDPM's `fixed_large_log` is the square root of a negative number (an error) | the variance it means: `fixed_large` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Every number as diffusers 0.42 makes it, faults included, so that an image can be matched.
    Diffusers,
    /// The algorithm of the paper in double precision, with the faults mended.
    Exact,
}

impl Reading {
    /// A number as this reading stores it.
    pub(crate) fn round(self, x: f64) -> f64 {
        match self {
            Reading::Diffusers => f64::from(x as f32),
            Reading::Exact => x,
        }
    }
}
