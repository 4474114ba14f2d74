//! A weight as a function of the noise level: of guidance, or of a change of the network.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A weight as a function of the noise level sigma. `OUTSIDE` is the weight that has no effect; a window has it outside
/// of its noise levels if nothing else is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, { weight = 8, sigma = [0.3, 5] } or { sigma = [15, 1], weight = [1, 8] }"
)]
pub enum Weight<const OUTSIDE: i64> {
    /// The same weight at every noise level.
    Constant(f64),
    /// One weight within a window of noise levels and another outside (Kynkäänniemi et al. 2024, arXiv 2404.07724).
    Window(Window<OUTSIDE>),
    /// Weights at noise levels, linear in log sigma between them and constant beyond.
    Curve(Curve),
}

/// A weight within a window of noise levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window<const OUTSIDE: i64> {
    /// The weight inside the window.
    pub weight: f64,
    /// The lowest and the highest sigma of the window, both inclusive.
    pub sigma: [f64; 2],
    /// The weight outside the window. Defaults to the one that has no effect.
    #[serde(default = "without_effect::<OUTSIDE>")]
    pub outside: f64,
}

/// Weights at noise levels, linear in log sigma between them and constant beyond.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Noise levels above 0, increasing or decreasing.
    pub sigma: Vec<f64>,
    /// The weight at each noise level.
    pub weight: Vec<f64>,
}

fn without_effect<const OUTSIDE: i64>() -> f64 {
    OUTSIDE as f64
}

impl<const OUTSIDE: i64> Weight<OUTSIDE> {
    /// The weight at a noise level.
    pub fn at(&self, sigma: f64) -> f64 {
        match self {
            Weight::Constant(weight) => *weight,
            Weight::Window(Window { weight, sigma: [low, high], outside }) => {
                if (*low..=*high).contains(&sigma) {
                    *weight
                } else {
                    *outside
                }
            }
            Weight::Curve(curve) => curve.at(sigma).unwrap_or(without_effect::<OUTSIDE>()),
        }
    }

    /// What is expected instead, if some noise level has no finite weight: a number is not finite, a window has its
    /// ends in the wrong order, or the levels of a curve are not sorted.
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Weight::Constant(weight) => (!weight.is_finite()).then_some("a finite number"),
            Weight::Window(Window { weight, outside, .. }) if !(weight.is_finite() && outside.is_finite()) => {
                Some("finite weights")
            }
            Weight::Window(Window { sigma: [low, high], .. }) => {
                let is_window = *low >= 0.0 && low <= high;
                (!is_window).then_some("a window sigma = [low, high] with 0 <= low <= high")
            }
            Weight::Curve(curve) => curve.problem(),
        }
    }
}

impl Curve {
    /// The weight at a noise level; `None` for a curve without points.
    fn at(&self, sigma: f64) -> Option<f64> {
        let mut points: Vec<(f64, f64)> = self.sigma.iter().map(|sigma| sigma.ln()).zip(self.weight.clone()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let x = sigma.ln();
        let above = points.partition_point(|point| point.0 < x);
        match (above.checked_sub(1).and_then(|below| points.get(below)), points.get(above)) {
            (Some((x0, w0)), Some((x1, w1))) => Some(w0 + (w1 - w0) * (x - x0) / (x1 - x0)),
            (Some((_, weight)), None) | (None, Some((_, weight))) => Some(*weight),
            (None, None) => None,
        }
    }

    fn problem(&self) -> Option<&'static str> {
        let Curve { sigma, weight } = self;
        let ordered = sigma.windows(2).all(|pair| pair[0] < pair[1]) || sigma.windows(2).all(|pair| pair[0] > pair[1]);
        if sigma.is_empty() || sigma.len() != weight.len() {
            Some("as many weights as levels, and at least one")
        } else if !ordered || !sigma.iter().all(|sigma| *sigma > 0.0 && sigma.is_finite()) {
            Some("finite levels above 0, increasing or decreasing")
        } else if !weight.iter().all(|weight| weight.is_finite()) {
            Some("finite weights")
        } else {
            None
        }
    }
}

impl<const OUTSIDE: i64> From<f64> for Weight<OUTSIDE> {
    fn from(weight: f64) -> Weight<OUTSIDE> {
        Weight::Constant(weight)
    }
}

impl<const OUTSIDE: i64> fmt::Display for Weight<OUTSIDE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weight::Constant(weight) => write!(f, "{weight}"),
            Weight::Window(Window { weight, sigma: [low, high], outside })
                if *outside == without_effect::<OUTSIDE>() =>
            {
                write!(f, "{weight} for sigma {low} to {high}")
            }
            Weight::Window(Window { weight, sigma: [low, high], outside }) => {
                write!(f, "{weight} for sigma {low} to {high}, else {outside}")
            }
            Weight::Curve(Curve { sigma, weight }) => {
                let point = |(sigma, weight)| format!("{weight} at sigma {sigma}");
                let points: Vec<String> = sigma.iter().zip(weight).map(point).collect();
                write!(f, "{}", points.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Weight<0> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_level_has_a_weight() {
        let window = read(r#"{"weight": 8, "sigma": [0.5, 5]}"#);
        assert_eq!([0.4, 0.5, 5.0, 5.1].map(|sigma| window.at(sigma)), [0.0, 8.0, 8.0, 0.0]);
        let guidance: Weight<1> = serde_json::from_str(r#"{"weight": 8, "sigma": [0.5, 5]}"#).unwrap();
        assert_eq!([0.4, 0.5].map(|sigma| guidance.at(sigma)), [1.0, 8.0]);
        assert_eq!(guidance.to_string(), "8 for sigma 0.5 to 5");
        let curve = read(r#"{"sigma": [100, 1], "weight": [1, 5]}"#);
        assert_eq!([1000.0, 100.0, 10.0, 1.0, 0.1].map(|sigma| curve.at(sigma)), [1.0, 1.0, 3.0, 5.0, 5.0]);
        assert_eq!(read("7.5"), Weight::Constant(7.5));
        assert_eq!(serde_json::to_string(&read("4")).unwrap(), "4.0");
    }

    #[test]
    fn a_weight_that_some_level_does_not_have_is_a_problem() {
        for bad in [
            r#"{"weight": 8, "sigma": [5, 0.5]}"#,
            r#"{"sigma": [1, 2, 1.5], "weight": [1, 2, 3]}"#,
            r#"{"sigma": [0, 2], "weight": [1, 2]}"#,
            r#"{"sigma": [2], "weight": [1, 2]}"#,
            r#"{"sigma": [], "weight": []}"#,
        ] {
            assert!(read(bad).problem().is_some(), "{bad}");
        }
        assert!(Weight::<0>::Constant(f64::NAN).problem().is_some());
        assert!(serde_json::from_str::<Weight<0>>(r#"{"wight": 3}"#).unwrap_err().to_string().contains("weight = 8"));
    }
}
