//! How long the rest of a sweep may take: one estimate, for whoever makes it and for whoever looks on.

use std::time::Duration;

/// What a cell that is done has cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// How long it took, with its frames and files where that is known.
    pub seconds: f64,
    /// How many rows the network computes for it by itself. What it took over from other cells is counted: the cells that are left
    /// may take over as much.
    pub evaluations: usize,
}

/// What is left of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToGo {
    /// So many rows of the network, for each cell by itself.
    Evaluations(usize),
    /// So many cells, of which nothing else is known: an earlier version listed them.
    Cells(usize),
}

/// Of more cells only the last ones say how fast it goes now.
pub(crate) const LAST: usize = 50;

/// A single cell says little: the first one also warms up.
const LEAST: usize = 2;

/// How long the rest may take by so many processes, each as fast as the cells that are done were made. `None` if too few of them
/// say it, nothing is left, or nobody is at work.
///
/// An evaluation takes the median of what it took in the cells that are done. So neither a slow first cell nor a reference of many
/// steps changes it, and a reference that is left counts by its evaluations. Of two medians it is the lower one.
pub fn time_left(done: &[Spent], left: ToGo, processes: usize) -> Option<Duration> {
    let known = |spent: &&Spent| spent.seconds.is_finite() && spent.seconds >= 0.0;
    let done = done.iter().filter(known);
    let (each, left): (Vec<f64>, usize) = match left {
        ToGo::Cells(left) => (done.map(|spent| spent.seconds).collect(), left),
        ToGo::Evaluations(left) => {
            let asked = done.filter(|spent| spent.evaluations > 0);
            (asked.map(|spent| spent.seconds / spent.evaluations as f64).collect(), left)
        }
    };
    if each.len() < LEAST || left == 0 || processes == 0 {
        return None;
    }
    Duration::try_from_secs_f64(lower_median(each)? * left as f64 / processes as f64).ok()
}

/// The number in the middle; of two the lower one.
fn lower_median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len().saturating_sub(1) / 2).copied()
}

/// How fast one process makes the cells of a sweep.
#[derive(Debug, Default)]
pub struct Speed {
    /// The last cells that it made.
    spent: Vec<Spent>,
    /// How many cells are left.
    cells: usize,
    /// How many evaluations they have.
    evaluations: usize,
}

impl Speed {
    /// Before the first cell. `evaluations` has for each cell to be made how many rows the network computes for it by itself.
    pub fn new(evaluations: impl Iterator<Item = usize>) -> Speed {
        evaluations.fold(Speed::default(), |speed, more| Speed {
            cells: speed.cells + 1,
            evaluations: speed.evaluations + more,
            ..speed
        })
    }

    /// A cell with so many evaluations has come to its end. `took` says how long that took, if this process made it.
    pub fn ended(&mut self, evaluations: usize, took: Option<Duration>) {
        self.cells = self.cells.saturating_sub(1);
        self.evaluations = self.evaluations.saturating_sub(evaluations);
        let Some(took) = took else { return };
        self.spent.push(Spent { seconds: took.as_secs_f64(), evaluations });
        if self.spent.len() > LAST {
            self.spent.remove(0);
        }
    }

    /// How many cells are left.
    pub fn cells_left(&self) -> usize {
        self.cells
    }

    /// How long the rest may take.
    pub fn time_left(&self) -> Option<Duration> {
        time_left(&self.spent, ToGo::Evaluations(self.evaluations), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(cells: &[(f64, usize)]) -> Vec<Spent> {
        cells.iter().map(|&(seconds, evaluations)| Spent { seconds, evaluations }).collect()
    }

    fn seconds(done: &[(f64, usize)], left: ToGo, processes: usize) -> Option<f64> {
        time_left(&spent(done), left, processes).map(|time| time.as_secs_f64())
    }

    #[test]
    fn a_slow_first_cell_says_nothing_of_the_others() {
        assert_eq!(seconds(&[(90.0, 100)], ToGo::Evaluations(700), 1), None, "there is no other to compare it with");
        assert_eq!(seconds(&[(90.0, 100), (10.0, 100)], ToGo::Evaluations(700), 1), Some(70.0));
        assert_eq!(seconds(&[(90.0, 100), (10.0, 100), (10.0, 100)], ToGo::Evaluations(600), 1), Some(60.0));
    }

    #[test]
    fn a_reference_counts_by_its_evaluations_done_or_left() {
        let cells = [(1.0, 10), (1.0, 10), (1.0, 10)];
        assert_eq!(seconds(&cells, ToGo::Evaluations(1000), 1), Some(100.0), "left");
        let with_reference = [(100.0, 1000), (1.0, 10), (1.0, 10)];
        assert_eq!(seconds(&with_reference, ToGo::Evaluations(20), 1), Some(2.0), "done");
        assert_eq!(seconds(&with_reference, ToGo::Cells(2), 1), Some(2.0), "also where evaluations are not known");
    }

    #[test]
    fn processes_share_what_is_left_and_nothing_is_said_where_nothing_is_known() {
        let cells = [(2.0, 10), (2.0, 10)];
        assert_eq!(seconds(&cells, ToGo::Evaluations(50), 2), Some(5.0));
        assert_eq!(seconds(&cells, ToGo::Cells(5), 1), Some(10.0));
        for (done, left, processes) in [
            (&cells[..], ToGo::Evaluations(0), 1),
            (&cells[..], ToGo::Cells(5), 0),
            (&[][..], ToGo::Cells(5), 1),
            (&[(f64::NAN, 10), (2.0, 10)][..], ToGo::Cells(5), 1),
            (&[(2.0, 0), (2.0, 10)][..], ToGo::Evaluations(5), 1),
        ] {
            assert_eq!(seconds(done, left, processes), None, "{done:?} {left:?} {processes}");
        }
    }

    #[test]
    fn a_process_forgets_what_it_made_long_ago_and_counts_down() {
        let mut speed = Speed::new(std::iter::repeat_n(10, 2 * LAST + 4));
        assert_eq!((speed.time_left(), speed.cells_left()), (None, 2 * LAST + 4));
        (0..LAST).for_each(|_| speed.ended(10, Some(Duration::from_secs(10))));
        (0..LAST).for_each(|_| speed.ended(10, Some(Duration::from_secs(1))));
        assert_eq!(speed.time_left(), Some(Duration::from_secs(4)), "it goes faster now");
        speed.ended(10, None);
        assert_eq!(speed.time_left(), Some(Duration::from_secs(3)), "another process made this one");
        (0..3).for_each(|_| speed.ended(10, None));
        assert_eq!((speed.time_left(), speed.cells_left()), (None, 0), "nothing is left");
    }
}
