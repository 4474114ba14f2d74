//! Clean estimates that alternate from step to step: the sign of a solver outside its region of stability.

use crate::numbers::{dot, rows};
use latentrace_nn::tch::Tensor;
use std::borrow::Borrow;

/// How the clean estimates `x̂₀_i` of a run's steps alternate.
///
/// An explicit solver of the probability-flow ODE that leaves its region of stability does so, for real eigenvalues, at an
/// amplification of -1 or below: what it adds in one step it takes away in the next, and more. So the second differences
/// `d_i = x̂₀_(i+1) - 2 x̂₀_i + x̂₀_(i-1)` become large and opposite to each other. Where estimates are smooth they are small. Fresh
/// noise makes them opposite only in part: the mean cosine of neighbours is -2/3 for independent estimates, and -1/2 for a random
/// walk.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternation {
    /// The size of the alternating part over that of the estimate, `||d_i||₂ / (4 ||x̂₀_i||₂)`: `a / ||c||` for `c ± a`. NaN for the
    /// first and the last step.
    pub share: Vec<f64>,
    /// `cos(d_(i-1), d_i)`. NaN for the first two steps and the last.
    pub cosine: Vec<f64>,
}

impl Alternation {
    /// How many second differences in a row are looked at together.
    pub const WINDOW: usize = 4;
    /// The smallest [`Alternation::share`] of all of them that counts.
    pub const SHARE: f64 = 0.2;
    /// The largest mean [`Alternation::cosine`] of neighbours that counts.
    pub const COSINE: f64 = -0.9;
    /// The share of the steps that has to be reached: what alternates only before has room to settle.
    pub const REACHED: f64 = 1.0 / 3.0;

    /// Computes it from the clean estimates of the first call of each step, in order. All are NaN if there are none, or if they
    /// differ in shape.
    pub fn of<T: Borrow<Tensor>>(estimates: &[T]) -> Alternation {
        let nan = || vec![f64::NAN; estimates.len()];
        let mut found = Alternation { share: nan(), cosine: nan() };
        let Some(rows) = rows(estimates) else { return found }; // [steps, elements]
        let length = |row: &Tensor| dot(row, row).sqrt();
        let mut before: Option<Tensor> = None;
        for step in 1..estimates.len().max(1) - 1 {
            let [last, now, next] = [step - 1, step, step + 1].map(|step| rows.get(step as i64));
            let second = next - &now * 2.0 + last;
            found.share[step] = length(&second) / (4.0 * length(&now));
            if let Some(before) = &before {
                found.cosine[step] = dot(before, &second) / (length(before) * length(&second));
            }
            before = Some(second);
        }
        found
    }

    /// The first step of the first window in which the estimates alternate: every share is [`Alternation::SHARE`] or more, and the
    /// cosines' mean is [`Alternation::COSINE`] or less. `None` if they do not, or only in windows that end before
    /// [`Alternation::REACHED`] of the steps.
    ///
    /// The limits separate unstable runs from stable ones, of samplers that draw no noise: docs/schedulers/stability.md has the
    /// numbers. Where a stable sampler's steps multiply differences by nearly -1, fresh noise alternates as well.
    pub fn begins(&self) -> Option<usize> {
        Alternation::in_columns(&self.share, &self.cosine)
    }

    /// [`Alternation::begins`] of the two columns by themselves.
    pub fn in_columns(share: &[f64], cosine: &[f64]) -> Option<usize> {
        let alternating: Vec<Window> =
            windows(share, cosine).filter(|window| window.least >= Alternation::SHARE).collect();
        let reaches = alternating.iter().any(|window| window.is_late(share.len()));
        alternating.first().filter(|_| reaches).map(|window| window.first)
    }

    /// The largest share that all differences of a window reach whose cosines' mean is [`Alternation::COSINE`] or less and that does
    /// not end before [`Alternation::REACHED`] of the steps; 0 if there is no such window. Estimates alternate if it is [`Alternation::SHARE`] or more.
    pub fn strength(&self) -> f64 {
        let late = windows(&self.share, &self.cosine).filter(|window| window.is_late(self.share.len()));
        late.map(|window| window.least).fold(0.0, f64::max)
    }
}

/// Neighbouring steps whose differences are opposite to each other.
struct Window {
    first: usize,
    /// The least of its shares.
    least: f64,
}

impl Window {
    /// Whether it ends at [`Alternation::REACHED`] of so many steps, or later.
    fn is_late(&self, steps: usize) -> bool {
        (self.first + Alternation::WINDOW) as f64 >= Alternation::REACHED * steps as f64
    }
}

/// Every window whose differences are opposite to each other, in order.
fn windows<'a>(share: &'a [f64], cosine: &'a [f64]) -> impl Iterator<Item = Window> + 'a {
    let windows = share.windows(Alternation::WINDOW).zip(cosine.windows(Alternation::WINDOW)).enumerate();
    windows.filter_map(|(first, (shares, cosines))| {
        let mean = cosines[1..].iter().sum::<f64>() / (cosines.len() - 1) as f64;
        let is_whole = shares.iter().all(|share| !share.is_nan());
        let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
        (is_whole && mean <= Alternation::COSINE).then_some(Window { first, least })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::seeded;
    use latentrace_nn::tch::{Device, Kind};

    /// `c_i + a_i (-1)^i`, with numbers along two directions at right angles.
    fn run(steps: usize, smooth: impl Fn(f64) -> f64, alternating: impl Fn(f64) -> f64) -> Vec<Tensor> {
        let estimate = |step: usize| {
            let sign = if step.is_multiple_of(2) { 1.0 } else { -1.0 };
            Tensor::from_slice(&[smooth(step as f64), sign * alternating(step as f64)])
        };
        (0..steps).map(estimate).collect()
    }

    #[test]
    fn an_alternating_part_has_its_share_and_opposite_neighbours() {
        let found = Alternation::of(&run(12, |_| 2.0, |_| 0.5));
        // d = (0, ±2), and the estimate has the length √(4 + 1/4).
        let want = 0.5 / 4.25f64.sqrt();
        assert!(found.share[1..11].iter().all(|share| (share - want).abs() < 1e-15), "{found:?}");
        assert!(found.cosine[2..11].iter().all(|cosine| (cosine + 1.0).abs() < 1e-15));
        assert!(found.share[0].is_nan() && found.share[11].is_nan() && found.cosine[1].is_nan());
        assert_eq!(found.begins(), Some(1));
        assert!((found.strength() - want).abs() < 1e-15);
        // It grows by 1.5 a step.
        let growing = Alternation::of(&run(20, |_| 1.0, |step| 1e-3 * 1.5f64.powf(step)));
        let first = growing.begins().unwrap();
        assert!(growing.share[first] >= Alternation::SHARE && growing.share[first - 1] < Alternation::SHARE);
    }

    #[test]
    fn smooth_estimates_and_small_alternations_do_not_count() {
        let curved = Alternation::of(&run(30, |step| (0.7 * step).sin() + 2.0, |_| 0.0));
        assert_eq!((curved.begins(), curved.strength()), (None, 0.0));
        assert_eq!(Alternation::of(&run(30, |_| 1.0, |_| 0.15)).begins(), None);
        for few in [0, 1, 2, 5] {
            assert_eq!(Alternation::of(&run(few, |_| 1.0, |_| 0.5)).begins(), None, "{few}");
        }
        assert!(Alternation::of(&run(6, |_| 1.0, |_| 0.5)).begins().is_some());
    }

    #[test]
    fn what_settles_in_the_first_third_does_not_count() {
        let until = |last: usize| Alternation::of(&run(40, |_| 1.0, |step| if step < last as f64 { 0.5 } else { 0.0 }));
        // The last difference that alternates is of the three estimates before `last`.
        let (settled, reaching) = (until(12), until(15));
        assert!(settled.share[10] >= Alternation::SHARE && settled.cosine[10] < -0.99);
        assert!(settled.begins().is_none() && settled.strength() < Alternation::SHARE);
        assert_eq!(reaching.begins(), Some(1));
        assert!(reaching.strength() >= Alternation::SHARE);
    }

    #[test]
    fn noise_alone_does_not_count() {
        let drawn: Vec<Tensor> =
            seeded(7, || (0..40).map(|_| Tensor::randn([4096], (Kind::Double, Device::Cpu))).collect());
        let independent = Alternation::of(&drawn);
        let mean = |found: &Alternation| found.cosine[2..39].iter().sum::<f64>() / 37.0;
        // A cosine of 4096 numbers is off by 1/64, and their mean by less.
        assert!((mean(&independent) + 2.0 / 3.0).abs() < 0.02, "{}", mean(&independent));
        assert_eq!(independent.begins(), None);
        let mut walk: Vec<Tensor> = Vec::new();
        for step in drawn {
            walk.push(walk.last().map_or(step.shallow_clone(), |last| last + &step));
        }
        let walk = Alternation::of(&walk);
        assert!((mean(&walk) + 0.5).abs() < 0.02, "{}", mean(&walk));
        assert_eq!(walk.begins(), None);
    }
}
