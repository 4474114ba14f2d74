//! AdamW and a moving average of the weights, for all variables at once.

use crate::error::Result;
use crate::flat::Layout;
use crate::recipe::PhaseRecipe;
use crate::state::State;
use latentrace_nn::tch::{Tensor, no_grad};
use std::collections::BTreeMap;
use std::path::Path;

/// AdamW (Loshchilov and Hutter 2019) with gradient clipping and an exponential moving average. Every variable is a
/// view of one flat tensor, so a step is a dozen operations for any number of variables.
pub(crate) struct Optimizer {
    layout: Layout,
    variables: Vec<(String, Tensor)>,
    weights: Tensor,
    first: Tensor,
    second: Tensor,
    average: Tensor,
    /// Steps done.
    pub(crate) step: u64,
}

const BETAS: (f64, f64) = (0.9, 0.99);
const DECAY: f64 = 0.01;
const EPS: f64 = 1e-8;
const CLIP: f64 = 1.0;

impl Optimizer {
    /// An optimizer of variables by `part/name`, which become views of its weights.
    pub(crate) fn new(mut variables: Vec<(String, Tensor)>) -> Optimizer {
        let layout = Layout::of(&variables);
        let tensors: Vec<&Tensor> = variables.iter().map(|(_, tensor)| tensor).collect();
        let weights = layout.gathered(&tensors);
        let zeros = || weights.zeros_like();
        let (first, second, average) = (zeros(), zeros(), weights.copy());
        layout.place(&mut variables, &weights);
        Optimizer { layout, variables, weights, first, second, average, step: 0 }
    }

    /// Where the variables lie, for others with the same.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The weights, flat; not a copy.
    pub(crate) fn weights(&self) -> Tensor {
        self.weights.shallow_clone()
    }

    /// Makes one step that reduces `loss`, with the learning rate and averaging of `phase`.
    pub(crate) fn descend(&mut self, loss: &Tensor, phase: &PhaseRecipe) {
        let gradient = gradient(loss, &self.variables, &self.layout);
        self.follow(&gradient, phase);
    }

    /// Makes one step against a flat gradient.
    pub(crate) fn follow(&mut self, gradient: &Tensor, phase: &PhaseRecipe) {
        no_grad(|| {
            let norm = gradient.norm();
            let gradient = gradient * (norm.clamp_min(CLIP).reciprocal() * CLIP);
            let rate = phase.learning_rate_at(self.step);
            self.step += 1;
            let corrections = [BETAS.0, BETAS.1].map(|beta| 1.0 - beta.powi(self.step.min(1 << 20) as i32));
            let _ = self.first.lerp_(&gradient, 1.0 - BETAS.0);
            let _ = self.second.lerp_(&gradient.square(), 1.0 - BETAS.1);
            let scale = (&self.second / corrections[1]).sqrt_() + EPS;
            self.weights *= 1.0 - rate * DECAY;
            self.weights -= &self.first / scale * (rate / corrections[0]);
            let _ = self.average.lerp_(&self.weights, 1.0 - phase.average_at(self.step));
        });
    }

    /// The moving average of each variable, by `part/name`.
    pub(crate) fn averages(&self) -> BTreeMap<String, Tensor> {
        self.layout.views(&self.average).map(|(name, view)| (name.to_string(), view)).collect()
    }

    /// Replaces the weights with their moving average.
    pub(crate) fn settle(&mut self) {
        no_grad(|| self.weights.copy_(&self.average));
    }

    /// Saves the whole state, with words about it. The file appears whole or not at all.
    pub(crate) fn save(&self, path: &Path, recipe: Option<&serde_json::Value>) -> Result<()> {
        let tensors =
            [("weights", &self.weights), ("first", &self.first), ("second", &self.second), ("average", &self.average)];
        crate::state::write(path, &tensors, self.step, recipe)
    }

    /// Continues from a saved state.
    pub(crate) fn restore(&mut self, state: &State) -> Result<()> {
        let length = [self.layout.length()];
        let targets = [
            ("weights", &mut self.weights),
            ("first", &mut self.first),
            ("second", &mut self.second),
            ("average", &mut self.average),
        ];
        for (name, target) in targets {
            let saved = state.tensor(name, &length)?;
            no_grad(|| target.copy_(&saved));
        }
        self.step = state.step;
        Ok(())
    }
}

/// The flat gradient of a loss with respect to variables.
pub(crate) fn gradient(loss: &Tensor, variables: &[(String, Tensor)], layout: &Layout) -> Tensor {
    let inputs: Vec<&Tensor> = variables.iter().map(|(_, tensor)| tensor).collect();
    layout.gathered(&Tensor::run_backward(&[loss], &inputs, false, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::tch::{Device, Kind};
    use latentrace_nn::{Init, Weights};

    fn bowl() -> (Optimizer, Tensor) {
        let (weights, variables) = Weights::trainable("test", 3, Device::Cpu);
        let x = weights.tensor("x", &[3], Init::Normal(1.0)).unwrap();
        (Optimizer::new(variables.named().into_iter().collect()), x)
    }

    fn phase() -> PhaseRecipe {
        PhaseRecipe { average: 0.9, ..PhaseRecipe::endless(1, 0.05) }
    }

    fn loss(x: &Tensor) -> Tensor {
        (x - Tensor::from_slice(&[1.0f32, -2.0, 0.5])).square().sum(Kind::Float)
    }

    #[test]
    fn finds_the_bottom_of_a_bowl() {
        let (mut optimizer, x) = bowl();
        let phase = PhaseRecipe { steps: 400, decay: 200, ..phase() };
        for _ in 0..400 {
            optimizer.descend(&loss(&x), &phase);
        }
        // In each step, weight decay reduces each number by about rate * DECAY of itself; the step itself is about
        // rate.
        assert!(loss(&x).double_value(&[]) < 1e-3, "{x}");
        assert!((&optimizer.averages()["x"] - &x).abs().max().double_value(&[]) < 1e-2);
    }

    #[test]
    fn a_resumed_run_is_the_same_run() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let (mut whole, x) = bowl();
        for step in 0..20 {
            if step == 10 {
                whole.save(&path, None).unwrap();
            }
            whole.descend(&loss(&x), &phase());
        }
        let (mut resumed, y) = bowl();
        resumed.restore(&State::read(&path).unwrap().unwrap()).unwrap();
        assert_eq!(resumed.step, 10);
        for _ in 10..20 {
            resumed.descend(&loss(&y), &phase());
        }
        assert!(x.equal(&y) && resumed.averages()["x"].equal(&whole.averages()["x"]));
    }
}
