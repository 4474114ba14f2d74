//! What a scheduler class is: names, options, levels, and how its sampler is read.

use super::sampler::Sampler;
use crate::levels::{Layout, Spacing, Times};
use crate::options::Reader;
use crate::{Class, Error, Reading};
use serde_json::Value;
use std::sync::Arc;

/// A scheduler class, all of it.
pub(crate) struct Scheduler {
    /// The short name, as a user types it.
    pub(crate) name: &'static str,
    /// The name in diffusers; `None` if diffusers has no such class.
    pub(crate) diffusers: Option<&'static str>,
    /// What it is, in a few words.
    pub(crate) about: &'static str,
    /// The options that it reads in diffusers 0.42, in groups, with their defaults there.
    pub(crate) options: &'static [&'static [Setting]],
    /// The options that it reads here only. Those that choose levels are added to every class.
    pub(crate) only_exact: &'static [&'static [Setting]],
    /// How diffusers computes the levels of the class.
    pub(crate) layout: Layout,
    /// Values that other classes of diffusers know and this one does not: the option and the word.
    pub(crate) lacks: &'static [&'static [(&'static str, &'static str)]],
    /// Reads `timestep_spacing` and what goes with it; the number is that of the training times.
    pub(crate) spacing: fn(&Reader, usize) -> Result<Spacing, Error>,
    /// Reads the options of the sampler.
    pub(crate) sampler: fn(&Reader) -> Result<Arc<dyn Sampler>, Error>,
}

impl Scheduler {
    /// How a reading computes the levels of the class.
    pub(crate) fn layout(&self, reading: Reading) -> Layout {
        match reading {
            Reading::Diffusers => self.layout,
            Reading::Exact => Layout::exact(self.layout.times),
        }
    }

    /// Whether diffusers keeps samples in `x₀ + sigma·noise`, and not at unit variance.
    pub(crate) fn is_at_image_scale(&self) -> bool {
        self.layout.times == Times::Fractional
    }
}

/// A short name that sets some options too.
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    pub(crate) class: Class,
    pub(crate) options: &'static [Setting],
}

/// An option and its value.
pub(crate) type Setting = (&'static str, Literal);

/// A JSON value that can be a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Flag(bool),
    Whole(u64),
    Number(f64),
    Word(&'static str),
    EmptyList,
}

impl From<Literal> for Value {
    fn from(literal: Literal) -> Value {
        match literal {
            Literal::Null => Value::Null,
            Literal::Flag(flag) => flag.into(),
            Literal::Whole(number) => number.into(),
            Literal::Number(number) => number.into(),
            Literal::Word(word) => word.into(),
            Literal::EmptyList => Value::Array(Vec::new()),
        }
    }
}
