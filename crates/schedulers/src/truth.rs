//! Data whose perfect denoiser and exact probability flow are known, to test samplers on.

use crate::{Config, Error, Plan, Prediction, Reading, Step, evaluate};
use std::f64::consts::{PI, SQRT_2};

/// A mixture of normal distributions. Every element of a sample is an independent draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Weight, mean and standard deviation of each part; the weights add up to one.
    parts: Vec<(f64, f64, f64)>,
}

impl Mixture {
    /// A single normal distribution.
    pub fn normal(mean: f64, spread: f64) -> Mixture {
        Mixture { parts: vec![(1.0, mean, spread)] }
    }

    /// A mixture by weight, mean and standard deviation of each part. The weights are normalized.
    pub fn new(parts: Vec<(f64, f64, f64)>) -> Mixture {
        let whole: f64 = parts.iter().map(|(weight, ..)| weight).sum();
        Mixture { parts: parts.into_iter().map(|(weight, mean, spread)| (weight / whole, mean, spread)).collect() }
    }

    /// The mean of the clean number given `x = x₀ + sigma·noise`: the denoised estimate of a perfect network.
    pub fn denoised(&self, x: f64, sigma: f64) -> f64 {
        self.posterior(x, sigma).map(|(share, clean, _)| share * clean).sum()
    }

    /// The derivative of [`Mixture::denoised`] by `x`: the variance of the clean number over `sigma²` (Tweedie, of second order).
    pub fn slope(&self, x: f64, sigma: f64) -> f64 {
        let mean = self.denoised(x, sigma);
        self.posterior(x, sigma).map(|(share, clean, kept)| share * (kept + ((clean - mean) / sigma).powi(2))).sum()
    }

    /// Of each part its share in the posterior, the mean of the clean number if it is of this part, and the derivative of that mean
    /// by `x`.
    fn posterior(&self, x: f64, sigma: f64) -> impl Iterator<Item = (f64, f64, f64)> {
        // From logarithms, so that nothing underflows.
        let part = |&(weight, mean, spread): &(f64, f64, f64)| {
            let variance = spread.powi(2) + sigma.powi(2);
            let log = weight.ln() - 0.5 * variance.ln() - 0.5 * (x - mean).powi(2) / variance;
            let kept = spread.powi(2) / variance;
            (log, mean + kept * (x - mean), kept)
        };
        let parts: Vec<(f64, f64, f64)> = self.parts.iter().map(part).collect();
        let most = parts.iter().map(|(log, ..)| *log).fold(f64::NEG_INFINITY, f64::max);
        let whole: f64 = parts.iter().map(|(log, ..)| (log - most).exp()).sum();
        parts.into_iter().map(move |(log, clean, kept)| ((log - most).exp() / whole, clean, kept))
    }

    /// Where the exact probability-flow ODE takes `x` from one sigma to another.
    ///
    /// In one dimension the flow keeps the order of points, so it keeps the quantile of each.
    pub fn flow(&self, x: f64, from: f64, to: f64) -> f64 {
        if let [(_, mean, spread)] = self.parts[..] {
            return mean + (x - mean) * spread.hypot(to) / spread.hypot(from);
        }
        let target = self.log_odds(x, from);
        let reach = self.parts.iter().map(|(_, mean, spread)| mean.abs() + 40.0 * spread.hypot(to));
        let far = reach.fold(0.0, f64::max);
        let (mut low, mut high) = (-far, far);
        // 2⁻⁷⁰ of the interval is less than the rounding of any number near the data.
        for _ in 0..70 {
            let middle = 0.5 * (low + high);
            if self.log_odds(middle, to) < target { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }

    /// The log odds of a sample being below `x`, which the flow keeps. It is accurate in both tails.
    pub fn log_odds(&self, x: f64, sigma: f64) -> f64 {
        let tail = |sign: f64| -> f64 {
            let part = |&(weight, mean, spread): &(f64, f64, f64)| {
                weight * upper_tail(sign * (x - mean) / spread.hypot(sigma))
            };
            self.parts.iter().map(part).sum()
        };
        (tail(-1.0) / tail(1.0)).ln()
    }

    /// The output of a perfect network for an input at unit variance.
    pub fn output(&self, prediction: Prediction, input: f64, sigma: f64) -> f64 {
        let x = input * sigma.hypot(1.0);
        let clean = self.denoised(x, sigma);
        let noise = (x - clean) / sigma;
        match prediction {
            Prediction::Epsilon => noise,
            Prediction::Velocity => (noise - sigma * clean) / sigma.hypot(1.0),
            Prediction::Sample => clean,
        }
    }

    /// Every value of a plan with a perfect network.
    pub fn run(&self, plan: &Plan, prediction: Prediction, given: &[f64], draws: &[Vec<f64>]) -> Vec<Vec<f64>> {
        evaluate(plan, given, draws, |call, _, input| {
            let sigma = plan.steps()[call].level.sigma;
            input.iter().map(|x| self.output(prediction, *x, sigma)).collect()
        })
    }

    /// The error of a plan without fresh noise at each of `sigmas`: how far it is from the exact flow of its first sample, as the
    /// change of [log odds](Mixture::log_odds), interpolated linearly in sigma between the samples that steps begin with. It is
    /// the largest over the starts in `noise`.
    ///
    /// # Panics
    /// If the plan starts from an image, or has fewer than two such samples.
    pub fn strays(&self, config: &Config, plan: &Plan, noise: &[f64], sigmas: &[f64]) -> Vec<f64> {
        let every = config.options.sampler.calls_together();
        let values = self.run(plan, config.prediction(), &[], &vec![noise.to_vec(); plan.draws()]);
        let counted = |step: &&Step| step.evaluation == 0 && step.index.is_multiple_of(every);
        let odds = |step: &Step| -> Vec<f64> {
            values[step.sample.0 as usize].iter().map(|x| self.log_odds(*x, step.level.sigma)).collect()
        };
        let passed: Vec<(f64, Vec<f64>)> =
            plan.steps().iter().filter(counted).map(|step| (step.level.sigma, odds(step))).collect();
        let kept = &passed[0].1;
        let at = |sigma: f64| {
            let below = passed.iter().position(|(level, _)| *level <= sigma).unwrap_or(passed.len() - 1).max(1);
            let ((high, before), (low, after)) = (&passed[below - 1], &passed[below]);
            let share = (high - sigma) / (high - low);
            let change = |i: usize| (before[i] + share * (after[i] - before[i]) - kept[i]).abs();
            // NaN counts as an infinite error.
            let end = |change: f64| if change.is_nan() { f64::INFINITY } else { change };
            (0..noise.len()).map(|i| end(change(i))).fold(0.0, f64::max)
        };
        sigmas.iter().map(|sigma| at(*sigma)).collect()
    }

    /// The observed order of convergence of a config without fresh noise: the largest error down to sigma ¼ is divided by two to
    /// this power from 100 steps to 200.
    ///
    /// # Errors
    /// The config has no plan of 100 or of 200 steps.
    pub fn order(&self, config: &Config) -> Result<f64, Error> {
        // Some classes divide leading times by one more than the steps, and 1000 must divide evenly.
        let starts_low = config.plan(100, Reading::Exact)?.steps()[0].level.t < 0.95 * config.schedule().len() as f64;
        let error = |steps: usize| -> Result<f64, Error> {
            let plan = config.plan(if starts_low { steps - 1 } else { steps }, Reading::Exact)?;
            let strays = self.strays(config, &plan, &[1.3, -0.4], &[2.0, 1.0, 0.5, 0.25]);
            Ok(strays.into_iter().fold(0.0, f64::max))
        };
        Ok((error(100)? / error(200)?).log2())
    }
}

/// The share of a standard normal distribution above `z`.
fn upper_tail(z: f64) -> f64 {
    0.5 * complementary_error(z / SQRT_2)
}

/// `erfc`: by its series near zero, and by its continued fraction elsewhere.
fn complementary_error(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - complementary_error(-x);
    }
    if x < 2.0 {
        // erf = 2/√π · e^(−x²) · Σ 2ⁿx^(2n+1)/(2n+1)!!, all terms of one sign
        let (mut term, mut sum) = (x, x);
        let mut n = 0.0;
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return 1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    // erfc = e^(−x²)/√π · 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + …))))
    let mut fraction = x;
    for n in (1..=120).rev() {
        fraction = x + 0.5 * f64::from(n) / fraction;
    }
    (-x * x).exp() / PI.sqrt() / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_has_its_known_values() {
        let known = [(0.0, 1.0), (0.5, 0.4795001221869535), (1.0, 0.15729920705028513), (3.0, 2.209049699858544e-5)];
        for (x, want) in known {
            let found = complementary_error(x);
            assert!((found / want - 1.0).abs() < 1e-13, "{x}: {found}");
        }
        // The series and the fraction agree where they meet, and the function is symmetric.
        assert!((complementary_error(2.0 - 1e-12) / complementary_error(2.0) - 1.0).abs() < 1e-10);
        assert!((complementary_error(-0.7) + complementary_error(0.7) - 2.0).abs() < 1e-15);
    }

    #[test]
    fn the_slope_of_the_estimate_is_its_difference_quotient() {
        let mixture = Mixture::new(vec![(0.3, -1.0, 0.2), (0.7, 0.8, 0.4)]);
        for (x, sigma) in [(0.4, 0.5), (-2.0, 1.5), (3.0, 2.0), (-0.2, 0.3), (-0.25, 0.15)] {
            let step = 1e-5;
            let quotient = (mixture.denoised(x + step, sigma) - mixture.denoised(x - step, sigma)) / (2.0 * step);
            // step²/6 times a third derivative of some thousands at most, and the rounding of two numbers near 1 over 2e-5.
            assert!((mixture.slope(x, sigma) - quotient).abs() < 1e-6, "{x} {sigma}: {quotient}");
        }
    }

    #[test]
    fn the_flow_of_a_mixture_follows_its_slope() {
        let mixture = Mixture::new(vec![(0.3, -1.0, 0.2), (0.7, 0.8, 0.4)]);
        for (x, sigma) in [(0.4, 0.5), (-2.0, 1.5), (3.0, 2.0), (0.05, 0.3)] {
            let step = 1e-4;
            let slope = (mixture.flow(x, sigma, sigma + step) - mixture.flow(x, sigma, sigma - step)) / (2.0 * step);
            let want = (x - mixture.denoised(x, sigma)) / sigma;
            // The difference quotient is off by step²/6 times a third derivative of some hundreds at most.
            assert!((slope - want).abs() < 1e-5, "{x} {sigma}: {slope} {want}");
        }
    }

    #[test]
    fn one_part_and_two_equal_parts_are_the_same() {
        let (one, two) = (Mixture::normal(0.4, 0.7), Mixture::new(vec![(1.0, 0.4, 0.7), (3.0, 0.4, 0.7)]));
        for (x, from, to) in [(5.0, 9.0, 0.1), (-0.3, 0.2, 4.0), (12.0, 3.0, 0.0)] {
            assert!((one.denoised(x, from) - two.denoised(x, from)).abs() < 1e-12);
            assert!((one.flow(x, from, to) - two.flow(x, from, to)).abs() < 1e-11 * (1.0 + x.abs()));
        }
    }
}
