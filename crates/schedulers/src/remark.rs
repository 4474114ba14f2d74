//! Remarks on a plan: what a user should know before running it.

use crate::{Config, Op, Plan, Reading};
use std::fmt;

/// A property of a plan that lowers the quality of its samples and is easy to miss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Remark {
    /// The first level has less noise than the last training time, so the network expects a sample that contains some of an image
    /// (arXiv 2305.08891, section 3.3).
    StartsLow {
        /// The first sigma.
        sigma: f64,
        /// The largest sigma of the training schedule.
        most: f64,
    },
    /// The last training time still contains signal, so the network was never trained on pure noise (arXiv 2305.08891,
    /// section 3.1).
    TerminalSignal {
        /// The scale of the image at that time, `√ᾱ`.
        signal: f64,
    },
    /// A multistep solver of third order with few steps: it is better than the second order only if steps are short.
    ThirdOrder {
        /// Whether its steps draw noise.
        is_stochastic: bool,
    },
    /// The third order of diffusers with a wrong sign, whose samples have too much variance.
    WrongSign,
    /// Clean estimates are clipped, which is for models of pixels and not for models of latents.
    Clips,
    /// Two calls in a row have the same time.
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
                    "starts at sigma {sigma:.3}, and training goes up to {most:.3} (trailing or linspace spacing start there)"
                )
            }
            Remark::TerminalSignal { signal } => write!(
                f,
                "the last training time still contains {:.2} % of the image (rescale_betas_zero_snr removes it)",
                signal * 100.0
            ),
            Remark::ThirdOrder { is_stochastic: false } => f.write_str(
                "the third order pays from about 40 steps on: at 20 Karras steps its error is 4.9e-3, that of solver_order=2 9.3e-3, and that of diffusers' third order, whose weights are wrong, 1.5e-3",
            ),
            Remark::ThirdOrder { is_stochastic: true } => f.write_str(
                "the third order with noise needs 15 steps or more: the variance of its samples is 2.2 times that of the data at 10 Karras steps, and equal to it at 20 (solver_order=2 is better at few steps)",
            ),
            Remark::WrongSign => f.write_str(
                "diffusers' third order of sde-dpmsolver++ has a wrong sign: at 200 steps the variance of its samples is 1.5 times that of the data (the exact reading corrects it)",
            ),
            Remark::Clips => f.write_str(
                "clean estimates are clipped (clip_sample, thresholding), which is for models of pixels: latents have larger values",
            ),
            Remark::RepeatedTime { time } => write!(f, "calls the network at time {time} twice running"),
        }
    }
}

impl Config {
    /// The remarks on a plan of this config in a reading.
    pub fn remarks(&self, plan: &Plan, reading: Reading) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let schedule = self.schedule();
        let last = schedule.len() - 1;
        let Some(first) = plan.steps().first() else { return remarks };
        let (sigma, most) = (first.level.sigma, schedule.sigmas()[last]);
        // One training time less makes no difference; and a run from an image starts lower on purpose.
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
