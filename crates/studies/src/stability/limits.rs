//! The smallest guidance weight at which a sampler is no longer stable: predicted and observed.

use super::fine::{Fine, Grid, end_of};
use super::region::radius;
use super::world::{Sample, World, largest};
use anyhow::{Context, Result};
use latentrace_measures::{Alternation, relative_l2};
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::schedulers::stability::Companion;
use latentrace_pipeline::schedulers::{Config, Plan, Reading, Run};
use std::cell::RefCell;
use std::collections::HashMap;

/// How many times more than the exact flow a plan may enlarge a small difference.
pub const TENFOLD: f64 = 10.0;

/// How far a result may be from the exact one, over the size of that.
pub const ASTRAY: f64 = 0.5;

/// How near a result is to the exact one if nobody would call it the solver's, over the size of that.
pub const NEAR: f64 = 0.25;

/// After so many weights in a row at which a sampler is unstable, predicted and observed, no larger one is tried.
const ENOUGH: usize = 3;

/// The weights of guidance that are tried, in order; a limit is the first of them that is beyond it.
pub const WEIGHTS: [f64; 13] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0];

/// What a limit is of: whether a sampler's behaviour at a weight is beyond it.
pub type Criterion = fn(&Behaviour) -> bool;

/// What a sampler does at one guidance weight, with a number of steps.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// The guidance weight.
    pub guidance: f64,
    /// The largest spectral radius of the matrices of single steps, at the eigenvalues of the Jacobian.
    pub frozen: f64,
    /// The largest norm of the product of the matrices, from the start to a step, over the largest of the exact flow.
    pub product: f64,
    /// How far two runs from nearby starts separate, over the largest norm of the exact flow.
    pub separation: f64,
    /// The distance of the result from the exact one, over the size of that; `None` if the sampler draws noise.
    pub error: Option<f64>,
    /// How strongly the run's clean estimates alternate: see [`Alternation::strength`].
    pub alternation: f64,
}

impl Behaviour {
    /// What the frozen criterion says.
    pub fn is_frozen_unstable(&self) -> bool {
        self.frozen > 1.0 + 1e-6 // rounding of eigenvalues
    }

    /// What the product of the matrices predicts.
    pub fn is_predicted(&self) -> bool {
        beyond(self.product, TENFOLD)
    }

    /// Whether runs from nearby starts separate.
    pub fn is_observed(&self) -> bool {
        beyond(self.separation, TENFOLD)
    }

    /// Whether runs from nearby starts separate, or the result is far from the exact one.
    pub fn is_far(&self) -> bool {
        self.is_observed() || self.is_astray()
    }

    /// Whether a run warns that its clean estimates alternate; never if the sampler draws noise.
    pub fn is_alarmed(&self) -> bool {
        self.error.is_some() && self.alternation >= Alternation::SHARE
    }

    /// Whether the run is stable, by prediction and by what is seen, and its result near the exact one.
    pub fn is_near(&self) -> bool {
        self.error.is_some_and(|error| error <= NEAR) && !self.is_predicted() && !self.is_observed()
    }

    /// Whether the result is far from the exact one.
    pub fn is_astray(&self) -> bool {
        self.error.is_some_and(|error| beyond(error, ASTRAY))
    }
}

/// Whether a number is above a limit, or none: a run that has overflowed.
fn beyond(number: f64, limit: f64) -> bool {
    number.is_nan() || number > limit
}

/// A sampler with a number of steps in a world, at every weight that was tried.
#[derive(Debug)]
pub struct Case {
    /// The short name of the sampler.
    pub sampler: &'static str,
    /// The number of steps.
    pub steps: usize,
    /// Its behaviour by guidance weight, rising.
    pub behaviour: Vec<Behaviour>,
}

impl Case {
    /// The smallest weight with a property; `None` if there is none.
    pub fn first(&self, has: impl Fn(&Behaviour) -> bool) -> Option<f64> {
        self.behaviour.iter().find(|one| has(one)).map(|one| one.guidance)
    }
}

/// A world with its fine solutions, one for each guidance weight.
pub struct Solved<'a> {
    world: &'a dyn World,
    /// By guidance weight, rising.
    pub fine: Vec<Fine<'a>>,
    grid: Grid,
    /// The ends of solutions from other levels, by guidance weight and first sigma.
    ends: RefCell<HashMap<[u64; 2], Tensor>>,
}

impl<'a> Solved<'a> {
    /// Solves the flow at each weight, from the last training time.
    pub fn new(world: &'a dyn World, weights: &[f64], grid: Grid, begins: &dyn Fn(f64)) -> Solved<'a> {
        let sigmas = world.config().schedule().sigmas();
        let from = sigmas[sigmas.len() - 1];
        let fine = weights.iter().map(|weight| {
            begins(*weight);
            Fine::solve(world, *weight, from, grid)
        });
        Solved { world, fine: fine.collect(), grid, ends: RefCell::default() }
    }

    /// Measures a sampler at every weight, up to some at which it is unstable.
    ///
    /// # Errors
    /// There is no plan of so many steps.
    pub fn case(&self, sampler: &'static str, config: &Config, steps: usize) -> Result<Case> {
        let plan = config.plan(steps, Reading::Exact).with_context(|| format!("{sampler}, {steps} steps"))?;
        let mut behaviour: Vec<Behaviour> = Vec::new();
        for fine in &self.fine {
            behaviour.push(self.behaviour(config, &plan, fine)?);
            let is_lost = |one: &Behaviour| one.is_predicted() && one.is_observed();
            if behaviour.len() > ENOUGH && behaviour.iter().rev().take(ENOUGH).all(is_lost) {
                break;
            }
        }
        Ok(Case { sampler, steps, behaviour })
    }

    fn behaviour(&self, config: &Config, plan: &Plan, fine: &Fine) -> Result<Behaviour> {
        let (product, direction) = product(config, plan, fine)?;
        let seen = observe(self.world, config, plan, fine.guidance, &direction)?;
        let end = || self.end(fine.guidance, plan.steps()[0].level.sigma);
        Ok(Behaviour {
            guidance: fine.guidance,
            frozen: frozen(config, plan, fine),
            product: product / fine.growth,
            separation: seen.separation / fine.growth,
            error: (plan.draws() == 1).then(|| relative_l2(&seen.end, &end())),
            alternation: Alternation::of(&seen.estimates).strength(),
        })
    }

    /// The end of the exact flow from a level.
    fn end(&self, guidance: f64, from: f64) -> Tensor {
        let mut ends = self.ends.borrow_mut();
        let end = ends.entry([guidance, from].map(f64::to_bits));
        end.or_insert_with(|| end_of(self.world, guidance, from, self.grid.steps)).shallow_clone()
    }
}

/// The largest spectral radius of the matrices of single steps, each at the eigenvalues where it begins.
fn frozen(config: &Config, plan: &Plan, fine: &Fine) -> f64 {
    let of =
        |companion: &Companion| radius(companion, &fine.eigenvalues(companion.level.sigma)).max().double_value(&[]);
    config.companions(plan).iter().filter(|companion| companion.is_square()).map(of).fold(0.0, f64::max)
}

/// The largest norm of the product of a plan's matrices, from the start to any step, along a fine solution; and the difference at the
/// start that is enlarged so.
fn product(config: &Config, plan: &Plan, fine: &Fine) -> Result<(f64, Tensor)> {
    let start = fine.at(plan.steps()[0].level.sigma);
    let unit = Sample(start.unit());
    let carried = config.carry(plan, &unit, |sigma, Sample(block)| Ok(Sample(fine.at(sigma).times(block))))?;
    let norms = carried.iter().map(|Sample(block)| largest(block));
    let (norm, weights) = norms.reduce(|most, one| if one.0 > most.0 { one } else { most }).context("no samples")?;
    let Sample(unit) = unit;
    Ok((norm, if unit.dim() == 1 { weights } else { unit.matmul(&weights) }))
}

/// What two runs from nearby starts show.
struct Observed {
    /// How far they separate, over their distance at the start: the largest over all steps.
    separation: f64,
    /// The result of the first.
    end: Tensor,
    /// The clean estimates of the first, of the first call of each step.
    estimates: Vec<Tensor>,
}

/// Runs a plan from a start and from another that differs along `direction`.
fn observe(world: &dyn World, config: &Config, plan: &Plan, guidance: f64, direction: &Tensor) -> Result<Observed> {
    let mut draws = world.draws(plan.draws()).into_iter();
    let mut is_start = true;
    let noise = || {
        let draw = draws.next().unwrap_or_else(|| Tensor::from(0.0));
        let away = if std::mem::take(&mut is_start) { world.nearness() } else { 0.0 };
        let direction = direction.view_as(&draw).to_kind(draw.kind());
        let nearby = &draw + &direction * (away * draw.norm() / direction.norm());
        Ok(Sample(Tensor::cat(&[draw, nearby], 0)))
    };
    let mut run = Run::new(plan.clone(), None, noise)?;
    let apart = |Sample(pair): &Sample| (pair.get(1) - pair.get(0)).flatten(0, -1);
    let start = run.sample().map(apart).context("a plan without calls")?;
    let relative = |now: &Tensor| match world.is_separable() {
        true => (now / &start).abs().max().double_value(&[]),
        false => (now.norm() / start.norm()).double_value(&[]),
    };
    let worse = |most: f64, now: f64| if now.is_finite() { most.max(now) } else { f64::INFINITY };
    let (mut separation, mut estimates) = (1.0, Vec::new());
    while let Some(step) = run.call().copied() {
        let Sample(input) = run.input()?;
        let output = world.output(guidance, step.level.t, &input);
        if step.evaluation == 0 {
            let sigma = config.schedule().level(step.level.t).sigma;
            let (p, q) = config.prediction().denoising(sigma);
            estimates.push((&input * (p * sigma.hypot(1.0)) + &output * q).get(0));
        }
        run.step(Sample(output))?;
        if let Some(sample) = run.sample() {
            separation = worse(separation, relative(&apart(sample)));
        }
    }
    let Sample(pair) = run.finish()?;
    separation = worse(separation, relative(&apart(&Sample(pair.shallow_clone()))));
    Ok(Observed { separation, end: pair.narrow(0, 0, 1), estimates })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stability::known::Known;

    #[test]
    fn on_normal_data_the_frozen_criterion_is_several_times_too_pessimistic_and_the_product_is_right() {
        let world = Known::normal().unwrap();
        let solved = Solved::new(&world, &WEIGHTS, Grid { steps: 256, every: 1 }, &|_| ());
        for (sampler, frozen, product) in [("pndm", 3.0, 16.0), ("dpm++2m", 8.0, 48.0), ("euler", 16.0, 96.0)] {
            let case = solved.case(sampler, &world.config().with_class(sampler).unwrap(), 50).unwrap();
            assert_eq!(case.first(Behaviour::is_frozen_unstable), Some(frozen), "{sampler}");
            assert_eq!(case.first(Behaviour::is_predicted), Some(product), "{sampler}");
            assert_eq!(case.first(Behaviour::is_observed), Some(product), "{sampler}");
            // The Jacobian does not depend on the sample, so runs separate as the product says, or more: what they contract to less
            // than 1e-9 before it grows again is below the rounding of two samples that differ by 1e-7.
            assert!(case.behaviour.iter().all(|one| one.separation > 0.99 * one.product), "{sampler}");
            let exact = |one: &Behaviour| (one.separation / one.product - 1.0).abs() < 1e-3;
            assert!(sampler != "euler" || case.behaviour.iter().all(exact)); // contracts to 1e-5 at most
        }
    }

    #[test]
    fn the_exact_flow_of_normal_data_contracts() {
        let world = Known::normal().unwrap();
        let solved = Solved::new(&world, &[0.0, 1.0, 8.0], Grid { steps: 64, every: 1 }, &|_| ());
        assert!(solved.fine.iter().all(|fine| fine.growth == 1.0));
    }
}
