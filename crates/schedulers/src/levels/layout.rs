//! How a scheduler class computes its levels: what differs between the classes of diffusers, and from the exact reading.

use crate::precision::Precision;

/// How the levels of a run are computed from the options of a [`Grid`](super::Grid).
///
/// [`Layout::exact`] is the exact reading. Every other value of a field is what some or all classes of diffusers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) times: Times,
    /// The precision of the schedule, the times and the sigmas.
    pub(crate) precision: Precision,
    pub(crate) terminal: Terminal,
    pub(crate) single_step: SingleStep,
    pub(crate) trailing: Trailing,
    pub(crate) beyond: Beyond,
    pub(crate) log_linear: LogLinear,
    pub(crate) karras_ends: KarrasEnds,
    pub(crate) network_time: NetworkTime,
    pub(crate) ramp: Ramp,
    pub(crate) end: End,
}

/// Which times the steps of a class have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// Integer training times.
    Whole,
    /// Times between the training times too.
    Fractional,
    /// Integer training times, one more than there are steps; the last is dropped. Karras sigmas and the like go from the
    /// last training time to the first, whatever the spacing is.
    Dropped,
}

/// The last sigma of a schedule that is rescaled to zero terminal signal-to-noise ratio (arXiv 2305.08891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// [`Level::PURE_NOISE`](crate::Level::PURE_NOISE).
    PureNoise,
    /// That of `ᾱ = 2⁻²⁴`, near 4096.
    Finite,
}

/// The time of a single step with `linspace` spacing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SingleStep {
    /// The last training time.
    Last,
    /// Time 0, as numpy's `linspace` of one number.
    First,
}

/// How many times `trailing` spacing has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trailing {
    /// One for each step.
    Counted,
    /// As many as numpy's `arange` makes, which at some numbers of steps (61 of 1000) is one more, with time -1.
    Arange,
}

/// What happens to a time above the last training time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// It is an error.
    Refused,
    /// It gets the level of the last training time.
    Clamped,
}

/// Euler's `interpolation_type` `log_linear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLinear {
    /// A sigma for each step, with the time of that sigma.
    Even,
    /// One sigma more than there are times, beside times that belong to other sigmas.
    OneMore,
}

/// Which ends Karras sigmas have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KarrasEnds {
    /// `sigma_min` and `sigma_max` if they are set, as for other sigmas.
    Options,
    /// Those of the spacing, whatever is set.
    Spacing,
}

/// The time of a sigma that is not one of the schedule, as the network gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkTime {
    /// The fractional time.
    Fractional,
    /// Karras sigmas: rounded; others: the fractional time.
    KarrasRounded,
    /// Karras and Lu sigmas: rounded; others: truncated.
    Whole,
    /// As [`NetworkTime::Whole`], but always truncated for the `squaredcos_cap_v2` schedule.
    WholeUnlessCosine,
}

/// Where Karras sigmas and the like reach the smallest, in a run that keeps the noise of the first training time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ramp {
    /// At its end. Only if [`Times::Dropped`].
    ToEnd,
    /// One step before its end; then a step to the first training time.
    ToLastStep,
    /// One step before its end; then the same sigma again, a step of no length.
    Repeated,
}

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As `final_sigmas_type` says; no noise if the class has no such option.
    Asked,
    /// The noise of the first training time.
    Least,
}

impl Layout {
    /// The exact reading.
    pub(crate) const fn exact(times: Times) -> Layout {
        Layout {
            times,
            precision: Precision::Double,
            terminal: Terminal::PureNoise,
            single_step: SingleStep::Last,
            trailing: Trailing::Counted,
            beyond: Beyond::Refused,
            log_linear: LogLinear::Even,
            karras_ends: KarrasEnds::Options,
            network_time: NetworkTime::Fractional,
            ramp: Ramp::ToEnd,
            end: End::Asked,
        }
    }

    const fn in_diffusers(times: Times) -> Layout {
        Layout {
            precision: Precision::Single,
            terminal: Terminal::Finite,
            single_step: SingleStep::First,
            trailing: Trailing::Arange,
            log_linear: LogLinear::OneMore,
            ramp: Ramp::ToLastStep,
            ..Layout::exact(times)
        }
    }

    /// Most classes of diffusers with [`Times::Whole`].
    pub(crate) const WHOLE: Layout = Layout { terminal: Terminal::PureNoise, ..Layout::in_diffusers(Times::Whole) };

    /// Most classes of diffusers with [`Times::Fractional`].
    pub(crate) const FRACTIONAL: Layout = Layout { beyond: Beyond::Clamped, ..Layout::in_diffusers(Times::Fractional) };

    /// Most classes of diffusers with [`Times::Dropped`].
    pub(crate) const DROPPED: Layout =
        Layout { network_time: NetworkTime::Whole, ..Layout::in_diffusers(Times::Dropped) };
}
