//! The times of a run: `timestep_spacing`.

use super::{Run, Sigmas, SingleStep, Times, Trailing};
use crate::{Error, Level, Schedule};

/// How the steps are spaced over the training times (arXiv 2305.08891, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// Whole strides up from `offset`; the last training times are not reached.
    Leading {
        /// The smallest time.
        offset: usize,
    },
    /// Even, both ends included.
    Linspace,
    /// Even strides down from the last time.
    Trailing,
    /// Some of the times that a network was distilled on.
    Distilled {
        /// How many there were.
        original: usize,
    },
    /// The times found best for Stable Diffusion 1.5 at ten steps (arXiv 2404.14507), interpolated in log sigma.
    AlignYourSteps,
}

/// The times that were found best for Stable Diffusion 1.5 at ten steps (arXiv 2404.14507, section D).
const BEST_TIMES: [f64; 10] = [999.0, 850.0, 736.0, 645.0, 545.0, 455.0, 343.0, 233.0, 124.0, 24.0];

impl Run<'_> {
    /// The times of the steps, descending.
    pub(super) fn times(&self) -> Result<Vec<f64>, Error> {
        let Run { grid, layout, schedule, steps } = *self;
        let len = schedule.len();
        let clipped =
            grid.least_lambda.map_or(0, |least| schedule.sigmas().iter().filter(|sigma| -sigma.ln() < least).count());
        let total = (len - clipped) as f64;
        let count = if layout.times == Times::Dropped { steps + 1 } else { steps };
        let times: Vec<f64> = match grid.spacing {
            Spacing::Leading { offset } => {
                let stride = (len - clipped) / count;
                (count - steps..count).rev().map(|i| (i * stride + offset) as f64).collect()
            }
            Spacing::Linspace if count == 1 => match layout.single_step {
                SingleStep::First => vec![0.0],
                SingleStep::Last => vec![total - 1.0],
            },
            Spacing::Linspace => {
                let stride = (total - 1.0) / (count - 1) as f64;
                let even =
                    (count - steps..count).rev().map(|i| if i == count - 1 { total - 1.0 } else { i as f64 * stride });
                let whole = |t: f64| if layout.times == Times::Fractional { t } else { t.round_ties_even() };
                even.map(whole).collect()
            }
            Spacing::Trailing => self.trailing(total, len as f64 / steps as f64)?,
            Spacing::Distilled { original } => distilled(len, original, steps)?,
            Spacing::AlignYourSteps => Vec::new(), // has levels, not times
        };
        Ok(times.into_iter().map(|t| layout.precision.round(t)).collect())
    }

    /// Strides down from `total`, less one.
    ///
    /// If sigmas are spaced on their own, only the first and the last of these times matter, and one more is no error. With
    /// `lambda_min_clipped`, [`Trailing::Arange`] makes fewer.
    fn trailing(&self, total: f64, stride: f64) -> Result<Vec<f64>, Error> {
        let steps = self.steps;
        let (count, stride) = match self.layout.trailing {
            Trailing::Arange => ((total / stride).ceil() as usize, (total - stride) - total),
            Trailing::Counted => (steps, -total / steps as f64),
        };
        if count > steps && matches!(self.grid.sigmas, Sigmas::Times | Sigmas::LogLinear) {
            return Err(Error::Overrun { steps });
        }
        Ok((0..count).map(|i| (total + i as f64 * stride).round_ties_even() - 1.0).collect())
    }
}

/// Checks that there is a training time for each step.
pub(crate) fn check_steps(steps: usize, len: usize) -> Result<(), Error> {
    match (1..=len).contains(&steps) {
        true => Ok(()),
        false => Err(Error::Steps { expected: format!("1 to {len}, the training times"), found: steps }),
    }
}

/// The best levels for ten steps and that of the first time; for other numbers of steps, evenly in log sigma between them.
/// Then the end.
pub(super) fn align_your_steps(schedule: &Schedule, steps: usize) -> Vec<Level> {
    let share = (schedule.len() - 1) as f64 / 999.0;
    let times: Vec<f64> = BEST_TIMES.iter().map(|time| time * share).chain([0.0]).collect();
    let logs: Vec<f64> = times.iter().map(|time| schedule.level(*time).sigma.ln()).collect();
    let level = |step: usize| {
        let place = step as f64 * BEST_TIMES.len() as f64 / steps as f64;
        let (low, fraction) = (place.floor() as usize, place.fract());
        if fraction == 0.0 {
            return schedule.level(times[low]);
        }
        let sigma = (logs[low] + fraction * (logs[low + 1] - logs[low])).exp();
        Level { t: schedule.time(sigma), sigma }
    };
    (0..steps).map(level).chain([Level::CLEAN]).collect()
}

/// Evenly chosen times of the `original` ones that a network was distilled on, from the last down.
fn distilled(len: usize, original: usize, steps: usize) -> Result<Vec<f64>, Error> {
    if steps > original {
        let expected = format!("1 to {original}, the original_inference_steps");
        return Err(Error::Steps { expected, found: steps });
    }
    let stride = len / original;
    let time = |step: usize| ((original - step * original / steps) * stride) as f64 - 1.0;
    Ok((0..steps).map(time).collect())
}
