//! Confidence intervals of numbers that come from few samples.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

/// The confidence level of every interval here.
pub const CONFIDENCE: f64 = 0.95;

/// A number with its confidence interval.
///
/// The interval of a proportion is Wilson's, in `latentrace_shapes::Tally::interval`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The lower end; NaN if there are too few samples.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Estimate {
    /// A number without an interval.
    pub fn bare(value: f64) -> Estimate {
        Estimate { value, low: f64::NAN, high: f64::NAN }
    }

    /// The mean of independent samples with Student's 95 % interval, `mean ± t_(n-1) s / √n`. It is exact if the
    /// samples are normal. One sample has no interval.
    ///
    /// Student (W. S. Gosset), The probable error of a mean, Biometrika 6, 1908.
    pub fn mean(samples: &[f64]) -> Estimate {
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let square: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        Estimate::student(mean, (square / (count * (count - 1.0))).sqrt(), samples.len())
    }

    /// A statistic of `count` independent samples with the jackknife's 95 % interval. `of` computes the statistic of
    /// the samples with the given indices; it is called with all of them, and then with each one left out.
    ///
    /// The `n` pseudo-values `n θ - (n-1) θ_(i)` are treated as a sample: their mean is the estimate, and its interval
    /// is Student's (J. W. Tukey, Bias and confidence in not-quite large samples, 1958). For a mean over pairs of
    /// samples the estimate is that mean itself. Fewer than three samples have no interval.
    pub fn jackknife(count: usize, of: impl Fn(&[usize]) -> f64) -> Estimate {
        let all: Vec<usize> = (0..count).collect();
        let whole = of(&all);
        if count < 3 {
            return Estimate::bare(whole);
        }
        let (n, without) = (count as f64, |left: usize| all.iter().copied().filter(|place| *place != left).collect());
        let pseudo = |left: usize| {
            let rest: Vec<usize> = without(left);
            n * whole - (n - 1.0) * of(&rest)
        };
        Estimate::mean(&all.iter().map(|left| pseudo(*left)).collect::<Vec<f64>>())
    }

    fn student(value: f64, error: f64, count: usize) -> Estimate {
        let half = student_quantile(count.saturating_sub(1)) * error;
        Estimate { value, low: value - half, high: value + half }
    }
}

/// The `t` such that a Student variable with `freedom` degrees of freedom is within `±t` with probability
/// [`CONFIDENCE`]; NaN for 0 degrees.
pub fn student_quantile(freedom: usize) -> f64 {
    if freedom == 0 {
        return f64::NAN;
    }
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        match student_within(middle, freedom) < CONFIDENCE {
            true => low = middle,
            false => high = middle,
        }
    }
    (freedom as f64).sqrt() * ((low + high) / 2.0).tan()
}

/// The probability that a Student variable is within `±√freedom tan(angle)`, as a finite sum (Abramowitz and Stegun,
/// Handbook of Mathematical Functions, 26.7.3 and 26.7.4).
fn student_within(angle: f64, freedom: usize) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    // Powers of the cosine up to freedom - 2, every second one.
    for power in (usize::from(odd)..freedom.saturating_sub(1)).step_by(2) {
        sum += term;
        term *= cosine * cosine * (power + 1) as f64 / (power + 2) as f64;
    }
    if odd { FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() < tolerance, "{found}, expected {expected}");
    }

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        // Abramowitz and Stegun, table 26.10, and the closed forms of one and two degrees.
        for (freedom, t) in [(3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042), (120, 1.980)] {
            near(student_quantile(freedom), t, 6e-4);
        }
        near(student_quantile(1), (0.95 * FRAC_PI_2).tan(), 1e-9);
        near(student_quantile(2), 0.95 * (2.0 / (1.0 - 0.95f64.powi(2))).sqrt(), 1e-9);
        near(student_quantile(100_000), 1.959_963_985, 1e-4); // normal
        assert!(student_quantile(0).is_nan());
    }

    #[test]
    fn the_mean_of_four_numbers() {
        // Mean 5, variance 20/3, so an error of √(5/3), and t of three degrees.
        let Estimate { value, low, high } = Estimate::mean(&[2.0, 4.0, 6.0, 8.0]);
        assert_eq!(value, 5.0);
        near(high - 5.0, 3.182_446 * (5.0f64 / 3.0).sqrt(), 1e-5);
        near(5.0 - low, high - 5.0, 1e-12);
        let one = Estimate::mean(&[3.0]);
        assert!(one.value == 3.0 && one.low.is_nan() && one.high.is_nan());
        assert!(Estimate::mean(&[]).value.is_nan());
    }

    #[test]
    fn the_jackknife_of_a_mean_is_the_mean_and_of_a_variance_unbiased() {
        let samples = [1.0, 3.0, 3.5, 9.0, -2.0];
        let mean = |places: &[usize]| places.iter().map(|place| samples[*place]).sum::<f64>() / places.len() as f64;
        let (found, expected) = (Estimate::jackknife(5, mean), Estimate::mean(&samples));
        near(found.value, expected.value, 1e-12);
        near(found.high, expected.high, 1e-12);
        // The variance over n, whose bias the jackknife removes exactly (Quenouille 1956).
        let biased = |places: &[usize]| {
            let centre = mean(places);
            places.iter().map(|place| (samples[*place] - centre).powi(2)).sum::<f64>() / places.len() as f64
        };
        let unbiased = biased(&[0, 1, 2, 3, 4]) * 5.0 / 4.0;
        near(Estimate::jackknife(5, biased).value, unbiased, 1e-12);
        assert!(Estimate::jackknife(2, biased).low.is_nan());
    }

    #[test]
    fn the_intervals_hold_the_truth_as_often_as_they_say() {
        // Sums of twelve uniform numbers are nearly normal; they come from a linear congruence (Knuth).
        let mut state = 1u64;
        let mut even = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut normal = || (0..12).map(|_| even()).sum::<f64>() - 6.0;
        let repetitions = 4000;
        let (mut means, mut distances) = (0, 0);
        for _ in 0..repetitions {
            let samples: Vec<f64> = (0..8).map(|_| normal()).collect();
            let mean = Estimate::mean(&samples);
            means += usize::from(mean.low < 0.0 && 0.0 < mean.high);
            // Gini's mean difference of a standard normal is 2/√π.
            let pairs = |places: &[usize]| {
                let all = places.iter().flat_map(|a| places.iter().map(move |b| (*a, *b))).filter(|(a, b)| a < b);
                let all: Vec<f64> = all.map(|(a, b)| (samples[a] - samples[b]).abs()).collect();
                all.iter().sum::<f64>() / all.len() as f64
            };
            let found = Estimate::jackknife(8, pairs);
            let truth = 2.0 / std::f64::consts::PI.sqrt();
            distances += usize::from(found.low < truth && truth < found.high);
        }
        near(means as f64 / repetitions as f64, 0.95, 0.012);
        near(distances as f64 / repetitions as f64, 0.95, 0.04); // a sample of eight is small for a jackknife
    }
}
