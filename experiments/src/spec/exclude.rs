//! Cells that are left out of an experiment, and what excludes nothing.

use super::Spec;
use super::axis::written;
use super::values::{integer, number};
use anyhow::{Error, Result, anyhow};
use toml::{Table, Value};

/// What of a spec's patterns excludes, counted while its cells are made.
pub(super) struct Excluded<'a>(Vec<(&'a Table, Use)>);

/// What a pattern has excluded so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// No cell is like it.
    Nothing,
    /// Cells that an earlier pattern excludes as well.
    OfOthers,
    /// A cell that no earlier pattern excludes.
    Own,
}

impl<'a> Excluded<'a> {
    /// Patterns that have excluded nothing yet.
    pub(super) fn new(patterns: &'a [Table]) -> Excluded<'a> {
        Excluded(patterns.iter().map(|pattern| (pattern, Use::Nothing)).collect())
    }

    /// Whether a cell with these fields and words is excluded.
    pub(super) fn takes(&mut self, cell: &Table) -> bool {
        let mut is_taken = false;
        for (_, of) in self.0.iter_mut().filter(|(pattern, _)| matches(pattern, cell)) {
            *of = match *of {
                Use::Nothing if is_taken => Use::OfOthers,
                before if is_taken => before,
                _ => Use::Own,
            };
            is_taken = true;
        }
        is_taken
    }
}

impl Spec {
    /// Checks that every pattern has excluded a cell. One of a field that `--set` replaces may exclude none.
    pub(super) fn check_excluded(&self, excluded: &Excluded) -> Result<()> {
        let is_replaced = |pattern: &Table| pattern.keys().any(|key| self.replaced(key).is_some());
        let idle = excluded.0.iter().position(|(pattern, of)| *of != Use::Own && !is_replaced(pattern));
        let Some(index) = idle else { return Ok(()) };
        let error = match excluded.0[index] {
            (_, Use::OfOthers) => anyhow!("the cells that it excludes are excluded already\nhint: leave it out"),
            (pattern, _) => self.none_like(pattern),
        };
        Err(self.at(&format!("exclude.{index}"), error))
    }

    /// The error for a pattern that no cell has: with the value of it that no cell has, if there is one.
    fn none_like(&self, pattern: &Table) -> Error {
        let never = pattern.iter().find(|(key, value)| !self.values_of(key).iter().any(|own| is_same(value, own)));
        let hint = match never {
            Some((key, value)) => match self.values_of(key).as_slice() {
                [] => format!("{key} is not given under fixed, vary or zip"),
                own => format!("{key} is never {}, but {}", written(value), listed(own)),
            },
            None => "each of its values occurs, but not all of them in one cell".into(),
        };
        anyhow!("no cell is like this, so nothing is excluded\nhint: {hint}")
    }

    /// All values that a field or word has in cells.
    fn values_of(&self, key: &str) -> Vec<&Value> {
        let varied = self.groups.iter().flat_map(|group| &group.fields).filter(|(field, _)| field == key);
        self.fixed.get(key).into_iter().chain(varied.flat_map(|(_, values)| values)).collect()
    }
}

/// The first few values, as tables have them.
fn listed(values: &[&Value]) -> String {
    const MOST: usize = 8;
    let shown: Vec<String> = values.iter().take(MOST).map(|value| written(value)).collect();
    match values.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Whether a cell has every value of a pattern.
fn matches(pattern: &Table, cell: &Table) -> bool {
    pattern.iter().all(|(key, value)| cell.get(key).is_some_and(|own| is_same(value, own)))
}

/// Whether two values are the same: 4 is 4.0, and whole numbers are compared exactly.
fn is_same(one: &Value, other: &Value) -> bool {
    match (integer(one), integer(other)) {
        (Some(a), Some(b)) => a == b,
        _ => match (number(one), number(other)) {
            (Some(a), Some(b)) => a == b,
            _ => one == other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec_with;

    const SPEC: &str = "name='x'\n[vary]\nseed=[1,2]\n[[zip]]\nsteps=[2,3]\nguidance=[4,5]\n";

    fn expanded(exclude: &str, overrides: &[&str]) -> Result<usize, String> {
        let spec = spec_with(&format!("{SPEC}{exclude}"), overrides).unwrap();
        spec.expand().map(|sweep| sweep.points.len()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_excludes_nothing_is_named_with_its_line() {
        for (exclude, says) in [
            (
                "[[exclude]]\nseed=3",
                ":7: exclude.0: no cell is like this, so nothing is excluded\nhint: seed is never 3, but 1, 2",
            ),
            ("[[exclude]]\nseed=1\nsteps=2\n[[exclude]]\nguidance=9.5", ":10: exclude.1: no cell"),
            ("[[exclude]]\nsteps=2\nguidance=5", "hint: each of its values occurs, but not all of them in one cell"),
            ("[[exclude]]\nsampler='lms'", "hint: sampler is not given under fixed, vary or zip"),
            (
                "[[exclude]]\nseed=1\n[[exclude]]\nseed=1\nsteps=2",
                ":9: exclude.1: the cells that it excludes are excluded",
            ),
        ] {
            let error = expanded(exclude, &[]).unwrap_err();
            assert!(error.contains(says), "{exclude}: {error}");
        }
        let all = expanded("[[exclude]]\nseed=1\n[[exclude]]\nseed=2", &[]).unwrap_err();
        assert!(all.contains(":7: exclude: all of the 4 cells are excluded"), "{all}");
    }

    #[test]
    fn patterns_may_overlap_and_numbers_are_compared_as_numbers() {
        assert_eq!(expanded("[[exclude]]\nseed=1\n[[exclude]]\nguidance=4.0", &[]), Ok(1));
        assert_eq!(expanded("[[exclude]]\nseed=1\nsteps=2\nguidance=4", &[]), Ok(3));
    }

    #[test]
    fn a_value_that_is_replaced_on_the_command_line_need_not_occur() {
        let exclude = "[[exclude]]\nseed=2\nsteps=3";
        assert_eq!(expanded(exclude, &["seed=7"]), Ok(2));
        assert_eq!(expanded(exclude, &["seed=7", "negative=red"]), Ok(2));
        let error = expanded("[[exclude]]\nseed=3", &["negative=red"]).unwrap_err();
        assert!(error.contains(":7: exclude.0: no cell is like this"), "{error}");
    }
}
