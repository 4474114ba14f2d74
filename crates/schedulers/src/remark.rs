//! What one should know of a plan before running it.

use crate::{Config, Op, Plan, Reading};
use std::fmt;

/// Something about a plan's levels that costs quality, and is easy not to see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remark {
    /// The first level has less noise than the last that was trained, so the sample is taken for one that still holds
    /// some of an image (arXiv 2305.08891, section 3.3).
    StartsLow {
        /// The first sigma.
        sigma: f64,
        /// The largest sigma of the training schedule.
        most: f64,
    },
    /// The training schedule's last time still holds signal, so pure noise was never trained on (arXiv 2305.08891,
    /// section 3.1).
    TerminalSignal {
        /// How much of the image is left, `√ᾱ`.
        signal: f64,
    },
    /// A multistep solver of third order with few steps: its weights are right, and pay only where steps are short.
    ThirdOrder {
        /// Whether it draws noise on the way.
        is_stochastic: bool,
    },
    /// A third order of diffusers that has a wrong sign, so that its samples spread too far.
    WrongSign,
    /// Estimates are held within a limit, which models of pixels are made for and models of latents are not.
    Clips,
    /// The network is called at the same time twice running.
    RepeatedTime {
        /// The time.
        time: f64,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::StartsLow { sigma, most } => {
                write!(
                    f,
                    "starts at sigma {sigma:.3}, and training goes up to {most:.3} (trailing or linspace reach it)"
                )
            }
            Remark::TerminalSignal { signal } => write!(
                f,
                "the last training time still holds {:.2} % of the image (rescale_betas_zero_snr takes it away)",
                signal * 100.0
            ),
            Remark::ThirdOrder { is_stochastic: false } => f.write_str(
                "the third order pays from about 40 steps on: at 20 Karras steps it ends 4.9e-3 from the exact flow, solver_order=2 9.3e-3, and diffusers' third order, whose weights are wrong, 1.5e-3",
            ),
            Remark::ThirdOrder { is_stochastic: true } => f.write_str(
                "the third order with noise wants 15 steps or more: at 10 Karras steps what it makes varies 2.2 times as much as the data, at 20 as much (solver_order=2 is steadier)",
            ),
            Remark::WrongSign => f.write_str(
                "diffusers' third order of sde-dpmsolver++ has a wrong sign, and what it makes varies too much: 1.5 times as much as the data at 200 steps (the exact reading mends it)",
            ),
            Remark::Clips => f.write_str(
                "clean estimates are held within a limit (clip_sample, thresholding), which is for models of pixels: latents reach beyond it",
            ),
            Remark::RepeatedTime { time } => write!(f, "calls the network at time {time} twice running"),
        }
    }
}

impl Config {
    /// What one should know of a plan of this config in a reading.
    pub fn remarks(&self, plan: &Plan, reading: Reading) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let schedule = self.schedule();
        let last = schedule.len() - 1;
        let Some(first) = plan.steps().first() else { return remarks };
        let (sigma, most) = (first.level.sigma, schedule.sigmas()[last]);
        // One training time less is as good as all of them; and from an image, to start lower is what is wanted.
        if !plan.ops().contains(&Op::Given) && sigma < schedule.sigmas()[last - 1] * 0.999 {
            remarks.push(Remark::StartsLow { sigma, most });
        }
        let signal = schedule.alphas_cumprod()[last].sqrt();
        if signal > 1e-3 {
            remarks.push(Remark::TerminalSignal { signal });
        }
        remarks.extend(match reading {
            Reading::Exact => self.options.sampler.remark(plan.calls()),
            Reading::Diffusers => self.options.sampler.remark_in_diffusers(plan.calls()),
        });
        if plan.ops().iter().any(|op| matches!(op, Op::Clip { .. })) {
            remarks.push(Remark::Clips);
        }
        for pair in plan.steps().windows(2).filter(|pair| pair[0].level.t == pair[1].level.t) {
            let remark = Remark::RepeatedTime { time: pair[0].level.t };
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
        }
        remarks
    }
}
