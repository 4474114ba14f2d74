//! The figures of an experiment: each reads the store's folders and writes beside them.

mod adherence;
mod curves;
mod grid;
mod noise_curves;
mod schedulers;
pub(crate) mod tile;
mod trajectory;

use crate::done::Done;
use crate::measure::Measure;
use crate::spec::Axis;
use anyhow::{Result, bail};
use latentrace_runs::{Loaded, Observer};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a spec can ask to be drawn, by its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The pictures in labelled rows and columns.
    Grid,
    /// The numbers of every run over its calls.
    Curves,
    /// What was measured, against what varies.
    Adherence,
    /// The way of each run: film strips, its plane, its length.
    Trajectory,
    /// Noise schedules, levels, and the noise that the runs really had.
    NoiseCurves,
    /// How near each sampler comes to the solution for its work.
    Schedulers,
}

const NAMES: [(&str, Figure); 6] = [
    ("grid", Figure::Grid),
    ("curves", Figure::Curves),
    ("adherence", Figure::Adherence),
    ("trajectory", Figure::Trajectory),
    ("noise-curves", Figure::NoiseCurves),
    ("schedulers", Figure::Schedulers),
];

impl FromStr for Figure {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Figure> {
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, figure)) => Ok(*figure),
            None => bail!("{name}: unknown\n{}", latentrace_files::hint(name, NAMES.iter().map(|(known, _)| *known))),
        }
    }
}

impl Figure {
    /// Its name in a spec.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, figure)| *figure == self).map_or("", |(name, _)| name)
    }

    /// Draws it, and gives the files.
    pub fn draw(self, finished: &Finished, loaded: &mut Loaded, observer: &dyn Observer) -> Result<Vec<PathBuf>> {
        match self {
            Figure::Grid => grid::grid(finished),
            Figure::Curves => curves::curves(finished),
            Figure::Adherence => adherence::adherence(finished),
            Figure::Trajectory => trajectory::trajectory(finished, loaded, observer),
            Figure::NoiseCurves => noise_curves::noise_curves(finished),
            Figure::Schedulers => schedulers::schedulers(finished, loaded, observer),
        }
    }
}

/// An experiment whose cells are done, or have failed.
pub struct Finished<'a> {
    /// Where its figures go.
    pub root: &'a Path,
    /// What is the same everywhere.
    pub title: &'a str,
    /// What varies.
    pub axes: &'a [Axis],
    /// How many pictures stand side by side where a single field varies.
    pub columns: Option<usize>,
    /// What is measured of every picture.
    pub measures: &'a [Measure],
    /// Its cells, in the order of the spec.
    pub cells: &'a [Done],
    /// The fine solutions that they are held against.
    pub references: &'a [Done],
}
