//! The path of a run, compared with a straight line.

use crate::numbers::{dot, lengths, list, rows};
use latentrace_nn::tch::Tensor;
use std::borrow::Borrow;

/// The geometry of a run's samples `z_i` at noise levels `s_i`, where `z = x₀ + s noise` (Chen et al., arXiv
/// 2405.11326, arXiv 2506.10177).
///
/// Lengths are Euclidean, in the units of the latents. The slope `d_i = (z_(i+1) - z_i) / (s_(i+1) - s_i)` is the noise
/// with which the sampler made step `i`.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// The length of the chord from the first point to the last.
    pub chord: f64,
    /// For each point, its distance `||z_i - proj z_i||₂` from the line through the chord. NaN if the chord is zero.
    pub deviation: Vec<f64>,
    /// For each inner point, the angle between `d_i` and `d_(i+1)`, in radians from 0 to pi. NaN if the sample or its
    /// level does not change in a step.
    pub turning: Vec<f64>,
    /// `S = sum_i |s_(i+1) - s_i| ||d_i - (z_N - z_0) / (s_N - s_0)||²`: zero if and only if the run is a straight line
    /// at constant speed. Times `|s_N - s_0|` it is that of rectified flow, where time goes from 0 to 1 (arXiv
    /// 2209.03003). NaN if two neighbouring levels, or the first and last, are equal.
    pub straightness: f64,
}

impl Trajectory {
    /// Computes it from the points of one run and their levels. `None` for fewer than two points, or if the shapes
    /// differ.
    pub fn of<T: Borrow<Tensor>>(points: &[T], levels: &[f64]) -> Option<Trajectory> {
        if points.len() < 2 || points.len() != levels.len() {
            return None;
        }
        let z = rows(points)?; // [points, elements]
        let steps: Vec<f64> = levels.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let column = Tensor::from_slice(&steps).to_device(z.device()).view([-1, 1]);
        let slopes = (z.slice(0, 1, i64::MAX, 1) - z.slice(0, 0, -1, 1)) / column; // [steps, elements]
        let chord = z.get(-1) - z.get(0);
        let bends = list(&lengths(&(&slopes - &chord / (levels[levels.len() - 1] - levels[0]))));
        Some(Trajectory {
            chord: dot(&chord, &chord).sqrt(),
            deviation: deviation(&z, &chord),
            turning: turning(&slopes),
            straightness: steps.iter().zip(bends).map(|(step, bend)| step.abs() * bend * bend).sum(),
        })
    }

    /// The deviation divided by the chord, which is comparable between sizes.
    pub fn relative_deviation(&self) -> Vec<f64> {
        self.deviation.iter().map(|deviation| deviation / self.chord).collect()
    }
}

/// The distance of each row of `z` from the line through the first in the direction of `chord`.
fn deviation(z: &Tensor, chord: &Tensor) -> Vec<f64> {
    let away = z - z.get(0);
    let along = away.mv(chord) / dot(chord, chord); // [points]
    list(&lengths(&(away - along.outer(chord))))
}

/// The angle between each row and the next, by W. Kahan's formula, which is accurate near 0, unlike the arc cosine.
fn turning(slopes: &Tensor) -> Vec<f64> {
    let units = slopes / lengths(slopes).unsqueeze(-1);
    let (now, next) = (units.slice(0, 0, -1, 1), units.slice(0, 1, i64::MAX, 1));
    let half = lengths(&(&next - &now)).atan2(&lengths(&(next + now)));
    list(&(half * 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::{FRAC_PI_2, PI};

    fn points(points: &[[f64; 2]]) -> Vec<Tensor> {
        points.iter().map(|point| Tensor::from_slice(point).view([1, 1, 1, 2])).collect()
    }

    fn near(a: &[f64], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    #[test]
    fn a_line_is_straight() {
        let levels = [14.6, 5.0, 1.0, 0.0];
        let line = levels.map(|s| [1.0 + 3.0 * s, 2.0 - 4.0 * s]);
        let trajectory = Trajectory::of(&points(&line), &levels).unwrap();
        assert!((trajectory.chord - 5.0 * 14.6).abs() < 1e-12);
        assert!(near(&trajectory.deviation, &[0.0; 4]), "{trajectory:?}");
        assert!(near(&trajectory.turning, &[0.0; 2]), "{trajectory:?}");
        assert!(trajectory.straightness < 1e-20);
    }

    #[test]
    fn an_uneven_speed_is_not_straight_and_does_not_turn() {
        // Slopes -4 and -1 over two levels, whose chord has the slope -2: 1·2² + 2·1².
        let trajectory = Trajectory::of(&points(&[[0.0, 0.0], [4.0, 0.0], [6.0, 0.0]]), &[3.0, 2.0, 0.0]).unwrap();
        assert!((trajectory.straightness - 6.0).abs() < 1e-12);
        assert_eq!((trajectory.deviation, trajectory.turning), (vec![0.0; 3], vec![0.0]));
    }

    #[test]
    fn a_half_circle_turns_evenly() {
        let count = 13;
        let arc: Vec<f64> = (0..count).map(|i| PI * i as f64 / (count - 1) as f64).collect();
        let circle: Vec<[f64; 2]> = arc.iter().map(|angle| [2.0 * angle.cos(), 2.0 * angle.sin()]).collect();
        let levels: Vec<f64> = arc.iter().rev().copied().collect();
        let trajectory = Trajectory::of(&points(&circle), &levels).unwrap();
        let height: Vec<f64> = arc.iter().map(|angle| 2.0 * angle.sin()).collect();
        assert!(near(&trajectory.deviation, &height), "{trajectory:?}");
        assert!(near(&trajectory.turning, &[PI / 12.0; 11]), "{trajectory:?}");
        assert!((trajectory.relative_deviation()[6] - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_run_that_stands_still_or_comes_back_is_not_an_error() {
        let square = points(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]);
        let trajectory = Trajectory::of(&square, &[4.0, 3.0, 2.0, 1.0, 0.0]).unwrap();
        assert_eq!(trajectory.chord, 0.0);
        assert!(trajectory.deviation.iter().all(|deviation| deviation.is_nan()));
        assert!((trajectory.turning[0] - FRAC_PI_2).abs() < 1e-12);
        assert!(trajectory.turning[1].is_nan() && trajectory.turning[2].is_nan());
        assert_eq!(Trajectory::of(&square, &[1.0, 0.0]), None);
        assert_eq!(Trajectory::of(&square[..1], &[1.0]), None);
    }
}
