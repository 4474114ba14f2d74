//! The solution of the guided flow by many small steps, and the Jacobians along it.

use super::world::{Jacobian, World, largest};
use latentrace_pipeline::nn::tch::Tensor;

/// The guided flow from one start, solved in small steps.
pub struct Fine<'a> {
    world: &'a dyn World,
    /// The guidance weight.
    pub guidance: f64,
    along: Along,
    /// The largest norm of what the flow makes of a small difference at the start, over all levels; 1 or more.
    pub growth: f64,
}

/// What is kept of a solution, at falling logarithms of sigma.
enum Along {
    /// The samples. Jacobians are computed where they are asked for, at samples between them.
    Samples(Vec<(f64, Tensor)>),
    /// The guided Jacobians, with their eigenvalues.
    Jacobians(Vec<(f64, Jacobian)>, Vec<Tensor>),
}

/// How finely a flow is solved.
#[derive(Clone, Copy)]
pub struct Grid {
    /// Runge-Kutta steps, even in log sigma.
    pub steps: usize,
    /// After how many of them a Jacobian is kept, in a world whose Jacobians are not in closed form.
    pub every: usize,
}

impl Fine<'_> {
    /// Solves the guided flow from the level `from` down to the first training time.
    pub fn solve(world: &dyn World, guidance: f64, from: f64, grid: Grid) -> Fine<'_> {
        let is_closed = world.is_separable();
        let every = if is_closed { 1 } else { grid.every };
        let (mut samples, mut jacobians) = (Vec::new(), Vec::new());
        _ = descend(world, guidance, from, grid.steps, |step, log, x| match step % every == 0 || step == grid.steps {
            true if is_closed => samples.push((log, x.shallow_clone())),
            true => jacobians.push((log, guided(world, guidance, log, x))),
            false => (),
        });
        let along = match is_closed {
            true => Along::Samples(samples),
            false => {
                let spectrum = jacobians.iter().map(|(_, jacobian)| jacobian.eigenvalues()).collect();
                Along::Jacobians(jacobians, spectrum)
            }
        };
        let mut fine = Fine { world, guidance, along, growth: 1.0 };
        fine.growth = fine.growth_of_flow(from, grid.steps);
        fine
    }

    /// The guided Jacobian at a sigma. What is kept is interpolated, linearly in log sigma.
    pub fn at(&self, sigma: f64) -> Jacobian {
        let log = sigma.ln();
        match &self.along {
            Along::Samples(samples) => {
                let (before, after, share) = around(samples, log);
                guided(self.world, self.guidance, log, &(before * (1.0 - share) + after * share))
            }
            Along::Jacobians(jacobians, _) => {
                let (before, after, share) = around(jacobians, log);
                before.mixed(1.0 - share, after, share)
            }
        }
    }

    /// The eigenvalues of the Jacobian at a sigma, or at the nearest level where it was computed.
    pub fn eigenvalues(&self, sigma: f64) -> Tensor {
        match &self.along {
            Along::Samples(_) => self.at(sigma).eigenvalues(),
            Along::Jacobians(jacobians, spectrum) => {
                let log = sigma.ln();
                let away = |place: &usize| (jacobians[*place].0 - log).abs();
                let nearest = (0..spectrum.len()).min_by(|a, b| away(a).total_cmp(&away(b)));
                spectrum[nearest.unwrap_or_default()].shallow_clone()
            }
        }
    }

    /// `dΦ/d ln sigma = (1 − J) Φ` from the identity: the largest norm of Φ.
    fn growth_of_flow(&self, from: f64, steps: usize) -> f64 {
        let (high, low) = (from.ln(), self.world.config().schedule().sigmas()[0].ln());
        let length = (low - high) / steps as f64;
        let at = |step: usize, share: f64| self.at((high + length * (step as f64 + share)).exp());
        let mut first = at(0, 0.0);
        let mut block = first.unit();
        let mut most = 1.0f64;
        for step in 0..steps {
            let (middle, last) = (at(step, 0.5), at(step, 1.0));
            let mut stage = 0;
            block = runge_kutta(&block, length, |x| {
                stage += 1;
                let jacobian = [&first, &middle, &middle, &last][stage - 1];
                x - jacobian.times(x)
            });
            most = most.max(largest(&block).0);
            first = last;
        }
        most
    }
}

fn guided(world: &dyn World, guidance: f64, log: f64, x: &Tensor) -> Jacobian {
    let [u, c] = world.jacobians(log.exp(), x);
    u.mixed(1.0 - guidance, &c, guidance)
}

/// What is kept before and after a logarithm of sigma, and where between them it is.
fn around<T>(kept: &[(f64, T)], log: f64) -> (&T, &T, f64) {
    let below = kept.partition_point(|(level, _)| *level > log).clamp(1, kept.len() - 1);
    let ((high, before), (low, after)) = (&kept[below - 1], &kept[below]);
    (before, after, ((high - log) / (high - low)).clamp(0.0, 1.0))
}

/// The end of the guided flow from a level, without noise.
pub fn end_of(world: &dyn World, guidance: f64, from: f64, steps: usize) -> Tensor {
    descend(world, guidance, from, steps, |_, _, _| ())
}

/// Goes down the guided flow. `passed` gets the number of the step, log sigma and the sample, also at the last level.
fn descend(
    world: &dyn World,
    guidance: f64,
    from: f64,
    steps: usize,
    mut passed: impl FnMut(usize, f64, &Tensor),
) -> Tensor {
    let least = world.config().schedule().sigmas()[0];
    let (high, low) = (from.ln(), least.ln());
    let length = (low - high) / steps as f64;
    let mut x = world.draws(1).remove(0) * from.hypot(1.0);
    for step in 0..steps {
        let log = high + length * step as f64;
        passed(step, log, &x);
        let mut stage = 0;
        x = runge_kutta(&x, length, |x| {
            stage += 1;
            let share = [0.0, 0.5, 0.5, 1.0][stage - 1];
            x - world.denoised(guidance, (log + share * length).exp(), x)
        });
    }
    passed(steps, low, &x);
    world.denoised(guidance, least, &x)
}

/// A step of the classical fourth-order method. `slope` is called at its beginning, twice in the middle, and at its end.
fn runge_kutta(x: &Tensor, length: f64, mut slope: impl FnMut(&Tensor) -> Tensor) -> Tensor {
    let first = slope(x);
    let second = slope(&(x + &first * (0.5 * length)));
    let third = slope(&(x + &second * (0.5 * length)));
    let fourth = slope(&(x + &third * length));
    x + (first + (second + third) * 2.0 + fourth) * (length / 6.0)
}
