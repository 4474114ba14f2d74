//! Typed access to an option's value by its name, with errors that name the field, the value and the range.

use super::known::Known;
use super::values::Values;
use crate::Error;
use crate::error::{nearest, shown};
use serde_json::Value;

/// The most items of a list, and the most training times.
pub(crate) const MOST_TIMES: usize = 100_000;

/// The options of a class and their values.
pub(crate) struct Reader<'a> {
    pub(crate) known: &'a [Known],
    pub(crate) values: &'a Values,
}

impl Reader<'_> {
    /// Whether the class has an option.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.known.iter().any(|known| known.name == name)
    }

    /// The value of an option; null if the class has no such option.
    pub(crate) fn value(&self, name: &str) -> Value {
        let known = self.known.iter().find(|known| known.name == name);
        known.map_or(Value::Null, |known| self.values.of(known).0.clone())
    }

    /// A number in a range.
    pub(crate) fn number(&self, name: &str, least: f64, most: f64, expected: &str) -> Result<f64, Error> {
        let value = self.value(name);
        value.as_f64().filter(|number| (least..=most).contains(number)).ok_or_else(|| wrong(name, expected, &value))
    }

    /// A number; `None` for null.
    pub(crate) fn number_or_null(&self, name: &str, least: f64, expected: &str) -> Result<Option<f64>, Error> {
        match self.value(name) {
            Value::Null => Ok(None),
            _ => self.number(name, least, f64::MAX, expected).map(Some),
        }
    }

    /// An integer in a range.
    pub(crate) fn integer(&self, name: &str, least: usize, most: usize) -> Result<usize, Error> {
        let value = self.value(name);
        let number = value.as_u64().map(|number| number as usize).filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| wrong(name, &format!("a whole number in {least}..={most}"), &value))
    }

    /// True or false; null is false, as in Python.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.value(name) {
            Value::Bool(flag) => Ok(flag),
            Value::Null => Ok(false),
            value => Err(wrong(name, "true or false", &value)),
        }
    }

    /// A list of items that `read` accepts; `None` for null.
    pub(crate) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&Value) -> Option<T>,
        expected: &str,
    ) -> Result<Option<Vec<T>>, Error> {
        match self.value(name) {
            Value::Null => Ok(None),
            Value::Array(items) if items.len() <= MOST_TIMES => {
                let items = items.iter().map(|item| read(item).ok_or_else(|| wrong(name, expected, item)));
                items.collect::<Result<_, _>>().map(Some)
            }
            value => Err(wrong(name, expected, &value)),
        }
    }

    /// The meaning of the word that the option is, one of `choices`.
    pub(crate) fn choice<T: Clone>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, Error> {
        let value = self.value(name);
        let word = value.as_str().unwrap_or_default();
        let chosen = choices.iter().find(|(choice, _)| *choice == word).map(|(_, meaning)| meaning.clone());
        let names = || choices.iter().map(|(choice, _)| *choice);
        chosen.ok_or_else(|| Error::Choice {
            field: name.into(),
            found: shown(&value),
            allowed: names().collect::<Vec<_>>().join(", "),
            nearest: nearest(word, names()),
        })
    }

    /// Checks that an option that cannot be done here is off.
    pub(crate) fn must_be_off(&self, name: &'static str, reason: &'static str) -> Result<(), Error> {
        match self.value(name) {
            Value::Null | Value::Bool(false) => Ok(()),
            found => Err(Error::Unsupported { field: name, found: shown(&found), reason }),
        }
    }
}

/// The error of a value of the wrong kind, or outside its range.
pub(crate) fn wrong(field: &str, expected: &str, found: &Value) -> Error {
    Error::Value { field: field.into(), expected: expected.into(), found: shown(found) }
}
