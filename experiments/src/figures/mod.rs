//! The figures of an experiment. Each reads the cells of the store, and writes files into the experiment's folder.

mod adherence;
mod curves;
mod grid;
mod inking;
mod noise_curves;
mod ordered;
mod reference;
mod schedulers;
pub(crate) mod tile;
mod trajectory;

pub(crate) use ordered::numbers;
pub(crate) use reference::errors;

use crate::done::Done;
use crate::measure::{Measure, Sight};
use crate::spec::Axis;
use anyhow::{Result, bail};
use latentrace_runs::{Loaded, Observer};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A figure that a spec can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The pictures in labelled rows and columns.
    Grid,
    /// Numbers of every run over its network calls.
    Curves,
    /// The measures of pictures against the fields that vary.
    Adherence,
    /// The path of each run: film strips, principal components, curvature.
    Trajectory,
    /// Noise schedules, noise levels, and the measured noise of the runs.
    NoiseCurves,
    /// The error of each sampler against its number of network calls.
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
    /// Whether it shows how long the runs took, so that each has to make all its calls itself.
    pub(crate) fn is_timed(self) -> bool {
        self == Figure::Schedulers
    }

    /// Its name in a spec.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, figure)| *figure == self).map_or("", |(name, _)| name)
    }

    /// Draws the figure. Returns the files.
    ///
    /// # Errors
    /// A cell cannot be read, or a file cannot be written.
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

/// An experiment whose cells are complete or have failed.
pub struct Finished<'a> {
    /// The folder of its figures.
    pub root: &'a Path,
    /// What all its cells have in common.
    pub title: &'a str,
    /// The fields that vary.
    pub axes: &'a [Axis],
    /// The number of columns of the grid, if a single field varies.
    pub columns: Option<usize>,
    /// What is measured of every picture.
    pub measures: &'a [Measure],
    /// Its complete cells, in the order of the spec.
    pub cells: &'a [Done],
    /// Their pictures with what is measured of them; empty if nothing is measured.
    pub sights: &'a [Sight<'a>],
    /// The reference solutions that they are compared with.
    pub references: &'a [Done],
}
