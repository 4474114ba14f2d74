//! How steep the edges of things are.

use crate::draw::{Canvas, Silhouette};
use crate::look::SeenScene;
use std::ops::Range;

/// Sums over the edges of things: how steep they are, and how steep drawn edges would be. They add with `+=`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Edges {
    steepness: f64,
    drawn: f64,
}

/// How far from the place of an edge its steepest point is searched, in pixels. Soft edges of a VAE are a few pixels
/// wide; the arms of a small cross are at least 5 wide in a picture of 64.
const REACH: usize = 2;

/// Compares the edges of a picture with those of an ideal drawing of what was seen in it.
///
/// The share of ink `c` of a pixel is its colour, projected on the way from the background's colour to the thing's: 0 at
/// the background, 1 in the thing. An ideal edge is where the silhouette's share passes a half between two neighbours in
/// a row or a column. Its steepness is the largest gradient `|c(i + 1) - c(i - 1)| / 2` within 2 pixels of there, in the
/// picture and in the drawing. So an edge that is in a slightly wrong place still counts as steep. Differences over two
/// pixels do not depend on where in a pixel a drawn edge is; those between neighbours do.
pub fn edges(picture: &Canvas, seen: &SeenScene) -> Edges {
    let mut sum = Edges::default();
    for thing in &seen.things {
        let silhouette = Silhouette { shape: thing.thing.shape, centre: thing.centre, radius: thing.radius };
        let ideal = |x: usize, y: usize| f64::from(silhouette.covers(x, y)) / 16.0;
        let [paper, ink] = [seen.paper, thing.ink];
        let way: [f64; 3] = std::array::from_fn(|c| ink[c] - paper[c]);
        let length: f64 = way.iter().map(|d| d * d).sum();
        let share = |x: usize, y: usize| {
            let pixel = picture.pixel(x, y);
            (0..3).map(|c| (f64::from(pixel[c]) - paper[c]) * way[c]).sum::<f64>() / length
        };
        for y in 0..picture.height {
            sum.along(picture.width, |x| ideal(x, y), |x| share(x, y));
        }
        for x in 0..picture.width {
            sum.along(picture.height, |y| ideal(x, y), |y| share(x, y));
        }
    }
    sum
}

impl Edges {
    /// Adds the edges of a row or a column of `length` pixels.
    fn along(&mut self, length: usize, ideal: impl Fn(usize) -> f64, share: impl Fn(usize) -> f64) {
        let ideal: Vec<f64> = (0..length).map(ideal).collect();
        let steepest = |of: &dyn Fn(usize) -> f64, near: Range<usize>| {
            near.map(|at| (of(at + 1) - of(at - 1)).abs() / 2.0).fold(0.0, f64::max)
        };
        for at in (0..length.saturating_sub(1)).filter(|at| (ideal[*at] < 0.5) != (ideal[at + 1] < 0.5)) {
            let near = at.saturating_sub(REACH).max(1)..(at + REACH + 2).min(length - 1);
            self.drawn += steepest(&|place| ideal[place], near.clone());
            self.steepness += steepest(&share, near);
        }
    }

    /// How steep the edges are relative to drawn ones: about 1 for a drawing, less for soft edges. `None` if there are
    /// no edges.
    pub fn steepness(&self) -> Option<f64> {
        (self.drawn > 0.0).then(|| self.steepness / self.drawn)
    }
}

impl std::ops::AddAssign for Edges {
    fn add_assign(&mut self, other: Edges) {
        self.steepness += other.steepness;
        self.drawn += other.drawn;
    }
}
