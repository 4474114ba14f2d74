//! Which cells of a sweep a process makes, where several processes or machines share the work.

use anyhow::{Context, Result, ensure};
use latentrace_files::{counted, near};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// Which cells of a sweep a process makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All. Those that another process has in hand are waited for at the end; then everything is measured and drawn.
    #[default]
    All,
    /// None: what is there is measured and drawn.
    Gather,
    /// Those with these keys.
    Only(Vec<String>),
    /// One of several shares.
    Shard(Shard),
    /// One of several shares, and then what others have not begun.
    Worker(Shard),
}

/// One of several shares of about equal size, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

/// More shares than there are cells in any sweep.
const MOST: usize = 10_000_000;

impl Shard {
    /// The share `index` of `count`.
    ///
    /// # Errors
    /// There is no such share.
    pub fn new(index: usize, count: usize) -> Result<Shard> {
        ensure!((1..=MOST).contains(&count), "{count} shares: expected 1 to {MOST}");
        ensure!((1..=count).contains(&index), "share {index} of {count}: shares are counted from 1 to {count}");
        Ok(Shard { index, count })
    }

    /// Its part of so many things that stand in a row.
    pub(crate) fn of(self, length: usize) -> std::ops::Range<usize> {
        let at = |share: usize| (length as u128 * share as u128 / self.count as u128) as usize;
        at(self.index - 1)..at(self.index)
    }
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    /// Reads `3/8`.
    fn from_str(text: &str) -> Result<Shard> {
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = numbers.with_context(|| format!("{text}: expected a share such as 3/8"))?;
        Shard::new(index, count)
    }
}

impl Part {
    /// Whether tables and figures are made at the end.
    pub(crate) fn gathers(&self) -> bool {
        matches!(self, Part::All | Part::Gather)
    }

    /// The places of the cells to be made, in order. `ordered` are the places of all cells as a process that makes all would
    /// make them; cells that share calls stand together there. `keys` are all keys of the cell at a place.
    ///
    /// # Errors
    /// A key is not that of a cell.
    pub(crate) fn places<'a>(&self, ordered: Vec<usize>, keys: impl Fn(usize) -> &'a [String]) -> Result<Vec<usize>> {
        match self {
            Part::All => Ok(ordered),
            Part::Gather => Ok(Vec::new()),
            Part::Shard(shard) => Ok(ordered[shard.of(ordered.len())].to_vec()),
            Part::Worker(shard) => {
                let own = shard.of(ordered.len());
                let mut ordered = ordered;
                ordered.rotate_left(own.start);
                Ok(ordered)
            }
            Part::Only(asked) => {
                let known: HashMap<&str, usize> = ordered
                    .iter()
                    .flat_map(|&place| keys(place).iter().map(move |key| (key.as_str(), place)))
                    .collect();
                let mut asked_for = HashSet::new();
                for key in asked {
                    ensure!(!key.is_empty(), "--only: an empty key\nhint: --list prints the keys");
                    let like = || match near(key, ordered.iter().flat_map(|&place| keys(place)).map(String::as_str)) {
                        Some(other) => format!("did you mean {other}?"),
                        None => "--list prints the keys".into(),
                    };
                    let cells = counted(ordered.len(), "cell");
                    let place = known.get(key.as_str()).with_context(|| {
                        format!("{key}: none of the {cells} of this experiment has this key here\nhint: {}", like())
                    })?;
                    asked_for.insert(*place);
                }
                Ok(ordered.into_iter().filter(|place| asked_for.contains(place)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_wrong_ones_are_refused() {
        assert_eq!("3/8".parse::<Shard>().unwrap(), Shard { index: 3, count: 8 });
        for (text, said) in [
            ("0/8", "share 0 of 8: shares are counted from 1 to 8"),
            ("9/8", "share 9 of 8"),
            ("1/0", "0 shares: expected 1 to"),
            ("1", "expected a share such as 3/8"),
            ("-1/2", "expected a share"),
            ("1/99999999999999999999", "expected a share"),
        ] {
            let error = format!("{:#}", text.parse::<Shard>().unwrap_err());
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn shares_are_of_equal_size_and_are_everything_once() {
        for (length, count) in [(10, 3), (2, 5), (0, 4), (9, 9), (10_000, 7)] {
            let shares: Vec<_> = (1..=count).map(|index| Shard::new(index, count).unwrap().of(length)).collect();
            assert_eq!(shares.iter().cloned().flatten().collect::<Vec<_>>(), (0..length).collect::<Vec<_>>());
            assert!(shares.iter().all(|share| share.len().abs_diff(length / count) <= 1), "{shares:?}");
        }
    }

    #[test]
    fn a_part_is_in_the_order_of_the_whole() {
        let keys: Vec<Vec<String>> = (0..5).map(|place| vec![format!("old{place}"), format!("key{place}")]).collect();
        let places = |part: Part| part.places(vec![4, 2, 0, 1, 3], |place| &keys[place]);
        let only = |keys: &[&str]| Part::Only(keys.iter().map(|key| key.to_string()).collect());
        assert_eq!(places(Part::All).unwrap(), [4, 2, 0, 1, 3]);
        assert!(places(Part::Gather).unwrap().is_empty());
        assert_eq!(places(only(&["key1", "old2", "key2"])).unwrap(), [2, 1]);
        assert_eq!(places(Part::Shard(Shard::new(2, 2).unwrap())).unwrap(), [0, 1, 3]);
        assert_eq!(places(Part::Worker(Shard::new(2, 2).unwrap())).unwrap(), [0, 1, 3, 4, 2]);
        let error = format!("{:#}", places(only(&["key9"])).unwrap_err());
        assert!(
            error.contains("key9: none of the 5 cells of this experiment has this key here\nhint: did you mean key"),
            "{error}"
        );
        let error = format!("{:#}", places(only(&[""])).unwrap_err());
        assert!(error.starts_with("--only: an empty key\nhint: "), "{error}");
    }
}
