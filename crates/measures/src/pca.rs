//! Principal components of runs.

use crate::numbers::{list, rows};
use latentrace_nn::tch::{Device, Kind, Tensor};
use std::borrow::Borrow;

/// The principal components of the points of several runs, in one basis, so that runs with different seeds and prompts
/// can be drawn in one chart.
///
/// A run has few points and each has many elements, so the components come from the Gram matrix of the centred points,
/// `[points, points]`, instead of the covariance. A component's sign has no meaning; here the score of largest
/// magnitude is positive, and of equal ones the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// The scores: for each run and each of its points the coordinates, the greatest component first, in the units of
    /// the latents. With all components, distances are those of the points.
    pub runs: Vec<Vec<Vec<f64>>>,
    /// The share of the variance of each component, the greatest first; NaN if all points are equal.
    pub explained: Vec<f64>,
}

impl Pca {
    /// Computes at most `components` components of the points of each run, and no more than there are points. `None` if
    /// there is no point, if the shapes differ, or if a number is not finite.
    pub fn of<T: Borrow<Tensor>>(runs: &[Vec<T>], components: usize) -> Option<Pca> {
        let all = rows(&runs.iter().flatten().map(Borrow::borrow).collect::<Vec<&Tensor>>())?; // [points, elements]
        let centred = &all - all.mean_dim(0, true, Kind::Double);
        let gram = centred.matmul(&centred.tr()).to_device(Device::Cpu);
        if gram.isfinite().all().int64_value(&[]) == 0 {
            return None;
        }
        let (values, vectors) = gram.f_linalg_eigh("L").ok()?; // ascending, the vectors in columns
        let values = list(&values.clamp_min(0.0).flip([0]));
        let axes = vectors.flip([1]).tr(); // [components, points]
        let axis = |(index, value): (usize, &f64)| directed(list(&axes.get(index as i64)), value.sqrt());
        let scores: Vec<Vec<f64>> = values.iter().take(components).enumerate().map(axis).collect();
        let mut points = (0..values.len()).map(|point| scores.iter().map(|axis| axis[point]).collect());
        let total: f64 = values.iter().sum();
        Some(Pca {
            runs: runs.iter().map(|run| points.by_ref().take(run.len()).collect()).collect(),
            explained: values.iter().take(components).map(|value| value / total).collect(),
        })
    }
}

/// An eigenvector as scores, with the sign that makes the largest positive. Magnitudes that differ by rounding count as
/// equal.
fn directed(axis: Vec<f64>, length: f64) -> Vec<f64> {
    let largest = axis.iter().fold(0.0, |largest: f64, score| largest.max(score.abs()));
    let first = axis.iter().find(|score| score.abs() >= largest * (1.0 - 1e-9)).copied().unwrap_or(1.0);
    axis.iter().map(|score| score * length.copysign(first)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::{seeded, tch::Device};
    use std::f64::consts::TAU;

    fn point(values: &[f64]) -> Tensor {
        Tensor::from_slice(values)
    }

    #[test]
    fn a_line_has_one_component() {
        let run: Vec<Tensor> = [0.0, 1.0, 5.0].iter().map(|s| point(&[1.0 + 2.0 * s, 3.0, -s, 2.0 * s])).collect();
        let pca = Pca::of(&[run], 2).unwrap();
        assert!((pca.explained[0] - 1.0).abs() < 1e-12 && pca.explained[1] < 1e-12);
        // The mean is at s = 2, a step is 3 long, and the farthest point counts as positive.
        let first: Vec<f64> = pca.runs[0].iter().map(|scores| scores[0]).collect();
        assert!(first.iter().zip([-6.0, -3.0, 9.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{first:?}");
        assert_eq!(pca.runs[0][0].len(), 2);
    }

    #[test]
    fn a_circle_has_two_equal_components() {
        let angles = (0..12).map(|i| TAU * f64::from(i) / 12.0);
        let circle: Vec<Tensor> = angles.map(|a| point(&[7.0, 4.0 + 2.0 * a.cos(), 2.0 * a.sin()])).collect();
        let pca = Pca::of(&[circle], 3).unwrap();
        assert!(pca.explained.iter().zip([0.5, 0.5, 0.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", pca.explained);
        let radius = |scores: &Vec<f64>| scores[0].hypot(scores[1]);
        assert!(pca.runs[0].iter().all(|scores| (radius(scores) - 2.0).abs() < 1e-12));
    }

    #[test]
    fn runs_share_a_basis_that_keeps_distances() {
        let draw = seeded(3, || Tensor::randn([5, 1, 4, 8, 8], (Kind::Float, Device::Cpu)));
        let [a, b] = [0..2, 2..5].map(|range| range.map(|i| draw.get(i)).collect::<Vec<Tensor>>());
        let pca = Pca::of(&[a, Vec::new(), b], 99).unwrap();
        assert_eq!(pca.runs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 3]);
        assert!((pca.explained.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let points: Vec<&Vec<f64>> = pca.runs.iter().flatten().collect();
        for (i, j) in [(0, 1), (1, 2), (0, 4)] {
            let scores: f64 = points[i].iter().zip(points[j]).map(|(a, b)| (a - b).powi(2)).sum();
            let [a, b] = [i, j].map(|index| draw.get(index as i64).to_kind(Kind::Double));
            assert!((scores - (a - b).square().sum(Kind::Double).double_value(&[])).abs() < 1e-9);
        }
    }

    #[test]
    fn what_has_no_components_is_not_an_error() {
        assert_eq!(Pca::of::<Tensor>(&[], 2), None);
        assert_eq!(Pca::of(&[vec![point(&[1.0, f64::NAN]), point(&[0.0, 0.0])]], 2), None);
        assert_eq!(Pca::of(&[vec![point(&[1.0]), point(&[0.0, 0.0])]], 2), None);
        let one = Pca::of(&[vec![point(&[1.0, 2.0])]], 2).unwrap();
        assert_eq!(one.runs, [[[0.0]]]);
        assert!(one.explained[0].is_nan());
    }
}
