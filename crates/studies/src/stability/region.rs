//! Regions of stability: the eigenvalues of the Jacobian for which the matrix of a step enlarges nothing.

use anyhow::{Context, Result};
use latentrace_pipeline::nn::tch::{Device, Kind, Tensor};
use latentrace_pipeline::schedulers::stability::Companion;
use latentrace_pipeline::schedulers::{Config, Reading};
use serde_json::json;
use std::f64::consts::PI;

/// How far a boundary is looked for, in units of `1 / h`.
const REACH: f64 = 6.0;

/// The steps of an even plan: enough for the longest history.
const STEPS: i32 = 12;

/// The matrix of a step in the middle of a plan whose steps all divide sigma by the same ratio.
///
/// # Errors
/// The class has no such plan.
pub fn steady(config: &Config, ratio: f64) -> Result<Companion> {
    // Twelve steps within the levels that the schedule has, which are the powers of ten from -1.5 to 1.2.
    let sigmas: Vec<f64> = (0..=STEPS).map(|step| 10.0 * ratio.powi(step)).collect();
    let config = config.with_all([("sigmas", json!(sigmas)), ("use_karras_sigmas", json!(false))])?;
    let plan = config.plan(STEPS as usize, Reading::Exact)?;
    let squares: Vec<Companion> = config.companions(&plan).into_iter().filter(Companion::is_square).collect();
    let middle = squares.len() / 2;
    squares.into_iter().nth(middle).context("a step whose history is complete")
}

/// The spectral radius of a square matrix at each eigenvalue of the Jacobian, complex `[points]`.
pub fn radius(companion: &Companion, eigenvalues: &Tensor) -> Tensor {
    let size = companion.terms[0].nrows() as i64;
    let complex = |real: &Tensor| Tensor::complex(real, &real.zeros_like());
    let mut matrix: Option<Tensor> = None; // [points, size, size], by Horner's rule
    for term in companion.terms.iter().rev() {
        let numbers: Vec<f64> = term.iter().copied().collect();
        let term = complex(&Tensor::from_slice(&numbers).view([1, size, size]));
        matrix = Some(match matrix {
            None => term.expand([eigenvalues.size()[0], size, size], false).contiguous(),
            Some(matrix) => matrix * eigenvalues.view([-1, 1, 1]) + term,
        });
    }
    let matrix = matrix.unwrap_or_else(|| complex(&Tensor::zeros([1, 1, 1], (Kind::Double, eigenvalues.device()))));
    let most = matrix.abs().amax([1, 2], false);
    let finite = most.isfinite();
    let radius =
        matrix.where_self(&finite.view([-1, 1, 1]), &matrix.zeros_like()).linalg_eigvals().abs().amax([-1], false);
    radius.where_self(&finite, &most)
}

/// How far from zero an eigenvalue along a ray can be, in units of `1 / h`, where `h` is the step in log sigma: the first place where
/// the spectral radius exceeds 1. `None` if there is none within `reach`.
pub fn reach(companion: &Companion, ratio: f64, from: f64, angle: f64, reach: f64) -> Option<f64> {
    const COARSE: i64 = 120;
    let step = -ratio.ln();
    let at = |distances: &Tensor| {
        let (real, imaginary) = (distances * (angle.cos() / step) + from / step, distances * (angle.sin() / step));
        radius(companion, &Tensor::complex(&real, &imaginary)).gt(1.0 + 1e-9)
    };
    let (mut low, mut high) = (0.0, reach);
    // The second round is as much finer.
    for _ in 0..2 {
        let distances = Tensor::linspace(low, high, COARSE + 1, (Kind::Double, Device::Cpu));
        let beyond: Vec<bool> = Vec::try_from(at(&distances)).ok()?;
        let first = beyond.iter().position(|beyond| *beyond)?;
        let place = |index: usize| low + (high - low) * index as f64 / COARSE as f64;
        (low, high) = (place(first.saturating_sub(1)), place(first));
    }
    Some(high)
}

/// The boundary of a region in the plane of the eigenvalue, from a point inside, as far as it can be seen from there; empty if the matrix
/// enlarges something at every negative eigenvalue.
pub fn boundary(companion: &Companion, ratio: f64) -> Vec<(f64, f64)> {
    const RAYS: usize = 96;
    let Some(limit) = real_limit(companion, ratio).filter(|limit| *limit < 0.0) else { return Vec::new() };
    let step = -ratio.ln();
    let point = |ray: usize| {
        let angle = 2.0 * PI * ray as f64 / RAYS as f64;
        let distance = reach(companion, ratio, 0.5 * limit, angle, REACH).unwrap_or(f64::NAN);
        let short = |number: f64| (number / step * 1e4).round() / 1e4;
        (short(0.5 * limit + distance * angle.cos()), short(distance * angle.sin()))
    };
    (0..=RAYS).map(point).collect()
}

/// The real limit: how negative an eigenvalue can be, in units of `1 / h`, as a negative number.
pub fn real_limit(companion: &Companion, ratio: f64) -> Option<f64> {
    reach(companion, ratio, 0.0, PI, REACH).map(|distance| -distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::ATLAS_CONFIG;

    fn limit(name: &str, options: serde_json::Value, ratio: f64) -> f64 {
        let config = Config::from_json_as(ATLAS_CONFIG, name).unwrap();
        let options = options.as_object().unwrap().clone();
        let config = config.with_all(options).unwrap();
        real_limit(&steady(&config, ratio).unwrap(), ratio).unwrap()
    }

    #[test]
    fn the_limits_of_small_steps_are_those_of_the_books() {
        // Hairer and Wanner II, sections IV.2 and V.1: Euler and the two-stage methods of second order -2, three stages -2.5127,
        // Adams-Bashforth of two, three and four steps -1, -6/11 and -3/10.
        let known = [
            ("euler", json!({}), -2.0),
            ("ddim", json!({}), -2.0),
            ("heun", json!({}), -2.0),
            ("dpm2", json!({}), -2.0),
            ("lms", json!({"order": 1}), -2.0),
            ("lms", json!({"order": 2}), -1.0),
            ("lms", json!({"order": 3}), -6.0 / 11.0),
            ("lms", json!({"order": 4}), -0.3),
            ("pndm", json!({}), -0.3),
            ("ipndm", json!({}), -0.3),
            ("deis", json!({}), -1.0),
            ("deis", json!({"solver_order": 3}), -6.0 / 11.0),
            ("dpm++2m", json!({}), -1.0),
            ("dpm++3m", json!({}), -6.0 / 11.0),
            ("dpm_solver_2m", json!({}), -1.0),
        ];
        for (name, options, want) in known {
            // The limit moves in proportion to the step, by less than five times it.
            let found = limit(name, options, 0.999);
            assert!((found - want).abs() < 5e-3, "{name}: {found} {want}");
        }
    }

    #[test]
    fn eulers_region_is_a_disc_for_every_ratio() {
        // |r + (1 − r) μ| ≤ 1 down to μ = −(1 + r)/(1 − r).
        for ratio in [0.95, 0.8, 0.6] {
            let want = (1.0 + ratio) / (1.0 - ratio) * f64::ln(ratio);
            assert!((limit("euler", json!({}), ratio) - want).abs() < 1e-3, "{ratio}");
        }
    }
}
