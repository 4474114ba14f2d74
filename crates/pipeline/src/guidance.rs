//! The guidance weight as a function of the noise level.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The weight `w` of classifier-free guidance in `u + w (c - u)` (Ho and Salimans 2022, equation 6, in the scale of
/// papers on latent diffusion: 1 is no guidance). Every real number is possible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, { weight = 8, sigma = [0.3, 5] } or { sigma = [15, 1], weight = [1, 8] }"
)]
pub enum Guidance {
    /// The same weight at every noise level.
    Constant(f64),
    /// One weight within a window of noise levels and another outside (Kynkäänniemi et al. 2024, arXiv 2404.07724).
    Window(Window),
    /// Weights at noise levels, linear in log sigma between them and constant beyond.
    Curve(Curve),
}

/// A weight within a window of noise levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The weight inside the window.
    pub weight: f64,
    /// The lowest and the highest sigma of the window, both inclusive.
    pub sigma: [f64; 2],
    /// The weight outside the window. Defaults to 1.
    #[serde(default = "unguided")]
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

fn unguided() -> f64 {
    1.0
}

impl Guidance {
    /// The weight at a noise level.
    pub fn at(&self, sigma: f64) -> f64 {
        match self {
            Guidance::Constant(weight) => *weight,
            Guidance::Window(Window { weight, sigma: [low, high], outside }) => {
                if (*low..=*high).contains(&sigma) {
                    *weight
                } else {
                    *outside
                }
            }
            Guidance::Curve(curve) => curve.at(sigma),
        }
    }

    /// Checks that every noise level has a finite weight.
    ///
    /// # Errors
    /// A number is not finite, a window has its ends in the wrong order, or the levels of a curve are not sorted.
    pub fn check(&self) -> Result<()> {
        let wrong = |expected: &str| {
            Err(Error::Range { field: "guidance", expected: expected.into(), found: self.to_string() })
        };
        match self {
            Guidance::Constant(weight) if !weight.is_finite() => wrong("a finite number"),
            Guidance::Window(Window { weight, outside, .. }) if !(weight.is_finite() && outside.is_finite()) => {
                wrong("finite weights")
            }
            Guidance::Window(Window { sigma: [low, high], .. }) if !(*low >= 0.0 && low <= high) => {
                wrong("a window sigma = [low, high] with 0 <= low <= high")
            }
            Guidance::Curve(curve) => match curve.problem() {
                Some(problem) => wrong(problem),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Curve {
    fn at(&self, sigma: f64) -> f64 {
        let mut points: Vec<(f64, f64)> = self.sigma.iter().map(|sigma| sigma.ln()).zip(self.weight.clone()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let x = sigma.ln();
        let above = points.partition_point(|point| point.0 < x);
        match (above.checked_sub(1).and_then(|below| points.get(below)), points.get(above)) {
            (Some((x0, w0)), Some((x1, w1))) => w0 + (w1 - w0) * (x - x0) / (x1 - x0),
            (Some((_, weight)), None) | (None, Some((_, weight))) => *weight,
            (None, None) => 1.0, // `problem` refuses an empty curve
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

impl From<f64> for Guidance {
    fn from(weight: f64) -> Guidance {
        Guidance::Constant(weight)
    }
}

impl fmt::Display for Guidance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guidance::Constant(weight) => write!(f, "{weight}"),
            Guidance::Window(Window { weight, sigma: [low, high], outside: 1.0 }) => {
                write!(f, "{weight} for sigma {low} to {high}")
            }
            Guidance::Window(Window { weight, sigma: [low, high], outside }) => {
                write!(f, "{weight} for sigma {low} to {high}, else {outside}")
            }
            Guidance::Curve(Curve { sigma, weight }) => {
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

    fn read(json: &str) -> Guidance {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_level_has_a_weight() {
        let window = read(r#"{"weight": 8, "sigma": [0.5, 5]}"#);
        assert_eq!([0.4, 0.5, 5.0, 5.1].map(|sigma| window.at(sigma)), [1.0, 8.0, 8.0, 1.0]);
        let curve = read(r#"{"sigma": [100, 1], "weight": [1, 5]}"#);
        assert_eq!([1000.0, 100.0, 10.0, 1.0, 0.1].map(|sigma| curve.at(sigma)), [1.0, 1.0, 3.0, 5.0, 5.0]);
        assert_eq!(read("7.5"), Guidance::Constant(7.5));
        assert_eq!(serde_json::to_string(&read("4")).unwrap(), "4.0");
    }

    #[test]
    fn guidance_without_a_weight_at_some_level_is_an_error() {
        for bad in [
            r#"{"weight": 8, "sigma": [5, 0.5]}"#,
            r#"{"sigma": [1, 2, 1.5], "weight": [1, 2, 3]}"#,
            r#"{"sigma": [0, 2], "weight": [1, 2]}"#,
            r#"{"sigma": [2], "weight": [1, 2]}"#,
            r#"{"sigma": [], "weight": []}"#,
        ] {
            assert!(read(bad).check().unwrap_err().to_string().starts_with("guidance: expected"), "{bad}");
        }
        assert!(Guidance::Constant(f64::NAN).check().is_err());
        assert!(serde_json::from_str::<Guidance>(r#"{"wight": 3}"#).unwrap_err().to_string().contains("weight = 8"));
    }
}
