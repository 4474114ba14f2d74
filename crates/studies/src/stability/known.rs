//! Worlds whose estimates and Jacobians are known in closed form.

use super::world::{Jacobian, World};
use crate::atlas::{ATLAS_CONFIG, STARTS, mixture, normals};
use anyhow::Result;
use latentrace_pipeline::nn::seeded;
use latentrace_pipeline::nn::tch::{Device, Kind, Tensor};
use latentrace_pipeline::schedulers::Config;
use latentrace_pipeline::schedulers::truth::Mixture;

/// The mean of normal data. Differences do not depend on it; but about zero every result would be as small as its error.
const MEAN: f64 = 0.8;

/// Data of independent elements. Without the condition an element is of one mixture, with it of another.
pub struct Known {
    name: &'static str,
    config: Config,
    /// Without and with the condition.
    data: [Mixture; 2],
    /// See [`World::nearness`].
    nearness: f64,
}

impl Known {
    /// The atlas's mixture. The condition is a quarter as wide as the part that it is in: N(0.8, 0.1²).
    ///
    /// # Errors
    /// The config is broken.
    pub fn mixture() -> Result<Known> {
        Known::of("mixture", [mixture(), Mixture::normal(0.8, 0.1)], 1e-7) // the samples are in double precision
    }

    /// Two normal distributions about [`MEAN`], of deviations 1.5 and 0.18. Jacobians do not depend on the sample, so the product
    /// of the matrices is what runs show, up to rounding.
    ///
    /// # Errors
    /// The config is broken.
    pub fn normal() -> Result<Known> {
        // Runs are linear in their start, so a large difference shows the same, with less rounding.
        Known::of("normal", [Mixture::normal(MEAN, 1.5), Mixture::normal(MEAN, 0.18)], 0.1)
    }

    fn of(name: &'static str, data: [Mixture; 2], nearness: f64) -> Result<Known> {
        Ok(Known { name, config: Config::from_json_as(ATLAS_CONFIG, "euler")?, data, nearness })
    }

    /// A number for each element, from one of it and one of the data.
    fn each(&self, x: &Tensor, of: impl Fn(&Mixture, f64) -> f64) -> [Tensor; 2] {
        let numbers: Vec<f64> = Vec::try_from(x.flatten(0, -1)).expect("numbers in double precision");
        self.data
            .each_ref()
            .map(|data| Tensor::from_slice(&numbers.iter().map(|x| of(data, *x)).collect::<Vec<_>>()).view_as(x))
    }
}

impl World for Known {
    fn name(&self) -> &str {
        self.name
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn draws(&self, count: usize) -> Vec<Tensor> {
        let start = Tensor::from_slice(&normals()).view([1, STARTS as i64]);
        let fresh = || Tensor::randn([1, STARTS as i64], (Kind::Double, Device::Cpu));
        let fresh: Vec<Tensor> = seeded(193, || (1..count).map(|_| fresh()).collect());
        std::iter::once(start).chain(fresh).collect()
    }

    fn output(&self, guidance: f64, t: f64, input: &Tensor) -> Tensor {
        let sigma = self.config.schedule().level(t).sigma;
        let [u, c] = self.each(input, |data, x| data.output(self.config.prediction(), x, sigma));
        &u + (c - &u) * guidance
    }

    fn jacobians(&self, sigma: f64, x: &Tensor) -> [Jacobian; 2] {
        self.each(x, |data, x| data.slope(x, sigma)).map(|slope| Jacobian::Diagonal(slope.view(-1)))
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn nearness(&self) -> f64 {
        self.nearness
    }
}
