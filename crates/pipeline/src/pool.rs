//! Values that runs have in common, each kept as long as a later run needs it.

use crate::{Call, Lineage, Lines, Mode};
use std::collections::HashMap;
use std::hash::Hash;

/// Values by their lineage. A value is kept from the run that computes it until the last run that needs it has ended.
pub(crate) struct Pool<T> {
    /// How many of the runs that have not begun need a value.
    wanted: HashMap<Lineage, usize>,
    kept: HashMap<Lineage, (T, usize)>,
    /// How many bytes there is room for.
    room: usize,
}

impl<T> Pool<T> {
    /// The values that runs need, each run's without duplicates.
    pub(crate) fn of(runs: impl Iterator<Item = Lineage>, room: usize) -> Pool<T> {
        let mut wanted = HashMap::new();
        runs.for_each(|value| *wanted.entry(value).or_insert(0) += 1);
        wanted.retain(|_, count| *count > 1); // what one run needs is never kept
        Pool { wanted, kept: HashMap::new(), room }
    }

    /// A run begins that needs these values.
    pub(crate) fn begin(&mut self, values: impl Iterator<Item = Lineage>) {
        for value in values {
            if let Some(count) = self.wanted.get_mut(&value) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// The runs that have begun are at their end: what no other needs is dropped.
    pub(crate) fn end(&mut self) {
        self.wanted.retain(|_, count| *count > 0);
        let Pool { wanted, kept, room } = self;
        kept.retain(|value, (_, bytes)| {
            let is_wanted = wanted.contains_key(value);
            *room += if is_wanted { 0 } else { *bytes };
            is_wanted
        });
    }

    /// A value, if it is kept.
    pub(crate) fn get(&self, value: Lineage) -> Option<&T> {
        self.kept.get(&value).map(|(kept, _)| kept)
    }

    /// Keeps a value of so many bytes, if a later run needs it and there is room.
    pub(crate) fn put(&mut self, value: Lineage, bytes: usize, make: impl FnOnce() -> T) {
        let is_wanted = self.wanted.get(&value).is_some_and(|count| *count > 0);
        if is_wanted && bytes <= self.room && !self.kept.contains_key(&value) {
            self.room -= bytes;
            self.kept.insert(value, (make(), bytes));
        }
    }

    /// How many values are kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

/// The room for outputs of the network: 2048 calls of a picture of 512 by 512 pixels.
pub(crate) const ROOM: usize = 256 << 20;

/// The rows that a run may take from another, without duplicates.
pub(crate) fn wanted(lines: &Lines) -> impl Iterator<Item = Lineage> {
    let mut rows: Vec<Lineage> = lines.calls.iter().flat_map(Call::taken).collect();
    rows.sort_unstable();
    rows.dedup();
    rows.into_iter()
}

/// The order in which runs are to be made, each with the model that it uses: those of one model together, and a run right after those
/// that it has most calls in common with. Otherwise the order is the given one. So what runs have in common is mostly not kept for long.
pub fn order<M: Eq + Hash>(runs: &[(M, &Lines)]) -> Vec<usize> {
    let mut models: HashMap<&M, usize> = HashMap::new();
    let mut firsts: HashMap<(usize, usize, Vec<Lineage>), usize> = HashMap::new();
    let mut places: Vec<(Vec<usize>, usize)> = Vec::new();
    for (index, (model, lines)) in runs.iter().enumerate() {
        // A run is placed by the first run with its model, the first with which it has its first call in common, its first two, ..
        let mut same = *models.entry(model).or_insert(index);
        let mut place = vec![same];
        for (call, needed) in lines.calls.iter().enumerate() {
            same = *firsts.entry((call, same, needed.rows().collect())).or_insert(index);
            place.push(same);
        }
        places.push((place, index));
    }
    places.sort();
    places.into_iter().map(|(_, index)| index).collect()
}

/// How many rows the network computes for each group of runs, in this order, if each group is made in one batch. A row is one sample
/// with one text.
///
/// All together are the number of different rows, but for calls that are seen: these are computed for each run that sees them.
pub fn evaluations(groups: &[Vec<&Lines>]) -> Vec<usize> {
    let mut pool: Pool<()> = Pool::of(groups.iter().flatten().flat_map(|lines| wanted(lines)), ROOM);
    let of_group = |group: &Vec<&Lines>| {
        group.iter().for_each(|lines| pool.begin(wanted(lines)));
        let calls = group.iter().map(|lines| lines.calls.len()).max().unwrap_or(0);
        let count = (0..calls).map(|call| of_call(&mut pool, group, call)).sum();
        pool.end();
        count
    };
    groups.iter().map(of_group).collect()
}

/// How many rows a batch computes at a call. Those that later runs need are kept.
fn of_call(pool: &mut Pool<()>, group: &[&Lines], call: usize) -> usize {
    let mut rows = Vec::new();
    for lines in group {
        let Some(needed) = lines.calls.get(call) else { continue };
        let is_known = |row: &Lineage| !needed.seen && pool.get(*row).is_some();
        // A run that is made alone computes both rows of a call or none.
        let is_whole = lines.mode == Mode::Alone && !needed.rows().all(|row| is_known(&row));
        for row in needed.rows().filter(|row| is_whole || !is_known(row)) {
            if !rows.contains(&(row, lines.bytes)) {
                rows.push((row, lines.bytes));
            }
        }
    }
    rows.iter().for_each(|(row, bytes)| pool.put(*row, *bytes, || ()));
    rows.len()
}
