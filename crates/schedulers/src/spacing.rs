//! Which levels a sampler visits: times of the schedule, or sigmas between its ends.

use crate::class::Family;
use crate::options::End;
use crate::{Class, Error, Level, Reading, Schedule, single};

/// How a run's levels are laid.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    pub(crate) class: Class,
    pub(crate) family: Family,
    pub(crate) spacing: Spacing,
    pub(crate) sigmas: Sigmas,
    /// Times or sigmas one by one, in place of all that.
    pub(crate) given: Option<Given>,
    pub(crate) end: End,
    /// No level has a smaller half log signal-to-noise ratio.
    pub(crate) least_lambda: Option<f64>,
    /// The smallest and the largest sigma of a spread, in place of the spacing's own.
    pub(crate) ends: (Option<f64>, Option<f64>),
    /// Whether a spread goes over all that was trained, as log-linear interpolation leaves it.
    pub(crate) is_log_linear: bool,
    /// Whether betas are the squared cosine's, where diffusers rounds no time.
    pub(crate) is_cosine: bool,
    /// Whether the network is told a quarter of log sigma in place of the time.
    pub(crate) tells_log_sigma: bool,
}

/// Times or sigmas one by one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    /// One for each step.
    Times(Vec<f64>),
    /// One for each step, and the last.
    Sigmas(Vec<f64>),
}

/// How a number of steps is laid over the training times (arXiv 2305.08891, table 2).
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
    /// Some of those that a network was distilled on.
    Distilled {
        /// How many there were.
        original: usize,
    },
    /// Those found best for Stable Diffusion 1.5 at ten steps (arXiv 2404.14507), and between them evenly in log sigma.
    AlignYourSteps,
}

/// How sigmas are laid between the largest and the smallest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sigmas {
    /// Those of the times.
    Times,
    /// Even in `sigma^(1/rho)` (arXiv 2206.00364, eq. 5).
    Karras {
        /// How much denser they are towards the end; 7 in the paper.
        rho: f64,
    },
    /// Even in the logarithm.
    Exponential,
    /// Even in a power of the logarithm's share (k-diffusion).
    Polyexponential {
        /// The power; with 1 they are exponential.
        rho: f64,
    },
    /// Those of the variance-preserving SDE at even times from 1 down (arXiv 2011.13456, appendix C; k-diffusion).
    VariancePreserving {
        /// `β_max − β_min`.
        beta_d: f64,
        beta_min: f64,
        /// The last time, above 0.
        least_time: f64,
    },
    /// Quantiles of the symmetric beta distribution (arXiv 2407.12173).
    Beta {
        /// Both its parameters; 0.6 in the paper.
        shape: f64,
    },
    /// Even in the logarithm too; diffusers rounds their times (arXiv 2206.00927, section 4.1).
    Lu,
    /// Even in the logarithm over all that was trained, with the times of the spacing (Euler's `interpolation_type`).
    LogLinear,
}

/// The times that were found best for Stable Diffusion 1.5 at ten steps (arXiv 2404.14507, section D).
const BEST_TIMES: [f64; 10] = [999.0, 850.0, 736.0, 645.0, 545.0, 455.0, 343.0, 233.0, 124.0, 24.0];

impl Grid {
    /// The levels of so many steps, then the end.
    pub(crate) fn levels(&self, schedule: &Schedule, steps: usize, reading: Reading) -> Result<Vec<Level>, Error> {
        let len = schedule.len();
        check_steps(steps, len)?;
        if let Some(given) = &self.given {
            return self.given_levels(given, schedule, steps, reading);
        }
        if self.spacing == Spacing::AlignYourSteps {
            return Ok(self.told(best_levels(schedule, steps)));
        }
        let times = self.times(schedule, steps, reading)?;
        // Where times lie between training times diffusers holds later ones at the last level; elsewhere it fails.
        let held = self.family == Family::Fractional && reading == Reading::Diffusers;
        if let Some(&time) = times.iter().find(|&&time| time > (len - 1) as f64 && !held) {
            return Err(Error::Time { time: time as i64, len });
        }
        let levels: Vec<Level> = times.into_iter().map(|t| schedule.level(t)).collect();
        Ok(self.told(self.spread(schedule, levels, steps, reading)))
    }

    /// How many steps diffusers counts of a plan that makes so many: one too many for log-linear interpolation, whose list of
    /// sigmas is longer than that of its times, unless the network is told sigmas and called at each.
    pub(crate) fn counted(&self, steps: usize, reading: Reading) -> usize {
        let is_given = matches!(self.given, Some(Given::Sigmas(_)));
        let is_log_linear = reading == Reading::Diffusers && self.sigmas == Sigmas::LogLinear && !is_given;
        let is_longer = is_log_linear && !self.tells_log_sigma;
        steps + usize::from(is_longer)
    }

    /// The same levels, the network told what this grid tells it.
    fn told(&self, mut levels: Vec<Level>) -> Vec<Level> {
        if self.tells_log_sigma {
            levels.iter_mut().filter(|level| level.sigma > 0.0).for_each(|level| level.t = 0.25 * level.sigma.ln());
        }
        levels
    }

    /// The level at a share of the way from one of `levels` to the next, below 0 to the one before: in log sigma, and
    /// straight where the next has no noise.
    pub(crate) fn beside(&self, levels: &[Level], index: usize, share: f64, schedule: &Schedule) -> Level {
        let from = levels[index].sigma;
        let to = if share < 0.0 { levels[index - 1].sigma } else { levels[index + 1].sigma };
        let sigma = if to == 0.0 { from * (1.0 - share) } else { from * (to / from).powf(share.abs()) };
        self.told(vec![Level { t: schedule.time(sigma), sigma }])[0]
    }

    fn given_levels(
        &self,
        given: &Given,
        schedule: &Schedule,
        steps: usize,
        reading: Reading,
    ) -> Result<Vec<Level>, Error> {
        let (name, count) = match given {
            Given::Times(times) => ("timesteps", times.len()),
            Given::Sigmas(sigmas) => ("sigmas, less one", sigmas.len() - 1),
        };
        if count != steps {
            return Err(Error::Steps { expected: format!("{count}, the length of {name}"), found: steps });
        }
        let level = |sigma: f64| match sigma {
            0.0 => Level::CLEAN,
            _ => Level { t: schedule.time(sigma), sigma: reading.round(sigma) },
        };
        Ok(self.told(match given {
            Given::Times(times) => {
                let levels: Vec<Level> = times.iter().map(|&time| schedule.level(time)).collect();
                match (self.sigmas, reading) {
                    // The times that are given stand beside sigmas that are not theirs.
                    (Sigmas::LogLinear, Reading::Diffusers) => self.spread(schedule, levels, steps, reading),
                    _ => levels.into_iter().chain([self.end_level(schedule, reading)]).collect(),
                }
            }
            Given::Sigmas(sigmas) => sigmas.iter().map(|&sigma| level(sigma)).collect(),
        }))
    }

    fn end_level(&self, schedule: &Schedule, reading: Reading) -> Level {
        if self.ends_clean(reading) { Level::CLEAN } else { schedule.level(0.0) }
    }

    /// Whether the run ends without noise. DEIS, SA-Solver and TCD cannot be asked to in diffusers.
    pub(crate) fn ends_clean(&self, reading: Reading) -> bool {
        let is_mended = reading == Reading::Exact && matches!(self.class, Class::Deis | Class::SaSolver | Class::Tcd);
        self.end == End::Clean || is_mended
    }

    /// The times of `steps` steps, descending.
    fn times(&self, schedule: &Schedule, steps: usize, reading: Reading) -> Result<Vec<f64>, Error> {
        let len = schedule.len();
        let clipped =
            self.least_lambda.map_or(0, |least| schedule.sigmas().iter().filter(|sigma| -sigma.ln() < least).count());
        let total = (len - clipped) as f64;
        let is_dropped = self.family == Family::Dropped;
        let count = if is_dropped { steps + 1 } else { steps };
        let times: Vec<f64> = match self.spacing {
            Spacing::Leading { offset } => {
                let stride = (len - clipped) / count;
                (count - steps..count).rev().map(|i| (i * stride + offset) as f64).collect()
            }
            Spacing::Linspace if count == 1 && reading == Reading::Diffusers => vec![0.0],
            Spacing::Linspace if count == 1 => vec![total - 1.0],
            Spacing::Linspace => {
                let stride = (total - 1.0) / (count - 1) as f64;
                let even =
                    (count - steps..count).rev().map(|i| if i == count - 1 { total - 1.0 } else { i as f64 * stride });
                let whole = |t: f64| if self.family == Family::Fractional { t } else { t.round_ties_even() };
                even.map(whole).collect()
            }
            Spacing::Trailing => self.trailing(total, len as f64 / steps as f64, steps, reading)?,
            Spacing::Distilled { original } => distilled(len, original, steps)?,
            Spacing::AlignYourSteps => Vec::new(), // has levels, not times
        };
        Ok(times.into_iter().map(|t| reading.round(t)).collect())
    }

    /// Strides down from `total`, less one.
    ///
    /// numpy counts these strides by dividing back, and at some step counts (61 of 1000) finds one more, whose time is -1. Where
    /// sigmas are laid by themselves these times only say where they begin and end. Where the noisiest times are left out
    /// (`lambda_min_clipped`) there are fewer.
    fn trailing(&self, total: f64, stride: f64, steps: usize, reading: Reading) -> Result<Vec<f64>, Error> {
        let (count, stride) = match reading {
            Reading::Diffusers => ((total / stride).ceil() as usize, (total - stride) - total),
            Reading::Exact => (steps, -total / steps as f64),
        };
        if count > steps && matches!(self.sigmas, Sigmas::Times | Sigmas::LogLinear) {
            return Err(Error::Overrun { steps });
        }
        Ok((0..count).map(|i| (total + i as f64 * stride).round_ties_even() - 1.0).collect())
    }

    /// The levels that stand in for those of the times, one for each step, then the end.
    fn spread(&self, schedule: &Schedule, levels: Vec<Level>, steps: usize, reading: Reading) -> Vec<Level> {
        let whole = self.family == Family::Dropped || self.is_log_linear;
        let (most, least) = match whole {
            true => (schedule.sigmas()[schedule.len() - 1], schedule.sigmas()[0]),
            false => (levels[0].sigma, levels[levels.len() - 1].sigma),
        };
        if self.sigmas == Sigmas::Times {
            return levels.into_iter().chain([self.end_level(schedule, reading)]).collect();
        }
        if self.sigmas == Sigmas::LogLinear && reading == Reading::Diffusers {
            return self.log_linear_of_diffusers(schedule, levels, most, least);
        }
        let is_deaf = reading == Reading::Diffusers && matches!(self.class, Class::Lms | Class::DpmSde);
        let (least, most) = match self.sigmas {
            Sigmas::LogLinear => (least, most),
            Sigmas::Karras { .. } if is_deaf => (least, most),
            _ => (self.ends.0.unwrap_or(least), self.ends.1.unwrap_or(most)),
        };
        // With the end at the least level the ramp reaches it there, and not one step before, as diffusers has it.
        let reaches_end = reading == Reading::Exact && whole && !self.ends_clean(reading);
        let last = (steps - usize::from(!reaches_end)).max(1);
        let level = |index: usize| {
            let sigma = self.sigmas.at(most, least, index, last, reading);
            Level { t: self.told_time(schedule.time(sigma), reading), sigma: reading.round(sigma) }
        };
        let mut spread: Vec<Level> = (0..steps).map(level).collect();
        spread.push(match reading {
            // The last sigma twice: a step of no length.
            Reading::Diffusers
                if self.end == End::Least && matches!(self.class, Class::Deis | Class::SaSolver | Class::UniPc) =>
            {
                Level { t: 0.0, sigma: spread[spread.len() - 1].sigma }
            }
            _ => self.end_level(schedule, reading),
        });
        spread
    }

    /// Log-linear interpolation as diffusers has it: one sigma more than there are times. Where the network is told sigmas it is
    /// called once more, at the last; else that is never left.
    fn log_linear_of_diffusers(&self, schedule: &Schedule, levels: Vec<Level>, most: f64, least: f64) -> Vec<Level> {
        let (from, to) = (single::ln(most as f32), single::ln(least as f32));
        let sigmas = single::linspace(from, to, levels.len() + 1).map(|log| f64::from(f64::from(log).exp() as f32));
        let times = levels.iter().map(|level| level.t).chain([0.0]);
        let mut spread: Vec<Level> = times.zip(sigmas).map(|(t, sigma)| Level { t, sigma }).collect();
        if self.tells_log_sigma {
            spread.push(self.end_level(schedule, Reading::Diffusers));
        }
        spread
    }

    /// The time of a spread sigma, as the class tells it to the network.
    fn told_time(&self, t: f64, reading: Reading) -> f64 {
        let is_even = matches!(self.sigmas, Sigmas::Karras { .. } | Sigmas::Lu);
        match (reading, self.family, self.class) {
            (Reading::Exact, ..) => t,
            (_, Family::Dropped, Class::DpmMultistep) if is_even && !self.is_cosine => t.round_ties_even(),
            (_, Family::Dropped, Class::DpmMultistep) => t.trunc(),
            (_, Family::Dropped, _) if is_even => t.round_ties_even(),
            (_, Family::Dropped, _) => t.trunc(),
            (_, _, Class::Dpm2 | Class::Dpm2Ancestral) if is_even => t.round_ties_even(),
            _ => reading.round(t),
        }
    }
}

impl Sigmas {
    /// The sigma of a place from 0 to `last`, from `most` down to `least`; not for those of the times. Even places are numpy's,
    /// to the last bit, because some classes of diffusers cut the time of a sigma off to a whole number.
    fn at(self, most: f64, least: f64, index: usize, last: usize, reading: Reading) -> f64 {
        let even = |from: f64, to: f64| match index == last {
            true => to,
            false => index as f64 * ((to - from) / last as f64) + from,
        };
        let share = even(0.0, 1.0);
        match self {
            Sigmas::Times => most,
            Sigmas::Karras { rho } => {
                let (from, to) = (most.powf(1.0 / rho), least.powf(1.0 / rho));
                (from + share * (to - from)).powf(rho)
            }
            Sigmas::Exponential | Sigmas::LogLinear => even(most.ln(), least.ln()).exp(),
            Sigmas::Lu => {
                let (from, to) = (reading.ln(most), reading.ln(least));
                (from + share * (to - from)).exp()
            }
            Sigmas::Polyexponential { rho } => (even(1.0, 0.0).powf(rho) * (most / least).ln() + least.ln()).exp(),
            Sigmas::VariancePreserving { beta_d, beta_min, least_time } => {
                let time = even(1.0, least_time);
                (beta_d * time.powi(2) / 2.0 + beta_min * time).exp_m1().sqrt()
            }
            Sigmas::Beta { shape } => least + beta_quantile(1.0 - share, shape) * (most - least),
        }
    }
}

/// Holds that there is a training time for each step.
pub(crate) fn check_steps(steps: usize, len: usize) -> Result<(), Error> {
    match (1..=len).contains(&steps) {
        true => Ok(()),
        false => Err(Error::Steps { expected: format!("1 to {len}, the training times"), found: steps }),
    }
}

/// The best levels for ten steps and that of the first time, evenly in log sigma between them for other numbers of steps;
/// then the end.
fn best_levels(schedule: &Schedule, steps: usize) -> Vec<Level> {
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

/// Every so many-th of the `original` times that a network was distilled on, from the last down.
fn distilled(len: usize, original: usize, steps: usize) -> Result<Vec<f64>, Error> {
    if steps > original {
        let expected = format!("1 to {original}, the original_inference_steps");
        return Err(Error::Steps { expected, found: steps });
    }
    let stride = len / original;
    let time = |step: usize| ((original - step * original / steps) * stride) as f64 - 1.0;
    Ok((0..steps).map(time).collect())
}

/// The quantile of the beta distribution with both parameters `shape`.
fn beta_quantile(probability: f64, shape: f64) -> f64 {
    if probability > 0.5 {
        return 1.0 - beta_quantile(1.0 - probability, shape);
    }
    let whole = 2.0 * incomplete_beta(0.5, shape);
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        match incomplete_beta(middle, shape) < probability * whole {
            true => low = middle,
            false => high = middle,
        }
    }
    (low + high) / 2.0
}

/// `∫₀ˣ (t·(1−t))^(shape−1) dt` for `x` up to one half, by its power series.
fn incomplete_beta(x: f64, shape: f64) -> f64 {
    let mut power = x.powf(shape);
    let mut sum = 0.0;
    for k in 0..64 {
        let k = f64::from(k);
        sum += power / (shape + k);
        power *= x * (1.0 - shape + k) / (k + 1.0);
    }
    sum
}
