//! The names of the scheduler classes.

use crate::Error;
use crate::diffusers::{Class, PRESETS, Preset};
use crate::error::nearest;
use serde_json::Value;
use std::fmt;

/// A class, and options with their values.
pub type Named = (Class, Vec<(&'static str, Value)>);

fn presets() -> impl Iterator<Item = &'static Preset> {
    PRESETS.into_iter().flatten()
}

/// The class of a name, and the options that the name sets: a short name (`ddpm`, `dpm++2m_sde`), or the name of a class in
/// diffusers.
pub fn named(name: &str) -> Result<Named, Error> {
    if let Some(class) = Class::ALL.into_iter().find(|class| class.name() == name || class.long_name() == name) {
        return Ok((class, Vec::new()));
    }
    if let Some(preset) = presets().find(|preset| preset.name == name) {
        return Ok((preset.class, preset.options.iter().map(|(key, value)| (*key, (*value).into())).collect()));
    }
    let names = Class::names().chain(Class::ALL.map(Class::long_name));
    Err(Error::Class { found: name.chars().take(60).collect(), nearest: nearest(name, names) })
}

/// The class of a short name (`ddpm`, `pndm`, `lms`) or of its name in diffusers.
pub fn class_of(name: &str) -> Result<Class, Error> {
    Ok(named(name)?.0)
}

impl Class {
    /// Every short name that [`named`] knows: one for each class, then those that set options too.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Class::ALL.into_iter().map(Class::name).chain(presets().map(|preset| preset.name))
    }

    /// The short name, as a user types it.
    pub fn name(self) -> &'static str {
        self.scheduler().name
    }

    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        self.scheduler().about
    }

    /// Whether diffusers has it. A class that it lacks has one reading: the exact one.
    pub fn is_in_diffusers(self) -> bool {
        self.scheduler().diffusers.is_some()
    }

    /// The name in diffusers; the short name if diffusers lacks the class.
    fn long_name(self) -> &'static str {
        self.scheduler().diffusers.unwrap_or(self.name())
    }
}

/// The name in diffusers; the short name if diffusers lacks the class.
impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.long_name())
    }
}
