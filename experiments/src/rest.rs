//! The rest of a sweep, as its store shows it: what is left, who is at work, and how long it may take.

use crate::lease::Holder;
use crate::list::Listed;
use crate::time_left::{LAST, Spent, ToGo, time_left};
use latentrace_files::read_text;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is left of a sweep, and which processes make it.
#[derive(Default)]
pub(crate) struct Rest<'a> {
    cells: Vec<&'a Listed>,
    /// Host and number of each.
    processes: HashSet<(&'a str, u32)>,
}

impl<'a> Rest<'a> {
    /// A cell is left. `holder` is the process that has it in hand.
    pub(crate) fn add(&mut self, cell: &'a Listed, holder: Option<&'a Holder>) {
        self.cells.push(cell);
        self.processes.extend(holder.map(|holder| (holder.host.as_str(), holder.pid)));
    }

    /// How long it may take, see [`time_left`]: `all` are the cells of the sweep, `done` the folders of those that are done, by their
    /// keys. Where nobody is at work, nothing is read.
    pub(crate) fn time(&self, all: &[Listed], done: &HashMap<String, PathBuf>) -> Option<Duration> {
        if self.processes.is_empty() {
            return None;
        }
        let known: Option<usize> = self.cells.iter().map(|cell| cell.evaluations).sum();
        let to_go = known.map_or(ToGo::Cells(self.cells.len()), ToGo::Evaluations);
        let evaluations: HashMap<&str, usize> =
            all.iter().flat_map(|cell| cell.keys().map(|key| (key, cell.evaluations.unwrap_or_default()))).collect();
        let of = |key: &str| evaluations.get(key).copied().unwrap_or_default();
        let spent = |(key, folder): (&str, &Path)| Some(Spent { seconds: seconds(folder)?, evaluations: of(key) });
        let spent: Vec<Spent> = newest(done).into_iter().filter_map(spent).collect();
        time_left(&spent, to_go, self.processes.len())
    }
}

/// The newest folders, at most [`LAST`], with their keys.
fn newest(done: &HashMap<String, PathBuf>) -> Vec<(&str, &Path)> {
    let time = |path: &Path| std::fs::metadata(path).ok()?.modified().ok();
    let mut by_time: Vec<(SystemTime, (&str, &Path))> =
        done.iter().filter_map(|(key, path)| Some((time(path)?, (key.as_str(), path.as_path())))).collect();
    by_time.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    by_time.into_iter().take(LAST).map(|(_, of)| of).collect()
}

/// How long a cell took.
fn seconds(folder: &Path) -> Option<f64> {
    let about: Value = serde_json::from_str(&read_text(&folder.join("cell.json")).ok()?).ok()?;
    about["seconds"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(index: usize, evaluations: Option<usize>) -> Listed {
        Listed { key: format!("{index:016x}"), also: Vec::new(), label: format!("seed {index}"), evaluations }
    }

    #[test]
    fn a_reference_that_is_left_counts_by_its_evaluations_where_the_list_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let made = |cell: &Listed| {
            let place = folder.path().join(&cell.key);
            std::fs::create_dir(&place).unwrap();
            std::fs::write(place.join("cell.json"), r#"{ "seconds": 2.0 }"#).unwrap();
            (cell.key.clone(), place)
        };
        let mut all: Vec<Listed> = (0..5).map(|index| listed(index, Some(20))).collect();
        all[4].evaluations = Some(1000);
        let done: HashMap<String, PathBuf> = all[..3].iter().map(made).collect();
        let time = |all: &[Listed], holder: Option<&Holder>| {
            let mut rest = Rest::default();
            rest.add(&all[3], holder);
            rest.add(&all[4], None);
            rest.time(all, &done).map(|time| time.as_secs_f64())
        };
        assert_eq!(time(&all, Some(Holder::this())), Some(102.0), "1,020 evaluations of a tenth of a second");
        assert_eq!(time(&all, None), None, "nobody is at work");
        all[4].evaluations = None;
        assert_eq!(time(&all, Some(Holder::this())), Some(4.0), "two cells of 2 s");
    }
}
