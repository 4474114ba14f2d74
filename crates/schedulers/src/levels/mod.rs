//! Which levels a sampler visits: times of the schedule, or sigmas between its ends.

mod layout;
mod sigmas;
mod times;

pub(crate) use layout::{
    Beyond, End, KarrasEnds, Layout, LogLinear, NetworkTime, Ramp, SingleStep, Terminal, Times, Trailing,
};
pub(crate) use sigmas::Sigmas;
pub(crate) use times::{Spacing, check_steps};

use crate::{Error, Level, Schedule, single};

/// The options that decide the levels of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    pub(crate) spacing: Spacing,
    pub(crate) sigmas: Sigmas,
    /// Times or sigmas one by one, instead of the spacing and the sigmas.
    pub(crate) given: Option<Given>,
    /// Whether the run ends without noise, if [`End::Asked`].
    pub(crate) ends_clean: bool,
    /// The smallest half log signal-to-noise ratio of any level.
    pub(crate) least_lambda: Option<f64>,
    /// `sigma_min` and `sigma_max`: the ends of sigmas that are not those of the times. The default is the spacing's ends.
    pub(crate) ends: (Option<f64>, Option<f64>),
    /// Whether sigmas go from the last training time to the first, whatever the spacing is (`log_linear`).
    pub(crate) is_log_linear: bool,
    /// Whether the schedule is `squaredcos_cap_v2`.
    pub(crate) is_cosine: bool,
    /// Whether the network gets a quarter of log sigma for the time.
    pub(crate) time_is_log_sigma: bool,
}

/// Times or sigmas one by one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    /// One for each step.
    Times(Vec<f64>),
    /// One for each step, and the last.
    Sigmas(Vec<f64>),
}

impl Grid {
    /// The levels of `steps` steps, then the end.
    pub(crate) fn levels(&self, schedule: &Schedule, steps: usize, layout: &Layout) -> Result<Vec<Level>, Error> {
        check_steps(steps, schedule.len())?;
        let run = Run { grid: self, layout, schedule, steps };
        let mut levels = match &self.given {
            Some(given) => run.given(given)?,
            None if self.spacing == Spacing::AlignYourSteps => times::align_your_steps(schedule, steps),
            None => run.spread(run.at_times()?),
        };
        levels.iter_mut().for_each(|level| self.set_network_time(level));
        Ok(levels)
    }

    /// The number of steps that diffusers' Euler divides its churn by: one too many with log-linear interpolation, where its
    /// list of sigmas is longer than that of its times, unless the network gets sigmas and is called at each.
    pub(crate) fn counted(&self, steps: usize, layout: &Layout) -> usize {
        let is_given = matches!(self.given, Some(Given::Sigmas(_)));
        let is_longer = layout.log_linear == LogLinear::OneMore && self.sigmas == Sigmas::LogLinear;
        steps + usize::from(is_longer && !is_given && !self.time_is_log_sigma)
    }

    /// The level at a share of the way from one of `levels` to the next (below 0: to the one before), linear in log sigma, or
    /// in sigma if the next has no noise.
    pub(crate) fn beside(&self, levels: &[Level], index: usize, share: f64, schedule: &Schedule) -> Level {
        let from = levels[index].sigma;
        let to = if share < 0.0 { levels[index - 1].sigma } else { levels[index + 1].sigma };
        let sigma = if to == 0.0 { from * (1.0 - share) } else { from * (to / from).powf(share.abs()) };
        let mut level = Level { t: schedule.time(sigma), sigma };
        self.set_network_time(&mut level);
        level
    }

    /// Whether a run ends without noise.
    pub(crate) fn ends_clean(&self, layout: &Layout) -> bool {
        layout.end == End::Asked && self.ends_clean
    }

    fn set_network_time(&self, level: &mut Level) {
        if self.time_is_log_sigma && level.sigma > 0.0 {
            level.t = 0.25 * level.sigma.ln();
        }
    }
}

/// The levels of one run, being computed.
struct Run<'a> {
    grid: &'a Grid,
    layout: &'a Layout,
    schedule: &'a Schedule,
    steps: usize,
}

impl Run<'_> {
    fn given(&self, given: &Given) -> Result<Vec<Level>, Error> {
        let (name, count) = match given {
            Given::Times(times) => ("timesteps", times.len()),
            Given::Sigmas(sigmas) => ("sigmas, less one", sigmas.len() - 1),
        };
        if count != self.steps {
            return Err(Error::Steps { expected: format!("{count}, the length of {name}"), found: self.steps });
        }
        let level = |sigma: f64| match sigma {
            0.0 => Level::CLEAN,
            _ => Level { t: self.schedule.time(sigma), sigma: self.layout.precision.round(sigma) },
        };
        Ok(match given {
            Given::Times(times) => {
                let levels: Vec<Level> = times.iter().map(|&time| self.schedule.level(time)).collect();
                match (self.grid.sigmas, self.layout.log_linear) {
                    // diffusers pairs the given times with sigmas that are not theirs.
                    (Sigmas::LogLinear, LogLinear::OneMore) => self.spread(levels),
                    _ => levels.into_iter().chain([self.end()]).collect(),
                }
            }
            Given::Sigmas(sigmas) => sigmas.iter().map(|&sigma| level(sigma)).collect(),
        })
    }

    fn end(&self) -> Level {
        if self.grid.ends_clean(self.layout) { Level::CLEAN } else { self.schedule.level(0.0) }
    }

    /// The levels of the times of the spacing.
    fn at_times(&self) -> Result<Vec<Level>, Error> {
        let times = self.times()?;
        let len = self.schedule.len();
        let beyond = times.iter().find(|time| **time > (len - 1) as f64 && self.layout.beyond == Beyond::Refused);
        match beyond {
            Some(&time) => Err(Error::Time { time: time as i64, len }),
            None => Ok(times.into_iter().map(|t| self.schedule.level(t)).collect()),
        }
    }

    /// The levels that replace those of the times if sigmas are spaced on their own: one for each step, then the end.
    fn spread(&self, levels: Vec<Level>) -> Vec<Level> {
        let Run { grid, layout, schedule, steps } = *self;
        if grid.sigmas == Sigmas::Times {
            return levels.into_iter().chain([self.end()]).collect();
        }
        let is_whole = layout.times == Times::Dropped || grid.is_log_linear;
        let (most, least) = match is_whole {
            true => (schedule.sigmas()[schedule.len() - 1], schedule.sigmas()[0]),
            false => (levels[0].sigma, levels[levels.len() - 1].sigma),
        };
        if grid.sigmas == Sigmas::LogLinear && layout.log_linear == LogLinear::OneMore {
            return self.one_more(levels, most, least);
        }
        let (least, most) = match (grid.sigmas, layout.karras_ends) {
            (Sigmas::LogLinear, _) | (Sigmas::Karras { .. }, KarrasEnds::Spacing) => (least, most),
            _ => (grid.ends.0.unwrap_or(least), grid.ends.1.unwrap_or(most)),
        };
        let reaches_end = layout.ramp == Ramp::ToEnd && is_whole && !grid.ends_clean(layout);
        let last = (steps - usize::from(!reaches_end)).max(1);
        let level = |index: usize| {
            let sigma = grid.sigmas.at(most, least, index, last, layout.precision);
            Level { t: self.network_time(schedule.time(sigma)), sigma: layout.precision.round(sigma) }
        };
        let mut spread: Vec<Level> = (0..steps).map(level).collect();
        let end = match layout.ramp {
            Ramp::Repeated if !grid.ends_clean(layout) => Level { t: 0.0, sigma: spread[steps - 1].sigma },
            _ => self.end(),
        };
        spread.push(end);
        spread
    }

    /// Log-linear interpolation in diffusers: one sigma more than there are times. If the network gets sigmas it is
    /// called once more, at the last; otherwise the run ends there.
    fn one_more(&self, levels: Vec<Level>, most: f64, least: f64) -> Vec<Level> {
        let (from, to) = (single::ln(most as f32), single::ln(least as f32));
        let sigmas = single::linspace(from, to, levels.len() + 1).map(|log| f64::from(f64::from(log).exp() as f32));
        let times = levels.iter().map(|level| level.t).chain([0.0]);
        let mut spread: Vec<Level> = times.zip(sigmas).map(|(t, sigma)| Level { t, sigma }).collect();
        if self.grid.time_is_log_sigma {
            spread.push(self.end());
        }
        spread
    }

    /// The time of a sigma between those of the schedule, as the network gets it.
    fn network_time(&self, t: f64) -> f64 {
        let is_karras = matches!(self.grid.sigmas, Sigmas::Karras { .. } | Sigmas::Lu);
        match self.layout.network_time {
            NetworkTime::KarrasRounded | NetworkTime::Whole if is_karras => t.round_ties_even(),
            NetworkTime::WholeUnlessCosine if is_karras && !self.grid.is_cosine => t.round_ties_even(),
            NetworkTime::Whole | NetworkTime::WholeUnlessCosine => t.trunc(),
            NetworkTime::Fractional | NetworkTime::KarrasRounded => self.layout.precision.round(t),
        }
    }
}
