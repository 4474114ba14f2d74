//! What one should know of a plan before running it.

use crate::{Config, Op, Plan};
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
            Remark::RepeatedTime { time } => write!(f, "calls the network at time {time} twice running"),
        }
    }
}

impl Config {
    /// What one should know of a plan of this config.
    pub fn remarks(&self, plan: &Plan) -> Vec<Remark> {
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
        for pair in plan.steps().windows(2).filter(|pair| pair[0].level.t == pair[1].level.t) {
            let remark = Remark::RepeatedTime { time: pair[0].level.t };
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
        }
        remarks
    }
}
